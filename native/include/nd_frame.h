/* nd_frame.h -- records of a ring, written as notification messages.
 *
 * In two steps.  *Planning* looks at headers alone: which records, in which order of
 * kinds, and how many bytes that will be, exactly.  *Writing* copies bodies into the
 * caller's buffer, a piece at a time, and adds the fields that a channel asked for.
 * Nothing is kept in between but numbers, so records may go while a batch is half
 * written; the writer then says so.
 *
 * A slice is grouped by kind in order of first occurrence, and is cut before an event
 * whose ep already stands in it under a kind that comes later in that order: then
 * the events of a device leave in the order in which they came (INV-4).
 *
 *      arrive    n(a)  r(b)  n(c)  r(a) | n(b)  ...
 *      leave     {"notifications":[n(a),n(c)],"registrations":[r(b),r(a)]}
 *
 * The forms of messages and of uids are described in dispatcher/docs/FORMAT.md.
 *
 * Threads: as the ring's.
 */
#ifndef ND_FRAME_H
#define ND_FRAME_H

#include <stdint.h>

#include "nd_io.h"
#include "nd_ring.h"
#include "nd_status.h"

/* cffi: begin */

typedef enum {
    ND_FORM_MIXED_KINDS              = 1,       /* one message with all kinds, else one for each */
    ND_FORM_DEREGISTRATIONS_AS_OBJECT = 2,
    ND_FORM_UID                      = 4,
    ND_FORM_TIMESTAMP                = 8,
    ND_FORM_ORIGINAL_EP              = 16,
    ND_FORM_GAPS                     = 32       /* the caller has begun the first message: {"gaps":[...] */
} nd_form;

typedef struct nd_framer nd_framer;
typedef struct nd_framed nd_framed;

/* A batch: what was planned, and how far it is written.  Plain numbers, made by the
 * planning functions; the place is checked before it is used. */
typedef struct {
    uint64_t epoch;                     /* of all its records */
    uint64_t first_seq, last_seq;
    uint64_t bytes_count;               /* of all messages, without what the caller began */
    uint64_t kind_bytes[6];             /* of "name":[...], in message order */
    uint32_t kind_events[6];
    uint8_t  kinds[6];                  /* in message order */
    uint8_t  kinds_count;
    uint8_t  form;                      /* nd_form, or-ed */
    uint32_t events;
    uint32_t end_offset;                /* where it ends, in a chunk: a hint */
    /* writing */
    uint32_t kind_at;                   /* which of kinds; kinds_count: all is written */
    uint32_t stage;
    uint32_t events_left;               /* of this kind */
    uint64_t next_seq;
    uint32_t next_offset;               /* in its chunk */
    uint64_t bytes_written;             /* by the last nd_batch_write; after ND_NO_ROOM: bytes needed */
} nd_batch;

/* Working memory for planning; one serves all rings of a pool.
 *
 *   Owns    the caller gives it back with nd_framer_close, before the pool.
 *   Blocks  no.
 *   Returns ND_OK, ND_ERR_ARGUMENT, ND_ERR_FULL.
 */
nd_status nd_framer_open(nd_pool *pool, nd_framer **out);

/* NULL is nothing to do. */
void nd_framer_close(nd_framer *framer);

/* What a batch is to be made of: the records after a seq and up to another, where a gap stands that has to be
 * told before what is behind it (UINT64_MAX: nowhere).  Ends before events_max or bytes_max (of the messages)
 * would be passed, but takes one record always. */
typedef struct {
    uint64_t after_seq, upto_seq;
    uint64_t events_max, bytes_max;
    uint32_t form;                      /* nd_form, or-ed */
} nd_slice;

/* Plan a batch and hold its records: they are in flight.  It may end earlier for the rule of kinds above.
 *
 *   Blocks  no.
 *   Cost    O(records taken).
 *   Returns ND_OK, ND_EMPTY (no records there), ND_ERR_ARGUMENT, ND_ERR_CORRUPT
 *           (out->next_seq is the damaged record: nd_ring_isolate it and plan again),
 *           ND_COLD (the first record is; a batch ends before a cold one).
 */
