/* test_journal.c -- the journal written on a bad disk, and read again.
 *
 * Every unit here is the STATE of a channel that is its own number: what recovery hands
 * out can then be compared with what was gathered, number by number.
 */

#include "fake_disk.h"
#include "nd_journal.h"
#include "nd_recovery.h"
#include "nd_test.h"

#define SEGMENT_BYTES (64u * 1024)
#define NUMBERS_MAX   40000u
#define ALL_TYPES     0xfeu

static nd_journal_options options_of(uint32_t is_synced)
{
    return (nd_journal_options){
        .journal_id = 0x1234567890abcdefu,
        .segment_bytes = SEGMENT_BYTES,
        .group_bytes_max = 16u * 1024,
        .oldest_segment = 1,
        .first_segment = 1,
        .first_group = 1,
        .epoch = 7,
        .is_synced = is_synced,
    };
}

static nd_journal *open_journal(fake_disk *disk, const nd_journal_options *options)
{
    nd_journal *journal;
    CHECK(nd_journal_open(nd_io_posix(), fake_disk_files(disk), "journal", options, &journal) == ND_OK);
    return journal;
}

static nd_status gather_number(nd_journal *journal, uint64_t number)
{
    const nd_channel_unit unit = {.type = ND_UNIT_STATE, .channel = number, .incarnation = number * 3,
                                  .epoch = 7, .events = UINT64_MAX};
    return nd_journal_gather_channel(journal, &unit);
}

/* Gather, write and finish groups of some numbers; how many numbers became durable. */
static uint64_t write_numbers(nd_journal *journal, uint64_t first, uint64_t last, uint64_t per_group)
{
    uint64_t durable = first - 1;
    for (uint64_t number = first; number <= last; number++) {
        if (gather_number(journal, number) != ND_OK) return durable;
        if (number % per_group != 0 && number != last) continue;
        if (nd_journal_seal(journal) != ND_OK) return durable;
        (void)nd_journal_write_sync(journal);
        if (nd_journal_group_done(journal) != ND_OK) return durable;
        durable = number;
        (void)nd_journal_prepare(journal);
    }
    return durable;
}

typedef struct {
    uint64_t numbers[NUMBERS_MAX];
    uint64_t count;
    nd_recovery_report_t report;
} recovered;

static recovered *recover(fake_disk *disk)
{
    static recovered r;
    nd_recovery *recovery;
    nd_unit unit;
    r.count = 0;
    CHECK(nd_recovery_open(nd_io_posix(), fake_disk_files(disk), "journal", 0, UINT64_MAX, &recovery) == ND_OK);
    nd_status status;
    while ((status = nd_recovery_load(recovery)) == ND_OK) {
        while (nd_recovery_next(recovery, ALL_TYPES, &unit) == ND_OK) {
            const nd_channel_unit *state = unit.unit;
            CHECK(unit.type == ND_UNIT_STATE && state->incarnation == state->channel * 3);
            CHECK(r.count < NUMBERS_MAX);
            r.numbers[r.count] = state->channel;
            r.count++;
        }
    }
    CHECK(status == ND_EMPTY);
    nd_recovery_report(recovery, &r.report);
    nd_recovery_close(recovery);
    return &r;
}

static void check_counts_up(const recovered *r, uint64_t count)
{
    CHECK(r->count == count);
    for (uint64_t i = 0; i < count; i++) CHECK(r->numbers[i] == i + 1);
}

/* Options to go on after what was recovered. */
static nd_journal_options options_after(const nd_recovery_report_t *report, uint32_t is_synced)
{
    nd_journal_options options = options_of(is_synced);
    if (report->segments == 0) return options;
    options.oldest_segment = report->oldest_segment;
    options.first_segment = report->newest_segment + 1;
    options.first_group = report->last_group + 1;
    return options;
}

static void what_is_written_is_read_in_order(void)
{
    fake_disk *disk = fake_disk_new(1);
    fake_disk_write_at_most(disk, 1000);
    const nd_journal_options options = options_of(1);
    nd_journal *journal = open_journal(disk, &options);
    CHECK(nd_journal_seal(journal) == ND_EMPTY);
    CHECK(write_numbers(journal, 1, 3000, 37) == 3000);
    nd_journal_stats_t stats;
    nd_journal_stats(journal, &stats);
    CHECK(stats.durable_group == 3000 / 37 + 1 && stats.gathering_group == stats.durable_group + 1);
    CHECK(stats.segments > 3 && stats.has_spare && !stats.is_poisoned);
    nd_journal_close(journal);

    const recovered *r = recover(disk);
    check_counts_up(r, 3000);
    CHECK(r->report.damaged_groups == 0 && r->report.cut_groups == 0 && r->report.is_clean_end);
    CHECK(r->report.last_group == stats.durable_group && r->report.newest_segment == stats.durable_segment);
    CHECK(r->report.last_epoch == 7 && r->report.is_synced && r->report.journal_id == options.journal_id);
    fake_disk_free(disk);
}

