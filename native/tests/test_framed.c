/* Whoever reads cold records plans them and writes them as message bytes: the same batch and the same bytes
 * as from memory. */

#include "cold_ring.h"

/* --- slices -------------------------------------------------------------------------- */

static void it_is_what_memory_would_have_given_in_every_form_and_in_pieces_of_any_size(void)
{
    const uint64_t pieces[] = {ND_FRAMED_PART_BYTES, 100000, 256 << 10, 1300, 5000, ND_FRAMED_PART_BYTES - 1};
    begin();
    append_kinds(500);
    for (uint32_t form = 0; form < 64; form++) {
        const nd_slice slice = slice_after(0, form);
        expected e = given(&slice);
        CHECK_EQUAL(e.batch.kinds_count, ND_KINDS);
        move_all_out();
        read_slice(&slice, everything);
        check_as(&e, &slice);
        for (uint32_t i = 0; i < 3; i++) check_reads(e.text, pieces[i]);        /* each from its beginning */
        bring_all_back();                                       /* for pieces that are smaller than a part */
        for (uint32_t i = 3; i < 6; i++) check_reads(e.text, pieces[i]);
        free(e.text);
    }
    end();
}

static void it_ends_where_memory_would_have_ended(void)
{
    begin();
    append(600, 5);
    for (uint64_t n = 1; n <= 560; n += n > 245 && n < 260 ? 1 : 7) {   /* chunks end in between */
        check_slice(&(nd_slice){0, UINT64_MAX, n, 1 << 30, FORM});
        check_slice(&(nd_slice){0, UINT64_MAX, 1000, n * (BODY + 1), 0});
        check_slice(&(nd_slice){0, n, 1000, 1 << 30, 0});
        check_slice(&(nd_slice){n, n + 40, 1000, 1 << 30, FORM});
        nd_ring_show(ring, n);
        check_slice(&(nd_slice){n / 2, UINT64_MAX, 1000, 1 << 30, 0});
        nd_ring_show(ring, UINT64_MAX);
    }
    end();
}

static void it_is_of_one_epoch(void)
{
    begin();
    append(200, 5);
    CHECK_EQUAL(nd_ring_begin_epoch(ring, 4), ND_OK);
    append(300, 5);
    CHECK_EQUAL(nd_ring_begin_epoch(ring, 9), ND_OK);
    append(100, 5);
    const uint64_t after[] = {0, 100, 199, 200, 499, 500}, epochs[] = {1, 1, 1, 4, 4, 9};
    for (uint32_t i = 0; i < 6; i++) {
        const nd_slice slice = slice_after(after[i], FORM);
        check_slice(&slice);
        CHECK_EQUAL(batch.epoch, epochs[i]);
    }
    nd_ring_show(ring, 150);
    const nd_slice slice = slice_after(100, FORM);
    check_slice(&slice);
    CHECK_EQUAL(batch.last_seq, 150);
    end();
}

static void it_is_cut_before_an_event_that_would_pass_an_earlier_one_of_its_device(void)
{
    begin();
    for (uint64_t i = 0; i < 700; i++) append_of(i % 2 == 0 ? NOTIFICATION : REGISTRATION, i, 0, 5);
    append_of(NOTIFICATION, 333, 0, 5);                         /* it came as a registration, and these leave later */
    append_of(REGISTRATION, 1000, 0, 5);
    nd_slice slice = slice_after(0, ND_FORM_MIXED_KINDS);
    check_slice(&slice);
    CHECK_EQUAL(batch.last_seq, 700);
    slice = slice_after(334, 0);                                /* that one is not among them */
    check_slice(&slice);
    CHECK_EQUAL(batch.last_seq, 702);
    end();
}

static void a_large_record_is_a_part_of_its_own(void)
{
    const uint64_t pieces[] = {1300, ND_FRAMED_PART_BYTES, 256 << 10, 400 << 10, sizeof buffer};
    for (uint32_t form = 0; form <= FORM; form += FORM) {
        begin();
        append_request(test_notifications(1, 300 << 10), 5);
        append(3, 5);
        append_request(test_notifications(2, 300 << 10), 5);
        append(100, 5);
        append_request(test_notifications(1, 300 << 10), 5);
        const nd_slice slice = slice_after(0, form);
        check_slice(&slice);
        expected e = given(&slice);
        for (uint32_t i = 0; i < 5; i++) check_reads(e.text, pieces[i]);
        free(e.text);
        end();
    }
}

