/* nd_journal.h -- the writing side of the journal: one append-only log in segments.
 *
 *      publishers, acks                         worker thread
 *            | gather                                | write_sync
 *            v                                       v
 *      [ group being gathered ]  -- seal -->  [ sealed group ]  --> segment on disk
 *                                                    |
 *                           durable  <-- group_done -+
 *
 * Units are gathered into a group in memory.  Sealing hands the group to the writer and
 * begins the next one, which gathers while the first is written and synced: one sync
 * serves everyone whose unit stands in the group.  A group is durable as a whole or not
 * at all, and units gathered between two seals are in one group.
 *
 * dispatcher/docs/FORMAT.md describes the bytes, nd_segment.h is their C form.
 *
 * Threads: two sides, each used by one thread at a time.
 *
 *      gathering   nd_journal_gather_*, _room, _seal, _group_done, _stats
 *      writing     nd_journal_write_sync, _prepare, _unlink_oldest
 *
 *      They may run at the same moment, and share nothing then: gathering touches the
 *      group being gathered and the published figures; writing touches the sealed group,
 *      the files and the segment figures.  _seal and _group_done read and write both, so
 *      no call of the writing side may be running while they are called, nor during
 *      _open and _close.  The caller's hand-over between threads orders the memory.
 *
 * Failure: an error of write or sync inside a preallocated segment poisons the journal.
 *      Nobody knows then what reached the disk, and a second fsync would call it durable
 *      without looking.  Every later call answers ND_ERR_POISONED; only close is left.
 *      A full disk while a segment is being preallocated is no such error: what was
 *      sealed stays sealed, and the call can be made again.
 */
#ifndef ND_JOURNAL_H
#define ND_JOURNAL_H

#include <stdint.h>

#include "nd_files.h"
#include "nd_io.h"
#include "nd_segment.h"
#include "nd_status.h"


/* cffi: begin */

typedef struct nd_journal nd_journal;

/* How to go on, or begin; nd_recovery tells what was there before. */
typedef struct {
    uint64_t journal_id;            /* random, the same for every segment of a folder */
    uint64_t segment_bytes;         /* of new segments; a multiple of 4096 */
    uint64_t group_bytes_max;       /* of a group; fits into a segment */
    uint64_t oldest_segment;        /* the oldest that exists; first_segment when there is none */
    uint64_t first_segment;         /* to be written; one more than the newest valid one */
    uint64_t first_group;           /* to be written; one more than the last one kept */
    uint64_t epoch;
    uint64_t created_unix_ms;
    uint32_t is_synced;             /* 1: a group is durable when it was synced, 0: when it was written */
    uint32_t _reserved;
} nd_journal_options;

/* A route of a request, as nd_request_route describes it. */
typedef struct {
    uint64_t        channel;
    uint64_t        incarnation;
    uint64_t        first_seq;
    uint64_t        seqs;
    const uint32_t *entries;        /* NULL: all records of the request, in order */
} nd_journal_route;

/* A request's records; block and meta as in nd_rings_append. */
typedef struct {
    uint64_t         epoch;
    uint64_t         received_unix_ms;
    const uint8_t   *block;
    uint64_t         block_bytes;
    const uint64_t  *meta;
    uint64_t         records;
    const nd_journal_route *routes;
    uint64_t         routes_count;
} nd_journal_request;

/* An answer kept for requests with an Idempotency-Key. */
typedef struct {
    uint64_t       account;
    uint64_t       answered_unix_ms;
    const uint8_t *body_sha256;     /* 32 bytes */
    const uint8_t *key;
    uint64_t       key_bytes;
    const uint8_t *answer;
    uint64_t       answer_bytes;
} nd_journal_answer;

typedef struct {
    uint64_t gathering_group;       /* the number that units gathered now will be durable with */
    uint64_t gathered_bytes;
    uint64_t durable_group;         /* 0: none since the journal began */
    uint64_t durable_segment;       /* where that group stands */
    uint64_t oldest_segment;
    uint64_t segments;              /* files, the spare one included */
    uint64_t segment_room;          /* bytes left in the one that is being written */
    uint32_t has_spare;             /* a preallocated segment waits: publishers may go on */
    uint32_t is_poisoned;
} nd_journal_stats_t;

/* Begin to write.  Nothing is asked of the disk before the first nd_journal_prepare or
 * nd_journal_write_sync; the folder exists.
 *
 *   Owns    the caller gives it back with nd_journal_close; io and files outlive it.
 *   Blocks  no; two groups' worth of address space is taken.
 *   Returns ND_OK, ND_ERR_ARGUMENT, ND_ERR_FULL.
 */