/* How many writes past the system's cache a journal needed for one group of so many numbers. */
static uint64_t writes_past_cache(uint32_t is_synced, uint64_t numbers, uint64_t write_at_most)
{
    fake_disk *disk = fake_disk_new(1);
    fake_disk_write_at_most(disk, write_at_most);
    nd_journal_options options = options_of(is_synced);
    options.segment_bytes = 1024u * 1024;
    options.group_bytes_max = 512u * 1024;
    nd_journal *journal = open_journal(disk, &options);
    CHECK(write_numbers(journal, 1, numbers, numbers) == numbers);
    nd_journal_close(journal);
    check_counts_up(recover(disk), numbers);
    const uint64_t writes = fake_disk_writes_past_cache(disk);
    fake_disk_free(disk);
    return writes;
}

static void each_segment_is_asked_for_ahead_of_its_reading(void)
{
    fake_disk *disk = fake_disk_new(1);
    const nd_journal_options options = options_of(1);
    nd_journal *journal = open_journal(disk, &options);
    CHECK(write_numbers(journal, 1, 10000, 100) == 10000);
    nd_journal_close(journal);

    nd_recovery *recovery;
    CHECK(nd_recovery_open(nd_io_posix(), fake_disk_files(disk), "journal", 0, UINT64_MAX, &recovery) == ND_OK);
    const uint64_t waited_for = fake_disk_reads_waited_for(disk);       /* whether the spare one was begun */
    for (uint64_t pass = 1; pass <= 2; pass++) {
        uint64_t segments = 0;
        while (nd_recovery_load(recovery) == ND_OK) segments++;
        CHECK(segments > 5);
        CHECK_EQUAL(fake_disk_reads_ahead(disk), pass * segments);
        CHECK_EQUAL(fake_disk_reads_waited_for(disk), waited_for);
        nd_recovery_rewind(recovery);
    }
    nd_recovery_close(recovery);
    fake_disk_free(disk);
}

static void only_much_that_is_synced_is_written_past_the_cache(void)
{
    CHECK_EQUAL(writes_past_cache(1, 2000, 0), 1);
    CHECK_EQUAL(writes_past_cache(1, 2000, 50000), 3);          /* to its end, also when it takes several */
    CHECK_EQUAL(writes_past_cache(1, 1000, 0), 0);
    CHECK_EQUAL(writes_past_cache(0, 2000, 0), 0);              /* nobody waits for the disk then */
}

/* How often a journal asked for large pages while it wrote groups of so many numbers. */
static uint64_t enlarged_by(uint64_t groups, uint64_t numbers, int discard_fails)
{
    test_memory memory;
    test_memory_begin(&memory);
    memory.discard_fails = discard_fails;
    fake_disk *disk = fake_disk_new(1);
    nd_journal_options options = options_of(1);
    options.segment_bytes = 4u * 1024 * 1024;
    options.group_bytes_max = 512u * 1024;
    nd_journal *journal;
    CHECK(nd_journal_open(&memory.io, fake_disk_files(disk), "journal", &options, &journal) == ND_OK);
    CHECK(write_numbers(journal, 1, groups * numbers, numbers) == groups * numbers);
    nd_journal_close(journal);
    const recovered *r = recover(disk);
    CHECK(r->report.damaged_groups == 0 && r->report.last_group == groups);
    fake_disk_free(disk);
    test_memory_end(&memory);
    return memory.enlarged;
}

static void large_groups_get_large_pages_once_and_small_ones_none(void)
{
    CHECK_EQUAL(enlarged_by(6, 600, 0), 0);
    CHECK_EQUAL(enlarged_by(6, 5000, 0), 2);                    /* for each of the two buffers */
    CHECK_EQUAL(enlarged_by(6, 5000, 1), 0);                    /* small ones are still there */
}

static void an_empty_folder_is_a_clean_beginning(void)
{
    fake_disk *disk = fake_disk_new(1);
    const recovered *r = recover(disk);
    CHECK(r->count == 0 && r->report.segments == 0 && r->report.journal_id == 0 && r->report.last_group == 0);
    fake_disk_free(disk);
}