static void no_piece_goes_past_the_end_of_a_message(void)
{
    begin();
    append_kinds(500);
    const nd_slice slice = slice_after(0, 0);
    read_slice(&slice, (move_all_out(), everything));
    CHECK_EQUAL(nd_frame_hold(ring, &slice, &batch), 1);
    CHECK_EQUAL(batch.kinds_count, ND_KINDS);
    move_all_out();
    for (uint32_t i = 0; i < ND_KINDS; i++) {                   /* a message each turn */
        CHECK_EQUAL(nd_batch_read(ring, framed, &batch, buffer, sizeof buffer), ND_OK);
        CHECK_EQUAL(batch.bytes_written, batch.kind_bytes[i] + 2);
        CHECK(buffer[0] == '{' && buffer[batch.bytes_written - 1] == '}');
    }
    CHECK_EQUAL(nd_batch_read(ring, framed, &batch, buffer, sizeof buffer), ND_OK);
    CHECK_EQUAL(batch.bytes_written, 0);
    end();
}

static void it_is_read_from_its_beginning_again_wherever_a_reader_gave_up(void)
{
    begin();
    append(600, 5);
    const nd_slice slice = slice_after(0, FORM);
    expected e = given(&slice);
    move_all_out();
    read_slice(&slice, everything);
    CHECK_EQUAL(nd_frame_hold(ring, &slice, &batch), 1);
    for (uint64_t pieces = 1; pieces <= 9; pieces++) {
        nd_batch_rewind(&batch);
        for (uint64_t i = 0; i < pieces; i++) {
            CHECK_EQUAL(nd_batch_read(ring, framed, &batch, buffer, i % 2 ? 3000 : ND_FRAMED_PART_BYTES), ND_OK);
        }
        check_reads(e.text, ND_FRAMED_PART_BYTES);
    }
    free(e.text);
    end();
}

static void where_no_part_begins_or_has_room_nothing_is_copied(void)
{
    begin();
    append(600, 5);
    move_all_out();
    const nd_slice slice = slice_after(0, 0);
    read_slice(&slice, everything);
    CHECK(nd_framed_bytes(framed) > batch.bytes_count);
    CHECK_EQUAL(nd_frame_hold(ring, &slice, &batch), 1);
    nd_batch before = batch;
    CHECK_EQUAL(nd_framed_read(framed, &batch, buffer, 20), 0);
    CHECK(memcmp(&before, &batch, sizeof batch) == 0);
    CHECK_EQUAL(nd_batch_read(ring, framed, &batch, buffer, 20), ND_OK);
    CHECK_EQUAL(batch.bytes_written, strlen("{\"notifications\":["));  /* what there is room for, from memory */
    before = batch;
    CHECK_EQUAL(nd_framed_read(framed, &batch, buffer, sizeof buffer), 0);
    CHECK(memcmp(&before, &batch, sizeof batch) == 0);
    end();
}

/* --- what is in memory, and what is not ------------------------------------------------ */

static void a_slice_begins_with_what_is_in_memory_of_a_chunk(void)
{
    const uint64_t after[] = {0, 1, 100, 200, 252};
    for (uint32_t i = 0; i < 5; i++) {
        begin();
        append(600, 5);
        const nd_slice slice = slice_after(after[i], FORM);
        expected e = given(&slice);
        move_all_out();
        bring_back(first_chunk);
        read_slice(&slice, everything);
        check_as(&e, &slice);
        CHECK_EQUAL(batch.last_seq, 600);
        free(e.text);
        end();
    }
    begin();
    append(600, 5);
    const nd_slice inside = {100, UINT64_MAX, 50, 1 << 30, FORM};       /* and ends in it */
    expected e = given(&inside);
    move_all_out();
    bring_back(first_chunk);
    read_slice(&inside, everything);
    check_as(&e, &inside);
    free(e.text);
    end();
}

