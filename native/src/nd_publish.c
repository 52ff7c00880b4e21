/* nd_publish.c -- numbers become routes, routes are appended, and what became of them is summed up. */

#include "nd_publish.h"

#include "nd_logged_append.h"
#include "nd_residency.h"

/* Whether so many indices, which ought to rise, are those of all records. */
static int is_all(const uint32_t *indices, uint64_t count, uint64_t records_count)
{
    if (count != records_count) return 0;
    for (uint64_t i = 0; i < count; i++) {
        if (indices[i] != i) return 0;
    }
    return 1;
}

static const uint32_t NO_INDEX = 0;      /* an address, for none means all records */

/* The routes of a request in scratch memory, and room behind them for what is stored. */
static nd_status make_routes(nd_channels *channels, const uint64_t *numbers, uint64_t numbers_count,
                             const uint32_t *ends, const uint32_t *indices, uint64_t records_count,
                             nd_published *out)
{
    const uint64_t route_bytes = sizeof(nd_route) + 2 * sizeof(uint64_t);
    nd_route *routes = nd_channels_scratch(channels, (numbers_count + 1) * route_bytes);
    if (routes == NULL) return ND_ERR_FULL;
    *out = (nd_published){.routes = routes, .stored = (uint64_t *)(void *)(routes + numbers_count)};
    out->last_seqs = out->stored + numbers_count;
    uint32_t begin = 0;
    for (uint64_t i = 0; i < numbers_count; i++) {
        routes[i] = (nd_route){.ring = nd_channels_find(channels, numbers[i])};
        if (routes[i].ring == NULL) {
            out->unknown = numbers[i];
            return ND_EMPTY;
        }
        if (ends == NULL) continue;
        if (ends[i] < begin) return ND_ERR_ARGUMENT;
        const uint32_t count = ends[i] - begin;
        if (count == 0) {
            routes[i].indices = &NO_INDEX;
        } else if (!is_all(indices + begin, count, records_count)) {
            routes[i].indices = indices + begin;
            routes[i].indices_count = count;
        }
        begin = ends[i];
    }
    return ND_OK;
}

static void list_stored(const uint64_t *numbers, uint64_t numbers_count, nd_published *out)
{
    for (uint64_t i = 0; i < numbers_count; i++) {
        if (out->routes[i].queued_count == 0) continue;
        out->stored[out->stored_count] = numbers[i];
        out->last_seqs[out->stored_count] = out->routes[i].last_seq;
        out->stored_count++;
    }
}

nd_status nd_publish(nd_channels *channels, nd_pool *pool, nd_journal *journal,
                     const uint64_t *numbers, uint64_t numbers_count,
                     const uint32_t *ends, const uint32_t *indices,
                     const uint8_t *block, uint64_t block_bytes,
                     const uint64_t *meta, uint64_t records_count,
                     uint64_t received_unix_ms, uint64_t epoch, uint64_t reserved_bytes,
                     nd_published *out)
{
    if (channels == NULL || out == NULL || numbers_count > UINT32_MAX) return ND_ERR_ARGUMENT;
    if (numbers_count > 0 && numbers == NULL) return ND_ERR_ARGUMENT;
    if (ends != NULL && indices == NULL && numbers_count > 0 && ends[numbers_count - 1] > 0) return ND_ERR_ARGUMENT;
    nd_status status = make_routes(channels, numbers, numbers_count, ends, indices, records_count, out);
    if (status != ND_OK) return status;
    if (journal == NULL) {
        status = nd_rings_append(pool, out->routes, numbers_count, block, block_bytes, meta, records_count,
                                 received_unix_ms);
    } else {
        status = nd_logged_append(journal, pool, out->routes, numbers, numbers_count, block, block_bytes, meta,
                                  records_count, received_unix_ms, epoch, reserved_bytes);
    }
    if (status != ND_OK) return status;
    nd_routes_sum(out->routes, numbers_count, &out->sum);
    nd_channels_count(channels, out->sum.queued_count, out->sum.queued_bytes);
    const nd_residency *residency = nd_pool_residency(pool);
    out->is_memory_short = nd_pool_wants_slab(pool) || (residency != NULL && nd_residency_is_wanted(residency));
    list_stored(numbers, numbers_count, out);
    return ND_OK;
}