/* The machine stops before every call in turn; then some of what was not synced is lost. */
static void after_a_power_cut_at_any_call_a_prefix_with_all_that_was_durable_is_there(void)
{
    uint64_t ends = 0;
    for (uint64_t call = 1; call < 2000 && ends < 3; call++) {
        for (uint64_t seed = 0; seed < 4; seed++) {
            fake_disk *disk = fake_disk_new(call * 100 + seed);
            fake_disk_write_at_most(disk, seed % 2 == 0 ? 0 : 1500);
            fake_disk_die_at(disk, call);
            nd_journal_options options = options_of(1);
            nd_journal *journal = open_journal(disk, &options);
            const uint64_t durable = write_numbers(journal, 1, 900, 60);
            if (fake_disk_calls(disk) < call) ends++;
            nd_journal_close(journal);
            fake_disk_power_cut(disk);

            recovered *r = recover(disk);
            const uint64_t kept = r->count;
            CHECK(kept >= durable && kept <= 900);
            check_counts_up(r, kept);
            CHECK(r->report.damaged_groups == 0 && r->report.damaged_segments == 0);

            /* A second life goes on from there, and what was cut off never comes back. */
            options = options_after(&r->report, 1);
            journal = open_journal(disk, &options);
            CHECK(write_numbers(journal, kept + 1, kept + 50, 7) == kept + 50);
            nd_journal_close(journal);
            r = recover(disk);
            check_counts_up(r, kept + 50);
            CHECK(r->report.damaged_groups == 0 && r->report.is_clean_end);
            fake_disk_free(disk);
        }
    }
    CHECK(ends >= 3);
}

static void a_killed_process_loses_nothing_that_was_written(void)
{
    fake_disk *disk = fake_disk_new(5);
    const nd_journal_options options = options_of(0);
    nd_journal *journal = open_journal(disk, &options);
    CHECK(write_numbers(journal, 1, 1500, 20) == 1500);
    nd_journal_close(journal);
    const recovered *r = recover(disk);
    check_counts_up(r, 1500);
    CHECK(!r->report.is_synced);
    fake_disk_free(disk);
}

/* Every call fails once.  A write or sync within a segment poisons; making one does not. */
static void an_error_inside_a_segment_poisons_and_one_in_making_it_does_not(void)
{
    uint64_t poisoned = 0, retried = 0;
    for (uint64_t call = 1; call < 200; call++) {
        fake_disk *disk = fake_disk_new(call);
        fake_disk_fail_at(disk, call, call % 2 == 0 ? ND_ERR_NOSPACE : ND_ERR_IO);
        const nd_journal_options options = options_of(1);
        nd_journal *journal = open_journal(disk, &options);
        const uint64_t durable = write_numbers(journal, 1, 600, 50);
        nd_journal_stats_t stats;
        nd_journal_stats(journal, &stats);
        if (stats.is_poisoned) {
            poisoned++;
            CHECK(durable < 600);
            CHECK(gather_number(journal, 1) == ND_ERR_POISONED);
            CHECK(nd_journal_seal(journal) == ND_ERR_ARGUMENT || nd_journal_seal(journal) == ND_ERR_POISONED);
            CHECK(nd_journal_write_sync(journal) == ND_ERR_POISONED);
            CHECK(nd_journal_prepare(journal) == ND_ERR_POISONED);
            CHECK(nd_journal_unlink_oldest(journal) == ND_ERR_POISONED);
            CHECK(nd_journal_group_done(journal) == ND_ERR_POISONED);
        } else if (durable < 600) {
            retried++;
            CHECK(nd_journal_write_sync(journal) == ND_OK);     /* the same group again */
            CHECK(nd_journal_group_done(journal) == ND_OK);
            CHECK(write_numbers(journal, durable + 51, 600, 50) == 600);
        }
        nd_journal_close(journal);
        fake_disk_fail_at(disk, 0, ND_OK);
        const recovered *r = recover(disk);
        CHECK(r->count >= durable);
        check_counts_up(r, stats.is_poisoned ? r->count : 600);
        fake_disk_free(disk);
    }
    CHECK(poisoned > 10 && retried > 2);
}

