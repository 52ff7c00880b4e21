/* fuzz_journal.c -- any sequence of appends, acks, groups, cleaning, trouble and stops
 * leaves a log in which the rings are found again (log_life.h). */

#include "log_life.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    log_life *life = log_life_begin(data[0], data[0] % 4 != 0);
    for (size_t i = 1; i + 1 < size; i += 2) log_life_do(life, data[i], data[i + 1]);
    log_life_end(life);
    return 0;
}