nd_status nd_frame_plan(nd_framer *framer, nd_ring *ring, const nd_slice *slice, nd_batch *out);

/* Hold a batch that was planned elsewhere, by nd_fetch_slice, as if it had been planned here: 1.  0 when the ring
 * would not give it, since records went or are not to be shown: it is of no use then, and nothing changes.
 *
 *   Blocks  no.
 *   Cost    O(chunks that the batch lies in).
 */
int nd_frame_hold(nd_ring *ring, const nd_slice *slice, const nd_batch *batch);

/* Plan a batch that was planned before, from its first to its last seq, and hold it.
 *
 * The same records and form give the same bytes.  Records in flight leave a ring from
 * the front alone, so that they are all there if the first is; events, when not 0,
 * is how many there must be, for batches that were released in between.
 *
 *   Blocks  no.
 *   Cost    O(records).
 *   Returns ND_OK, ND_ERR_TRIMMED (some are gone), ND_ERR_ARGUMENT, ND_ERR_CORRUPT,
 *           ND_COLD (some are).
 */
nd_status nd_frame_plan_exact(nd_ring *ring, uint64_t first_seq, uint64_t last_seq,
                              uint64_t events, uint32_t form, nd_batch *out);

/* Begin again with the first message. */
void nd_batch_rewind(nd_batch *batch);

/* Write the next part of a batch: whole records while they fit, and never past the
 * end of a message, nor into a cold chunk.  batch->bytes_written says how much; 0 once all is written.
 *
 *   Owns    buffer is the caller's; the ring is the one that the batch was planned on.
 *   Blocks  no.
 *   Cost    O(records written, and those of other kinds in between).
 *   Returns ND_OK; ND_NO_ROOM (nothing written: batch->bytes_written are needed for the
 *           next piece); ND_COLD (nothing written: batch->next_seq is cold);
 *           ND_ERR_TRIMMED (records of the batch are gone), ND_ERR_CORRUPT
 *           (batch->next_seq is damaged): what was written before is then half a
 *           message, and the batch is of no use.
 */
nd_status nd_batch_write(nd_ring *ring, nd_batch *batch, uint8_t *buffer, uint64_t capacity);

/* The same, of what is written already, by whoever brought it back from the disk (nd_framed.h), and from memory
 * where that does not go on, or has no room; framed may be NULL. */
nd_status nd_batch_read(nd_ring *ring, const nd_framed *framed, nd_batch *batch, uint8_t *buffer, uint64_t capacity);

/* What a message is sent through. */
typedef struct {
    uint8_t       *buffer;              /* what lies in it goes first; what does not go stays in it */
    uint64_t       capacity;
    const uint8_t *tail;                /* goes behind the end of the message */
    uint64_t       tail_bytes;
    const nd_framed *framed;            /* as for nd_batch_read */
} nd_pour_memory;

/* How far a message is sent. */
typedef struct {
    uint64_t begin, filled;             /* of what lies in the buffer, unsent */
    uint64_t unread;                    /* of the message; 0: the tail went too, or lies in the buffer */
    uint64_t sent;                      /* by this call */
} nd_pouring;

/* Send what lies in the buffer, from its front to filled, and then what follows in the message, a buffer
 * at a time, until the socket takes no more or pieces_max buffers went.
 *
 *   Owns    memory is the caller's; the ring as for nd_batch_read.
 *   Blocks  no.
 *   Cost    O(bytes sent, and those that stay in the buffer).
 *   Returns ND_OK, also when a piece could not be written: too large a record or a cold one is left to
 *           nd_batch_read.  Else what that said: the message is half sent, and of no use; ND_ERR_ARGUMENT.
 */
nd_status nd_batch_pour(nd_ring *ring, nd_batch *batch, nd_send_function send, int32_t socket,
                        const nd_pour_memory *memory, uint32_t pieces_max, nd_pouring *pouring);

/* cffi: end */

_Static_assert(sizeof(((nd_batch *)0)->kinds) == ND_KINDS, "one place for each kind");

#endif /* ND_FRAME_H */