static void a_full_disk_keeps_the_sealed_group_until_there_is_space(void)
{
    fake_disk *disk = fake_disk_new(9);
    fake_disk_hold_at_most(disk, 2 * SEGMENT_BYTES);
    nd_journal_options options = options_of(1);
    nd_journal *journal = open_journal(disk, &options);
    const uint64_t durable = write_numbers(journal, 1, 3000, 100);
    CHECK(durable > 100 && durable < 3000);
    nd_journal_stats_t stats;
    nd_journal_stats(journal, &stats);
    CHECK(!stats.has_spare && !stats.is_poisoned && stats.segments == 2);
    CHECK(nd_journal_write_sync(journal) == ND_ERR_NOSPACE);
    CHECK(nd_journal_group_done(journal) == ND_ERR_NOSPACE);
    CHECK(nd_journal_seal(journal) == ND_ERR_ARGUMENT);         /* one sealed group at a time */

    CHECK(nd_journal_unlink_oldest(journal) == ND_OK);
    CHECK(nd_journal_write_sync(journal) == ND_OK);
    CHECK(nd_journal_group_done(journal) == ND_OK);
    nd_journal_stats(journal, &stats);
    CHECK(stats.oldest_segment == 2 && stats.segments == 2);
    CHECK(nd_journal_unlink_oldest(journal) == ND_OK);
    CHECK(nd_journal_unlink_oldest(journal) == ND_ERR_ARGUMENT);        /* it is being written to */
    nd_journal_close(journal);
    const recovered *r = recover(disk);
    CHECK(r->count > 0 && r->numbers[r->count - 1] == durable + 100 && r->report.oldest_segment == 3);
    CHECK(r->report.damaged_groups == 0 && r->report.damaged_segments == 0);
    fake_disk_free(disk);
}

static void what_a_segment_s_contents_were_moved_to_is_synced_before_it_goes(void)
{
    for (uint64_t seed = 1; seed <= 40; seed++) {
        fake_disk *disk = fake_disk_new(seed);
        const nd_journal_options options = options_of(0);
        nd_journal *journal = open_journal(disk, &options);
        CHECK(write_numbers(journal, 1, 1200, 40) == 1200);
        CHECK(nd_journal_unlink_oldest(journal) == ND_OK);
        nd_journal_close(journal);
        fake_disk_power_cut(disk);
        const recovered *r = recover(disk);
        CHECK(r->count > 0 && r->numbers[r->count - 1] == 1200);
        CHECK(r->report.damaged_groups == 0 && r->report.damaged_segments == 0);
        fake_disk_free(disk);
    }
}

static void a_group_that_is_full_takes_nothing_until_it_is_sealed(void)
{
    fake_disk *disk = fake_disk_new(1);
    const nd_journal_options options = options_of(1);
    nd_journal *journal = open_journal(disk, &options);
    uint64_t count = 0;
    while (gather_number(journal, count + 1) == ND_OK) count++;
    CHECK(count == (16u * 1024 - sizeof(nd_group_header)) / sizeof(nd_channel_unit));
    CHECK(gather_number(journal, 1) == ND_NO_ROOM);
    CHECK(nd_journal_room(journal, 16u * 1024) == ND_ERR_ARGUMENT);
    CHECK(nd_journal_seal(journal) == ND_OK);
    CHECK(gather_number(journal, count + 1) == ND_OK);          /* while the first is being written */
    CHECK(nd_journal_seal(journal) == ND_ERR_ARGUMENT);
    CHECK(nd_journal_write_sync(journal) == ND_OK);
    CHECK(nd_journal_write_sync(journal) == ND_EMPTY);          /* once is enough */
    CHECK(nd_journal_group_done(journal) == ND_OK);
    CHECK(nd_journal_group_done(journal) == ND_EMPTY);
    CHECK(nd_journal_seal(journal) == ND_OK);
    CHECK(nd_journal_write_sync(journal) == ND_OK);
    CHECK(nd_journal_group_done(journal) == ND_OK);
    nd_journal_close(journal);
    check_counts_up(recover(disk), count + 1);
    fake_disk_free(disk);
}

/* --- damage ------------------------------------------------------------------------- */

/* Three segments; groups of 10 numbers, one block each. */
static fake_disk *small_journal(uint64_t numbers)
{
    fake_disk *disk = fake_disk_new(3);
    const nd_journal_options options = options_of(1);
    nd_journal *journal = open_journal(disk, &options);
    CHECK(write_numbers(journal, 1, numbers, 10) == numbers);
    nd_journal_close(journal);
    return disk;
}

