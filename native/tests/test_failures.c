/* test_failures.c -- every request for memory and every call of the disk fails, in turn.
 *
 * A life of the whole core is repeated (log_life.h): pool, rings, framer, journal, cleaner,
 * recovery and restore.  In the n-th, the n-th request or call fails, until one comes to its
 * end without reaching it.  What was durable is found again each time, an append that
 * failed changed nothing, and no memory is left.
 */

#include "log_life.h"

#define OPERATIONS 400u
#define SEEDS      3u
#define LIVES_MAX  20000u

static uint8_t random_byte(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (uint8_t)(*state >> 16);
}

/* Everything but trouble of its own; now and then a stop. */
static void live(log_life *life, uint32_t seed)
{
    uint32_t state = seed * 7919u;
    for (uint32_t i = 0; i < OPERATIONS; i++) {
        uint8_t operation = random_byte(&state);
        const uint8_t choice = random_byte(&state);
        if (operation % 16 == 15) operation = choice % 4 == 0 ? 15 : 8;
        log_life_do(life, operation, choice);
    }
}

static void each_request_for_memory_fails_in_turn(void)
{
    for (uint32_t seed = 1; seed <= SEEDS; seed++) {
        uint64_t fail_at = 1;
        for (; fail_at < LIVES_MAX; fail_at++) {
            log_life *life = log_life_begin(seed, seed % 2);
            log_life_memory(life)->fail_at = fail_at;
            log_life_may_fail(life);
            live(life, seed);
            const int was_reached = log_life_memory(life)->requests >= fail_at;
            log_life_end(life);
            if (!was_reached) break;
        }
        CHECK(fail_at > 60 && fail_at < LIVES_MAX);
    }
}

static void each_call_of_the_disk_fails_in_turn(void)
{
    uint64_t poisoned = 0, retried = 0;
    for (uint32_t seed = 1; seed <= SEEDS; seed++) {
        uint64_t fail_at = 1;
        for (; fail_at < LIVES_MAX; fail_at++) {
            log_life *life = log_life_begin(fail_at / 2, 1);
            fake_disk_fail_at(log_life_disk(life), fail_at, fail_at % 2 == 0 ? ND_ERR_IO : ND_ERR_NOSPACE);
            log_life_may_fail(life);
            live(life, seed);
            const int was_reached = fake_disk_calls(log_life_disk(life)) >= fail_at;
            poisoned += log_life_counted(life).poisoned;
            retried += log_life_counted(life).retried;
            log_life_end(life);
            if (!was_reached) break;
        }
        CHECK(fail_at > 200 && fail_at < LIVES_MAX);
    }
    CHECK(poisoned > 50 && retried > 5);
}

static void lives_without_trouble_turn_the_log_over(void)
{
    for (uint32_t seed = 1; seed <= 20; seed++) {
        log_life *life = log_life_begin(seed, 1);
        for (uint32_t turn = 0; turn < 4; turn++) live(life, seed + turn);
        CHECK_EQUAL(log_life_counted(life).poisoned, 0);
        CHECK(log_life_counted(life).unlinked > 2 && log_life_counted(life).restarts > 5);
        log_life_end(life);
    }
}

int main(void)
{
    RUN(lives_without_trouble_turn_the_log_over);
    RUN(each_request_for_memory_fails_in_turn);
    RUN(each_call_of_the_disk_fails_in_turn);
    return 0;
}
