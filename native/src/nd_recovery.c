/* nd_recovery.c -- which groups of a folder count, and the units in them. */

#include "nd_recovery.h"

#include <stdatomic.h>
#include <string.h>

#include "nd_assert.h"
#include "nd_journal.h"

#define SEGMENTS_MIN 16u
#define GROUPS_MIN   64u
#define WINDOW_BYTES (256u * 1024)      /* moved records lie side by side: most are met in the window */

/* A segment file, before it is read. */
typedef struct {
    uint64_t id;
    uint64_t bytes;             /* of the file, or of the segment if that is less */
    uint64_t first_group;       /* 0: not known */
    uint64_t epoch;
    uint32_t is_synced;
    uint32_t is_damaged;        /* its header is; the first valid group serves instead */
    uint32_t is_unbegun;        /* its header never reached the disk, and nobody was told of its groups */
} segment;

/* A group of the loaded segment that is kept. */
typedef struct {
    const uint8_t *at;
    uint64_t       number;
} found;

struct nd_recovery {
    nd_io           io;
    nd_files        files;
    nd_crc_function crc;
    segment        *segments;
    uint64_t        segments_count, segments_capacity;
    uint64_t        journal_id;

    uint8_t *bytes;             /* the loaded segment */
    uint64_t bytes_capacity;
    found   *groups;            /* valid ones of the loaded segment, in order of their numbers */
    uint64_t groups_count, groups_capacity;

    uint8_t *window;            /* a part of a segment, for nd_recovery_read */
    uint64_t window_capacity, window_count;
    uint64_t window_segment, window_at;

    uint64_t loaded;            /* segments that were loaded so far */
    _Atomic uint64_t passed_bytes;  /* relaxed: a number for nd_recovery_passed_bytes, which nothing else hangs on */
    uint64_t expected;          /* number of the next group; 0: any */
    uint64_t group_at;          /* where nd_recovery_next stands */
    uint64_t unit_at;           /* offset in that group; 0: its first unit */
    nd_recovery_report_t report;
    nd_status list_status;
    uint64_t first_id, last_id;
    char     folder[ND_FOLDER_BYTES_MAX + 1];
};

/* --- memory -------------------------------------------------------------------------- */

/* A larger array with the same beginning; NULL when there is no memory. */
static void *grown(const nd_io *io, void *array, uint64_t item_bytes, uint64_t count, uint64_t *capacity,
                   uint64_t least)
{
    const uint64_t larger = *capacity > 0 ? *capacity * 2 : least;
    void *memory = io->allocate(io->context, larger * item_bytes);
    if (memory == NULL) return NULL;
    if (array != NULL) {
        memcpy(memory, array, count * item_bytes);
        io->release(io->context, array, *capacity * item_bytes);
    }
    *capacity = larger;
    return memory;
}

static int reserve_bytes(nd_recovery *recovery, uint64_t bytes)
{
    if (bytes <= recovery->bytes_capacity) return 1;
    const nd_io *io = &recovery->io;
    if (recovery->bytes != NULL) io->unmap(io->context, recovery->bytes, recovery->bytes_capacity);
    recovery->bytes = NULL;
    recovery->bytes_capacity = 0;
    if (io->map(io->context, bytes, &recovery->bytes) != ND_OK) return 0;
    recovery->bytes_capacity = bytes;
    return 1;
}

/* --- the folder ---------------------------------------------------------------------- */

static void visit_name(void *visitor, const char *name)
{
    nd_recovery *recovery = visitor;
    const uint64_t id = nd_segment_id_of(name);
    if (id == 0 || id < recovery->first_id || id > recovery->last_id) return;
    if (recovery->segments_count == recovery->segments_capacity) {
        segment *larger = grown(&recovery->io, recovery->segments, sizeof *larger, recovery->segments_count,
                                &recovery->segments_capacity, SEGMENTS_MIN);
        if (larger == NULL) {
            recovery->list_status = ND_ERR_FULL;
            return;
        }
        recovery->segments = larger;
    }
    uint64_t at = recovery->segments_count;
    while (at > 0 && recovery->segments[at - 1].id > id) {      /* folders list nearly in order */
        recovery->segments[at] = recovery->segments[at - 1];
        at--;
    }
    recovery->segments[at] = (segment){.id = id};
    recovery->segments_count++;
}

static nd_status open_segment(const nd_recovery *recovery, uint64_t id, int32_t *file, uint64_t *bytes)
{
    const nd_path path = nd_segment_path(recovery->folder, id);
    const nd_status status = recovery->files.open(recovery->files.context, path.text, file, bytes);
    return status == ND_EMPTY ? ND_ERR_IO : status;
}

