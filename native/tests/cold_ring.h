/* cold_ring.h -- a ring whose records move to a disk and are read back as message bytes, and what it gives. */
#ifndef COLD_RING_H
#define COLD_RING_H

#include "fake_disk.h"
#include "nd_fetch.h"
#include "nd_framed.h"
#include "nd_residency.h"
#include "nd_test.h"

enum { POOL_BYTES = 8 << 20, BODY = 1000, STORED = 1032, PIECE = 400 << 10, FORM = ND_FORM_UID | ND_FORM_TIMESTAMP };
enum { NOTIFICATION, REGISTRATION, REG_UPDATE, DE_REGISTRATION, EXPIRED, ASYNC };

#define TAIL    ",\"original-ep\":\"x\""

extern test_memory memory;
extern fake_disk *disk;
extern nd_pool *pool;
extern nd_framer *framer;
extern nd_residency *residency;
extern nd_ring *ring;
extern nd_removed removed;
extern nd_fetched fetched;
extern nd_batch batch;
extern nd_framed *framed;
extern uint8_t buffer[2 << 20];

extern const nd_reach everything, first_chunk;

/* What memory gives for a slice. */
typedef struct {
    nd_batch        batch;
    nd_ring_stats_t stats;      /* while it is in flight */
    char           *text;
} expected;

void begin(void);
void end(void);

/* A ring that keeps the latest once it has so many records, in place of the other. */
void keep_latest_of(uint64_t count);

void append_request(test_request request, uint64_t unix_ms);
void append(uint64_t count, uint64_t unix_ms);

/* A record of a device; some are of one that another stands in for. */
void append_of(uint32_t kind, uint64_t device, int has_tail, uint64_t unix_ms);

/* Records of all kinds, each of another device. */
void append_kinds(uint64_t count);

void move_all_out(void);
nd_slice slice_after(uint64_t after_seq, uint32_t form);
nd_fetch *fetch_begun(nd_reach reach);
nd_fetch *slice_begun(const nd_slice *slice, nd_reach reach);
void bring_back(nd_reach reach);
void bring_all_back(void);
nd_reach chunk_of(uint64_t seq);
nd_ring_stats_t stats_now(void);
void check_stats(const nd_ring_stats_t *before);

/* Read and plan a slice and write it, by whoever reads it. */
void read_slice(const nd_slice *slice, nd_reach reach);

void read_on(nd_reach reach, uint64_t bytes_max);
void check_reads(const char *text, uint64_t piece_bytes);

/* What memory gives; nothing is in flight behind it. */
expected given(const nd_slice *slice);

/* The batch that was read is the one expected, and all of it was written: it is read while the records are
 * cold again. */
void check_as(const expected *e, const nd_slice *slice);

/* A slice is the same, written by whoever reads it, as from memory. */
void check_slice(const nd_slice *slice);

/* What was read is what memory gives as far as that. */
void check_as_far_as_it_goes(nd_slice slice);

/* The ring gives what was left to it. */
void check_left(const nd_slice *slice, const expected *e);

/* A batch of a slice that stands at its beginning, of records that are cold. */
char *planned(const nd_slice *slice);

char *planned_after(uint64_t after_seq, uint32_t form);
nd_reach rest_of_batch(void);
void settle(uint64_t upto_seq);

#endif /* COLD_RING_H */
