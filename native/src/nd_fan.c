/* nd_fan.c -- channels are numbered by a table that lives as long as the request. */

#include "nd_fan.h"

#include "nd_mix.h"

static uint32_t group_begin(const nd_fan *fan, uint64_t group)
{
    return group == 0 ? 0 : fan->ends[group - 1];
}

/* The number of a channel's route, a new one if it is the first. */
static uint32_t route_of(nd_fan *fan, uint64_t channel)
{
    uint64_t at = nd_mix64(channel) & (fan->slots_count - 1);
    while (fan->slots[at] != 0 && fan->routes[fan->slots[at] - 1] != channel) {
        at = (at + 1) & (fan->slots_count - 1);                 /* ends: there are more slots than channels */
    }
    if (fan->slots[at] == 0) {
        fan->routes[fan->routes_count] = channel;
        fan->route_ends[fan->routes_count] = 0;
        fan->slots[at] = (uint32_t)++fan->routes_count;
    }
    return fan->slots[at] - 1;
}

nd_status nd_fan_plan(nd_fan *fan)
{
    fan->routes_count = fan->indices_count = fan->unrouted = 0;
    uint32_t entries = 0;
    for (uint64_t group = 0; group < fan->groups_count; group++) {
        if (fan->ends[group] < entries) return ND_ERR_ARGUMENT;
        entries = fan->ends[group];
    }
    if (entries >= fan->slots_count) return ND_ERR_ARGUMENT;
    for (uint64_t i = 0; i < fan->events; i++) {
        if (fan->groups[i] >= fan->groups_count) return ND_ERR_ARGUMENT;
        const uint32_t count = fan->ends[fan->groups[i]] - group_begin(fan, fan->groups[i]);
        fan->indices_count += count;
        fan->unrouted += count == 0;
    }
    if (fan->indices_count > UINT32_MAX) return ND_ERR_FULL;
    for (uint32_t i = 0; i < entries; i++) fan->places[i] = route_of(fan, fan->channels[i]);
    for (uint64_t i = 0; i < fan->events; i++) {
        const uint32_t end = fan->ends[fan->groups[i]];
        for (uint32_t each = group_begin(fan, fan->groups[i]); each < end; each++) fan->route_ends[fan->places[each]]++;
    }
    uint32_t begin = 0;
    for (uint64_t route = 0; route < fan->routes_count; route++) {       /* where each begins; nd_fan_fill moves it on */
        const uint32_t count = fan->route_ends[route];
        fan->route_ends[route] = begin;
        begin += count;
    }
    return ND_OK;
}

void nd_fan_fill(nd_fan *fan, uint32_t *indices)
{
    for (uint64_t i = 0; i < fan->events; i++) {
        for (uint32_t each = group_begin(fan, fan->groups[i]); each < fan->ends[fan->groups[i]]; each++) {
            indices[fan->route_ends[fan->places[each]]++] = (uint32_t)i;
        }
    }
}
