/* nd_take.c -- scan, look-up, fan-out and publishing, one after the other. */

#include "nd_take.h"

#include <string.h>

#include "nd_fan.h"

#define RECORD_OVERHEAD_MAX (sizeof(nd_record) + 8)     /* the header, and zeros behind the body */

/* Working memory that grows, and holds what one call needs. */
typedef struct {
    void    *memory;
    uint64_t bytes;
} space;

struct nd_take {
    const nd_io *io;
    nd_channels *channels;
    nd_pool     *pool;
    nd_journal  *journal;       /* NULL: there is none */
    uint64_t     epoch, records_max;
    uint64_t     channel;       /* the one that all go to */
    nd_staging  *staging;
    uint64_t     staging_bytes_max;
    nd_taken     taken;
    space        finding, fanning, indices;
};

/* Which records go where, as nd_publish wants it. */
typedef struct {
    const uint64_t *numbers;
    uint64_t        count;
    const uint32_t *ends, *indices;     /* ends NULL: all go to each */
    uint64_t        unrouted;
} plan;

/* The pairs of a request, numbered. */
typedef struct {
    uint64_t *pairs, *distinct;
    uint32_t *groups;
    uint64_t  groups_count;
} grouping;

static uint64_t power_above(uint64_t count)
{
    uint64_t power = 1;
    while (power <= count) power *= 2;
    return power;
}

static void space_release(const nd_io *io, space *space)
{
    if (space->memory != NULL) io->release(io->context, space->memory, space->bytes);
    space->memory = NULL;
    space->bytes = 0;
}

/* Memory of so many bytes, of whatever content; NULL: there is none. */
static void *space_room(const nd_io *io, space *space, uint64_t bytes)
{
    if (bytes <= space->bytes) return space->memory;
    space_release(io, space);
    const uint64_t room = power_above(bytes);
    space->memory = io->allocate(io->context, room);
    if (space->memory != NULL) space->bytes = room;
    return space->memory;
}

static void space_trim(const nd_io *io, space *space)
{
    if (space->bytes > ND_TAKE_KEPT_BYTES_MAX) space_release(io, space);
}

nd_status nd_take_open(const nd_io *io, nd_channels *channels, nd_pool *pool, nd_journal *journal, uint64_t epoch,
                       uint64_t records_max, nd_take **out)
{
    if (io == NULL || channels == NULL || pool == NULL || out == NULL) return ND_ERR_ARGUMENT;
    nd_take *take = io->allocate(io->context, sizeof *take);
    if (take == NULL) return ND_ERR_FULL;
    *take = (nd_take){
        .io = io,
        .channels = channels,
        .pool = pool,
        .journal = journal,
        .epoch = epoch,
        .records_max = records_max,
    };
    *out = take;
    return ND_OK;
}

void nd_take_close(nd_take *take)
{
    if (take == NULL) return;
    space_release(take->io, &take->finding);
    space_release(take->io, &take->fanning);
    space_release(take->io, &take->indices);
    take->io->release(take->io->context, take, sizeof *take);
}

void nd_take_scan_into(nd_take *take, nd_staging *staging, uint64_t kept_bytes_max)
{
    take->staging = staging;
    take->staging_bytes_max = kept_bytes_max;
}

const nd_taken *nd_take_look(const nd_take *take)
{
    return &take->taken;
}

static nd_status scan(nd_take *take, const uint8_t *text, uint64_t text_bytes, int is_lines)
{
    nd_staging *staging = take->staging;
    const uint64_t records_max = take->records_max;
    nd_staging_trim(staging, take->staging_bytes_max);
    const nd_status status = is_lines ? nd_scan_lines(staging, text, 0, text_bytes, records_max, records_max)
                                      : nd_scan_message(staging, text, text_bytes, records_max, 0);
    const nd_staged *staged = nd_staging_look(staging);
    if (status == ND_OK && staged->next == text_bytes && staged->messages_count > 0) return ND_OK;
    nd_staging_clear(staging);
    return ND_ODD;
}