/* All numbers but those of one group, or all up to that group. */
static void check_one_group_missing(const recovered *r, uint64_t numbers, uint64_t missing_group)
{
    uint64_t at = 0;
    for (uint64_t number = 1; number <= numbers; number++) {
        if ((number - 1) / 10 + 1 == missing_group) continue;
        CHECK(at < r->count && r->numbers[at] == number);
        at++;
    }
    CHECK(at == r->count);
}

static void any_flipped_byte_costs_its_own_group_at_most(void)
{
    const uint64_t numbers = 340, groups = numbers / 10, per_segment = SEGMENT_BYTES / ND_BLOCK_BYTES - 1;
    const uint64_t group_bytes = sizeof(nd_group_header) + 10 * sizeof(nd_channel_unit);
    fake_disk *disk = small_journal(numbers);
    for (uint64_t segment = 1; segment <= 3; segment++) {
        char name[ND_SEGMENT_NAME_BYTES];
        uint64_t count;
        nd_segment_name(segment, name);
        uint8_t *bytes = fake_disk_bytes(disk, name, &count);
        CHECK(bytes != NULL);
        for (uint64_t block = 0; block < count / ND_BLOCK_BYTES; block++) {
            const uint64_t group = (segment - 1) * per_segment + block;
            if (block > 0 && group > groups) break;
            if (block > 2 && block + 1 < count / ND_BLOCK_BYTES && group < groups - 1) continue;
            const uint64_t used = block == 0 ? sizeof(nd_segment_header) : group_bytes;
            for (uint64_t at = 0; at < used + 8; at++) {
                uint8_t *byte = bytes + block * ND_BLOCK_BYTES + at;
                *byte ^= 0x41;
                const recovered *r = recover(disk);
                *byte ^= 0x41;
                if (at >= used) {                               /* padding: nobody reads it */
                    check_counts_up(r, numbers);
                    CHECK(r->report.is_clean_end);
                } else if (block == 0) {
                    check_counts_up(r, numbers);
                    CHECK(r->report.damaged_segments == 1 && r->report.damaged_groups == 0);
                } else if (group == groups) {                   /* nobody can tell it from a torn one */
                    check_counts_up(r, numbers - 10);
                    CHECK(r->report.damaged_groups == 0 && !r->report.is_clean_end);
                    CHECK(r->report.last_group == groups - 1);
                } else {
                    check_one_group_missing(r, numbers, group);
                    CHECK(r->report.damaged_groups == 1 && r->report.damaged_group == group);
                    CHECK(r->report.damaged_segment == segment && r->report.last_group == groups);
                }
            }
        }
    }
    fake_disk_free(disk);
}

/* A write that was under way beside another, as a writer with two in flight would leave it:
 * group 5 is torn, 6 is whole, and nobody calls 5 durable. */
static void what_was_cut_off_once_stays_cut_off(void)
{
    fake_disk *disk = small_journal(60);
    uint64_t count;
    uint8_t *bytes = fake_disk_bytes(disk, "00000001.seg", &count);
    bytes[5 * ND_BLOCK_BYTES + 100] ^= 1;
    nd_group_header *sixth = (nd_group_header *)(void *)(bytes + 6 * ND_BLOCK_BYTES);
    CHECK_EQUAL(sixth->number, 6);
    sixth->durable = 4;
    nd_group_seal(sixth, nd_crc32c_records_best());
    recovered *r = recover(disk);
    check_counts_up(r, 40);
    CHECK(r->report.cut_groups == 1 && r->report.last_group == 4 && r->report.damaged_groups == 0);
    CHECK(!r->report.is_clean_end);

    /* The next life uses the number 5 again; the old 6, which is whole, must not count. */
    const nd_journal_options options = options_after(&r->report, 1);
    nd_journal *journal = open_journal(disk, &options);
    CHECK(write_numbers(journal, 41, 60, 10) == 60);
    nd_journal_close(journal);
    r = recover(disk);
    check_counts_up(r, 60);
    CHECK(r->report.damaged_groups == 0 && r->report.last_group == 6 && r->report.is_clean_end);
    fake_disk_free(disk);
}

