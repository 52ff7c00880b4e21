/* fake_disk.h -- a disk in memory that does to files what real ones do.
 *
 * What was written and not synced is kept or lost in blocks of 512 bytes, each for
 * itself, when the power is cut; names that were made or unlinked without a sync of the
 * folder likewise.  A write may be shorter than asked.  Any call can be told to fail,
 * and from any call on the machine can be dead: then every call fails and none works.
 */
#ifndef FAKE_DISK_H
#define FAKE_DISK_H

#include <stdint.h>

#include "nd_files.h"

typedef struct fake_disk fake_disk;

fake_disk *fake_disk_new(uint64_t seed);
void fake_disk_free(fake_disk *disk);
const nd_files *fake_disk_files(fake_disk *disk);

uint64_t fake_disk_calls(const fake_disk *disk);
uint64_t fake_disk_writes_past_cache(const fake_disk *disk);
uint64_t fake_disk_reads_ahead(const fake_disk *disk);
uint64_t fake_disk_reads_waited_for(const fake_disk *disk);                    /* of much, not asked for ahead */
void fake_disk_fail_at(fake_disk *disk, uint64_t call, nd_status status);      /* 0: none */
void fake_disk_die_at(fake_disk *disk, uint64_t call);                         /* 0: never */
void fake_disk_write_at_most(fake_disk *disk, uint64_t bytes);                 /* 0: all */
void fake_disk_hold_at_most(fake_disk *disk, uint64_t bytes);                  /* of preallocated files */

/* Lose what may be lost, and work again. */
void fake_disk_power_cut(fake_disk *disk);

/* A file's bytes, to look at and to spoil; NULL when there is none. */
uint8_t *fake_disk_bytes(fake_disk *disk, const char *name, uint64_t *count_out);
void fake_disk_truncate(fake_disk *disk, const char *name, uint64_t count);
uint64_t fake_disk_count(const fake_disk *disk);

#endif /* FAKE_DISK_H */
