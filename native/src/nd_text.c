/* nd_text.c -- strings that are not plain: one character after the other. */

#include "nd_text.h"

#define NO_CHAR UINT32_MAX
#define NAME_BYTES_MAX 16u

#define ROW_0  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
#define ROW_1  1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1

const uint8_t nd_is_plain[256] = {
    ROW_0, ROW_0,
    1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,         /* '"' */
    ROW_1, ROW_1,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1,         /* '\\' */
    ROW_1,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0,         /* DEL */
    ROW_0, ROW_0, ROW_0, ROW_0, ROW_0, ROW_0, ROW_0, ROW_0,
};

static int32_t hex_value(uint8_t digit)
{
    if (digit >= '0' && digit <= '9') return digit - '0';
    digit |= 0x20;
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* The number in four hex digits, or NO_CHAR. */
static uint32_t read_hex4(const uint8_t *at, const uint8_t *end)
{
    if (end - at < 4) return NO_CHAR;
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        const int32_t digit = hex_value(at[i]);
        if (digit < 0) return NO_CHAR;
        value = value << 4 | (uint32_t)digit;
    }
    return value;
}

/* \uXXXX from the first X on, and the other half of the pair when it is half of one. */
static const uint8_t *read_u_escape(const uint8_t *at, const uint8_t *end, uint32_t *out)
{
    const uint32_t first = read_hex4(at, end);
    if (first == NO_CHAR || (first >= 0xdc00 && first < 0xe000)) return NULL;
    *out = first;
    at += 4;
    if (first < 0xd800 || first >= 0xe000) return at;
    if (end - at < 6 || at[0] != '\\' || at[1] != 'u') return NULL;
    const uint32_t second = read_hex4(at + 2, end);
    if (second < 0xdc00 || second >= 0xe000) return NULL;       /* NO_CHAR too */
    *out = 0x10000 + ((first - 0xd800) << 10 | (second - 0xdc00));
    return at + 6;
}

static const uint8_t *read_escape(const uint8_t *at, const uint8_t *end, uint32_t *out)
{
    if (end - at < 2) return NULL;
    switch (at[1]) {
    case '"': case '\\': case '/': *out = at[1]; break;
    case 'b': *out = '\b'; break;
    case 'f': *out = '\f'; break;
    case 'n': *out = '\n'; break;
    case 'r': *out = '\r'; break;
    case 't': *out = '\t'; break;
    case 'u': return read_u_escape(at + 2, end, out);
    default: return NULL;
    }
    return at + 2;
}

/* A character of two to four bytes, in its shortest form and no surrogate. */
static const uint8_t *read_utf8(const uint8_t *at, const uint8_t *end, uint32_t *out)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    const uint8_t first = at[0];
    const int count = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    if (count == 0 || end - at < count) return NULL;
    uint32_t value = first & (0x7fu >> count);
    for (int i = 1; i < count; i++) {
        if ((at[i] & 0xc0) != 0x80) return NULL;
        value = value << 6 | (at[i] & 0x3fu);
    }
    if (value < least[count] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return NULL;
    *out = value;
    return at + count;
}

/* One character that is not plain, or NULL: it is none. */
static const uint8_t *read_char(const uint8_t *at, const uint8_t *end, uint32_t *out)
{
    if (*at == '\\') return read_escape(at, end, out);
    if (*at >= 0x80) return read_utf8(at, end, out);
    *out = *at;
    return *at == 0x7f ? at + 1 : NULL;
}

/* The letter of a short escape, 0 when there is none. */
static uint8_t short_escape(uint32_t character)
{
    switch (character) {
    case '"': case '\\': return (uint8_t)character;
    case '\b': return 'b';
    case '\f': return 'f';
    case '\n': return 'n';
    case '\r': return 'r';
    case '\t': return 't';
    default: return 0;
    }
}

static size_t canonical_bytes(uint32_t character)
{
    if (short_escape(character) != 0) return 2;
    if (character < 0x20) return 6;
    return character < 0x80 ? 1 : character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
}

static uint8_t *write_char(uint32_t character, uint8_t *out)
{
    const uint8_t letter = short_escape(character);
    if (letter != 0) {
        out[0] = '\\';
        out[1] = letter;
        return out + 2;
    }
    if (character < 0x20) {
        memcpy(out, "\\u00", 4);
        out[4] = (uint8_t)('0' + (character >> 4));
        out[5] = (uint8_t)"0123456789abcdef"[character & 0xf];
        return out + 6;
    }
    if (character < 0x80) {
        out[0] = (uint8_t)character;
        return out + 1;
    }
    const size_t bytes = canonical_bytes(character);
    for (size_t i = bytes - 1; i > 0; i--) {
        out[i] = (uint8_t)(0x80 | (character & 0x3f));
        character >>= 6;
    }
    out[0] = (uint8_t)((0xf00u >> bytes & 0xffu) | character);
    return out + bytes;
}

const uint8_t *nd_text_read_odd(const uint8_t *at, const uint8_t *plain_end, const uint8_t *end, nd_text *out)
{
    nd_text text = {.at = at, .is_verbatim = 1};
    const uint8_t *run = at;
    for (;;) {                                                  /* a character each turn, so at most end - at */
        text.bytes += (size_t)(plain_end - run);
        text.chars += (size_t)(plain_end - run);
        if (plain_end == end) return NULL;
        if (*plain_end == '"') break;
        uint32_t character;
        run = read_char(plain_end, end, &character);
        if (run == NULL) return NULL;
        if (*plain_end == '\\') text.is_verbatim = 0;
        if (character < 0x20 || (character >= 0x7f && character < 0xa0)) text.has_control = 1;
        text.bytes += canonical_bytes(character);
        text.chars++;
        plain_end = nd_plain_end(run, end);
    }
    text.raw_bytes = (size_t)(plain_end - at);
    *out = text;
    return plain_end + 1;
}

uint8_t *nd_text_write_odd(const nd_text *text, uint8_t *out)
{
    const uint8_t *at = text->at, *end = text->at + text->raw_bytes;
    while (at < end) {
        const uint8_t *run = nd_plain_end(at, end);
        memcpy(out, at, (size_t)(run - at));
        out += run - at;
        at = run;
        if (at == end) break;
        uint32_t character = 0;
        at = read_char(at, end, &character);                    /* was read before: it is a character */
        out = write_char(character, out);
    }
    return out;
}

int nd_text_equals(const nd_text *text, const char *literal, size_t bytes)
{
    if (text->bytes != bytes) return 0;
    if (text->is_verbatim) return memcmp(text->at, literal, bytes) == 0;
    uint8_t plain[NAME_BYTES_MAX];
    if (bytes > sizeof plain) return 0;
    nd_text_write_odd(text, plain);
    return memcmp(plain, literal, bytes) == 0;
}