static void a_tail_cut_anywhere_leaves_a_prefix(void)
{
    const uint64_t numbers = 90;
    const uint64_t group_bytes = sizeof(nd_group_header) + 10 * sizeof(nd_channel_unit);
    for (uint64_t count = 1; count < 10 * ND_BLOCK_BYTES + 64; count += 61) {
        fake_disk *disk = small_journal(numbers);
        uint64_t segment_bytes;
        CHECK(fake_disk_bytes(disk, "00000001.seg", &segment_bytes) != NULL);
        uint8_t *bytes = fake_disk_bytes(disk, "00000001.seg", &segment_bytes);
        memset(bytes + count, 0, segment_bytes - count);        /* the size stays: it was preallocated */
        const recovered *r = recover(disk);
        uint64_t whole = 0;
        while (whole < 9 && (whole + 1) * ND_BLOCK_BYTES + group_bytes <= count) whole++;
        if (count >= sizeof(nd_segment_header)) {
            check_counts_up(r, whole * 10);
            CHECK(r->report.damaged_groups == 0);
        }
        CHECK(r->report.cut_groups == 0);
        fake_disk_truncate(disk, "00000001.seg", count);        /* nor may a short file hurt */
        CHECK(recover(disk)->count <= whole * 10);
        fake_disk_free(disk);
    }
}

static void a_segment_that_is_gone_is_named(void)
{
    const uint64_t numbers = 340, per_segment = SEGMENT_BYTES / ND_BLOCK_BYTES - 1;
    fake_disk *disk = small_journal(numbers);
    CHECK(fake_disk_files(disk)->unlink(disk, "journal/00000002.seg") == ND_OK);
    const recovered *r = recover(disk);
    CHECK(r->report.damaged_segments == 1 && r->report.damaged_groups == per_segment);
    CHECK(r->count == numbers - per_segment * 10);
    CHECK(r->numbers[0] == 1 && r->numbers[r->count - 1] == numbers);
    fake_disk_free(disk);
}

static void segments_of_another_journal_are_not_taken(void)
{
    fake_disk *disk = small_journal(340);
    nd_journal_options options = options_of(1);
    options.journal_id = 99;
    options.oldest_segment = options.first_segment = 5;
    options.first_group = 40;
    nd_journal *journal = open_journal(disk, &options);
    CHECK(write_numbers(journal, 1, 20, 10) == 20);
    nd_journal_close(journal);
    const recovered *r = recover(disk);
    check_counts_up(r, 20);
    CHECK(r->report.damaged_groups > 0);
    fake_disk_free(disk);
}

static void gaps_are_valid_when_every_one_is(void)
{
    struct {
        nd_gaps_unit unit;
        nd_gap gaps[2];
    } good = {
        .unit = {.unit = {.bytes = sizeof good, .type = ND_UNIT_GAPS}, .channel = 1, .incarnation = 2, .gaps = 2},
        .gaps = {{.behind_seq = 4, .last_seq = 6, .count = 2, .reason = 1}, {.behind_seq = 6, .count = 1, .reason = 3}},
    }, bad = good;
    const uint64_t bytes = sizeof good;
    CHECK(nd_unit_is_valid((const uint8_t *)&good, bytes));
    bad.unit.gaps = 1;
    CHECK(!nd_unit_is_valid((const uint8_t *)&bad, bytes));
    bad = good;
    bad.unit.unit.bytes -= 8;
    CHECK(!nd_unit_is_valid((const uint8_t *)&bad, bytes));
    bad = good;
    bad.gaps[0].count = 0;
    CHECK(!nd_unit_is_valid((const uint8_t *)&bad, bytes));
    bad = good;
    bad.gaps[1].reason = 0;
    CHECK(!nd_unit_is_valid((const uint8_t *)&bad, bytes));
    bad.gaps[1].reason = ND_GAP_PARKED + 1;
    CHECK(!nd_unit_is_valid((const uint8_t *)&bad, bytes));
    bad = good;
    bad.gaps[0].last_seq = 4;                                   /* ends before it begins */
    CHECK(!nd_unit_is_valid((const uint8_t *)&bad, bytes));
    bad = good;
    bad.gaps[1].behind_seq = 3;                                 /* out of order */
    CHECK(!nd_unit_is_valid((const uint8_t *)&bad, bytes));
    bad = good;
    bad.gaps[1].is_told = 2;
    CHECK(!nd_unit_is_valid((const uint8_t *)&bad, bytes));
}

/* A journal whose first segment says that it is of another version. */
static fake_disk *journal_of_version(uint32_t version)
{
    fake_disk *disk = small_journal(20);
    uint64_t count;
    nd_segment_header *header = (nd_segment_header *)(void *)fake_disk_bytes(disk, "00000001.seg", &count);
    header->version = version;
    nd_segment_seal(header, nd_crc32c_records_best());
    return disk;
}

