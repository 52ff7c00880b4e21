/* What was planned and written by whoever read it is sent only as long as the ring would give it too, and damage
 * is found where the ring is. */

#include "cold_ring.h"

/* --- what is damaged, and what the disk does not give -------------------------------------- */

/* Where a record lies on the disk. */
static uint8_t *on_disk(uint64_t seq)
{
    uint64_t count, at = 0;
    uint8_t *bytes = fake_disk_bytes(disk, "scratch", &count);
    while (at + STORED <= count && ((const nd_record *)(const void *)(bytes + at))->seq != seq) at += 8;
    CHECK(at + STORED <= count);
    return bytes + at;
}

static void a_damaged_body_is_left_to_be_found_in_memory(void)
{
    const uint64_t seqs[] = {1, 30, 70, 200, 300, 600};
    const nd_slice slice = slice_after(0, 0);
    for (uint32_t i = 0; i < 6; i++) {
        for (int is_slice = 0; is_slice < 2; is_slice++) {
            begin();
            append(600, 5);
            char *text = planned(&slice);
            on_disk(seqs[i])[500] ^= 1;
            nd_framed *none = NULL;
            nd_fetch *going = is_slice ? slice_begun(&slice, everything) : fetch_begun(everything);
            if (is_slice) nd_fetch_slice(going, &slice, UINT64_MAX, &batch, &none);
            else nd_fetch_read_on(going, &batch, UINT64_MAX, &none);
            framed = none;
            CHECK_EQUAL(nd_fetch_end(going, &fetched), ND_OK);
            CHECK_EQUAL(framed == NULL, seqs[i] < 60);          /* in the first part */
            if (framed != NULL) CHECK_EQUAL(nd_frame_hold(ring, &slice, &batch), 1);
            nd_batch_rewind(&batch);
            uint64_t at = 0;
            while (framed != NULL && nd_framed_read(framed, &batch, buffer, ND_FRAMED_PART_BYTES)) {
                CHECK(memcmp(text + at, buffer, batch.bytes_written) == 0);
                at += batch.bytes_written;
            }
            CHECK(batch.next_seq <= seqs[i] && batch.next_seq + 70 > seqs[i]);
            CHECK_EQUAL(nd_batch_read(ring, framed, &batch, buffer, sizeof buffer), ND_ERR_CORRUPT);
            CHECK_EQUAL(batch.next_seq, seqs[i]);
            free(text);
            end();
        }
    }
}

static void a_damaged_header_is_left_to_be_found_in_memory(void)
{
    const uint64_t seqs[] = {1, 100, 255, 600};
    const uint32_t places[] = {0, 3, 8, 9, 15, 24, 27, 31};     /* in its lengths, its seq and its kind */
    for (uint32_t i = 0; i < 4; i++) {
        for (uint32_t at = 0; at < 8; at++) {
            begin();
            append(600, 5);
            move_all_out();
            on_disk(seqs[i])[places[at]] ^= 0xff;
            const nd_slice slice = slice_after(0, 0);
            read_slice(&slice, everything);
            const nd_batch planned_there = batch;
            const nd_status status = nd_frame_plan(framer, ring, &slice, &batch);
            if (status != ND_OK) CHECK(framed == NULL);
            else if (seqs[i] > 70) CHECK(framed != NULL);       /* what lies in front of that part */
            if (framed != NULL) test_batches_alike(&planned_there, &batch);
            if (status != ND_OK) CHECK_EQUAL(status, ND_ERR_CORRUPT);
            if (status != ND_OK) CHECK(batch.next_seq == seqs[i] || batch.next_seq == seqs[i] + 1);
            if (status == ND_OK) CHECK_EQUAL(nd_batch_read(ring, NULL, &batch, buffer, sizeof buffer), ND_ERR_CORRUPT);
            end();
        }
    }
}

