/* nd_mix.h -- the one mixing function of uids and hashes. */
#ifndef ND_MIX_H
#define ND_MIX_H

#include <stdint.h>

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

#endif /* ND_MIX_H */
