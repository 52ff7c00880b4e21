/* nd_fan.h -- from the groups of a request's events to the channels that they go to.
 *
 *      groups    0 1 0 2 1                    routes   A: 0 2      B: 0 1 2 4
 *      channels  0: A B    1: B    2: -       unrouted 1
 *
 * In two steps, for only the first knows how much room the second needs.
 */
#ifndef ND_FAN_H
#define ND_FAN_H

#include <stdint.h>

#include "nd_status.h"

/* cffi: begin */

/* A request's events by group, and where the groups go. */
typedef struct {
    const uint32_t *groups;         /* of each event */
    uint64_t        events;
    const uint64_t *channels;       /* of all groups, end to end; of a group each once */
    const uint32_t *ends;           /* where those of each group end */
    uint64_t        groups_count;
    /* memory: of the first three as much as there are channels, end to end */
    uint64_t       *routes;         /* filled in: the channel of each route */
    uint32_t       *route_ends;     /* filled in: where the indices of each end */
    uint32_t       *places;         /* working memory */
    uint32_t       *slots;          /* working memory, zeros; as many as a power of two above that */
    uint64_t        slots_count;
    /* filled in by nd_fan_plan */
    uint64_t        routes_count;
    uint64_t        indices_count;  /* over all routes */
    uint64_t        unrouted;       /* events of groups without a channel */
} nd_fan;

/* Find the different channels, in the order in which the groups name them, and how many events
 * go to each.
 *
 *   Owns    nothing.
 *   Blocks  no.
 *   Cost    O(channels of all groups, and indices_count).
 *   Returns ND_OK, ND_ERR_ARGUMENT (a group that is not there, or ends that fall), ND_ERR_FULL (more
 *           indices than can be counted).
 */
nd_status nd_fan_plan(nd_fan *fan);

/* After nd_fan_plan: write down which events go to each route, rising.  indices has room for
 * indices_count.
 *
 *   Blocks  no.
 *   Cost    O(indices_count).
 */
void nd_fan_fill(nd_fan *fan, uint32_t *indices);

/* cffi: end */

#endif /* ND_FAN_H */