static void a_newer_format_is_refused(void)
{
    static const uint32_t versions[] = {0, ND_SEGMENT_VERSION + 1};
    for (int i = 0; i < 2; i++) {
        fake_disk *disk = journal_of_version(versions[i]);
        nd_recovery *recovery;
        CHECK(nd_recovery_open(nd_io_posix(), fake_disk_files(disk), "journal", 0, UINT64_MAX, &recovery)
              == ND_ERR_ARGUMENT);
        fake_disk_free(disk);
    }
}

static void an_older_format_is_read(void)
{
    fake_disk *disk = journal_of_version(1);
    check_counts_up(recover(disk), 20);
    fake_disk_free(disk);
}

/* --- the larger units ---------------------------------------------------------------- */

static void a_superseded_unit_says_what_can_be(void)
{
    struct {
        nd_superseded_unit unit;
        nd_hole            holes[2];
    } good = {
        .unit = {.unit = {.bytes = sizeof good, .type = ND_UNIT_SUPERSEDED}, .channel = 1, .holes = 2},
        .holes = {{3, 3}, {5, 9}},
    };
    CHECK(sizeof good == 40 + 2 * 16);
    CHECK(nd_unit_is_valid((const uint8_t *)&good, sizeof good));
    static const nd_hole bad[][2] = {{{0, 3}, {5, 9}}, {{3, 2}, {5, 9}}, {{3, 5}, {5, 9}}, {{5, 9}, {3, 3}},
                                     {{3, 3}, {5, UINT64_MAX}}};
    for (uint32_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memcpy(good.holes, bad[i], sizeof good.holes);
        CHECK(!nd_unit_is_valid((const uint8_t *)&good, sizeof good));
    }
    memcpy(good.holes, (const nd_hole[2]){{3, 3}, {5, 9}}, sizeof good.holes);
    good.unit.holes = 1;
    CHECK(!nd_unit_is_valid((const uint8_t *)&good, sizeof good));
    good.unit.holes = UINT64_MAX;
    CHECK(!nd_unit_is_valid((const uint8_t *)&good, sizeof good));
    good.unit.unit.bytes = 32;
    CHECK(!nd_unit_is_valid((const uint8_t *)&good, sizeof good));
}

static void a_request_and_an_answer_come_back_as_they_were(void)
{
    static const uint8_t block[] = "{\"ep\":\"a\"}{\"ep\":\"bc\"}{\"ep\":\"d\"}";
    const uint64_t meta[3] = {10 | 1ull << 40, 11 | 2ull << 40, 10 | 1ull << 40};
    const uint32_t entries[2] = {0, ND_LOST};
    const nd_journal_route routes[2] = {
        {.channel = 4, .incarnation = 44, .first_seq = 100, .seqs = 3},
        {.channel = 5, .incarnation = 55, .first_seq = 1, .seqs = 2, .entries = entries},
    };
    nd_journal_request request = {
        .epoch = 7, .received_unix_ms = 12345, .block = block, .block_bytes = 31,
        .meta = meta, .records = 3, .routes = routes, .routes_count = 2,
    };
    uint8_t sha[32];
    memset(sha, 0xaa, sizeof sha);
    const nd_journal_answer answer = {
        .account = 3, .answered_unix_ms = 777, .body_sha256 = sha, .key = (const uint8_t *)"key-1",
        .key_bytes = 5, .answer = (const uint8_t *)"{}", .answer_bytes = 2,
    };
    fake_disk *disk = fake_disk_new(1);
    const nd_journal_options options = options_of(1);
    nd_journal *journal = open_journal(disk, &options);
    CHECK(nd_journal_gather_request(journal, &request) == ND_OK);
    CHECK(nd_journal_gather_answer(journal, &answer) == ND_OK);
    nd_journal_stats_t stats;
    nd_journal_stats(journal, &stats);
    CHECK(stats.gathered_bytes <= nd_journal_request_bytes(31, 3, 2, 5) + sizeof(nd_answer_unit) + 8);
    request.block_bytes = 30;
    CHECK(nd_journal_gather_request(journal, &request) == ND_ERR_ARGUMENT);
    CHECK(nd_journal_seal(journal) == ND_OK && nd_journal_write_sync(journal) == ND_OK);
    CHECK(nd_journal_group_done(journal) == ND_OK);
    nd_journal_close(journal);

    nd_recovery *recovery;
    nd_unit unit;
    CHECK(nd_recovery_open(nd_io_posix(), fake_disk_files(disk), "journal", 0, UINT64_MAX, &recovery) == ND_OK);
    CHECK(nd_recovery_load(recovery) == ND_OK);
    CHECK(nd_recovery_next(recovery, 1u << ND_UNIT_REQUEST, &unit) == ND_OK);
    const nd_request_unit *stored = unit.unit;
    CHECK(stored->epoch == 7 && stored->received_unix_ms == 12345 && stored->records == 3 && stored->routes == 2);
    CHECK(memcmp(nd_request_meta(stored), meta, sizeof meta) == 0);
    CHECK(memcmp(nd_request_block(stored), block, 31) == 0);
    const nd_request_route *route = nd_request_routes(stored);
    CHECK(route->channel == 4 && route->first_seq == 100 && route->seqs == 3 && nd_route_entries(route) == NULL);
    route = nd_route_next(route);
    CHECK(route->channel == 5 && route->incarnation == 55 && route->seqs == 2);
    CHECK(memcmp(nd_route_entries(route), entries, sizeof entries) == 0);
    CHECK(nd_recovery_next(recovery, 1u << ND_UNIT_REQUEST, &unit) == ND_EMPTY);
    const uint64_t passed = nd_recovery_passed_bytes(recovery);
    CHECK(passed > ND_BLOCK_BYTES);

    nd_recovery_rewind(recovery);
    CHECK(nd_recovery_load(recovery) == ND_OK);
    CHECK(nd_recovery_passed_bytes(recovery) == 2 * passed);
    CHECK(nd_recovery_next(recovery, 1u << ND_UNIT_ANSWER, &unit) == ND_OK);
    const nd_answer_unit *kept = unit.unit;
    CHECK(kept->account == 3 && kept->answered_unix_ms == 777 && memcmp(kept->body_sha256, sha, 32) == 0);
    CHECK(memcmp(kept + 1, "key-1{}", 7) == 0);
    nd_recovery_close(recovery);
    fake_disk_free(disk);
}

