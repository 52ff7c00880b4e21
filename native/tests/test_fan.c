#include "nd_fan.h"
#include "nd_mix.h"
#include "nd_test.h"

enum { EVENTS_MAX = 400, CHANNELS_MAX = 300, GROUPS_MAX = 40, SLOTS = 1024 };

static uint32_t groups[EVENTS_MAX], ends[GROUPS_MAX], route_ends[CHANNELS_MAX], places[CHANNELS_MAX];
static uint32_t slots[SLOTS], indices[EVENTS_MAX * CHANNELS_MAX];
static uint64_t channels[CHANNELS_MAX], routes[CHANNELS_MAX];

static nd_fan fan_of(uint64_t events, uint64_t groups_count)
{
    memset(slots, 0, sizeof slots);
    return (nd_fan){
        .groups = groups, .events = events, .channels = channels, .ends = ends, .groups_count = groups_count,
        .routes = routes, .route_ends = route_ends, .places = places, .slots = slots, .slots_count = SLOTS,
    };
}

/* Whether a group goes to a channel. */
static int goes_to(uint32_t group, uint64_t channel)
{
    for (uint32_t i = group == 0 ? 0 : ends[group - 1]; i < ends[group]; i++) {
        if (channels[i] == channel) return 1;
    }
    return 0;
}

/* Every route has exactly the events that go to its channel, and none is missing. */
static void check(nd_fan *fan)
{
    CHECK_EQUAL(nd_fan_plan(fan), ND_OK);
    nd_fan_fill(fan, indices);
    uint64_t unrouted = 0, total = 0;
    for (uint64_t i = 0; i < fan->events; i++) {
        const uint32_t begin = groups[i] == 0 ? 0 : ends[groups[i] - 1];
        unrouted += begin == ends[groups[i]];
        total += ends[groups[i]] - begin;
    }
    CHECK_EQUAL(fan->unrouted, unrouted);
    CHECK_EQUAL(fan->indices_count, total);
    uint32_t at = 0;
    for (uint64_t route = 0; route < fan->routes_count; route++) {
        for (uint64_t before = 0; before < route; before++) CHECK(routes[before] != routes[route]);
        for (uint32_t i = 0; i < fan->events; i++) {
            if (goes_to(groups[i], routes[route])) CHECK_EQUAL(indices[at++], i);
        }
        CHECK_EQUAL(route_ends[route], at);
    }
    CHECK_EQUAL(at, total);
}

static void each_channel_gets_the_events_of_its_groups_in_order(void)
{
    uint64_t random = 7;
    for (uint32_t turn = 0; turn < 200; turn++) {
        const uint32_t groups_count = 1 + turn % GROUPS_MAX, most = CHANNELS_MAX / groups_count;
        uint32_t end = 0;
        for (uint32_t group = 0; group < groups_count; group++) {
            random = nd_mix64(random + ND_GOLDEN);
            const uint32_t count = (uint32_t)(random % (most < 8 ? most + 1 : 8));
            for (uint32_t i = 0; i < count; i++) channels[end++] = (random >> 32) % 20 + i * 1000;   /* each once */
            ends[group] = end;
        }
        const uint64_t events = turn * 2 % EVENTS_MAX;
        for (uint64_t i = 0; i < events; i++) {
            random = nd_mix64(random + ND_GOLDEN);
            groups[i] = (uint32_t)(random % groups_count);
        }
        nd_fan fan = fan_of(events, groups_count);
        check(&fan);
    }
}

static void routes_stand_in_the_order_in_which_groups_name_them(void)
{
    const uint64_t named[] = {9, 4, 4, 7};
    memcpy(channels, named, sizeof named);
    ends[0] = 2;
    ends[1] = 4;
    groups[0] = 0;
    groups[1] = 1;
    nd_fan fan = fan_of(2, 2);
    check(&fan);
    CHECK_EQUAL(fan.routes_count, 3);
    CHECK_EQUAL(routes[0], 9);
    CHECK_EQUAL(routes[1], 4);
    CHECK_EQUAL(routes[2], 7);
}

static void a_request_that_cannot_be_so_is_refused(void)
{
    ends[0] = 2;
    ends[1] = 1;
    groups[0] = 0;
    nd_fan falling = fan_of(1, 2);
    CHECK_EQUAL(nd_fan_plan(&falling), ND_ERR_ARGUMENT);
    ends[1] = 3;
    groups[0] = 2;
    nd_fan beyond = fan_of(1, 2);
    CHECK_EQUAL(nd_fan_plan(&beyond), ND_ERR_ARGUMENT);
    groups[0] = 0;
    nd_fan cramped = fan_of(1, 2);
    cramped.slots_count = 2;
    CHECK_EQUAL(nd_fan_plan(&cramped), ND_ERR_ARGUMENT);
}

static void more_indices_than_can_be_counted_are_refused_before_any_is(void)
{
    enum { MANY = 1u << 16 };
    static uint32_t all_one[MANY];
    const uint32_t end = MANY;
    nd_fan fan = {.groups = all_one, .events = MANY, .ends = &end, .groups_count = 1, .slots_count = 2 * MANY};
    CHECK_EQUAL(nd_fan_plan(&fan), ND_ERR_FULL);                /* it has not looked at a channel */
}

int main(void)
{
    RUN(each_channel_gets_the_events_of_its_groups_in_order);
    RUN(routes_stand_in_the_order_in_which_groups_name_them);
    RUN(a_request_that_cannot_be_so_is_refused);
    RUN(more_indices_than_can_be_counted_are_refused_before_any_is);
    return 0;
}