/* Read a part of a file that is there; what a file lacks is zeros. */
static nd_status read_all(const nd_recovery *recovery, int32_t file, uint8_t *bytes, uint64_t count,
                          uint64_t offset)
{
    const nd_files *files = &recovery->files;
    uint64_t at = 0;
    while (at < count) {                                        /* each turn reads something or ends */
        uint64_t got = 0;
        const nd_status status = files->read(files->context, file, bytes + at, count - at, offset + at, &got);
        if (status != ND_OK) return status;
        if (got == 0 || got > count - at) break;
        at += got;
    }
    memset(bytes + at, 0, count - at);
    return ND_OK;
}

/* Read a segment's header.  Without a good one its first group stays unknown for now. */
static nd_status read_header(nd_recovery *recovery, segment *s)
{
    int32_t file;
    uint64_t file_bytes;
    nd_segment_header header;
    nd_status status = open_segment(recovery, s->id, &file, &file_bytes);
    if (status != ND_OK) return status;
    status = read_all(recovery, file, (uint8_t *)&header, sizeof header, 0);
    recovery->files.close(recovery->files.context, file);
    if (status != ND_OK) return status;

    s->bytes = file_bytes < ND_SEGMENT_BYTES_MAX ? file_bytes : ND_SEGMENT_BYTES_MAX;
    status = nd_segment_check(&header, s->id, file_bytes, recovery->crc);
    if (status == ND_ERR_ARGUMENT) return status;
    if (status != ND_OK) return ND_OK;
    s->bytes = header.segment_bytes;
    s->first_group = header.first_group;
    s->epoch = header.epoch;
    s->is_synced = header.is_synced;
    recovery->journal_id = header.journal_id;
    return ND_OK;
}

/* --- groups -------------------------------------------------------------------------- */

static const nd_group_header *header_of(const found *group)
{
    return (const nd_group_header *)(const void *)group->at;
}

/* Every unit of a group whose checksum holds is right, or it was written by something
 * that we do not know. */
static int units_are_valid(const uint8_t *at)
{
    const nd_group_header *group = (const nd_group_header *)(const void *)at;
    uint64_t offset = sizeof *group;
    for (uint32_t i = 0; i < group->units; i++) {
        if (!nd_unit_is_valid(at + offset, group->bytes - offset)) return 0;
        offset += ((const nd_unit_header *)(const void *)(at + offset))->bytes;
    }
    return offset == group->bytes;
}

static nd_status keep(nd_recovery *recovery, const uint8_t *at)
{
    const uint64_t number = ((const nd_group_header *)(const void *)at)->number;
    if (recovery->groups_count > 0 && recovery->groups[recovery->groups_count - 1].number >= number) return ND_OK;
    if (recovery->groups_count == recovery->groups_capacity) {
        found *larger = grown(&recovery->io, recovery->groups, sizeof *larger, recovery->groups_count,
                              &recovery->groups_capacity, GROUPS_MIN);
        if (larger == NULL) return ND_ERR_FULL;
        recovery->groups = larger;
    }
    recovery->groups[recovery->groups_count] = (found){.at = at, .number = number};
    recovery->groups_count++;
    return ND_OK;
}

/* Read a segment whole. */
static nd_status read_segment(nd_recovery *recovery, const segment *s)
{
    int32_t file;
    uint64_t file_bytes;
    if (!reserve_bytes(recovery, nd_round_up(s->bytes, ND_BLOCK_BYTES))) return ND_ERR_FULL;
    nd_status status = open_segment(recovery, s->id, &file, &file_bytes);
    if (status != ND_OK) return status;
    status = read_all(recovery, file, recovery->bytes, s->bytes, 0);
    recovery->files.close(recovery->files.context, file);
    return status;
}

/* Find every valid group of the loaded segment, bad ones between them or not. */
static nd_status find_groups(nd_recovery *recovery, const segment *s)
{
    uint64_t offset = ND_BLOCK_BYTES;
    while (offset < s->bytes) {                                 /* at least one block each turn */
        const uint8_t *at = recovery->bytes + offset;
        uint64_t step = ND_BLOCK_BYTES;
        if (nd_group_is_valid(at, s->bytes - offset, recovery->journal_id, s->id, recovery->crc)) {
            step = nd_round_up(((const nd_group_header *)(const void *)at)->bytes, ND_BLOCK_BYTES);
            if (units_are_valid(at)) {
                const nd_status status = keep(recovery, at);
                if (status != ND_OK) return status;
            }
        }
        offset += step;
    }
    return ND_OK;
}

