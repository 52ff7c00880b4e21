/* nd_mix.h -- the one mixing function of uids and hashes. */
#ifndef ND_MIX_H
#define ND_MIX_H

#include <stdint.h>
#include <string.h>

#define ND_GOLDEN 0x9e3779b97f4a7c15u   /* 2^64 divided by the golden ratio */

/* The finaliser of splitmix64: a bijection that leaves no bit where it was. */
static inline uint64_t nd_mix64(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    x ^= x >> 31;
    return x;
}

/* A hash of bytes under a key. */
static inline uint64_t nd_hash_bytes(const uint8_t *bytes, uint32_t count, uint64_t key)
{
    uint64_t hash = nd_mix64(key) ^ count;
    while (count > 0) {                                         /* eight bytes a turn */
        uint64_t word = 0;
        const uint32_t step = count < 8 ? count : 8;
        memcpy(&word, bytes, step);
        hash = nd_mix64(hash ^ word) + ND_GOLDEN;
        bytes += step;
        count -= step;
    }
    return nd_mix64(hash);
}

#endif /* ND_MIX_H */