static void a_slice_ends_before_a_chunk_that_is_in_memory(void)
{
    for (int is_first_back = 0; is_first_back < 2; is_first_back++) {
        begin();
        append(1000, 5);
        move_all_out();
        bring_back(chunk_of(600));
        if (is_first_back) bring_back(first_chunk);
        const nd_slice slice = slice_after(30, FORM);
        read_slice(&slice, everything);
        CHECK(batch.last_seq > 300 && batch.last_seq < 600);
        check_as_far_as_it_goes(slice);
        end();
    }
}

static void a_slice_that_memory_has_more_than_a_chunk_of_is_planned_there(void)
{
    begin();
    append(1000, 5);
    move_all_out();
    bring_back(first_chunk);
    bring_back(chunk_of(300));
    nd_reach reach = everything;
    nd_fetch *going;
    uint64_t bytes;
    reach.is_for_slice = 1;
    for (reach.first_seq = 1; reach.first_seq < 200; reach.first_seq += 50) {
        CHECK_EQUAL(nd_ring_has_cold(ring, &reach), 0);
        CHECK_EQUAL(nd_fetch_begin(ring, &reach, &bytes, &going), ND_EMPTY);
    }
    reach.is_for_slice = 0;
    CHECK_EQUAL(nd_ring_has_cold(ring, &reach), 1);
    end();
}

static void a_slice_ends_where_the_reading_ends(void)
{
    begin();
    append(1000, 5);
    move_all_out();
    const nd_slice slice = slice_after(20, FORM);
    read_slice(&slice, first_chunk);
    CHECK(batch.last_seq > 200 && batch.last_seq < 300);
    check_as_far_as_it_goes(slice);
    end();
}

static void what_was_settled_in_the_cold_is_stepped_over(void)
{
    for (uint64_t settled = 1; settled < 600; settled += 83) {
        for (uint64_t before = 0; before <= settled; before += settled) {       /* where the slice begins */
            begin();
            append(700, 5);
            nd_slice slice = slice_after(settled, FORM);
            expected e = given(&slice);
            move_all_out();
            CHECK_EQUAL(nd_ring_settle(ring, settled / 2, &removed), settled > 1 ? ND_OK : ND_EMPTY);
            CHECK_EQUAL(nd_ring_settle(ring, settled, &removed), ND_OK);
            slice.after_seq = before;
            read_slice(&slice, everything);
            CHECK(framed != NULL);
            CHECK_EQUAL(batch.first_seq, settled + 1);
            e.stats.held_bytes -= settled * STORED;             /* they are gone now */
            check_as(&e, &slice);
            free(e.text);
            end();
        }
    }
}

static void what_some_were_dropped_from_among_is_left(void)
{
    begin();
    append(600, 5);
    nd_ring_hold(ring, (nd_place){.seq = 11});
    CHECK_EQUAL(nd_ring_drop(ring, 10 * STORED, &removed), ND_OK);
    nd_slice slice = slice_after(0, 0);
    expected e = given(&slice);
    CHECK_EQUAL(e.batch.events, 590);
    move_all_out();
    read_slice(&slice, everything);
    check_left(&slice, &e);
    free(e.text);

    nd_ring_release(ring, 0);
    move_all_out();
    bring_back(first_chunk);                                    /* in memory it is known where they lie: */
    slice = slice_after(5, 0);
    read_slice(&slice, everything);
    CHECK_EQUAL(batch.last_seq, 10);                            /* up to the hole, */
    check_as_far_as_it_goes(slice);
    nd_ring_release(ring, 0);
    bring_back(first_chunk);
    slice = slice_after(15, 0);                                 /* or in and behind it */
    read_slice(&slice, everything);
    CHECK_EQUAL(batch.first_seq, 21);
    CHECK_EQUAL(batch.last_seq, 600);
    check_as_far_as_it_goes(slice);
    end();
}