/* A group whose checksum is right, with units that are not: it must not be believed. */
static void units_that_lie_about_their_lengths_are_refused(void)
{
    fake_disk *disk = small_journal(20);
    uint64_t count;
    uint8_t *bytes = fake_disk_bytes(disk, "00000001.seg", &count);
    nd_group_header *group = (nd_group_header *)(void *)(bytes + ND_BLOCK_BYTES);
    nd_unit_header *unit = (nd_unit_header *)(void *)(group + 1);
    const uint32_t lies[] = {0, 4, 8, 48, 60, 64, 1u << 20, UINT32_MAX, UINT32_MAX - 7};
    for (uint64_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        for (uint16_t type = 0; type < 12; type++) {
            const nd_unit_header was = *unit;
            *unit = (nd_unit_header){.bytes = lies[i], .type = type};
            nd_group_seal(group, nd_crc32c_records_best());
            CHECK(recover(disk)->report.damaged_groups == 1);
            *unit = was;
        }
    }
    nd_group_seal(group, nd_crc32c_records_best());
    check_counts_up(recover(disk), 20);
    fake_disk_free(disk);
}

int main(void)
{
    RUN(what_is_written_is_read_in_order);
    RUN(each_segment_is_asked_for_ahead_of_its_reading);
    RUN(only_much_that_is_synced_is_written_past_the_cache);
    RUN(large_groups_get_large_pages_once_and_small_ones_none);
    RUN(an_empty_folder_is_a_clean_beginning);
    RUN(after_a_power_cut_at_any_call_a_prefix_with_all_that_was_durable_is_there);
    RUN(a_killed_process_loses_nothing_that_was_written);
    RUN(an_error_inside_a_segment_poisons_and_one_in_making_it_does_not);
    RUN(a_full_disk_keeps_the_sealed_group_until_there_is_space);
    RUN(what_a_segment_s_contents_were_moved_to_is_synced_before_it_goes);
    RUN(a_group_that_is_full_takes_nothing_until_it_is_sealed);
    RUN(any_flipped_byte_costs_its_own_group_at_most);
    RUN(what_was_cut_off_once_stays_cut_off);
    RUN(a_tail_cut_anywhere_leaves_a_prefix);
    RUN(a_segment_that_is_gone_is_named);
    RUN(segments_of_another_journal_are_not_taken);
    RUN(gaps_are_valid_when_every_one_is);
    RUN(a_newer_format_is_refused);
    RUN(an_older_format_is_read);
    RUN(a_superseded_unit_says_what_can_be);
    RUN(a_request_and_an_answer_come_back_as_they_were);
    RUN(units_that_lie_about_their_lengths_are_refused);
    return 0;
}
