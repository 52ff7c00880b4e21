/* nd_reader.h -- the JSON between strings: blanks, keys, values that nobody asked for. */
#ifndef ND_READER_H
#define ND_READER_H

#include "nd_scan.h"
#include "nd_text.h"

#define ND_BLANK_IN_LINE 1u             /* space, tab, CR */
#define ND_BLANK_NEWLINE 2u
#define ND_KEYS_MAX      16u            /* of one object that are compared with each other */
#define ND_GLUE_BYTES_MAX 32

/* What is being read.  Functions take a place in it and return the place behind what they
 * read, or NULL: it is not what they read, or too rare to be read here. */
typedef struct {
    const uint8_t       *end;
    const nd_scan_rules *rules;
    uint32_t             blanks;        /* what is white space here: in lines a newline is none */
} nd_reader;

/* What stands between two values, keys and blanks and brackets.  Where it stands again, one
 * comparison takes the place of reading it. */
typedef struct {
    uint8_t  bytes[ND_GLUE_BYTES_MAX];
    uint32_t count;                     /* 0: nothing to compare with */
} nd_glue;

/* Keys of one object that mean nothing here, and must yet be different. */
typedef struct {
    const uint8_t *at[ND_KEYS_MAX];
    size_t         bytes[ND_KEYS_MAX];
    uint32_t       count;
} nd_keys;

/* Remember a key.  0: it stands there twice, or there are too many, or it is escaped. */
int nd_keys_add(nd_keys *keys, const nd_text *key);

/* Remember what stands from one place to another, if it is short enough. */
static inline void nd_glue_learn(nd_glue *glue, const uint8_t *from, const uint8_t *upto)
{
    const size_t count = (size_t)(upto - from);
    glue->count = count <= ND_GLUE_BYTES_MAX ? (uint32_t)count : 0;
    memcpy(glue->bytes, from, glue->count);
}

/* Whether it stands here again.  Near the end of the text it is not looked for. */
static inline int nd_glue_holds(const nd_reader *reader, const nd_glue *glue, const uint8_t *at)
{
    if (reader->end - at < ND_GLUE_BYTES_MAX) return 0;
#ifdef ND_VECTOR
    const __m128i *found = (const __m128i *)(const void *)at, *wanted = (const __m128i *)(const void *)glue->bytes;
    const __m128i first = _mm_cmpeq_epi8(_mm_loadu_si128(found), _mm_loadu_si128(wanted));
    const __m128i second = _mm_cmpeq_epi8(_mm_loadu_si128(found + 1), _mm_loadu_si128(wanted + 1));
    const uint64_t equal = (uint32_t)_mm_movemask_epi8(first) | (uint64_t)_mm_movemask_epi8(second) << 16;
    const uint64_t all = (1ull << glue->count) - 1;
    return glue->count != 0 && (equal & all) == all;
#else
    return glue->count != 0 && memcmp(at, glue->bytes, glue->count) == 0;
#endif
}

static inline uint32_t nd_blank_of(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' ? ND_BLANK_IN_LINE : byte == '\n' ? ND_BLANK_NEWLINE : 0;
}

/* Pass over white space; the end may be where this stops. */
static inline const uint8_t *nd_skip_blanks(const nd_reader *reader, const uint8_t *at)
{
    while (at < reader->end && (nd_blank_of(*at) & reader->blanks) != 0) at++;
    return at;
}

/* Pass over white space and one byte that must follow; NULL when another does. */
static inline const uint8_t *nd_pass(const nd_reader *reader, const uint8_t *at, uint8_t byte)
{
    at = nd_skip_blanks(reader, at);
    return at < reader->end && *at == byte ? at + 1 : NULL;
}

/* Read `"key" :` with the white space around it, up to the value. */
const uint8_t *nd_key_read(const nd_reader *reader, const uint8_t *at, nd_text *key);

/* Read a number without fraction or exponent from 0 to the largest; -0 is 0. */
const uint8_t *nd_natural_read(const nd_reader *reader, const uint8_t *at, uint64_t *out);

/* `null`, or NULL. */
const uint8_t *nd_null_read(const nd_reader *reader, const uint8_t *at);

/* Pass over any value, as strict as if it were wanted; depth is how many containers it stands in.
 *
 *   Cost    O(its bytes); goes down as deep as rules->depth_max allows.
 */
const uint8_t *nd_value_skip(const nd_reader *reader, const uint8_t *at, uint32_t depth);

#endif /* ND_READER_H */
