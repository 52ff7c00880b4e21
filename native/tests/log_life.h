/* log_life.h -- rings, their journal and its disk, led through one operation after the
 * other, and a model of what must be found again.
 *
 * The model is a picture of all rings, taken when a group is sealed: each record's seq,
 * epoch and checksum, and where the channel stands.  Whatever fails, and whenever the
 * machine stops, recovery must find one of these pictures, exact to the record: that of
 * the last group it keeps, which is the last durable one or a later one.
 */
#ifndef LOG_LIFE_H
#define LOG_LIFE_H

#include <stdint.h>

#include "fake_disk.h"
#include "nd_test.h"

typedef struct log_life log_life;

/* is_synced 0: groups are durable when they are written, and power is never cut. */
log_life *log_life_begin(uint64_t seed, uint32_t is_synced);

/* One thing that happens: an append, an ack, a slice, a loss, a group written, a step of
 * cleaning, a full disk, a failing call, a stop.  Any two bytes are one. */
void log_life_do(log_life *life, uint8_t operation, uint8_t choice);

/* From now on something may fail, because the test saw to it. */
void log_life_may_fail(log_life *life);

/* Stop, every other time as if the power went, recover, and compare with the pictures; the
 * next life goes on from there. */
void log_life_restart(log_life *life);

/* Stop for good; nothing may be left. */
void log_life_end(log_life *life);

fake_disk *log_life_disk(log_life *life);
test_memory *log_life_memory(log_life *life);

/* How much happened, so that a test can see that it did something. */
typedef struct {
    uint64_t restarts, unlinked, poisoned, retried;
} log_life_counts;

log_life_counts log_life_counted(const log_life *life);

#endif /* LOG_LIFE_H */
