/* test_writer.c -- a journal's groups, written by a thread of their own. */

#define _GNU_SOURCE

#include <poll.h>
#include <stdio.h>
#include <sys/resource.h>

#include "fake_disk.h"
#include "nd_journal.h"
#include "nd_test.h"
#include "nd_writer.h"

#define GROUPS 2000u

static nd_journal *open_journal(fake_disk *disk)
{
    const nd_journal_options options = {
        .journal_id = 99, .segment_bytes = 64u * 1024, .group_bytes_max = 16u * 1024, .oldest_segment = 1,
        .first_segment = 1, .first_group = 1, .epoch = 7, .is_synced = 1,
    };
    nd_journal *journal;
    CHECK(nd_journal_open(nd_io_posix(), fake_disk_files(disk), "journal", &options, &journal) == ND_OK);
    return journal;
}

static void seal_one(nd_journal *journal, uint64_t number)
{
    const nd_channel_unit unit = {.type = ND_UNIT_STATE, .channel = number, .incarnation = 1, .epoch = 7};
    CHECK(nd_journal_gather_channel(journal, &unit) == ND_OK);
    CHECK(nd_journal_seal(journal) == ND_OK);
}

static void wait_for(nd_writer *writer)
{
    struct pollfd readable = {.fd = nd_writer_descriptor(writer), .events = POLLIN};
    CHECK(poll(&readable, 1, 10000) == 1);
}

static int is_readable(nd_writer *writer)
{
    struct pollfd readable = {.fd = nd_writer_descriptor(writer), .events = POLLIN};
    return poll(&readable, 1, 0) == 1;
}

static void each_group_is_written_and_its_end_is_told_once(void)
{
    fake_disk *disk = fake_disk_new(1);
    nd_journal *journal = open_journal(disk);
    nd_writer *writer;
    CHECK(nd_writer_open(nd_io_posix(), journal, &writer) == ND_OK);
    for (uint64_t number = 1; number <= GROUPS; number++) {
        seal_one(journal, number);
        CHECK(nd_writer_ended(writer) == ND_EMPTY && !is_readable(writer));
        CHECK(nd_writer_begin(writer) == ND_OK);
        wait_for(writer);
        CHECK(nd_writer_ended(writer) == ND_OK);
        CHECK(nd_writer_ended(writer) == ND_EMPTY && !is_readable(writer));
        CHECK(nd_journal_group_done(journal) == ND_OK);
    }
    nd_writer_close(writer);
    nd_journal_close(journal);
    fake_disk_free(disk);
}

static void one_write_at_a_time(void)
{
    fake_disk *disk = fake_disk_new(1);
    nd_journal *journal = open_journal(disk);
    nd_writer *writer;
    CHECK(nd_writer_open(nd_io_posix(), journal, &writer) == ND_OK);
    seal_one(journal, 1);
    CHECK(nd_writer_begin(writer) == ND_OK);
    CHECK(nd_writer_begin(writer) == ND_ERR_ARGUMENT);
    wait_for(writer);
    CHECK(nd_writer_begin(writer) == ND_ERR_ARGUMENT);
    CHECK(nd_writer_ended(writer) == ND_OK);
    CHECK(nd_journal_group_done(journal) == ND_OK);
    CHECK(nd_writer_begin(writer) == ND_OK);            /* nothing is sealed: it ends all the same */
    wait_for(writer);
    CHECK(nd_writer_ended(writer) == ND_OK);
    nd_writer_close(writer);
    nd_journal_close(journal);
    fake_disk_free(disk);
}

static void closing_waits_for_what_was_begun(void)
{
    for (uint32_t round = 0; round < 200; round++) {
        fake_disk *disk = fake_disk_new(1);
        nd_journal *journal = open_journal(disk);
        nd_writer *writer;
        CHECK(nd_writer_open(nd_io_posix(), journal, &writer) == ND_OK);
        seal_one(journal, 1);
        CHECK(nd_writer_begin(writer) == ND_OK);
        nd_writer_close(writer);
        CHECK(nd_journal_group_done(journal) == ND_OK);
        nd_journal_close(journal);
        fake_disk_free(disk);
    }
    nd_writer_close(NULL);
}

static void without_a_descriptor_there_is_no_writer(void)
{
    fake_disk *disk = fake_disk_new(1);
    nd_journal *journal = open_journal(disk);
    nd_writer *writer = NULL;
    struct rlimit before, none;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    none = before;
    none.rlim_cur = 0;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    CHECK(nd_writer_open(nd_io_posix(), journal, &writer) == ND_ERR_FULL && writer == NULL);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(nd_writer_open(nd_io_posix(), NULL, &writer) == ND_ERR_ARGUMENT);
    nd_journal_close(journal);
    fake_disk_free(disk);
}

int main(void)
{
    RUN(each_group_is_written_and_its_end_is_told_once);
    RUN(one_write_at_a_time);
    RUN(closing_waits_for_what_was_begun);
    RUN(without_a_descriptor_there_is_no_writer);
    return 0;
}