static void what_lies_in_front_of_a_damaged_header_is_written_when_no_more_is_asked_for(void)
{
    begin();
    append(600, 5);
    const nd_slice slice = {0, UINT64_MAX, 299, 1 << 30, FORM}, behind = slice_after(299, FORM);
    expected e = given(&slice);
    move_all_out();
    on_disk(300)[24] = 0xff;
    read_slice(&slice, everything);
    CHECK(framed != NULL);
    CHECK_EQUAL(nd_frame_hold(ring, &slice, &batch), 1);
    check_reads(e.text, PIECE);
    CHECK_EQUAL(nd_frame_plan(framer, ring, &behind, &batch), ND_ERR_CORRUPT);
    CHECK_EQUAL(batch.next_seq, 300);
    free(e.text);
    end();
}

static void damage_among_what_was_settled_in_the_cold_is_left_to_be_found_in_memory(void)
{
    begin();
    append(600, 5);
    move_all_out();
    CHECK_EQUAL(nd_ring_settle(ring, 40, &removed), ND_OK);
    on_disk(20)[3] = 0xff;                                      /* a length: nothing behind it can be found */
    const nd_slice slice = slice_after(40, 0);
    read_slice(&slice, everything);
    CHECK(framed == NULL);
    CHECK_EQUAL(nd_frame_plan(framer, ring, &slice, &batch), ND_ERR_CORRUPT);
    end();
}

static void of_what_the_disk_does_not_give_nothing_is_written(void)
{
    const nd_slice slice = slice_after(0, FORM);
    for (uint64_t call = 1; call <= 3; call++) {                /* a chunk each */
        for (int is_slice = 0; is_slice < 2; is_slice++) {
            begin();
            append(600, 5);
            char *text = planned(&slice);
            nd_fetch *going = is_slice ? slice_begun(&slice, everything) : fetch_begun(everything);
            fake_disk_fail_at(disk, fake_disk_calls(disk) + call, ND_ERR_IO);
            if (is_slice) nd_fetch_slice(going, &slice, UINT64_MAX, &batch, &framed);
            else nd_fetch_read_on(going, &batch, UINT64_MAX, &framed);
            CHECK(framed == NULL);
            CHECK_EQUAL(nd_fetch_end(going, &fetched), ND_ERR_IO);
            CHECK_EQUAL(nd_frame_plan(framer, ring, &slice, &batch), ND_COLD);
            read_slice(&slice, everything);                     /* the next time it does */
            CHECK_EQUAL(nd_frame_hold(ring, &slice, &batch), 1);
            check_reads(text, PIECE);
            free(text);
            end();
        }
    }
}

/* --- while the ring changes ----------------------------------------------------------- */

/* What happens to a ring while records 11 to 310 of 600 are read, and whether it would still give them. */
typedef enum {
    NOTHING, APPENDED, SETTLED_BEFORE_IT, DROPPED_BEHIND_IT, NEXT_EPOCH, SHOWN_UP_TO_IT, KEPT_MAX = SHOWN_UP_TO_IT,
    FIRST_SETTLED, EXPIRED_ALL, ALL_SETTLED, DROPPED_FROM_INSIDE, CHUNK_DROPPED, SHOWN_LESS, CHANGES
} change;

static void change_ring(change what)
{
    switch (what) {
    case NOTHING: break;
    case APPENDED: append(10, 9); break;
    case SETTLED_BEFORE_IT: settle(10); break;
    case DROPPED_BEHIND_IT:
        nd_ring_hold(ring, (nd_place){.seq = 311});
        CHECK_EQUAL(nd_ring_drop(ring, STORED, &removed), ND_OK);
        nd_ring_release(ring, 0);
        break;
    case NEXT_EPOCH:
        CHECK_EQUAL(nd_ring_begin_epoch(ring, 2), ND_OK);
        append(10, 9);
        break;
    case SHOWN_UP_TO_IT: nd_ring_show(ring, 310); break;
    case FIRST_SETTLED: settle(11); break;
    case EXPIRED_ALL: CHECK_EQUAL(nd_ring_expire(ring, 6, UINT64_MAX, &removed), ND_OK); break;
    case ALL_SETTLED: settle(UINT64_MAX); break;
    case DROPPED_FROM_INSIDE:
    case CHUNK_DROPPED:                                         /* a record, or all of its chunk while it is cold */
        nd_ring_hold(ring, (nd_place){.seq = what == CHUNK_DROPPED ? 11 : 201});
        CHECK_EQUAL(nd_ring_drop(ring, STORED, &removed), ND_OK);
        CHECK(removed.first_seq <= 310);
        nd_ring_release(ring, 0);
        break;
    default: nd_ring_show(ring, 309); break;
    }
}

