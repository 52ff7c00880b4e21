/* nd_base64.h -- whether a payload is base64 as RFC 4648, section 4, has it, with padding. */
#ifndef ND_BASE64_H
#define ND_BASE64_H

#include "nd_text.h"

/* One of the 64 digits. */
static inline int nd_is_base64(uint8_t byte)
{
    return (uint8_t)((byte | 0x20) - 'a') < 26 || (uint8_t)(byte - '/') <= '9' - '/' || byte == '+';
}

/* The first byte from at on that is not one of the 64 digits; end when there is none. */
static inline const uint8_t *nd_base64_end(const uint8_t *at, const uint8_t *end)
{
#ifdef ND_VECTOR
    while (end - at >= ND_VECTOR_BYTES) {
        const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        /* In a range of n: not above n - 1 once its first is taken off, which wraps what is below. */
        const __m128i letter = _mm_sub_epi8(_mm_or_si128(bytes, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
        const __m128i figure = _mm_sub_epi8(bytes, _mm_set1_epi8('/'));
        __m128i good = _mm_cmpeq_epi8(_mm_min_epu8(letter, _mm_set1_epi8(25)), letter);
        good = _mm_or_si128(good, _mm_cmpeq_epi8(_mm_min_epu8(figure, _mm_set1_epi8('9' - '/')), figure));
        good = _mm_or_si128(good, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('+')));
        const uint32_t mask = (uint32_t)_mm_movemask_epi8(good);
        if (mask != 0xffff) return at + __builtin_ctz(~mask);
        at += ND_VECTOR_BYTES;
    }
#endif
    while (at < end && nd_is_base64(*at)) at++;
    return at;
}

/* The padding of a whole text: 0, 1 or 2 signs; -1 when it is not base64.
 *
 *   Cost    O(bytes).
 */
int nd_base64_padding(const uint8_t *text, size_t bytes);

/* Set the bits before the padding, which carry nothing, to zero, as canonical base64 has them.
 * text is a whole text with 1 or 2 signs of padding. */
void nd_base64_tidy(uint8_t *text, size_t bytes, uint32_t padding);

#endif /* ND_BASE64_H */