static void what_was_superseded_leaves_no_hole_unless_it_was_cold(void)
{
    for (int turn = 0; turn < 3; turn++) {
        const int is_cold = turn > 0;
        begin();
        keep_latest_of(600);
        append(600, 5);
        if (is_cold) move_all_out();
        uint32_t odd[200];
        for (uint32_t i = 0; i < 200; i++) odd[i] = 2 * i + 1;
        test_request request = test_notifications(600, BODY);
        nd_route route = {.ring = ring, .indices = odd, .indices_count = 200};
        CHECK_EQUAL(nd_rings_append(pool, &route, 1, request.block, request.block_bytes, request.meta,
                                    request.count, 6), ND_OK);
        CHECK_EQUAL(route.superseded.count, 200);
        test_request_free(&request);
        const nd_slice slice = {0, UINT64_MAX, turn == 2 ? 50 : 1000, 1 << 30, FORM};
        if (!is_cold) {
            check_slice(&slice);
            CHECK_EQUAL(batch.events, 600);
        } else {
            move_all_out();
            read_slice(&slice, everything);
            CHECK(framed == NULL);
            expected e = given(&slice);
            check_left(&slice, &e);
            free(e.text);
        }
        end();
    }
}

/* --- batches that were planned before --------------------------------------------------- */

static void what_follows_in_a_batch_is_written_wherever_it_stands(void)
{
    for (uint32_t form = 0; form <= ND_FORM_MIXED_KINDS; form++) {
        for (uint64_t piece = 900; piece < 150000; piece *= 2) {
            begin();
            append_kinds(500);
            char *text = planned_after(0, form);
            bring_all_back();
            CHECK_EQUAL(nd_batch_write(ring, &batch, buffer, piece), ND_OK);
            uint64_t at = batch.bytes_written;
            move_all_out();
            nd_reach reach = rest_of_batch();
            reach.first_seq = 1;                                /* kinds that come later begin in front of it */
            read_on(reach, UINT64_MAX);
            CHECK(framed != NULL);
            move_all_out();
            while (at < batch.bytes_count) {                    /* at least a part each turn */
                CHECK_EQUAL(nd_batch_read(ring, framed, &batch, buffer, sizeof buffer), ND_OK);
                CHECK(batch.bytes_written > 0 && memcmp(text + at, buffer, batch.bytes_written) == 0);
                at += batch.bytes_written;
            }
            CHECK_EQUAL(at, batch.bytes_count);
            free(text);
            end();
        }
    }
}

/* The whole batch, all moved out as often as it is read on; how many pieces came from memory. */
static uint64_t pieces_from_memory(const char *text, uint64_t piece_bytes, uint64_t bytes_max)
{
    uint64_t from_memory = 0;
    for (uint64_t at = 0; at < batch.bytes_count;) {            /* a record each turn */
        if (framed == NULL || !nd_framed_read(framed, &batch, buffer, piece_bytes)) {
            const nd_reach rest = rest_of_batch();
            if (nd_ring_has_cold(ring, &rest)) read_on(rest, bytes_max);
            from_memory += framed == NULL || !nd_framed_read(framed, &batch, buffer, piece_bytes);
            if (batch.bytes_written == 0) CHECK_EQUAL(nd_batch_write(ring, &batch, buffer, piece_bytes), ND_OK);
        }
        CHECK(batch.bytes_written > 0 && at + batch.bytes_written <= batch.bytes_count);
        CHECK(memcmp(text + at, buffer, batch.bytes_written) == 0);
        at += batch.bytes_written;
        batch.bytes_written = 0;
        move_all_out();
    }
    return from_memory;
}

static void a_batch_is_written_in_several_readings(void)
{
    const uint64_t bytes_max[] = {70000, 300000, UINT64_MAX};
    for (uint32_t i = 0; i < 3; i++) {
        begin();
        append(1000, 5);
        char *text = planned_after(0, FORM);
        CHECK_EQUAL(pieces_from_memory(text, sizeof buffer, bytes_max[i]), 0);
        free(text);
        end();
    }
}