/* Read records 11 to 310, changing the ring when it has begun or, at_end, when it has ended. */
static void read_changing(const nd_slice *slice, change what, int at_end)
{
    append(310, 5);
    append(290, 9);
    move_all_out();
    nd_fetch *going = slice_begun(slice, everything);
    if (!at_end) change_ring(what);
    nd_fetch_slice(going, slice, UINT64_MAX, &batch, &framed);
    CHECK_EQUAL(nd_fetch_end(going, &fetched), ND_OK);
    if (fetched.expire_unix_ms > 0) (void)nd_ring_expire(ring, fetched.expire_unix_ms, UINT64_MAX, &removed);
    if (at_end) change_ring(what);
    CHECK(framed != NULL);
    CHECK_EQUAL(batch.events, 300);
}

static void only_a_slice_that_the_ring_would_give_is_held(void)
{
    const nd_slice slice = {10, UINT64_MAX, 300, 1 << 30, FORM};
    for (change what = NOTHING; what < CHANGES; what++) {
        for (int at_end = 0; at_end < 2; at_end++) {
            if (what == DROPPED_FROM_INSIDE && !at_end) continue;       /* cold, a chunk in flight stays */
            if (what == CHUNK_DROPPED && at_end) continue;
            begin();
            read_changing(&slice, what, at_end);
            const nd_ring_stats_t stats = stats_now();
            const nd_batch before = batch;
            CHECK_EQUAL(stats.in_flight_seq, 0);
            CHECK_EQUAL(nd_frame_hold(ring, &slice, &batch), what <= KEPT_MAX);
            CHECK(memcmp(&before, &batch, sizeof batch) == 0);
            if (what <= KEPT_MAX) check_as_far_as_it_goes(slice);
            else check_stats(&stats);
            end();
        }
    }
}

static void a_slice_is_held_for_what_it_was_planned_for_alone(void)
{
    begin();
    const nd_slice slice = {10, UINT64_MAX, 300, 1 << 30, FORM};
    read_changing(&slice, NOTHING, 0);
    const nd_ring_stats_t stats = stats_now();
    CHECK_EQUAL(nd_frame_hold(ring, &(nd_slice){10, 309, 300, 1 << 30, FORM}, &batch), 0);
    CHECK_EQUAL(nd_frame_hold(ring, &(nd_slice){9, UINT64_MAX, 300, 1 << 30, FORM}, &batch), 0);
    CHECK_EQUAL(nd_frame_hold(ring, &(nd_slice){11, UINT64_MAX, 300, 1 << 30, FORM}, &batch), 0);
    nd_batch other = batch;
    other.epoch++;
    CHECK_EQUAL(nd_frame_hold(ring, &slice, &other), 0);
    other = batch;
    other.events--;
    CHECK_EQUAL(nd_frame_hold(ring, &slice, &other), 0);
    memset(&other, 0, sizeof other);
    CHECK_EQUAL(nd_frame_hold(ring, &slice, &other), 0);
    check_stats(&stats);
    CHECK_EQUAL(nd_frame_hold(ring, &(nd_slice){10, 310, 300, 1 << 30, FORM}, &batch), 1);
    CHECK_EQUAL(stats_now().in_flight_seq, 310);
    end();
}

static void a_record_that_is_superseded_meanwhile_is_not_sent(void)
{
    begin();
    keep_latest_of(600);
    append(600, 5);
    move_all_out();
    const nd_slice slice = slice_after(0, FORM);
    nd_fetch *going = slice_begun(&slice, everything);
    append_request(test_values(1, 100, 1000, BODY), 6);
    nd_fetch_slice(going, &slice, UINT64_MAX, &batch, &framed);
    CHECK_EQUAL(nd_fetch_end(going, &fetched), ND_OK);
    CHECK(framed != NULL);
    CHECK_EQUAL(stats_now().records, 600);
    CHECK_EQUAL(nd_frame_hold(ring, &slice, &batch), 0);
    end();
}