/* The pair of each record, and which different ones there are. */
static nd_status find(nd_take *take, const nd_staged *staged, const nd_addressees *to, grouping *out)
{
    const uint64_t count = staged->records_count, slots_count = power_above(count);
    const uint64_t bytes = count * (2 * sizeof(uint64_t) + sizeof(uint32_t)) + slots_count * sizeof(uint32_t);
    uint64_t *memory = space_room(take->io, &take->finding, bytes);
    if (memory == NULL) return ND_EMPTY;
    *out = (grouping){.pairs = memory, .distinct = memory + count, .groups = (uint32_t *)(void *)(memory + 2 * count)};
    nd_route_walk walk = {.manual = to->manual, .chosen = to->chosen, .chosen_from = (uint32_t)to->chosen_from};
    if (nd_routes_find(&walk, staged->block, staged->block_bytes, staged->meta, count, out->pairs) != ND_OK) {
        return ND_EMPTY;
    }
    out->groups_count = nd_routes_group(out->pairs, count, out->groups, out->distinct, out->groups + count, slots_count);
    return ND_OK;
}

/* Several groups: the routes of all their channels. */
static nd_status fan_out(nd_take *take, const nd_addressees *to, const grouping *found, uint64_t records_count, plan *out)
{
    uint64_t entries = 0, count = 0;
    for (uint64_t i = 0; i < found->groups_count; i++) {
        if (nd_audiences_find(to->audiences, found->distinct[i], &count) == NULL) return ND_EMPTY;
        entries += count;
    }
    if (entries > UINT32_MAX / 2) return ND_EMPTY;
    const uint64_t slots_count = power_above(entries);
    const uint64_t each_bytes = 2 * sizeof(uint64_t) + 2 * sizeof(uint32_t);
    const uint64_t bytes = entries * each_bytes + (found->groups_count + slots_count) * sizeof(uint32_t);
    uint64_t *members = space_room(take->io, &take->fanning, bytes);
    if (members == NULL) return ND_EMPTY;
    uint64_t *routes = members + entries;
    uint32_t *route_ends = (uint32_t *)(void *)(routes + entries), *places = route_ends + entries;
    uint32_t *ends = places + entries, *slots = ends + found->groups_count;
    memset(slots, 0, slots_count * sizeof *slots);
    uint32_t end = 0;
    for (uint64_t i = 0; i < found->groups_count; i++) {
        const uint64_t *channels = nd_audiences_find(to->audiences, found->distinct[i], &count);
        memcpy(members + end, channels, count * sizeof *channels);
        ends[i] = end += (uint32_t)count;
    }
    nd_fan fan = {
        .groups = found->groups,
        .events = records_count,
        .channels = members,
        .ends = ends,
        .groups_count = found->groups_count,
        .routes = routes,
        .route_ends = route_ends,
        .places = places,
        .slots = slots,
        .slots_count = slots_count,
    };
    if (nd_fan_plan(&fan) != ND_OK) return ND_EMPTY;
    uint32_t *indices = space_room(take->io, &take->indices, (fan.indices_count + 1) * sizeof *indices);
    if (indices == NULL) return ND_EMPTY;
    nd_fan_fill(&fan, indices);
    *out = (plan){routes, fan.routes_count, route_ends, indices, fan.unrouted};
    return ND_OK;
}

/* All of them to one channel. */
static nd_status plan_one(nd_take *take, uint64_t channel, const uint64_t *meta, uint64_t count, plan *out)
{
    const nd_ring *ring = nd_channels_find(take->channels, channel);
    if (ring == NULL || !nd_ring_has_room(ring, meta, count)) return ND_EMPTY;
    take->channel = channel;
    *out = (plan){.numbers = &take->channel, .count = 1};
    return ND_OK;
}

