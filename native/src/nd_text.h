/* nd_text.h -- JSON strings: where they end, what is in them, and how they are written plainly.
 *
 * Nearly all are printable ASCII without a backslash, which is found out sixteen bytes at
 * a time.  All else is *odd* and read character by character: escapes, UTF-8, DEL.
 */
#ifndef ND_TEXT_H
#define ND_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__) && !defined(ND_PORTABLE)
#define ND_VECTOR 1
#include <emmintrin.h>
#endif

#define ND_VECTOR_BYTES 16

/* A string that was read.  Canonical is how dispatcher/wire/canonical.py writes it; it is
 * never longer than any other spelling. */
typedef struct {
    const uint8_t *at;                  /* behind the opening quotation mark */
    size_t         raw_bytes;           /* as it stands, up to the closing one */
    size_t         bytes;               /* in canonical form */
    size_t         chars;               /* code points */
    uint8_t        is_verbatim;         /* it stands there in canonical form */
    uint8_t        has_control;         /* C0, DEL or C1 */
} nd_text;

/* The bytes that stand for themselves in every string: printable ASCII but '"' and '\\'. */
extern const uint8_t nd_is_plain[256];

/* The first byte from at on that is not plain; end when there is none. */
static inline const uint8_t *nd_plain_end(const uint8_t *at, const uint8_t *end)
{
#ifdef ND_VECTOR
    while (end - at >= ND_VECTOR_BYTES) {
        const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        /* Signed, so that what begins or continues UTF-8 is below the space as well. */
        __m128i odd = _mm_cmplt_epi8(bytes, _mm_set1_epi8(' '));
        odd = _mm_or_si128(odd, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')));
        odd = _mm_or_si128(odd, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
        odd = _mm_or_si128(odd, _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f)));
        const uint32_t mask = (uint32_t)_mm_movemask_epi8(odd);
        if (mask != 0) return at + __builtin_ctz(mask);
        at += ND_VECTOR_BYTES;
    }
#endif
    while (at < end && nd_is_plain[*at]) at++;
    return at;
}

/* The rest of nd_text_read for a string in which not all is plain; plain_end is what is not. */
const uint8_t *nd_text_read_odd(const uint8_t *at, const uint8_t *plain_end, const uint8_t *end, nd_text *out);

/* Read the string that begins at at, behind its quotation mark.
 *
 *   Cost    O(its bytes).
 *   Returns what is behind the closing mark; NULL unless it is strict JSON, strict UTF-8
 *           and without half surrogate pairs.
 */
static inline const uint8_t *nd_text_read(const uint8_t *at, const uint8_t *end, nd_text *out)
{
    const uint8_t *plain_end = nd_plain_end(at, end);
    if (plain_end == end || *plain_end != '"') return nd_text_read_odd(at, plain_end, end, out);
    const size_t bytes = (size_t)(plain_end - at);
    *out = (nd_text){.at = at, .raw_bytes = bytes, .bytes = bytes, .chars = bytes, .is_verbatim = 1};
    return plain_end + 1;
}

/* Write a string in canonical form, without quotation marks: out has room for text->bytes
 * and ND_VECTOR_BYTES more, which may be written over.
 *
 *   Owns    what the string was read from is there still; it ends at end.
 *   Returns what is behind it in out.
 */
uint8_t *nd_text_write_odd(const nd_text *text, uint8_t *out);

static inline uint8_t *nd_text_write(const nd_text *text, const uint8_t *end, uint8_t *out)
{
    if (!text->is_verbatim) return nd_text_write_odd(text, out);
    const uint8_t *from = text->at;
    const size_t bytes = text->bytes;
    if (bytes > 128 || (size_t)(end - from) < bytes + ND_VECTOR_BYTES) {
        memcpy(out, from, bytes);
        return out + bytes;
    }
    /* A call costs more than copying so little; both sides have what is copied too much. */
    for (size_t i = 0; i < bytes; i += ND_VECTOR_BYTES) memcpy(out + i, from + i, ND_VECTOR_BYTES);
    return out + bytes;
}

/* Whether two strings have the same characters, however they are spelt; literal is plain. */
int nd_text_equals(const nd_text *text, const char *literal, size_t bytes);

#endif /* ND_TEXT_H */