static void a_batch_whose_records_go_is_not_gone_on_with(void)
{
    for (uint64_t pieces = 0; pieces <= 3; pieces++) {
        begin();
        append(600, 5);
        move_all_out();
        const nd_slice slice = slice_after(0, FORM);
        read_slice(&slice, everything);
        CHECK_EQUAL(nd_frame_hold(ring, &slice, &batch), 1);
        for (uint64_t i = 0; i < pieces; i++) {
            CHECK_EQUAL(nd_batch_read(ring, framed, &batch, buffer, ND_FRAMED_PART_BYTES), ND_OK);
        }
        settle(pieces == 0 ? UINT64_MAX : pieces);
        CHECK_EQUAL(nd_batch_read(ring, framed, &batch, buffer, ND_FRAMED_PART_BYTES), ND_ERR_TRIMMED);
        end();
    }
}

/* --- to a socket ------------------------------------------------------------------------ */

static struct {
    uint8_t  taken[sizeof buffer];
    uint64_t count, at_once;
} wire;

static uint64_t take_some(int32_t socket, const uint8_t *bytes, uint64_t count)
{
    CHECK_EQUAL(socket, 7);
    const uint64_t taken = count < wire.at_once ? count : wire.at_once;
    CHECK(wire.count + taken <= sizeof wire.taken);
    memcpy(wire.taken + wire.count, bytes, taken);
    wire.count += taken;
    return taken;
}

static void what_is_written_is_poured(void)
{
    const uint64_t at_once[] = {777, 50000, UINT64_MAX};
    const nd_slice slice = slice_after(0, FORM);
    for (uint32_t i = 0; i < 6; i++) {
        begin();
        append(600, 5);
        char *text = planned(&slice);
        const int is_part = i >= 3;                             /* and the rest is in memory */
        nd_fetch *going = slice_begun(&slice, everything);
        nd_fetch_slice(going, &slice, is_part ? 100000 : UINT64_MAX, &batch, &framed);
        CHECK_EQUAL(nd_fetch_end(going, &fetched), ND_OK);
        CHECK_EQUAL(nd_frame_hold(ring, &slice, &batch), 1);
        if (!is_part) move_all_out();
        wire.count = 0;
        wire.at_once = at_once[i % 3];
        const nd_pour_memory through = {
            .buffer = buffer, .capacity = ND_FRAMED_PART_BYTES + 10,
            .tail = (const uint8_t *)"ping", .tail_bytes = 4, .framed = framed,
        };
        nd_pouring at = {.unread = batch.bytes_count};
        CHECK_EQUAL(nd_batch_pour(ring, &batch, take_some, 7, &through, 100, &at), ND_OK);
        CHECK_EQUAL(at.unread, 0);
        CHECK_EQUAL(wire.count, batch.bytes_count + 4);
        CHECK(memcmp(wire.taken, text, batch.bytes_count) == 0);
        CHECK(memcmp(wire.taken + batch.bytes_count, "ping", 4) == 0);
        free(text);
        end();
    }
}

int main(void)
{
    RUN(a_damaged_body_is_left_to_be_found_in_memory);
    RUN(a_damaged_header_is_left_to_be_found_in_memory);
    RUN(what_lies_in_front_of_a_damaged_header_is_written_when_no_more_is_asked_for);
    RUN(damage_among_what_was_settled_in_the_cold_is_left_to_be_found_in_memory);
    RUN(of_what_the_disk_does_not_give_nothing_is_written);
    RUN(only_a_slice_that_the_ring_would_give_is_held);
    RUN(a_slice_is_held_for_what_it_was_planned_for_alone);
    RUN(a_record_that_is_superseded_meanwhile_is_not_sent);
    RUN(a_batch_whose_records_go_is_not_gone_on_with);
    RUN(what_is_written_is_poured);
    return 0;
}
