/* nd_test.h -- the whole test framework: a check that says what failed, a table of
 * tests, and memory that can be made to run out. */
#ifndef ND_TEST_H
#define ND_TEST_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nd_append.h"
#include "nd_frame.h"
#include "nd_io.h"
#include "nd_pool.h"
#include "nd_ring.h"

#define CHECK(condition)                                                              \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);   \
            exit(1);                                                                  \
        }                                                                             \
    } while (0)

#define CHECK_EQUAL(got, expected)                                                    \
    do {                                                                              \
        const unsigned long long got_ = (unsigned long long)(got);                    \
        const unsigned long long expected_ = (unsigned long long)(expected);          \
        if (got_ != expected_) {                                                      \
            fprintf(stderr, "%s:%d: %s is %llu, not %llu\n", __FILE__, __LINE__,      \
                    #got, got_, expected_);                                           \
            exit(1);                                                                  \
        }                                                                             \
    } while (0)

#define RUN(test)                                                                     \
    do {                                                                              \
        test();                                                                       \
        printf("ok %s\n", #test);                                                     \
        fflush(stdout);                                                               \
    } while (0)

/* The system's memory, counted, with one request that fails.  What is allocated and given back is counted
 * whatever thread does it. */
typedef struct {
    const nd_io *real;
    nd_io        io;            /* hand this one out */
    uint64_t     requests;      /* for memory, so far */
    uint64_t     fail_at;       /* this request fails, and no other; 0: none */
    uint64_t     bytes;         /* allocated and not given back */
    uint64_t     mapped_bytes;
    uint64_t     discards, brings, enlarged;
    int          discard_fails;
} test_memory;

void test_memory_begin(test_memory *memory);

/* Everything was given back. */
void test_memory_end(const test_memory *memory);

/* A request of notifications that are all alike but for their numbers. */
typedef struct {
    uint8_t  *block;
    uint64_t  block_bytes;
    uint64_t *meta;
    uint64_t  count;
} test_request;

/* count notifications with bodies of body_bytes, at least 64. */
test_request test_notifications(uint64_t count, uint32_t body_bytes);

/* The same of so many resources, in turn from the first-th on. */
test_request test_values(uint64_t count, uint64_t first, uint64_t resources, uint32_t body_bytes);

/* One record given in full. */
test_request test_record(uint32_t kind, const char *ep, const char *body, const char *tail);

void test_request_free(test_request *request);

nd_status test_append(nd_pool *pool, nd_ring *ring, const test_request *request, uint64_t unix_ms,
                      nd_route *route);

/* All messages of a batch, end to end, read through pieces of at most piece_bytes; freed by the caller. */
char *test_read(nd_ring *ring, nd_batch *batch, uint64_t piece_bytes);

/* The same, of what is written already where that goes on. */
char *test_read_framed(nd_ring *ring, const nd_framed *framed, nd_batch *batch, uint64_t piece_bytes);

/* The same records were planned in the same form. */
void test_batches_alike(const nd_batch *one, const nd_batch *other);

#endif /* ND_TEST_H */
