/* test_secure.c -- what a killed process left is still there when the power goes after it. */

#include "fake_disk.h"
#include "nd_journal.h"
#include "nd_recovery.h"
#include "nd_secure.h"
#include "nd_test.h"

#define CALLS_MAX    100u
#define HEADER_CALLS 5u         /* to make a segment, and to write its header */

static const nd_recovery_report_t nothing;

static nd_recovery_report_t report_of(fake_disk *disk)
{
    nd_recovery *recovery;
    nd_recovery_report_t report;
    CHECK(nd_recovery_open(nd_io_posix(), fake_disk_files(disk), "journal", 0, UINT64_MAX, &recovery) == ND_OK);
    while (nd_recovery_load(recovery) == ND_OK) {}
    nd_recovery_report(recovery, &report);
    nd_recovery_close(recovery);
    return report;
}

/* Write groups of one unit each behind what was found, until the disk dies. */
static void write_groups(fake_disk *disk, const nd_recovery_report_t *found, uint64_t count)
{
    const nd_journal_options options = {
        .journal_id = 99, .segment_bytes = 64u * 1024, .group_bytes_max = 16u * 1024, .oldest_segment = 1,
        .first_segment = found->newest_segment + 1, .first_group = found->last_group + 1, .epoch = 7, .is_synced = 1,
    };
    nd_journal *journal;
    CHECK(nd_journal_open(nd_io_posix(), fake_disk_files(disk), "journal", &options, &journal) == ND_OK);
    for (uint64_t number = 1; number <= count; number++) {
        const nd_channel_unit unit = {.type = ND_UNIT_STATE, .channel = number, .incarnation = 1, .epoch = 7};
        if (nd_journal_gather_channel(journal, &unit) != ND_OK || nd_journal_seal(journal) != ND_OK) break;
        (void)nd_journal_write_sync(journal);
        if (nd_journal_group_done(journal) != ND_OK) break;
    }
    nd_journal_close(journal);
}

static nd_status secure(fake_disk *disk)
{
    return nd_secure(nd_io_posix(), fake_disk_files(disk), "journal", report_of(disk).newest_segment);
}

/* The process dies before every call in turn, is started again, and then the power goes.
 * Whether every group that the second life found is there in the third. */
static uint64_t lost_groups(int is_secured)
{
    uint64_t lost = 0;
    for (uint64_t call = 1; call < CALLS_MAX; call++) {
        fake_disk *disk = fake_disk_new(call);
        fake_disk_write_at_most(disk, call % 3 == 0 ? 1000 : 0);
        fake_disk_die_at(disk, call);
        write_groups(disk, &nothing, 30);
        fake_disk_die_at(disk, 0);
        const uint64_t found = report_of(disk).groups;
        if (is_secured) CHECK(secure(disk) == ND_OK);
        CHECK(report_of(disk).groups == found);
        fake_disk_power_cut(disk);
        lost += found - report_of(disk).groups;
        fake_disk_free(disk);
    }
    return lost;
}

static void what_was_found_after_a_kill_survives_a_power_cut(void)
{
    CHECK(lost_groups(1) == 0);
}

static void without_it_the_last_group_may_be_lost(void)
{
    CHECK(lost_groups(0) > 0);
}

/* The same, but the second life writes as well.  What the third calls damaged. */
static uint64_t called_damaged(int is_secured)
{
    uint64_t damaged = 0;
    for (uint64_t call = 1; call < CALLS_MAX; call++) {
        fake_disk *disk = fake_disk_new(call);
        fake_disk_die_at(disk, call);
        write_groups(disk, &nothing, 30);
        fake_disk_die_at(disk, 0);
        const nd_recovery_report_t found = report_of(disk);
        if (is_secured) CHECK(secure(disk) == ND_OK);
        write_groups(disk, &found, 2);
        fake_disk_power_cut(disk);
        const nd_recovery_report_t report = report_of(disk);
        if (is_secured) CHECK_EQUAL(report.groups, found.groups + 2);
        damaged += report.damaged_groups + report.damaged_segments;
        fake_disk_free(disk);
    }
    return damaged;
}

static void what_another_life_followed_is_not_called_damaged(void)
{
    CHECK_EQUAL(called_damaged(1), 0);
    CHECK(called_damaged(0) > 0);
}

static void a_header_without_groups_survives_a_power_cut_and_its_loss_is_named(void)
{
    for (uint64_t seed = 1; seed <= 8; seed++) {                /* half of them lose what is not synced */
        fake_disk *disk = fake_disk_new(seed);
        fake_disk_die_at(disk, HEADER_CALLS + 1);
        write_groups(disk, &nothing, 1);
        fake_disk_die_at(disk, 0);
        const nd_recovery_report_t found = report_of(disk);
        CHECK(found.segments == 1 && found.groups == 0);
        CHECK(secure(disk) == ND_OK);
        write_groups(disk, &found, 2);
        fake_disk_power_cut(disk);
        nd_recovery_report_t report = report_of(disk);
        CHECK(report.damaged_segments == 0 && report.groups == 2);

        uint64_t count;
        memset(fake_disk_bytes(disk, "00000001.seg", &count), 0, sizeof(nd_segment_header));
        report = report_of(disk);
        CHECK(report.damaged_segments == 1 && report.groups == 2);
        fake_disk_free(disk);
    }
}

static void nothing_is_as_safe_as_it_can_be(void)
{
    fake_disk *disk = fake_disk_new(1);
    CHECK(secure(disk) == ND_OK);
    fake_disk_die_at(disk, 4);          /* a segment was made, and never written to */
    write_groups(disk, &nothing, 1);
    fake_disk_die_at(disk, 0);
    CHECK(secure(disk) == ND_OK);
    fake_disk_free(disk);
}

static void a_disk_that_does_not_take_it_is_named(void)
{
    fake_disk *disk = fake_disk_new(1);
    write_groups(disk, &nothing, 20);
    const uint64_t newest = report_of(disk).newest_segment;
    const uint64_t before = fake_disk_calls(disk);
    CHECK(nd_secure(nd_io_posix(), fake_disk_files(disk), "journal", newest) == ND_OK);
    const uint64_t calls = fake_disk_calls(disk) - before;
    CHECK(calls > 5);
    for (uint64_t call = 1; call <= calls; call++) {
        fake_disk_fail_at(disk, fake_disk_calls(disk) + call, ND_ERR_IO);
        CHECK(nd_secure(nd_io_posix(), fake_disk_files(disk), "journal", newest) == ND_ERR_IO);
    }
    CHECK_EQUAL(report_of(disk).groups, 20);
    fake_disk_free(disk);
}

int main(void)
{
    RUN(what_was_found_after_a_kill_survives_a_power_cut);
    RUN(without_it_the_last_group_may_be_lost);
    RUN(what_another_life_followed_is_not_called_damaged);
    RUN(a_header_without_groups_survives_a_power_cut_and_its_loss_is_named);
    RUN(nothing_is_as_safe_as_it_can_be);
    RUN(a_disk_that_does_not_take_it_is_named);
    return 0;
}
