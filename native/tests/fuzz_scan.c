/* fuzz_scan.c -- tries to break: what is taken is canonical and is taken again as it is, a
 * message and a line come to the same, what is odd leaves nothing, and no byte outside of
 * the text is read. */

#include "nd_test.h"

#include "nd_scan.h"

enum { RAW = 0x80 };                    /* an input byte below names a token, one above stands for itself */

static const char *const tokens[] = {
    "{\"notifications\":[", "{", "}", "[", "]", ",", ":", "\"ep\":\"a\"", "\"path\":\"/1\"", "{\"ep\":\"a\",\"path\":\"/1\"",
    "\"payload\":\"MQ==\"", "\"payload\":", "\"ct\":", "\"max-age\":", "\"original-ep\":", "\"uid\":", "\"timestamp\":", "\"x\":",
    "\"ep\":", "\"path\":", "\"notifications\":", "\"message-id\":\"m\"", "0", "60", "\"60\"", "-0", "1.5e3", "1e999",
    "9007199254740992", "9007199254740993", "null", "true", "\"", "\\u00e9", "\\ud83d\\ude00", "\\ud83d", "\\/", "\\\"", "\\n",
    "\\u0065p", "/", "=", "QUJD", "QR==", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xc2\x85", "\xc3", "\xff", "\xed\xa0\x80", "\x7f", "\x01", " ", "\t",
    "\r", "\n", "\"a\"", "\"/1\"", "]}", "}]}", "a", "\"\"", "0123456789abcdef0123456789abcdef",
};

/* What may stand around the tokens, so that they come where they matter. */
static const char *const frames[][2] = {
    {"", ""},
    {"{\"notifications\":[{\"ep\":\"a\",\"path\":\"/1\",", "}]}"},
    {"{\"notifications\":[{\"ep\":\"a\",\"path\":\"/1\",\"ct\":\"", "\"}]}"},
    {"{\"notifications\":[{\"path\":\"/1\",\"ep\":\"", "\"}]}"},
    {"{\"notifications\":[{\"path\":\"/1\",\"ep\":\"a\",\"payload\":\"", "\"}]}"},
    {"{\"notifications\":[{\"path\":\"/1\",\"ep\":\"a\",\"x\":", "}]}"},
};

static const nd_scan_rules rules = {
    .integer_max = 1ull << 53,
    .ep_chars_max = 40,
    .path_chars_max = 20,
    .ct_chars_max = 20,
    .payload_bytes_max = 60,
    .depth_max = 6,
    .containers_max = 60,
    .record_bytes_max = 1 << 20,
};

static const char *token_of(uint8_t byte)
{
    return tokens[byte % (sizeof tokens / sizeof *tokens)];
}

static uint8_t *put(uint8_t *at, const char *text)
{
    memcpy(at, text, strlen(text));
    return at + strlen(text);
}

/* The text that an input stands for, in memory of its own size. */
static uint8_t *text_of(const uint8_t *data, size_t size, size_t *bytes)
{
    const char *const *frame = frames[size > 0 ? data[0] % (sizeof frames / sizeof *frames) : 0];
    *bytes = strlen(frame[0]) + strlen(frame[1]);
    for (size_t i = 1; i < size; i++) *bytes += data[i] < RAW ? strlen(token_of(data[i])) : 1;
    uint8_t *text = malloc(*bytes > 0 ? *bytes : 1), *at = put(text, frame[0]);
    for (size_t i = 1; i < size; i++) {
        if (data[i] < RAW) at = put(at, token_of(data[i]));
        else *at++ = data[i] & 0x7f;
    }
    put(at, frame[1]);
    return text;
}

static nd_staging *open_staging(test_memory *memory)
{
    nd_staging *staging;
    test_memory_begin(memory);
    CHECK_EQUAL(nd_staging_open(&memory->io, &rules, &staging), ND_OK);
    return staging;
}

static void end_staging(test_memory *memory, nd_staging *staging)
{
    nd_staging_close(staging);
    test_memory_end(memory);
}

/* Each record, put into a message again, comes to itself. */
static void is_canonical(const nd_staged *staged)
{
    static const char head[] = "{\"notifications\":[";
    test_memory memory;
    nd_staging *again = open_staging(&memory);
    uint64_t at = 0;
    for (uint64_t i = 0; i < staged->records_count; i++) {
        const uint32_t bytes = nd_meta_body_bytes(staged->meta[i]);
        uint8_t *text = malloc(sizeof head - 1 + bytes + 2);
        memcpy(text, head, sizeof head - 1);
        memcpy(text + sizeof head - 1, staged->block + at, bytes);
        memcpy(text + sizeof head - 1 + bytes, "]}", 2);
        nd_staging_clear(again);
        CHECK_EQUAL(nd_scan_message(again, text, sizeof head - 1 + bytes + 2, 1, 0), ND_OK);
        const nd_staged *found = nd_staging_look(again);
        CHECK(found->block_bytes == bytes && memcmp(found->block, staged->block + at, bytes) == 0);
        CHECK_EQUAL(found->meta[0], staged->meta[i]);
        at += bytes;
        free(text);
    }
    CHECK_EQUAL(at, staged->block_bytes);
    end_staging(&memory, again);
}

static int is_same(const nd_staged *one, const nd_staged *other)
{
    return one->block_bytes == other->block_bytes && one->records_count == other->records_count &&
           one->lasting_count == other->lasting_count &&
           (one->records_count == 0 ||
            (memcmp(one->block, other->block, one->block_bytes) == 0 &&
             memcmp(one->meta, other->meta, one->records_count * sizeof *one->meta) == 0 &&
             memcmp(one->lasting, other->lasting, one->lasting_count * sizeof *one->lasting) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t bytes;
    uint8_t *text = text_of(data, size, &bytes);
    test_memory memory, line_memory;
    nd_staging *whole = open_staging(&memory), *lines = open_staging(&line_memory);

    const nd_status status = nd_scan_message(whole, text, bytes, 50, 0);
    CHECK(status == ND_OK || status == ND_ODD);
    if (status == ND_ODD) CHECK_EQUAL(nd_staging_look(whole)->records_count, 0);
    is_canonical(nd_staging_look(whole));

    const nd_status line_status = nd_scan_lines(lines, text, 0, bytes, 50, 100);
    const nd_staged *staged = nd_staging_look(lines);
    CHECK(line_status == ND_OK || line_status == ND_ODD);
    CHECK(staged->next <= bytes && (staged->next == 0 || staged->next == bytes || text[staged->next - 1] == '\n'));
    is_canonical(staged);
    if (memchr(text, '\n', bytes) == NULL && staged->messages_count == 1) {
        CHECK_EQUAL(status, ND_OK);
        CHECK(is_same(nd_staging_look(whole), staged));
    }
    if (status == ND_OK && memchr(text, '\n', bytes) == NULL) CHECK_EQUAL(line_status, ND_OK);

    end_staging(&memory, whole);
    end_staging(&line_memory, lines);
    free(text);
    return 0;
}