static void what_is_written_on_ends_before_what_was_not_read(void)
{
    begin();
    append(1000, 5);
    char *text = planned_after(0, 0);
    for (int is_middle_back = 0; is_middle_back < 2; is_middle_back++) {
        if (is_middle_back) bring_back(chunk_of(400));
        read_on(is_middle_back ? everything : first_chunk, UINT64_MAX);
        CHECK(framed != NULL);
        nd_batch_rewind(&batch);
        uint64_t at = 0;
        while (nd_framed_read(framed, &batch, buffer, ND_FRAMED_PART_BYTES)) {
            CHECK(memcmp(text + at, buffer, batch.bytes_written) == 0);
            at += batch.bytes_written;
        }
        CHECK(at > 0 && batch.next_seq > 200 && batch.next_seq < 400);
        nd_batch_rewind(&batch);
        move_all_out();
    }
    free(text);
    end();
}

static void what_follows_is_written_though_others_in_front_of_it_went(void)
{
    begin();
    append(400, 5);
    char *text = planned_after(50, FORM);
    CHECK_EQUAL(nd_ring_settle(ring, 40, &removed), ND_OK);
    read_on(rest_of_batch(), UINT64_MAX);
    CHECK(framed != NULL);
    move_all_out();
    check_reads(text, ND_FRAMED_PART_BYTES);
    free(text);
    end();

    begin();
    append(100, 5);
    nd_ring_hold(ring, (nd_place){.seq = 11});
    CHECK_EQUAL(nd_ring_drop(ring, 10 * STORED, &removed), ND_OK);
    text = planned_after(0, 0);
    read_on(everything, UINT64_MAX);
    CHECK(framed == NULL);                                      /* some went from among others */
    check_reads(text, PIECE);
    free(text);
    end();
}

/* --- how much, and how often ------------------------------------------------------------ */

static void what_is_not_written_for_want_of_room_comes_from_memory(void)
{
    const nd_slice slice = slice_after(0, FORM);
    for (uint64_t bytes_max = 10; bytes_max < 2 << 20; bytes_max *= 4) {
        for (int is_slice = 0; is_slice < 2; is_slice++) {
            begin();
            append(1000, 5);
            char *text = planned(&slice);
            nd_fetch *going = is_slice ? slice_begun(&slice, everything) : fetch_begun(everything);
            if (is_slice) nd_fetch_slice(going, &slice, bytes_max, &batch, &framed);
            else nd_fetch_read_on(going, &batch, bytes_max, &framed);
            CHECK_EQUAL(nd_fetch_end(going, &fetched), ND_OK);
            CHECK_EQUAL(framed != NULL, bytes_max > 2 * BODY);  /* no lone opening */
            if (framed != NULL) CHECK(nd_framed_bytes(framed) < bytes_max + bytes_max / 50 + 4000);
            if (framed == NULL) CHECK_EQUAL(nd_frame_plan(framer, ring, &slice, &batch), ND_OK);
            else if (is_slice) CHECK_EQUAL(nd_frame_hold(ring, &slice, &batch), 1);
            check_reads(text, PIECE);
            check_reads(text, ND_FRAMED_PART_BYTES);
            if (framed != NULL && bytes_max < 1 << 20) {
                move_all_out();
                nd_batch_rewind(&batch);
                nd_status status;
                uint64_t written = 0;
                while ((status = nd_batch_read(ring, framed, &batch, buffer, sizeof buffer)) == ND_OK) {
                    written += batch.bytes_written;
                }
                CHECK_EQUAL(status, ND_COLD);
                CHECK(written > 0 && written <= bytes_max);
            }
            free(text);
            end();
        }
    }
}