/* Read a segment and find its groups; there are none in a file that holds less than one. */
static nd_status read_groups(nd_recovery *recovery, const segment *s)
{
    recovery->groups_count = 0;
    if (s->bytes <= ND_BLOCK_BYTES) return ND_OK;
    nd_status status = read_segment(recovery, s);
    if (status == ND_OK) status = find_groups(recovery, s);
    if (status != ND_OK) recovery->groups_count = 0;
    return status;
}

static int is_zero(const uint8_t *bytes, uint64_t count)
{
    static const uint8_t zeros[ND_BLOCK_BYTES];
    for (uint64_t at = 0; at < count; at += ND_BLOCK_BYTES) {
        const uint64_t part = count - at < ND_BLOCK_BYTES ? count - at : ND_BLOCK_BYTES;
        if (memcmp(bytes + at, zeros, part) != 0) return 0;
    }
    return 1;
}

/* Where the groups of a segment end because those of a later one begin; 0: none does. */
static uint64_t successor_group(const nd_recovery *recovery, uint64_t index)
{
    for (uint64_t i = index + 1; i < recovery->segments_count; i++) {
        if (recovery->segments[i].first_group > 0) return recovery->segments[i].first_group;
    }
    return 0;
}

/* The highest group that those of the loaded segment name as durable. */
static uint64_t durable_group(const nd_recovery *recovery)
{
    uint64_t durable = 0;
    for (uint64_t i = 0; i < recovery->groups_count; i++) {
        const uint64_t named = header_of(&recovery->groups[i])->durable;
        if (named > durable) durable = named;
    }
    return durable;
}

/* A segment without a good header was never written to, or torn as it was begun, or damaged since. */
static nd_status find_first_group(nd_recovery *recovery, uint64_t index)
{
    segment *s = &recovery->segments[index];
    const nd_status status = read_groups(recovery, s);
    if (status != ND_OK || recovery->groups_count == 0) return status;
    const uint64_t first = recovery->groups[0].number;
    const int is_last = successor_group(recovery, index) == 0;
    s->is_unbegun = is_last && durable_group(recovery) < first && is_zero(recovery->bytes, sizeof(nd_segment_header));
    s->is_damaged = !s->is_unbegun;
    if (s->is_damaged) s->first_group = first;
    return ND_OK;
}

static void note_damage(nd_recovery *recovery, uint64_t segment_id, uint64_t first, uint64_t end)
{
    if (first >= end) return;
    if (recovery->report.damaged_groups == 0) {
        recovery->report.damaged_segment = segment_id;
        recovery->report.damaged_group = first;
    }
    recovery->report.damaged_groups += end - first;
    recovery->report.last_damaged_group = end - 1;
}

/* Keep groups [0, count) of the loaded segment. */
static void cut(nd_recovery *recovery, uint64_t count)
{
    recovery->report.cut_groups += recovery->groups_count - count;
    recovery->groups_count = count;
}

/* Whether nothing stands behind the last group that is kept of the loaded segment. */
static int ends_in_zeros(const nd_recovery *recovery, const segment *s)
{
    uint64_t end = ND_BLOCK_BYTES;
    if (recovery->groups_count > 0) {
        const found *last = &recovery->groups[recovery->groups_count - 1];
        end = (uint64_t)(last->at - recovery->bytes) + nd_round_up(header_of(last)->bytes, ND_BLOCK_BYTES);
    }
    return end >= s->bytes || is_zero(recovery->bytes + end, s->bytes - end);
}

/* The segment whose groups are missing between the loaded one and its successor: if another
 * stood there and the loaded one has no torn end, the other. */
static uint64_t missing_segment(const nd_recovery *recovery, const segment *s)
{
    const segment *next = s + 1;
    const int is_followed = next->id == s->id + 1 && next->first_group > 0;
    return is_followed || !ends_in_zeros(recovery, s) ? s->id : s->id + 1;
}

/* A segment with a successor: all groups before the successor's first must be there. */
static void judge_sealed(nd_recovery *recovery, const segment *s, uint64_t end)
{
    uint64_t count = 0;
    while (count < recovery->groups_count && recovery->groups[count].number < end) {    /* a group each turn */
        const uint64_t number = recovery->groups[count].number;
        note_damage(recovery, s->id, recovery->expected, number);
        recovery->expected = number + 1;
        count++;
    }
    recovery->groups_count = count;     /* what was cut off before is no news */
    if (recovery->expected == 0) recovery->expected = end;      /* neither header nor group is left to tell */
    note_damage(recovery, missing_segment(recovery, s), recovery->expected, end);
    recovery->expected = end;
}

