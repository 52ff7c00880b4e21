/* nd_reader.h -- the JSON between strings: blanks, keys, values that nobody asked for. */
#ifndef ND_READER_H
#define ND_READER_H

#include "nd_scan.h"
#include "nd_text.h"

#define ND_BLANK_IN_LINE 1u             /* space, tab, CR */
#define ND_BLANK_NEWLINE 2u
#define ND_KEYS_MAX      16u            /* of one object that are compared with each other */

/* What is being read.  Functions take a place in it and return the place behind what they
 * read, or NULL: it is not what they read, or too rare to be read here. */
typedef struct {
    const uint8_t       *end;
    const nd_scan_rules *rules;
    uint32_t             blanks;        /* what is white space here: in lines a newline is none */
} nd_reader;

/* Keys of one object that mean nothing here, and must yet be different. */
typedef struct {
    const uint8_t *at[ND_KEYS_MAX];
    size_t         bytes[ND_KEYS_MAX];
    uint32_t       count;
} nd_keys;

/* Remember a key.  0: it stands there twice, or there are too many, or it is escaped. */
int nd_keys_add(nd_keys *keys, const nd_text *key);

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
