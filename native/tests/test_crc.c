#include "nd_test.h"

#include "nd_crc.h"

/* RFC 3720, B.4. */
static void the_published_examples_come_out(void)
{
    uint8_t bytes[32] = {0};
    CHECK_EQUAL(nd_crc32c(0, bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, 32);
    CHECK_EQUAL(nd_crc32c(0, bytes, 32), 0x62a8ab43);
    for (uint8_t i = 0; i < 32; i++) bytes[i] = i;
    CHECK_EQUAL(nd_crc32c(0, bytes, 32), 0x46dd794e);
    CHECK_EQUAL(nd_crc32c(0, (const uint8_t *)"123456789", 9), 0xe3069283);
}

static void a_checksum_goes_on_where_it_stopped(void)
{
    const uint8_t *text = (const uint8_t *)"123456789";
    CHECK_EQUAL(nd_crc32c(nd_crc32c(0, text, 4), text + 4, 5), 0xe3069283);
}

static void the_instruction_and_the_table_agree(void)
{
    uint8_t bytes[4][640];
    uint32_t state = 1;
    for (uint32_t round = 0; round < 400; round++) {
        nd_crc_lane lanes[ND_CRC_LANES];
        for (uint32_t lane = 0; lane < ND_CRC_LANES; lane++) {
            for (uint32_t i = 0; i < 640; i++) {
                state = state * 1664525u + 1013904223u;
                bytes[lane][i] = (uint8_t)(state >> 24);
            }
            lanes[lane] = (nd_crc_lane){.bytes = bytes[lane], .count = 8 + (state >> 8) % 79 * 8};
        }
        const uint32_t count = 1 + round % ND_CRC_LANES;
        uint32_t fast[ND_CRC_LANES], slow[ND_CRC_LANES];
        nd_crc32c_records_best()(lanes, count, fast);
        nd_crc32c_records_table(lanes, count, slow);
        for (uint32_t lane = 0; lane < count; lane++) CHECK_EQUAL(fast[lane], slow[lane]);
    }
}

/* Of a group of the journal, say, which is summed in streams. */
static void a_long_lane_has_the_sum_of_its_bytes_in_order(void)
{
    static uint8_t bytes[3 * 4096 + 64];
    uint32_t state = 1;
    for (size_t i = 0; i < sizeof bytes; i++) {
        state = state * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(state >> 24);
    }
    for (size_t count = 8; count <= sizeof bytes; count += count % 4096 < 32 || count % 4096 > 4064 ? 8 : 1016) {
        const nd_crc_lane lane = {.bytes = bytes, .count = count};
        uint32_t fast, slow;
        nd_crc32c_records_best()(&lane, 1, &fast);
        nd_crc32c_records_table(&lane, 1, &slow);
        CHECK_EQUAL(fast, slow);
    }
}

/* Bytes that change places, a stream's length apart or a block's, are no less a difference. */
static void a_long_lane_notices_bytes_that_changed_places(void)
{
    static uint8_t bytes[4 * 4096];
    uint32_t before, after;
    for (size_t distance = 512; distance <= 2 * 4096; distance *= 2) {
        memset(bytes, 0, sizeof bytes);
        bytes[100] = 1;
        nd_crc32c_records_best()(&(nd_crc_lane){.bytes = bytes, .count = sizeof bytes}, 1, &before);
        bytes[100] = 0;
        bytes[100 + distance] = 1;
        nd_crc32c_records_best()(&(nd_crc_lane){.bytes = bytes, .count = sizeof bytes}, 1, &after);
        CHECK(before != after);
    }
}

static void the_place_of_the_checksum_counts_as_zeros(void)
{
    uint8_t bytes[16] = "abcd....ijklmnop";
    uint8_t zeroed[16] = "abcd\0\0\0\0ijklmnop";
    uint32_t sum;
    nd_crc32c_records_best()(&(nd_crc_lane){.bytes = bytes, .count = 16}, 1, &sum);
    CHECK_EQUAL(sum, nd_crc32c(0, zeroed, 16));
    bytes[3] ^= 1;
    uint32_t other;
    nd_crc32c_records_best()(&(nd_crc_lane){.bytes = bytes, .count = 16}, 1, &other);
    CHECK(sum != other);
}

int main(void)
{
    RUN(the_published_examples_come_out);
    RUN(a_checksum_goes_on_where_it_stopped);
    RUN(the_instruction_and_the_table_agree);
    RUN(a_long_lane_has_the_sum_of_its_bytes_in_order);
    RUN(a_long_lane_notices_bytes_that_changed_places);
    RUN(the_place_of_the_checksum_counts_as_zeros);
    return 0;
}
