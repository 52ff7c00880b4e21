/* fuzz_recovery.c -- whatever stands in a segment is read, refused or restored, and
 * nothing else happens.
 *
 * The first byte chooses: the rest is the file as it is, or the units of a group whose
 * header and checksum are right, which is the harder case.
 */

#include "fake_disk.h"
#include "nd_recovery.h"
#include "nd_restore.h"
#include "nd_test.h"

#define SEGMENT_BYTES (64u * 1024)
#define RINGS_MAX     8u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_file(fake_disk *disk, const uint8_t *bytes, uint64_t count)
{
    const nd_files *files = fake_disk_files(disk);
    int32_t file;
    uint64_t written;
    CHECK_EQUAL(files->create(files->context, "journal/00000001.seg", &file), ND_OK);
    CHECK_EQUAL(files->preallocate(files->context, file, 0, count), ND_OK);
    if (count > 0) CHECK_EQUAL(files->write(files->context, file, bytes, count, 0, &written), ND_OK);
}

/* A segment with one group that holds these bytes. */
static void write_segment(fake_disk *disk, const uint8_t *units, uint64_t count)
{
    static uint64_t words[SEGMENT_BYTES / 8];
    memset(words, 0, sizeof words);
    uint8_t *bytes = (uint8_t *)words;
    const nd_crc_function crc = nd_crc32c_records_best();
    nd_segment_header *header = (nd_segment_header *)(void *)bytes;
    *header = (nd_segment_header){
        .magic = ND_SEGMENT_MAGIC, .version = ND_SEGMENT_VERSION, .journal_id = 1, .segment_id = 1,
        .segment_bytes = SEGMENT_BYTES, .first_group = 1,
    };
    nd_segment_seal(header, crc);
    nd_group_header *group = (nd_group_header *)(void *)(bytes + ND_BLOCK_BYTES);
    count = count / 8 * 8;
    memcpy(group + 1, units, count);
    uint32_t units_count = 0;
    for (uint64_t at = 0; at < count; units_count++) {          /* lengths and types that get past the door */
        nd_unit_header *unit = (nd_unit_header *)(void *)((uint8_t *)(group + 1) + at);
        unit->bytes = (unit->bytes & 0x1f8u) + 8;
        if (unit->bytes > count - at) unit->bytes = (uint32_t)(count - at);
        unit->type = (uint16_t)(1 + unit->type % 8);
        if (unit->type == ND_UNIT_SUPERSEDED && unit->bytes >= sizeof(nd_superseded_unit)) {
            ((nd_superseded_unit *)(void *)unit)->holes = (unit->bytes - sizeof(nd_superseded_unit)) / sizeof(nd_hole);
        }
        if (unit->type == ND_UNIT_GAPS && unit->bytes >= sizeof(nd_gaps_unit)) {
            ((nd_gaps_unit *)(void *)unit)->gaps = (unit->bytes - sizeof(nd_gaps_unit)) / sizeof(nd_gap);
        }
        at += unit->bytes;
    }
    *group = (nd_group_header){
        .magic = ND_GROUP_MAGIC, .journal_id = 1, .segment_id = 1, .number = 1,
        .bytes = (uint32_t)(sizeof *group + count), .units = units_count,
    };
    nd_group_seal(group, crc);
    write_file(disk, bytes, SEGMENT_BYTES);
}

static void restore_all(nd_recovery *recovery)
{
    nd_pool *pool;
    nd_restore *restore;
    nd_journal_answer answer;
    nd_status scanned;
    uint64_t answers_bytes = 0;
    nd_ring *rings[RINGS_MAX];
    uint64_t count = 0;
    CHECK_EQUAL(nd_pool_open(nd_io_posix(), ND_SLAB_BYTES, &pool), ND_OK);
    CHECK_EQUAL(nd_restore_open(nd_io_posix(), recovery, &restore), ND_OK);
    while ((scanned = nd_restore_scan(restore, 0, &answer)) == ND_OK) {         /* an answer each turn */
        for (uint64_t i = 0; i < answer.key_bytes; i++) answers_bytes += answer.key[i];
        for (uint64_t i = 0; i < answer.answer_bytes; i++) answers_bytes += answer.answer[i];
    }
    CHECK(scanned == ND_EMPTY && answers_bytes <= 255ull * SEGMENT_BYTES);
    CHECK_EQUAL(nd_restore_find_missing(restore), ND_OK);
    for (uint64_t i = 0; i < nd_restore_channels(restore); i++) {
        static nd_gap gaps[SEGMENT_BYTES / sizeof(nd_gap)];
        nd_restored_channel found;
        CHECK_EQUAL(nd_restore_channel(restore, i, &found), ND_OK);
        CHECK(found.gaps <= SEGMENT_BYTES / sizeof(nd_gap));
        CHECK_EQUAL(nd_restore_gaps(restore, i, gaps), ND_OK);
    }
    for (; count < RINGS_MAX && count < nd_restore_channels(restore); count++) {
        CHECK_EQUAL(nd_ring_open(pool, count, 0, 100000, (nd_overflow)(count % 3), &rings[count]), ND_OK);
        CHECK_EQUAL(nd_restore_bind(restore, count, rings[count]), ND_OK);
    }
    const nd_status status = nd_restore_load(restore, pool);
    CHECK(status == ND_OK || status == ND_ERR_ARGUMENT);
    for (uint64_t i = 0; i < count; i++) {
        CHECK_EQUAL(nd_ring_check(rings[i]), ND_OK);
        nd_ring_close(rings[i]);
    }
    nd_restore_close(restore);
    nd_pool_close(pool);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > SEGMENT_BYTES / 2) return 0;
    fake_disk *disk = fake_disk_new(1);
    if (data[0] % 4 == 0) write_file(disk, data + 1, size - 1);
    else write_segment(disk, data + 1, size - 1);
    nd_recovery *recovery;
    if (nd_recovery_open(nd_io_posix(), fake_disk_files(disk), "journal", 0, UINT64_MAX, &recovery) == ND_OK) {
        restore_all(recovery);
        nd_recovery_close(recovery);
    }
    fake_disk_free(disk);
    return 0;
}