nd_status nd_journal_open(const nd_io *io, const nd_files *files, const char *folder,
                          const nd_journal_options *options, nd_journal **out);

/* Close the files.  What was gathered and not sealed, or sealed and not written, is
 * lost.  NULL is nothing to do.
 *
 *   Blocks  no.
 */
void nd_journal_close(nd_journal *journal);

/* --- gathering ---------------------------------------------------------------------- */

/* Whether units of so many bytes altogether fit into the group being gathered.
 *
 *   Blocks  no.
 *   Cost    constant.
 *   Returns ND_OK; ND_NO_ROOM (not before the next seal); ND_ERR_ARGUMENT (never: more
 *           than a group holds); ND_ERR_POISONED.
 */
nd_status nd_journal_room(const nd_journal *journal, uint64_t bytes);

/* The most that a request takes, with so many entries over all its routes. */
uint64_t nd_journal_request_bytes(uint64_t block_bytes, uint64_t records, uint64_t routes, uint64_t entries);

/* What an answer takes. */
uint64_t nd_journal_answer_bytes(uint64_t key_bytes, uint64_t answer_bytes);

/* The most that all units of one group take. */
uint64_t nd_journal_room_max(const nd_journal *journal);

/* Add a unit to the group being gathered, whole or not at all.
 *
 *   Owns    what the arguments point to is copied.
 *   Blocks  no.
 *   Cost    O(bytes).
 *   Returns ND_OK, or as nd_journal_room, or ND_ERR_ARGUMENT for lengths that disagree.
 */
nd_status nd_journal_gather_request(nd_journal *journal, const nd_journal_request *request);
nd_status nd_journal_gather_channel(nd_journal *journal, const nd_channel_unit *unit);
nd_status nd_journal_gather_answer(nd_journal *journal, const nd_journal_answer *answer);
nd_status nd_journal_gather_gaps(nd_journal *journal, uint64_t channel, uint64_t incarnation,
                                 const nd_gap *gaps, uint64_t count);

/* Hand the gathered group to the writer and begin the next.
 *
 *   Blocks  no.
 *   Returns ND_OK, ND_EMPTY (nothing was gathered), ND_ERR_ARGUMENT (the last sealed
 *           group is not done yet), ND_ERR_POISONED.
 */
nd_status nd_journal_seal(nd_journal *journal);

/* Take note of what the last nd_journal_write_sync did.
 *
 *   Blocks  no.
 *   Returns ND_OK (the sealed group is durable), ND_EMPTY (no group is sealed),
 *           ND_ERR_NOSPACE, ND_ERR_IO (it stays sealed: write again), ND_ERR_POISONED.
 */
nd_status nd_journal_group_done(nd_journal *journal);

/* The journal's figures; those of the disk as they were at the last nd_journal_group_done.
 *
 *   Cost    constant.
 */
void nd_journal_stats(const nd_journal *journal, nd_journal_stats_t *out);

/* --- writing ------------------------------------------------------------------------ */

/* Write the sealed group and, when the journal is synced, wait until it is on the disk.
 *
 *   Blocks  yes.
 *   Returns as nd_journal_group_done, which must be called before anything is sealed again.
 */
nd_status nd_journal_write_sync(nd_journal *journal);

/* Preallocate the spare segment, if there is none.
 *
 *   Blocks  yes.
 *   Returns ND_OK, ND_ERR_NOSPACE, ND_ERR_IO (nothing changed: try again later), ND_ERR_POISONED.
 */
nd_status nd_journal_prepare(nd_journal *journal);

/* Remove the oldest segment.  Its live contents were moved, and the groups that hold them are
 * written; they are synced first, also when others are not.
 *
 *   Blocks  yes.
 *   Returns ND_OK, ND_ERR_ARGUMENT (it is being written to), ND_ERR_IO, ND_ERR_POISONED.
 */
nd_status nd_journal_unlink_oldest(nd_journal *journal);

/* cffi: end */

/* Room for a unit of so many bytes, a multiple of 8, at the end of the group being
 * gathered: zeros, but for its header.  As nd_journal_room. */
nd_status nd_journal_gather(nd_journal *journal, nd_unit_type type, uint64_t bytes, void **out);

/* Working memory of the gathering side; its contents live until the next call.  NULL: none. */
void *nd_journal_scratch(nd_journal *journal, uint64_t bytes);

_Static_assert(sizeof(nd_journal_options) == 72, "crosses to Python");

#endif /* ND_JOURNAL_H */