/* The last segment: it ends where a group is missing that nobody calls durable. */
static void judge_last(nd_recovery *recovery, const segment *s)
{
    const uint64_t durable = durable_group(recovery);
    uint64_t count = 0;
    for (; count < recovery->groups_count; count++) {
        const uint64_t number = recovery->groups[count].number;
        if (number > recovery->expected && number - 1 > durable) break;
        note_damage(recovery, s->id, recovery->expected, number);
        recovery->expected = number + 1;
    }
    cut(recovery, count);
    if (!ends_in_zeros(recovery, s)) recovery->report.is_clean_end = 0;
}

/* What the segment's file or header says, before its groups are judged.  One that was made
 * and never used can only be the last: the next is made when it is begun. */
static void begin_segment(nd_recovery *recovery, const segment *s, uint64_t index)
{
    nd_recovery_report_t *report = &recovery->report;
    if (index > 0) report->damaged_segments += s->id - recovery->segments[index - 1].id - 1;
    if (s->is_damaged || (s->first_group == 0 && index + 1 < recovery->segments_count)) {
        report->damaged_segments++;
    } else if (s->first_group > 0) {
        report->last_epoch = s->epoch;
        report->is_synced = s->is_synced;
    }
    if (recovery->expected == 0) recovery->expected = s->first_group;
}

static void end_segment(nd_recovery *recovery, const segment *s)
{
    nd_recovery_report_t *report = &recovery->report;
    for (uint64_t i = 0; i < recovery->groups_count; i++) {
        report->units += header_of(&recovery->groups[i])->units;
        report->group_bytes += header_of(&recovery->groups[i])->bytes;
    }
    report->groups += recovery->groups_count;
    if (recovery->expected > 0) report->last_group = recovery->expected - 1;
    if (s->first_group == 0) return;    /* made, never used */
    report->segments++;
    report->newest_segment = s->id;
}

/* --- opening ------------------------------------------------------------------------- */

nd_status nd_recovery_open(const nd_io *io, const nd_files *files, const char *folder,
                           uint64_t first_segment, uint64_t last_segment, nd_recovery **out)
{
    if (io == NULL || files == NULL || folder == NULL || out == NULL) return ND_ERR_ARGUMENT;
    if (strlen(folder) > ND_FOLDER_BYTES_MAX) return ND_ERR_ARGUMENT;
    nd_recovery *recovery = io->allocate(io->context, sizeof *recovery);
    if (recovery == NULL) return ND_ERR_FULL;
    recovery->io = *io;
    recovery->files = *files;
    recovery->crc = nd_crc32c_records_best();
    recovery->first_id = first_segment;
    recovery->last_id = last_segment;
    memcpy(recovery->folder, folder, strlen(folder) + 1);

    nd_status status = files->list(files->context, folder, visit_name, recovery);
    if (status == ND_EMPTY) status = ND_OK;
    if (status == ND_OK) status = recovery->list_status;
    for (uint64_t i = 0; i < recovery->segments_count && status == ND_OK; i++) {
        status = read_header(recovery, &recovery->segments[i]);
    }
    for (uint64_t i = recovery->segments_count; i-- > 0 && status == ND_OK;) {
        if (recovery->segments[i].first_group == 0) status = find_first_group(recovery, i);
    }
    if (status != ND_OK) {
        nd_recovery_close(recovery);
        return status;
    }
    nd_recovery_rewind(recovery);
    *out = recovery;
    return ND_OK;
}

void nd_recovery_close(nd_recovery *recovery)
{
    if (recovery == NULL) return;
    const nd_io io = recovery->io;
    if (recovery->bytes != NULL) io.unmap(io.context, recovery->bytes, recovery->bytes_capacity);
    if (recovery->window != NULL) io.unmap(io.context, recovery->window, recovery->window_capacity);
    if (recovery->groups != NULL) {
        io.release(io.context, recovery->groups, recovery->groups_capacity * sizeof *recovery->groups);
    }
    if (recovery->segments != NULL) {
        io.release(io.context, recovery->segments, recovery->segments_capacity * sizeof *recovery->segments);
    }
    io.release(io.context, recovery, sizeof *recovery);
}

void nd_recovery_rewind(nd_recovery *recovery)
{
    recovery->loaded = 0;
    recovery->expected = 0;
    recovery->groups_count = recovery->group_at = recovery->unit_at = 0;
    recovery->report = (nd_recovery_report_t){.journal_id = recovery->journal_id, .is_clean_end = 1};
    if (recovery->segments_count > 0) recovery->report.oldest_segment = recovery->segments[0].id;
}

void nd_recovery_report(const nd_recovery *recovery, nd_recovery_report_t *out)
{
    *out = recovery->report;
}

