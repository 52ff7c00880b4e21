/* nd_reader.c -- JSON as strict_json.py has it, without making anything of it. */

#include "nd_reader.h"

#define DIGITS_MAX        16            /* of an integer within 2^53 */
#define FLOAT_DIGITS_MAX 100            /* before the point; with an exponent of two digits far below 1e308 */

int nd_keys_add(nd_keys *keys, const nd_text *key)
{
    if (!key->is_verbatim || keys->count == ND_KEYS_MAX) return 0;
    for (uint32_t i = 0; i < keys->count; i++) {
        if (keys->bytes[i] == key->bytes && memcmp(keys->at[i], key->at, key->bytes) == 0) return 0;
    }
    keys->at[keys->count] = key->at;
    keys->bytes[keys->count] = key->bytes;
    keys->count++;
    return 1;
}

const uint8_t *nd_key_read(const nd_reader *reader, const uint8_t *at, nd_text *key)
{
    if ((at = nd_pass(reader, at, '"')) == NULL) return NULL;
    if ((at = nd_text_read(at, reader->end, key)) == NULL) return NULL;
    if ((at = nd_pass(reader, at, ':')) == NULL) return NULL;
    return nd_skip_blanks(reader, at);
}

static int is_digit(const nd_reader *reader, const uint8_t *at)
{
    return at < reader->end && (uint8_t)(*at - '0') < 10;
}

static const uint8_t *skip_digits(const nd_reader *reader, const uint8_t *at)
{
    while (is_digit(reader, at)) at++;
    return at;
}

/* The digits of an integer: at least one, and no zero before another. */
static const uint8_t *skip_integer(const nd_reader *reader, const uint8_t *at)
{
    if (!is_digit(reader, at)) return NULL;
    return *at == '0' ? at + 1 : skip_digits(reader, at);
}

static int is_fraction_or_exponent(const nd_reader *reader, const uint8_t *at)
{
    return at < reader->end && (*at == '.' || *at == 'e' || *at == 'E');
}

/* The number in up to DIGITS_MAX digits. */
static uint64_t value_of(const uint8_t *at, const uint8_t *end)
{
    uint64_t value = 0;
    for (; at < end; at++) value = value * 10 + (uint64_t)(*at - '0');
    return value;
}

const uint8_t *nd_natural_read(const nd_reader *reader, const uint8_t *at, uint64_t *out)
{
    const int is_negative = at < reader->end && *at == '-';
    const uint8_t *first = at + is_negative, *behind = skip_integer(reader, first);
    if (behind == NULL || behind - first > DIGITS_MAX || is_fraction_or_exponent(reader, behind)) return NULL;
    *out = value_of(first, behind);
    return *out > reader->rules->integer_max || (is_negative && *out != 0) ? NULL : behind;
}

static const uint8_t *number_skip(const nd_reader *reader, const uint8_t *at)
{
    const uint8_t *first = at + (*at == '-'), *behind = skip_integer(reader, first);
    if (behind == NULL) return NULL;
    if (!is_fraction_or_exponent(reader, behind)) {
        const int is_within = behind - first <= DIGITS_MAX && value_of(first, behind) <= reader->rules->integer_max;
        return is_within ? behind : NULL;
    }
    if (behind - first > FLOAT_DIGITS_MAX) return NULL;
    if (*behind == '.') {
        first = behind + 1;
        behind = skip_digits(reader, first);
        if (behind == first) return NULL;
    }
    if (behind == reader->end || (*behind | 0x20) != 'e') return behind;
    first = behind + 1;
    if (first < reader->end && (*first == '+' || *first == '-')) first++;
    behind = skip_digits(reader, first);
    return behind - first == 1 || behind - first == 2 ? behind : NULL;
}

static const uint8_t *word_skip(const nd_reader *reader, const uint8_t *at, const char *word, size_t bytes)
{
    return (size_t)(reader->end - at) >= bytes && memcmp(at, word, bytes) == 0 ? at + bytes : NULL;
}

const uint8_t *nd_null_read(const nd_reader *reader, const uint8_t *at)
{
    return word_skip(reader, at, "null", 4);
}

/* The members of an object or the items of an array, behind its bracket. */
static const uint8_t *container_skip(const nd_reader *reader, const uint8_t *at, uint32_t depth, int is_object)
{
    const uint8_t closing = is_object ? '}' : ']';
    const uint8_t *behind = nd_pass(reader, at, closing);
    if (behind != NULL) return behind;
    nd_keys keys = {.count = 0};
    do {                                                        /* a member or item each turn */
        nd_text key;
        at = is_object ? nd_key_read(reader, at, &key) : nd_skip_blanks(reader, at);
        if (at == NULL || (is_object && !nd_keys_add(&keys, &key))) return NULL;
        if ((at = nd_value_skip(reader, at, depth)) == NULL) return NULL;
        behind = nd_pass(reader, at, ',');
        at = behind == NULL ? at : behind;
    } while (behind != NULL);
    return nd_pass(reader, at, closing);
}

const uint8_t *nd_value_skip(const nd_reader *reader, const uint8_t *at, uint32_t depth)
{
    if (at == reader->end) return NULL;
    nd_text text;
    switch (*at) {
    case '"': return nd_text_read(at + 1, reader->end, &text);
    case '{': return depth < reader->rules->depth_max ? container_skip(reader, at + 1, depth + 1, 1) : NULL;
    case '[': return depth < reader->rules->depth_max ? container_skip(reader, at + 1, depth + 1, 0) : NULL;
    case 't': return word_skip(reader, at, "true", 4);
    case 'f': return word_skip(reader, at, "false", 5);
    case 'n': return nd_null_read(reader, at);
    default: return number_skip(reader, at);
    }
}
