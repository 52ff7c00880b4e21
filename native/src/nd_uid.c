/* nd_uid.c -- uids by a fixed mixing function; FORMAT.md gives it with examples. */

#include "nd_uid.h"

#include <string.h>

#include "nd_mix.h"

/* Eight hex digits, the highest first, without a branch or a table. */
static void put_hex8(uint8_t *at, uint32_t value)
{
    uint64_t x = value;
    x = (x >> 16 | x << 32) & 0x0000ffff0000ffffu;              /* one digit per byte, highest lowest */
    x = (x >> 8 | x << 16) & 0x00ff00ff00ff00ffu;
    x = (x >> 4 | x << 8) & 0x0f0f0f0f0f0f0f0fu;
    const uint64_t is_letter = (x + 0x0606060606060606u) >> 4 & 0x0101010101010101u;
    x += 0x3030303030303030u + is_letter * ('a' - '0' - 10);
    memcpy(at, &x, 8);
}

nd_uid_maker nd_uid_maker_of(uint64_t incarnation, uint64_t epoch)
{
    const uint64_t key = nd_mix64(incarnation);
    const uint64_t high = nd_mix64(key + (epoch + 1) * ND_GOLDEN);
    return (nd_uid_maker){.key = key, .high = high & ((1ull << 58) - 1)};
}

void nd_uid_put(uint8_t *at, const nd_uid_maker *maker, uint64_t seq)
{
    const uint64_t y = nd_mix64(seq ^ maker->key);
    const uint64_t high60 = maker->high << 2 | y >> 62;
    const uint64_t high = high60 >> 12 << 16 | 8u << 12 | (high60 & 0xfffu);            /* version 8 */
    const uint64_t low = (y & ((1ull << 62) - 1)) | 1ull << 63;                         /* variant 10 */
    uint8_t digits[32];
    put_hex8(digits, (uint32_t)(high >> 32));
    put_hex8(digits + 8, (uint32_t)high);
    put_hex8(digits + 16, (uint32_t)(low >> 32));
    put_hex8(digits + 24, (uint32_t)low);
    memcpy(at, digits, 8);
    at[8] = '-';
    memcpy(at + 9, digits + 8, 4);
    at[13] = '-';
    memcpy(at + 14, digits + 12, 4);
    at[18] = '-';
    memcpy(at + 19, digits + 16, 4);
    at[23] = '-';
    memcpy(at + 24, digits + 20, 12);
}
