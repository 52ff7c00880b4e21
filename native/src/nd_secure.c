/* nd_secure.c -- the last segment's header and group, written again where they stand. */

#include "nd_secure.h"

#include <string.h>

#include "nd_journal.h"
#include "nd_recovery.h"
#include "nd_segment.h"

#define ALL_TYPES UINT32_MAX

/* Bytes of a segment and where they stand in its file. */
typedef struct {
    const uint8_t *at;
    uint64_t       offset, bytes;
} part;

/* The last group of the segment that is loaded; bytes 0: it has none. */
static part find_last(nd_recovery *recovery)
{
    part last = {0};
    uint64_t number = 0;
    nd_unit unit;
    while (nd_recovery_next(recovery, ALL_TYPES, &unit) == ND_OK) {     /* a unit each turn */
        if (unit.group == number) continue;
        number = unit.group;
        last.at = (const uint8_t *)unit.unit - sizeof(nd_group_header);
        last.offset = unit.offset - sizeof(nd_group_header);
        last.bytes = ((const nd_group_header *)(const void *)last.at)->bytes;
    }
    return last;
}

static nd_status write_all(const nd_files *files, int32_t file, part rest)
{
    while (rest.bytes > 0) {                                    /* each turn writes something or ends */
        uint64_t written = 0;
        const nd_status status = files->write(files->context, file, rest.at, rest.bytes, rest.offset, &written);
        if (status != ND_OK) return status;
        if (written == 0 || written > rest.bytes) return ND_ERR_IO;
        rest.at += written;
        rest.offset += written;
        rest.bytes -= written;
    }
    return ND_OK;
}

static nd_status write_again(const nd_files *files, const char *folder, uint64_t segment, part header, part last)
{
    const nd_path path = nd_segment_path(folder, segment);
    int32_t file;
    nd_status status = files->reopen(files->context, path.text, &file);
    if (status != ND_OK) return status == ND_EMPTY ? ND_ERR_IO : status;
    status = write_all(files, file, header);
    if (status == ND_OK) status = write_all(files, file, last);
    if (status == ND_OK) status = files->sync(files->context, file);
    files->close(files->context, file);
    return status;
}

nd_status nd_secure(const nd_io *io, const nd_files *files, const char *folder, uint64_t newest_segment)
{
    if (newest_segment == 0) return ND_OK;
    nd_recovery *recovery;
    /* With its predecessor, which knows the journal's id when its own header is damaged. */
    nd_status status = nd_recovery_open(io, files, folder, newest_segment - 1, newest_segment, &recovery);
    if (status != ND_OK) return status;
    part last = {0};
    while ((status = nd_recovery_load(recovery)) == ND_OK) {    /* two segments at most; the newest is the last */
        last = find_last(recovery);
    }
    if (status == ND_EMPTY) {
        /* Without a group too: a segment that is followed must not be found without its header. */
        part header = {.bytes = sizeof(nd_segment_header)};
        status = nd_recovery_read(recovery, newest_segment, 0, header.bytes, &header.at);
        if (status == ND_OK) status = write_again(files, folder, newest_segment, header, last);
    }
    nd_recovery_close(recovery);
    return status;
}