uint64_t nd_recovery_passed_bytes(const nd_recovery *recovery)
{
    return atomic_load_explicit(&recovery->passed_bytes, memory_order_relaxed);
}

/* --- reading ------------------------------------------------------------------------ */

static void fetch(const nd_recovery *recovery, uint64_t index)
{
    if (index >= recovery->segments_count) return;
    const nd_path path = nd_segment_path(recovery->folder, recovery->segments[index].id);
    recovery->files.read_ahead(recovery->files.context, path.text);
}

nd_status nd_recovery_load(nd_recovery *recovery)
{
    recovery->group_at = recovery->unit_at = recovery->groups_count = 0;
    if (recovery->loaded == recovery->segments_count) return ND_EMPTY;
    const uint64_t index = recovery->loaded;
    const segment *s = &recovery->segments[index];
    /* The disk is at work on the next one while we are on this one: else each waits for the other. */
    if (index == 0) fetch(recovery, index);
    fetch(recovery, index + 1);
    const nd_status status = read_groups(recovery, s);
    if (status != ND_OK) return status;
    recovery->loaded++;
    atomic_fetch_add_explicit(&recovery->passed_bytes, s->bytes, memory_order_relaxed);
    if (s->is_unbegun) cut(recovery, 0);
    begin_segment(recovery, s, index);
    const uint64_t end = successor_group(recovery, index);
    if (end > 0) judge_sealed(recovery, s, end);
    else if (s->bytes > ND_BLOCK_BYTES) judge_last(recovery, s);
    end_segment(recovery, s);
    return ND_OK;
}

nd_status nd_recovery_next(nd_recovery *recovery, uint32_t types, nd_unit *out)
{
    while (recovery->group_at < recovery->groups_count) {       /* a unit, or the end of a group, each turn */
        const found *group = &recovery->groups[recovery->group_at];
        const nd_group_header *header = header_of(group);
        if (recovery->unit_at == 0) recovery->unit_at = sizeof *header;
        if (recovery->unit_at == header->bytes) {
            recovery->group_at++;
            recovery->unit_at = 0;
            continue;
        }
        const nd_unit_header *unit = (const nd_unit_header *)(const void *)(group->at + recovery->unit_at);
        recovery->unit_at += unit->bytes;
        if ((types >> unit->type & 1u) == 0) continue;
        *out = (nd_unit){
            .unit = unit,
            .bytes = unit->bytes,
            .segment = recovery->segments[recovery->loaded - 1].id,
            .group = group->number,
            .offset = (uint64_t)((const uint8_t *)unit - recovery->bytes),
            .type = unit->type,
        };
        return ND_OK;
    }
    return ND_EMPTY;
}

static nd_status read_window(nd_recovery *recovery, uint64_t segment_id, uint64_t offset, uint64_t count)
{
    const nd_io *io = &recovery->io;
    const uint64_t wanted = count > WINDOW_BYTES ? count : WINDOW_BYTES;
    recovery->window_count = 0;
    if (wanted > recovery->window_capacity) {
        if (recovery->window != NULL) io->unmap(io->context, recovery->window, recovery->window_capacity);
        recovery->window = NULL;
        recovery->window_capacity = 0;
        if (io->map(io->context, wanted, &recovery->window) != ND_OK) return ND_ERR_FULL;
        recovery->window_capacity = wanted;
    }
    int32_t file;
    uint64_t file_bytes;
    nd_status status = open_segment(recovery, segment_id, &file, &file_bytes);
    if (status != ND_OK) return status;
    uint64_t there = offset < file_bytes ? file_bytes - offset : 0;
    if (there > recovery->window_capacity) there = recovery->window_capacity;
    status = read_all(recovery, file, recovery->window, there, offset);
    recovery->files.close(recovery->files.context, file);
    if (status != ND_OK) return status;
    recovery->window_segment = segment_id;
    recovery->window_at = offset;
    recovery->window_count = there;
    return count <= there ? ND_OK : ND_ERR_ARGUMENT;
}

nd_status nd_recovery_read(nd_recovery *recovery, uint64_t segment_id, uint64_t offset, uint64_t count,
                           const uint8_t **out)
{
    const int is_here = segment_id == recovery->window_segment && offset >= recovery->window_at
                        && offset - recovery->window_at <= recovery->window_count
                        && count <= recovery->window_count - (offset - recovery->window_at);
    const nd_status status = is_here ? ND_OK : read_window(recovery, segment_id, offset, count);
    if (status != ND_OK) return status;
    *out = recovery->window + (offset - recovery->window_at);
    return ND_OK;
}