static void what_is_written_is_not_written_over(void)
{
    begin();
    append(600, 5);
    move_all_out();
    const nd_slice slice = slice_after(0, FORM), other = slice_after(30, 0);
    read_slice(&slice, first_chunk);
    CHECK_EQUAL(nd_frame_hold(ring, &slice, &batch), 1);
    char *text = test_read_framed(ring, framed, &batch, PIECE);
    nd_batch_rewind(&batch);
    const nd_batch before = batch;
    nd_framed *const first = framed;
    for (int turn = 0; turn < 2; turn++) {
        move_all_out();
        nd_fetch *going = turn == 0 ? slice_begun(&other, everything) : fetch_begun(everything);
        if (turn == 0) nd_fetch_slice(going, &other, UINT64_MAX, &batch, &framed);
        else nd_fetch_read_on(going, &batch, UINT64_MAX, &framed);
        CHECK_EQUAL(nd_fetch_end(going, &fetched), ND_OK);
        CHECK(framed == first && memcmp(&before, &batch, sizeof batch) == 0);
    }
    move_all_out();
    check_reads(text, PIECE);
    free(text);
    end();
}

static void every_request_for_memory_may_fail_and_the_bytes_are_the_same(void)
{
    uint64_t request = 0, has_failed = 1;
    while (has_failed) {
        request++;
        begin();
        append_kinds(300);
        append_of(NOTIFICATION, 1, 0, 5000);
        move_all_out();
        memory.fail_at = memory.requests + request;
        uint64_t after = 0;
        while (after < 301) {                                   /* at most one turn fails */
            const nd_slice slice = slice_after(after, FORM);
            nd_reach reach = first_chunk;
            reach.first_seq = after + 1;
            reach.is_for_slice = 1;
            nd_fetch *going;
            uint64_t bytes;
            nd_status status = nd_fetch_begin(ring, &reach, &bytes, &going);
            CHECK(status == ND_OK || status == ND_ERR_FULL || status == ND_EMPTY);
            if (status == ND_ERR_FULL) continue;
            if (status == ND_OK) {
                nd_fetch_slice(going, &slice, UINT64_MAX, &batch, &framed);
                CHECK_EQUAL(nd_fetch_end(going, &fetched), ND_OK);
            }
            if (framed == NULL) CHECK_EQUAL(nd_frame_plan(framer, ring, &slice, &batch), ND_OK);
            const uint64_t left = memory.fail_at > memory.requests ? memory.fail_at - memory.requests : 0;
            has_failed = left == 0;
            memory.fail_at = 0;                                 /* looking at it is no part of it */
            if (framed != NULL) check_as_far_as_it_goes(slice);
            after = batch.last_seq;
            nd_framed_close(framed);
            framed = NULL;
            move_all_out();
            if (!has_failed) memory.fail_at = memory.requests + left;
        }
        memory.fail_at = 0;
        end();
    }
    CHECK(request > 4);
}

int main(void)
{
    RUN(it_is_what_memory_would_have_given_in_every_form_and_in_pieces_of_any_size);
    RUN(it_ends_where_memory_would_have_ended);
    RUN(it_is_of_one_epoch);
    RUN(it_is_cut_before_an_event_that_would_pass_an_earlier_one_of_its_device);
    RUN(a_large_record_is_a_part_of_its_own);
    RUN(no_piece_goes_past_the_end_of_a_message);
    RUN(it_is_read_from_its_beginning_again_wherever_a_reader_gave_up);
    RUN(where_no_part_begins_or_has_room_nothing_is_copied);
    RUN(a_slice_begins_with_what_is_in_memory_of_a_chunk);
    RUN(a_slice_ends_before_a_chunk_that_is_in_memory);
    RUN(a_slice_that_memory_has_more_than_a_chunk_of_is_planned_there);
    RUN(a_slice_ends_where_the_reading_ends);
    RUN(what_was_settled_in_the_cold_is_stepped_over);
    RUN(what_some_were_dropped_from_among_is_left);
    RUN(what_was_superseded_leaves_no_hole_unless_it_was_cold);
    RUN(what_follows_in_a_batch_is_written_wherever_it_stands);
    RUN(a_batch_is_written_in_several_readings);
    RUN(what_is_written_on_ends_before_what_was_not_read);
    RUN(what_follows_is_written_though_others_in_front_of_it_went);
    RUN(what_is_not_written_for_want_of_room_comes_from_memory);
    RUN(what_is_written_is_not_written_over);
    RUN(every_request_for_memory_may_fail_and_the_bytes_are_the_same);
    return 0;
}
