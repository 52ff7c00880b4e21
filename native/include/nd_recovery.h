/* nd_recovery.h -- the reading side of the journal.
 *
 * Reads the segments of a folder in order, judges every group, and hands out the units
 * of the good ones.  What it makes of a bad group:
 *
 *      | 7 | 8 | bad | 10 |   group 10 says that 9 was durable: 9 was damaged later.
 *                             It is skipped and reported; all others are kept.
 *      | 7 | 8 | bad | 10 |   group 10 says that 8 was: 9 was being written when the
 *                             power went.  The log ends with 8; nobody was told of 9.
 *
 * A segment that has a successor was synced whole before that was begun, so every group
 * missing in it is damage; and what stands in it with a number that the successor begins
 * with, or a higher one, was cut off by an earlier recovery and stays cut off.
 *
 * Nothing is changed on the disk.
 *
 * Threads: one at a time, but for nd_recovery_passed_bytes.
 */
#ifndef ND_RECOVERY_H
#define ND_RECOVERY_H

#include <stdint.h>

#include "nd_files.h"
#include "nd_io.h"
#include "nd_segment.h"
#include "nd_status.h"

/* cffi: begin */

typedef struct nd_recovery nd_recovery;

/* What was found so far; complete when the last segment has been read. */
typedef struct {
    uint64_t journal_id;            /* 0: no segment is there */
    uint64_t oldest_segment, newest_segment;
    uint64_t segments;
    uint64_t groups, units;         /* that were kept */
    uint64_t group_bytes;
    uint64_t last_group;            /* the next one written has the number after this; 0: none */
    uint64_t last_epoch;            /* of the run that wrote last */
    uint64_t damaged_groups;        /* durable once, and gone */
    uint64_t damaged_segment, damaged_group;    /* the first of them; 0: none */
    uint64_t last_damaged_group;    /* 0: none */
    uint64_t damaged_segments;      /* whose header, or file, is gone */
    uint64_t cut_groups;            /* valid ones behind the torn end */
    uint32_t is_synced;             /* the run that wrote last */
    uint32_t is_clean_end;          /* behind the last group kept there are zeros alone */
} nd_recovery_report_t;

/* One unit: a pointer to its header, as described in nd_segment.h. */
typedef struct {
    const void *unit;
    uint64_t    bytes;
    uint64_t    segment;
    uint64_t    group;
    uint64_t    offset;         /* of the unit in the segment's file */
    uint32_t    type;               /* nd_unit_type */
    uint32_t    _reserved;
} nd_unit;

/* Look at the folder's segments from first_segment to last_segment (0, UINT64_MAX: all).
 *
 *   Owns    the caller gives it back with nd_recovery_close; io and files outlive it.
 *   Blocks  yes.
 *   Cost    one small read for each segment, and memory for the largest.
 *   Returns ND_OK (also when there is none), ND_ERR_IO, ND_ERR_FULL, ND_ERR_ARGUMENT
 *           (written by a newer version).
 */
nd_status nd_recovery_open(const nd_io *io, const nd_files *files, const char *folder,
                           uint64_t first_segment, uint64_t last_segment, nd_recovery **out);

/* NULL is nothing to do. */
void nd_recovery_close(nd_recovery *recovery);

/* Read the next segment and judge its groups.
 *
 *   Blocks  yes.
 *   Cost    O(bytes of the segment), once each; memory for one segment is kept.
 *   Returns ND_OK, ND_EMPTY (that was the last), ND_ERR_IO.
 */
nd_status nd_recovery_load(nd_recovery *recovery);

/* The next unit of the loaded segment whose type is one of 1 << type.
 *
 *   Owns    recovery owns what *out points to, until the next nd_recovery_load.
 *   Blocks  no.
 *   Cost    O(units stepped over).
 *   Returns ND_OK, ND_EMPTY (load the next segment).
 */
nd_status nd_recovery_next(nd_recovery *recovery, uint32_t types, nd_unit *out);

/* Read bytes of a segment that was loaded before, for those who remembered where a unit was.
 *
 *   Owns    recovery owns what *out points to, until the next call of this function.
 *   Blocks  yes, unless they lie behind those asked for last.
 *   Returns ND_OK, ND_ERR_IO, ND_ERR_FULL, ND_ERR_ARGUMENT (the file is shorter).
 */
nd_status nd_recovery_read(nd_recovery *recovery, uint64_t segment, uint64_t offset, uint64_t count,
                           const uint8_t **out);

/* Start over before the first segment; what is reported is reported from anew. */
void nd_recovery_rewind(nd_recovery *recovery);

void nd_recovery_report(const nd_recovery *recovery, nd_recovery_report_t *out);

/* How many bytes the segments have that were loaded so far, counted again after each rewind.
 * For a thread that tells of another's work: it may ask while that one reads. */
uint64_t nd_recovery_passed_bytes(const nd_recovery *recovery);

/* cffi: end */

#endif /* ND_RECOVERY_H */
