#include "nd_test.h"

static int fails_now(test_memory *memory)
{
    return __atomic_add_fetch(&memory->requests, 1, __ATOMIC_RELAXED) == memory->fail_at;
}

static void *counted_allocate(void *context, size_t bytes)
{
    test_memory *memory = context;
    if (fails_now(memory)) return NULL;
    (void)__atomic_add_fetch(&memory->bytes, bytes, __ATOMIC_RELAXED);
    return memory->real->allocate(memory->real->context, bytes);
}

static void counted_release(void *context, void *block, size_t bytes)
{
    test_memory *memory = context;
    CHECK(__atomic_fetch_sub(&memory->bytes, bytes, __ATOMIC_RELAXED) >= bytes);
    memory->real->release(memory->real->context, block, bytes);
}

static nd_status counted_map(void *context, uint64_t bytes, uint8_t **out)
{
    test_memory *memory = context;
    if (fails_now(memory)) return ND_ERR_FULL;
    memory->mapped_bytes += bytes;
    return memory->real->map(memory->real->context, bytes, out);
}

static void counted_unmap(void *context, uint8_t *region, uint64_t bytes)
{
    test_memory *memory = context;
    memory->mapped_bytes -= bytes;
    memory->real->unmap(memory->real->context, region, bytes);
}

static nd_status counted_discard(void *context, uint8_t *region, uint64_t bytes)
{
    test_memory *memory = context;
    memory->discards++;
    if (memory->discard_fails) return ND_ERR_FULL;
    return memory->real->discard(memory->real->context, region, bytes);
}

static void counted_bring(void *context, uint8_t *region, uint64_t bytes)
{
    test_memory *memory = context;
    memory->brings++;
    memory->real->bring(memory->real->context, region, bytes);
}

static void counted_enlarge(void *context, uint8_t *region, uint64_t bytes)
{
    test_memory *memory = context;
    memory->enlarged++;
    memory->real->enlarge(memory->real->context, region, bytes);
}

static void counted_bring_large(void *context, uint8_t *region, uint64_t bytes)
{
    test_memory *memory = context;
    memory->brings++;
    memory->real->bring_large(memory->real->context, region, bytes);
}

void test_memory_begin(test_memory *memory)
{
    *memory = (test_memory){.real = nd_io_posix()};
    memory->io = (nd_io){
        .context = memory,
        .allocate = counted_allocate,
        .release = counted_release,
        .map = counted_map,
        .unmap = counted_unmap,
        .discard = counted_discard,
        .bring = counted_bring,
        .enlarge = counted_enlarge,
        .bring_large = counted_bring_large,
    };
}

void test_memory_end(const test_memory *memory)
{
    CHECK_EQUAL(memory->bytes, 0);
    CHECK_EQUAL(memory->mapped_bytes, 0);
}

test_request test_notifications(uint64_t count, uint32_t body_bytes)
{
    return test_values(count, 0, 100000000, body_bytes);
}

test_request test_values(uint64_t count, uint64_t first, uint64_t resources, uint32_t body_bytes)
{
    CHECK(body_bytes >= 64);
    test_request request = {
        .block = malloc(count * body_bytes + 1),
        .block_bytes = count * body_bytes,
        .meta = malloc((count + 1) * sizeof(uint64_t)),
        .count = count,
    };
    for (uint64_t i = 0; i < count; i++) {
        char *body = (char *)request.block + i * body_bytes;
        const int head = snprintf(body, 64, "{\"ep\":\"d\",\"path\":\"/%08llu\",\"payload\":\"",
                                  (unsigned long long)((first + i) % resources));
        memset(body + head, 'A', body_bytes - (uint32_t)head - 2);
        memcpy(body + body_bytes - 2, "\"}", 2);
        request.meta[i] = body_bytes | 1ull << 40;
    }
    return request;
}

test_request test_record(uint32_t kind, const char *ep, const char *body, const char *tail)
{
    test_request request = {.block = malloc(strlen(body)), .block_bytes = strlen(body),
                            .meta = malloc(sizeof(uint64_t)), .count = 1};
    memcpy(request.block, body, strlen(body));
    request.meta[0] = strlen(body) | strlen(tail) << 24 | strlen(ep) << 40 | (uint64_t)kind << 56;
    return request;
}

void test_request_free(test_request *request)
{
    free(request->block);
    free(request->meta);
}

nd_status test_append(nd_pool *pool, nd_ring *ring, const test_request *request, uint64_t unix_ms,
                      nd_route *route)
{
    *route = (nd_route){.ring = ring};
    return nd_rings_append(pool, route, 1, request->block, request->block_bytes, request->meta,
                           request->count, unix_ms);
}

char *test_read(nd_ring *ring, nd_batch *batch, uint64_t piece_bytes)
{
    return test_read_framed(ring, NULL, batch, piece_bytes);
}

char *test_read_framed(nd_ring *ring, const nd_framed *framed, nd_batch *batch, uint64_t piece_bytes)
{
    char *text = malloc(batch->bytes_count + 1);
    uint64_t at = 0, room = piece_bytes;
    nd_batch_rewind(batch);
    for (uint64_t turn = 0; turn <= 2 * batch->bytes_count + 2; turn++) {
        uint8_t *piece = malloc(room > 0 ? room : 1);           /* of its own, so that a write past it is seen */
        const nd_status status = nd_batch_read(ring, framed, batch, piece, room);
        if (status == ND_NO_ROOM) {
            CHECK(batch->bytes_written > room);
            room = batch->bytes_written;
        } else {
            CHECK_EQUAL(status, ND_OK);
            CHECK(at + batch->bytes_written <= batch->bytes_count);
            memcpy(text + at, piece, batch->bytes_written);
            at += batch->bytes_written;
            room = piece_bytes;
        }
        free(piece);
        if (status == ND_OK && batch->bytes_written == 0) break;
    }
    CHECK_EQUAL(at, batch->bytes_count);
    text[at] = 0;
    return text;
}

void test_batches_alike(const nd_batch *one, const nd_batch *other)
{
    CHECK_EQUAL(one->epoch, other->epoch);
    CHECK_EQUAL(one->first_seq, other->first_seq);
    CHECK_EQUAL(one->last_seq, other->last_seq);
    CHECK_EQUAL(one->events, other->events);
    CHECK_EQUAL(one->bytes_count, other->bytes_count);
    CHECK_EQUAL(one->form, other->form);
    CHECK_EQUAL(one->kinds_count, other->kinds_count);
    for (uint32_t i = 0; i < one->kinds_count; i++) {
        CHECK_EQUAL(one->kinds[i], other->kinds[i]);
        CHECK_EQUAL(one->kind_events[i], other->kind_events[i]);
        CHECK_EQUAL(one->kind_bytes[i], other->kind_bytes[i]);
    }
}