static nd_status plan_subscribed(nd_take *take, const nd_staged *staged, const nd_addressees *to, plan *out)
{
    grouping found;
    const nd_status status = find(take, staged, to, &found);
    if (status != ND_OK) return status;
    if (found.groups_count != 1) return fan_out(take, to, &found, staged->records_count, out);
    *out = (plan){0};
    out->numbers = nd_audiences_find(to->audiences, found.distinct[0], &out->count);
    if (out->numbers == NULL) return ND_EMPTY;
    if (out->count == 0) out->unrouted = staged->records_count;
    return ND_OK;
}

static nd_outcome outcome_of(const plan *routes, const nd_records *records, int has_lasting, const nd_published *done)
{
    const uint64_t bytes = records->block_bytes + records->count * RECORD_OVERHEAD_MAX;
    return (nd_outcome){
        .events = records->count,
        .came_bytes = (bytes + ND_TAKE_CAME_STEP - 1) / ND_TAKE_CAME_STEP * ND_TAKE_CAME_STEP,
        .queued_count = done->sum.queued_count,
        .unrouted = routes->unrouted,
        .has_lasting = has_lasting != 0,
        .is_odd = (done->sum.odd_routes | done->is_memory_short) != 0,
        .numbers_count = routes->count,
        .number = routes->count > 0 ? routes->numbers[0] : 0,
    };
}

static nd_status publish(nd_take *take, const plan *routes, const nd_records *records, int has_lasting,
                         uint64_t received_unix_ms, uint64_t reserved_bytes)
{
    nd_taken *taken = &take->taken;
    nd_published *done = &taken->published;
    const nd_status status = nd_publish(take->channels, take->pool, take->journal, routes->numbers, routes->count,
                                        routes->ends, routes->indices, records->block, records->block_bytes,
                                        records->meta, records->count, received_unix_ms, take->epoch, reserved_bytes,
                                        done);
    if (status != ND_OK) return ND_EMPTY;
    const nd_outcome before = taken->outcome;
    taken->outcome = outcome_of(routes, records, has_lasting, done);
    taken->last_seq = routes->count > 0 ? done->routes[0].last_seq : 0;
    taken->numbers = routes->numbers;
    const int needs_no_look = !taken->outcome.is_odd && taken->outcome.numbers_count < 2;
    return needs_no_look && memcmp(&before, &taken->outcome, sizeof before) == 0 ? ND_SAME : ND_OK;
}

nd_status nd_take_text(nd_take *take, const nd_addressees *to, uint64_t channel, const uint8_t *text, uint64_t text_bytes,
                       int is_lines, uint64_t received_unix_ms, uint64_t reserved_bytes)
{
    space_trim(take->io, &take->finding);
    space_trim(take->io, &take->fanning);
    space_trim(take->io, &take->indices);
    if (scan(take, text, text_bytes, is_lines) != ND_OK) return ND_ODD;
    const nd_staged *staged = nd_staging_look(take->staging);
    plan routes;
    const nd_status status = to == NULL ? plan_one(take, channel, staged->meta, staged->records_count, &routes)
                                        : plan_subscribed(take, staged, to, &routes);
    if (status != ND_OK) return ND_EMPTY;
    const nd_records records = {
        .block = staged->block,
        .block_bytes = staged->block_bytes,
        .meta = staged->meta,
        .count = staged->records_count,
    };
    return publish(take, &routes, &records, staged->lasting_count > 0, received_unix_ms, reserved_bytes);
}

nd_status nd_take_records(nd_take *take, uint64_t channel, const nd_records *records, uint64_t received_unix_ms,
                          uint64_t reserved_bytes)
{
    plan routes;
    if (plan_one(take, channel, records->meta, records->count, &routes) != ND_OK) return ND_EMPTY;
    return publish(take, &routes, records, 0, received_unix_ms, reserved_bytes);
}
