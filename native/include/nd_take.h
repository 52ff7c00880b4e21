/* nd_take.h -- a request's text to records in rings and journal, in one call.
 *
 *      text --- nd_scan --->  records --- nd_routes_find --->  pairs --- nd_audiences --->  groups
 *                                                                                             |
 *      202  <--------------------------------- nd_publish <---  routes  <--- nd_fan  ---------+
 *
 * A chain of calls that each say what they do, without a return to the caller in between.
 * It may only say yes: at anything that somebody has to judge, to find out, or to make
 * room for, it stops with nothing stored, and the caller goes the same way step by step.
 *
 * Threads: those of the rings; a take is used by that one thread.
 */
#ifndef ND_TAKE_H
#define ND_TAKE_H

#include <stdint.h>

#include "nd_audiences.h"
#include "nd_channels.h"
#include "nd_io.h"
#include "nd_journal.h"
#include "nd_pool.h"
#include "nd_publish.h"
#include "nd_routes.h"
#include "nd_scan.h"
#include "nd_status.h"

#define ND_TAKE_CAME_STEP 256u                       /* see nd_taken.came_bytes: less of a difference is none */
#define ND_TAKE_KEPT_BYTES_MAX (1u << 20)   /* of each kind of working memory; more is given back with the next call */

/* cffi: begin */

typedef struct nd_take nd_take;

/* What became of a request, in plain numbers, so that the caller reads them in one go. */
typedef struct {
    uint64_t events;            /* its records */
    uint64_t came_bytes;        /* as they are stored, rounded up to a multiple of ND_TAKE_CAME_STEP */
    uint64_t queued_count;      /* published.sum */
    uint64_t unrouted;          /* records that no channel gets */
    uint64_t has_lasting;       /* some of a text are in nd_staged.lasting */
    uint64_t is_odd;            /* published has more to tell than that, or memory is short */
    uint64_t numbers_count;     /* the channels of its routes */
    uint64_t number;            /* the first of them; 0: there is none */
} nd_outcome;

/* What was taken. */
typedef struct {
    nd_outcome      outcome;
    uint64_t        last_seq;   /* in the first of its channels */
    const uint64_t *numbers;    /* all of these; they live until the next call, as all of published does */
    nd_published    published;
} nd_taken;

/* What requests are taken with, into these channels: working memory for one at a time.
 *
 *   Owns    the caller gives it back with nd_take_close; io, channels, pool and journal, which may
 *           be NULL, must outlive it.
 *   Blocks  no.
 *   Cost    constant.
 *   Returns ND_OK, ND_ERR_ARGUMENT, ND_ERR_FULL.
 */
nd_status nd_take_open(const nd_io *io, nd_channels *channels, nd_pool *pool, nd_journal *journal, uint64_t epoch,
                       uint64_t records_max, nd_take **out);

/* Give its memory back.  NULL is nothing to do. */
void nd_take_close(nd_take *take);

/* Texts are scanned into this staging from now on; it must outlive that.  More memory than kept_bytes_max
 * of it is given back with the next text. */
void nd_take_scan_into(nd_take *take, nd_staging *staging, uint64_t kept_bytes_max);

/* What the last call took, if that was ND_OK or ND_SAME; it stands there until the take is closed. */
const nd_taken *nd_take_look(const nd_take *take);

/* Where the events of a request go: by subscription, as nd_route_walk has it. */
typedef struct {
    const nd_audiences *audiences;
    const nd_routes    *manual;
    const nd_routes    *chosen;
    uint64_t            chosen_from;
} nd_addressees;

/* Take a text, one message or (is_lines) one in each line, and store all of it: where the
 * subscriptions say, or, with to NULL, in one channel, unless that would refuse any.
 *
 *   Owns    text is only read.  What the staging held is cleared first; afterwards it holds the
 *           records, unless ND_ODD is returned: then it is empty.
 *   Blocks  no.
 *   Cost    the sum of what it calls.
 *   Returns ND_OK; ND_SAME: the outcome is that of the call before, which is not odd, and goes to no
 *           second channel, so that nobody has to look at it; ND_ODD: the scan does not vouch for all of it, or it has no message or more
 *           than records_max records; ND_EMPTY: for these records somebody has to find an audience,
 *           to make room, or to say why not.  Unless it is one of the first two no ring has changed.
 */
nd_status nd_take_text(nd_take *take, const nd_addressees *to, uint64_t channel, const uint8_t *text, uint64_t text_bytes,
                       int is_lines, uint64_t received_unix_ms, uint64_t reserved_bytes);

/* Records that were scanned, or made, before. */
typedef struct {
    const uint8_t  *block;
    uint64_t        block_bytes;
    const uint64_t *meta;
    uint64_t        count;
} nd_records;

/* Store all of these in one channel, unless that would refuse any.
 *
 *   Owns    records is only read.
 *   Blocks  no.
 *   Cost    that of nd_publish.
 *   Returns ND_OK, ND_SAME (see nd_take_text); ND_EMPTY: somebody has to make room, or to say why
 *           not, and no ring has changed.
 */
nd_status nd_take_records(nd_take *take, uint64_t channel, const nd_records *records, uint64_t received_unix_ms,
                          uint64_t reserved_bytes);

/* cffi: end */

#endif /* ND_TAKE_H */
