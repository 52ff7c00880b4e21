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

#define ND_TAKE_KEPT_BYTES_MAX (1u << 20)   /* of each kind of working memory; more is given back with the next call */

/* cffi: begin */

typedef struct nd_take nd_take;

/* What texts are taken with: working memory for one at a time.
 *
 *   Owns    the caller gives it back with nd_take_close; io, channels and pool must outlive it.
 *   Blocks  no.
 *   Cost    constant.
 *   Returns ND_OK, ND_ERR_ARGUMENT, ND_ERR_FULL.
 */
nd_status nd_take_open(const nd_io *io, nd_channels *channels, nd_pool *pool, nd_take **out);

/* Give its memory back.  NULL is nothing to do. */
void nd_take_close(nd_take *take);

/* Where the events of a request go. */
typedef struct {
    const nd_audiences *audiences;  /* NULL: to one channel, all of them, unless it would refuse one */
    uint64_t            channel;    /* that one */
    const nd_routes    *manual;     /* else by subscription: as nd_route_walk has them ... */
    const nd_routes    *chosen;
    uint64_t            chosen_from;
} nd_addressees;

/* What was taken.  What it points to lives until the next call. */
typedef struct {
    nd_published    published;
    const uint64_t *numbers;        /* the channels of its routes */
    uint64_t        numbers_count;
    uint64_t        unrouted;       /* events that no channel gets */
} nd_taken;

/* Take a text, one message or (is_lines) one in each line, and store all of it.
 *
 *   Owns    text is only read.  What the staging held is cleared first; afterwards it holds the
 *           records, unless ND_ODD is returned: then it is empty.
 *   Blocks  no.
 *   Cost    the sum of what it calls.
 *   Returns ND_OK; ND_ODD: the scan does not vouch for all of it, or it has no message or more
 *           than records_max records; ND_EMPTY: for these records somebody has to find an audience,
 *           to make room, or to say why not.  Unless it is ND_OK no ring has changed.
 */
nd_status nd_take_text(nd_take *take, nd_staging *staging, nd_journal *journal, const nd_addressees *to,
                       const uint8_t *text, uint64_t text_bytes, int is_lines, uint64_t records_max,
                       uint64_t received_unix_ms, uint64_t epoch, uint64_t reserved_bytes, nd_taken *out);

/* cffi: end */

#endif /* ND_TAKE_H */
