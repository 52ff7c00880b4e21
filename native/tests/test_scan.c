#include "nd_test.h"

#include "nd_base64.h"
#include "nd_scan.h"

#define EVENT(members) "{\"notifications\":[{" members "}]}"
#define PLAIN(ep) "{\"ep\":\"" ep "\",\"path\":\"/1\",\"ct\":\"\",\"payload\":\"\",\"max-age\":0}"

static const nd_scan_rules rules = {
    .integer_max = 1ull << 53,
    .ep_chars_max = 8,
    .path_chars_max = 12,
    .ct_chars_max = 12,
    .payload_bytes_max = 100,
    .depth_max = 6,
    .containers_max = 40,
    .record_bytes_max = 1 << 20,
};

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

/* Scan a text of its own, so that reading past its end is seen. */
static nd_status scan(nd_staging *staging, const char *text, int is_lines, uint64_t records_max)
{
    const uint64_t bytes = strlen(text);
    uint8_t *copy = malloc(bytes > 0 ? bytes : 1);
    memcpy(copy, text, bytes);
    const nd_status status = is_lines ? nd_scan_lines(staging, copy, 0, bytes, records_max, 1000)
                                      : nd_scan_message(staging, copy, bytes, records_max, 1);
    free(copy);
    return status;
}

static void check_block(const nd_staging *staging, const char *expected)
{
    const nd_staged *staged = nd_staging_look(staging);
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < staged->records_count; i++) bytes += nd_meta_body_bytes(staged->meta[i]);
    CHECK_EQUAL(bytes, staged->block_bytes);
    if (staged->block_bytes != strlen(expected) || memcmp(staged->block, expected, staged->block_bytes) != 0) {
        fprintf(stderr, "got      %.*s\nexpected %s\n", (int)staged->block_bytes, (const char *)staged->block, expected);
        exit(1);
    }
}

/* A message as a whole and as a line comes to these records. */
static void becomes(const char *text, const char *expected)
{
    test_memory memory;
    nd_staging *staging = open_staging(&memory);
    for (int is_lines = 0; is_lines < 2; is_lines++) {
        if (is_lines && strchr(text, '\n') != NULL) continue;
        nd_staging_clear(staging);
        const nd_status status = scan(staging, text, is_lines, 100);
        if (status != ND_OK) fprintf(stderr, "odd: %s\n", text);
        CHECK_EQUAL(status, ND_OK);
        check_block(staging, expected);
        CHECK_EQUAL(nd_staging_look(staging)->next, strlen(text));
    }
    end_staging(&memory, staging);
}

static void is_odd(const char *text)
{
    test_memory memory;
    nd_staging *staging = open_staging(&memory);
    for (int is_lines = 0; is_lines < 2; is_lines++) {
        const nd_status status = scan(staging, text, is_lines, 100);
        if (status != ND_ODD) fprintf(stderr, "not odd: %s\n", text);
        CHECK_EQUAL(status, ND_ODD);
        check_block(staging, "");
        CHECK_EQUAL(nd_staging_look(staging)->messages_count, 0);
    }
    end_staging(&memory, staging);
}

static void any_order_and_spelling_comes_to_one_form(void)
{
    becomes("{}", "");
    becomes(" { } ", "");
    becomes("{\"notifications\":null}", "");
    becomes("{ \"notifications\" : [ ] }\r", "");
    becomes(EVENT("\"ep\":\"a\",\"path\":\"/1\""), PLAIN("a"));
    becomes(EVENT("\"max-age\":0,\"payload\":\"\",\"ct\":\"\",\"path\":\"/1\",\"ep\":\"a\""), PLAIN("a"));
    becomes("{ \"notifications\" :\t[ { \"path\" : \"/1\" , \"ep\"\r: \"a\" } , {\"ep\":\"b\",\"path\":\"/1\"} ] } ",
            PLAIN("a") PLAIN("b"));
    becomes(EVENT("\n\"ep\":\"a\",\n\"path\":\"/1\"\n"), PLAIN("a"));
    becomes(EVENT("\"\\u0065p\":\"\\u0061\",\"pat\\u0068\":\"\\/1\""), PLAIN("a"));
    becomes("{\"\\u006eotifications\":[]}", "");
    becomes(EVENT("\"ep\":\"a\",\"path\":\"/1\",\"ct\":null,\"payload\":null,\"max-age\":null,\"original-ep\":null"),
            PLAIN("a"));
    becomes(EVENT("\"ep\":\"a\",\"path\":\"/1\",\"ct\":\"\\b\\f\\n\\r\\t\\u0000\\u001F\\/\\\"\\\\\x7f\""),
            "{\"ep\":\"a\",\"path\":\"/1\",\"ct\":\"\\b\\f\\n\\r\\t\\u0000\\u001f/\\\"\\\\\x7f\",\"payload\":\"\",\"max-age\":0}");
    becomes(EVENT("\"ep\":\"a\",\"path\":\"/1\",\"max-age\":\"0060\""),
            "{\"ep\":\"a\",\"path\":\"/1\",\"ct\":\"\",\"payload\":\"\",\"max-age\":60}");
    becomes(EVENT("\"ep\":\"a\",\"path\":\"/1\",\"max-age\":9007199254740992"),
            "{\"ep\":\"a\",\"path\":\"/1\",\"ct\":\"\",\"payload\":\"\",\"max-age\":9007199254740992}");
    becomes(EVENT("\"ep\":\"a\",\"path\":\"/1\",\"max-age\":-0"), PLAIN("a"));
    becomes(EVENT("\"ep\":\"\\u00e9\\ud83d\\ude00\",\"path\":\"/1\""), PLAIN("\xc3\xa9\xf0\x9f\x98\x80"));
    becomes(EVENT("\"ep\":\"\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\",\"path\":\"/1\""),
            PLAIN("\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80"));
}

static void what_nobody_asked_for_is_read_strictly_and_dropped(void)
{
    static const char *const taken[] = {
        "1", "-1", "0", "-0", "9007199254740992", "-9007199254740992", "1.5", "-0.0e-10", "1E+22", "true", "false",
        "null", "\"\\ud83d\\ude00\\u0000\"", "[]", "{}", "[1,[2,[3]]]", "{\"a\":{\"b\":1},\"c\":[{}]}", " [ 1 , 2 ] ",
    };
    static const char *const odd[] = {
        "", "01", "1.", ".5", "1e", "+1", "-", "9007199254740993", "-9007199254740993", "11111111111111111", "1e999",
        "1e100", "nul", "truth", "\"\\ud800\"", "\"\\udc00\"", "\"\\udc00\\udc00\"",
        "\"\\ud800\\ud800\"", "\"\\ud800\\u0041\"", "\"\xe0\x9f\xbf\"", "\"\xf0\x8f\xbf\xbf\"", "\"\xf4\x90\x80\x80\"", "\"\\x\"", "\"\\u12g4\"", "\"a",
        "\"\x01\"", "\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf5\x80\x80\x80\"", "\"\xe9\"", "[1,]", "[1 2]",
        "{\"a\":1,\"a\":2}", "{\"a\":1,}", "{\"a\"}", "{1:2}", "[[[[]]]]", "[1,[2,[3,{}]]]", "NaN", "]", "}",
    };
    char text[200];
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        snprintf(text, sizeof text, EVENT("\"ep\":\"a\",\"x\":%s,\"path\":\"/1\""), taken[i]);
        becomes(text, PLAIN("a"));
        snprintf(text, sizeof text, EVENT("\"ep\":\"a\",\"path\":\"/1\",\"timestamp\":%s,\"uid\":%s"), taken[i], taken[i]);
        becomes(text, PLAIN("a"));
    }
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        snprintf(text, sizeof text, EVENT("\"ep\":\"a\",\"x\":%s,\"path\":\"/1\""), odd[i]);
        is_odd(text);
    }
}

static void what_is_wrong_is_odd(void)
{
    static const char *const texts[] = {
        "", "[]", "null", "{", "}", "{}{}", "{},", "\xef\xbb\xbf{}", "{\"notifications\":[}", "{\"notifications\":[],}",
        "{\"notifications\":[{}]}", "{\"notifications\":[null]}", "{\"notifications\":{}}", "{\"notifications\":[]",
        "{\"notifications\":[],\"notifications\":[]}", "{\"registrations\":[]}", "{\"message-id\":null}",
        "{\"message-id\":\"a\",\"message-id\":\"a\"}", "{\"notifications\" []}", "{\"notifications\":nul}",
        EVENT("\"ep\":\"a\""), EVENT("\"path\":\"/1\""), EVENT("\"ep\":null,\"path\":\"/1\""),
        EVENT("\"ep\":\"\",\"path\":\"/1\""), EVENT("\"ep\":\"123456789\",\"path\":\"/1\""),
        EVENT("\"ep\":\"a\",\"path\":\"1\""), EVENT("\"ep\":\"a\",\"path\":\"\""), EVENT("\"ep\":1,\"path\":\"/1\""),
        EVENT("\"ep\":\"a\",\"path\":\"/1\",\"ep\":\"a\""), EVENT("\"ep\":\"a\",\"path\":\"/1\",\"\\u0065p\":\"a\""),
        EVENT("\"ep\":\"a\",\"path\":\"/1\",\"x\":1,\"x\":1"), EVENT("\"ep\":\"a\x7f\",\"path\":\"/1\""),
        EVENT("\"ep\":\"a\\u0085\",\"path\":\"/1\""), EVENT("\"ep\":\"a\",\"path\":\"/\xc2\x9f\""),
        EVENT("\"ep\":\"a\",\"path\":\"/1\",\"original-ep\":\"\\n\""), EVENT("\"ep\":\"a\",\"path\":\"/1\",\"original-ep\":\"\""),
        EVENT("\"ep\":\"a\",\"path\":\"/1\",\"ct\":\"1234567890123\""), EVENT("\"ep\":\"a\",\"path\":\"/1\",\"max-age\":1.0"),
        EVENT("\"ep\":\"a\",\"path\":\"/1\",\"max-age\":-1"), EVENT("\"ep\":\"a\",\"path\":\"/1\",\"max-age\":true"),
        EVENT("\"ep\":\"a\",\"path\":\"/1\",\"max-age\":\"\""), EVENT("\"ep\":\"a\",\"path\":\"/1\",\"max-age\":\"1 \""),
        EVENT("\"ep\":\"a\",\"path\":\"/1\",\"max-age\":\"12345678901234567\""),
        EVENT("\"ep\":\"a\",\"path\":\"/1\",\"max-age\":9007199254740993"), EVENT("\"ep\":\"a\" \"path\":\"/1\""),
        EVENT("\"ep\":\"a\",\"path\":\"/1\"},{\"ep\":\"b\""), EVENT("\"ep\":\"a\",\"path\":\"/1\""  "] [1"),
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (texts[i][0] != 0) is_odd(texts[i]);
    }
    test_memory memory;
    nd_staging *staging = open_staging(&memory);
    CHECK_EQUAL(scan(staging, "", 0, 100), ND_ODD);
    CHECK_EQUAL(scan(staging, "", 1, 100), ND_OK);
    CHECK_EQUAL(scan(staging, "{\"notifications\":\n[]}", 1, 100), ND_ODD);
    end_staging(&memory, staging);
}

static void a_cut_text_is_odd_wherever_it_is_cut(void)
{
    static const char whole[] = EVENT("\"\\u0065p\":\"\\ud83d\\ude00\xe2\x82\xac\",\"path\":\"/1\",\"payload\":\"QUI=\","
                                      "\"max-age\":17,\"x\":{\"y\":[-1.5e3,null]},\"original-ep\":\"b\"");
    char text[sizeof whole];
    for (size_t bytes = 1; bytes < sizeof whole - 1; bytes++) {
        memcpy(text, whole, bytes);
        text[bytes] = 0;
        is_odd(text);
    }
    becomes(whole, "{\"ep\":\"\xf0\x9f\x98\x80\xe2\x82\xac\",\"path\":\"/1\",\"ct\":\"\",\"payload\":\"QUI=\",\"max-age\":17,"
                   "\"original-ep\":\"b\"}");
}

static void a_payload_is_base64_with_nothing_in_its_spare_bits(void)
{
    static const char *const taken[][2] = {
        {"", ""}, {"QUJD", "QUJD"}, {"QQ==", "QQ=="}, {"QR==", "QQ=="}, {"Qf==", "QQ=="}, {"QUI=", "QUI="}, {"QUJ=", "QUI="},
        {"++++", "++++"}, {"//==", "/w=="}, {"\\/\\/==", "/w=="}, {"Q\\u0052==", "QQ=="},
        {"QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQU9=", "QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQU8="},
    };
    static const char *const odd[] = {
        "Q", "QQ", "QQQ", "QQ=", "Q===", "====", "=", "QQ==QQ==", "QQ===", "QUI=A", "Q=Q=", "QQ==\\n", " QQ=", "-_==", "\xc3\xa9==",
        "QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJ!", "QUJDQUJDQUJDQUJD\\\"UJ=", "\\u00e9===",
    };
    char text[300], expected[300];
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        snprintf(text, sizeof text, EVENT("\"ep\":\"a\",\"path\":\"/1\",\"payload\":\"%s\""), taken[i][0]);
        snprintf(expected, sizeof expected, "{\"ep\":\"a\",\"path\":\"/1\",\"ct\":\"\",\"payload\":\"%s\",\"max-age\":0}", taken[i][1]);
        becomes(text, expected);
    }
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        snprintf(text, sizeof text, EVENT("\"ep\":\"a\",\"path\":\"/1\",\"payload\":\"%s\""), odd[i]);
        is_odd(text);
    }
    char payload[137];                          /* 100 bytes are 136 digits, two of them padding */
    memset(payload, 'A', 136);
    payload[136] = 0;
    snprintf(text, sizeof text, EVENT("\"ep\":\"a\",\"path\":\"/1\",\"payload\":\"%s\""), payload);
    is_odd(text);
    payload[135] = payload[134] = '=';
    snprintf(text, sizeof text, EVENT("\"ep\":\"a\",\"path\":\"/1\",\"payload\":\"%s\""), payload);
    snprintf(expected, sizeof expected, "{\"ep\":\"a\",\"path\":\"/1\",\"ct\":\"\",\"payload\":\"%s\",\"max-age\":0}", payload);
    becomes(text, expected);
}

static void meta_and_lasting_say_what_a_record_is(void)
{
    test_memory memory;
    nd_staging *staging = open_staging(&memory);
    CHECK_EQUAL(scan(staging,
                     EVENT("\"ep\":\"a\\\"\",\"path\":\"/1\",\"original-ep\":\"bc\",\"max-age\":0},"
                           "{\"ep\":\"b\",\"path\":\"/1\",\"original-ep\":\"\\u0062\",\"max-age\":\"0\"},"
                           "{\"ep\":\"b\",\"path\":\"/1\"},{\"ep\":\"b\",\"path\":\"/1\",\"max-age\":5"),
                     0, 100),
                ND_OK);
    const nd_staged *staged = nd_staging_look(staging);
    CHECK_EQUAL(staged->records_count, 4);
    CHECK_EQUAL(nd_meta_ep_bytes(staged->meta[0]), 3);
    CHECK_EQUAL(nd_meta_tail_bytes(staged->meta[0]), strlen(",\"original-ep\":\"bc\""));
    CHECK_EQUAL(nd_meta_kind(staged->meta[0]), 0);
    CHECK_EQUAL(nd_meta_tail_bytes(staged->meta[1]), 0);
    CHECK_EQUAL(staged->lasting_count, 2);
    CHECK(staged->lasting[0] == 2 && staged->lasting[1] == 3);
    end_staging(&memory, staging);
}

static void lines_are_taken_up_to_the_first_odd_one(void)
{
    static const char text[] = "\n \t\r\n" EVENT("\"ep\":\"a\",\"path\":\"/1\"") "\r\n{}\n{\"registrations\":[]}\n{}";
    test_memory memory;
    nd_staging *staging = open_staging(&memory);
    CHECK_EQUAL(scan(staging, text, 1, 100), ND_ODD);
    const nd_staged *staged = nd_staging_look(staging);
    check_block(staging, PLAIN("a"));
    CHECK_EQUAL(staged->lines_count, 4);
    CHECK_EQUAL(staged->messages_count, 2);
    CHECK(text[staged->next] == '{' && text[staged->next + 2] == 'r');
    CHECK_EQUAL(nd_scan_lines(staging, (const uint8_t *)text, strlen(text) - 2, strlen(text), 100, 10), ND_OK);
    CHECK_EQUAL(staged->next, strlen(text));
    CHECK_EQUAL(nd_scan_lines(staging, (const uint8_t *)text, 0, strlen(text), 100, 2), ND_OK);
    CHECK_EQUAL(staged->lines_count, 2);
    check_block(staging, PLAIN("a"));
    end_staging(&memory, staging);
}

static void white_space_of_one_text_is_not_taken_for_that_of_the_next(void)
{
    static const char message[] = EVENT("\n\"ep\":\"a\",\n\"path\":\"/1\",\"x\":\"0123456789012345678901234567\"");
    test_memory memory;
    nd_staging *staging = open_staging(&memory);
    CHECK_EQUAL(scan(staging, message, 0, 100), ND_OK);
    CHECK_EQUAL(scan(staging, message, 1, 100), ND_ODD);
    check_block(staging, PLAIN("a"));
    end_staging(&memory, staging);
}

static void a_habit_does_not_hide_a_key_that_stands_twice(void)
{
    test_memory memory;
    nd_staging *staging = open_staging(&memory);
    CHECK_EQUAL(scan(staging,
                     EVENT("\"ep\":\"a\",\"path\":\"/1\",\"ct\":\"abcdefgh\"},{\"path\":\"/1\",\"path\":\"/1\",\"ep\":\"a\","
                           "\"x\":\"0123456789012345678901234567\""),
                     0, 100),
                ND_ODD);
    end_staging(&memory, staging);
}

static void a_message_that_is_odd_at_its_end_leaves_nothing(void)
{
    test_memory memory;
    nd_staging *staging = open_staging(&memory);
    CHECK_EQUAL(scan(staging, EVENT("\"ep\":\"a\",\"path\":\"/1\""), 0, 1), ND_OK);
    CHECK_EQUAL(scan(staging, EVENT("\"ep\":\"b\",\"path\":\"/1\"},{\"ep\":\"c\",\"path\":\"1\""), 0, 100), ND_ODD);
    CHECK_EQUAL(scan(staging, EVENT("\"ep\":\"b\",\"path\":\"/1\"") "x", 0, 100), ND_ODD);
    CHECK_EQUAL(scan(staging, EVENT("\"ep\":\"b\",\"path\":\"/1\""), 0, 1), ND_ODD);
    check_block(staging, PLAIN("a"));
    CHECK_EQUAL(nd_staging_look(staging)->lasting_count, 1);
    CHECK_EQUAL(scan(staging, EVENT("\"ep\":\"b\",\"path\":\"/1\""), 0, 2), ND_OK);
    check_block(staging, PLAIN("a") PLAIN("b"));
    end_staging(&memory, staging);
}

static void brackets_in_strings_count_as_containers(void)
{
    is_odd(EVENT("\"ep\":\"a\",\"path\":\"/1\",\"x\":\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\""));
    becomes(EVENT("\"ep\":\"a\",\"path\":\"/1\",\"x\":\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\""), PLAIN("a"));
}

static void a_name_is_left_to_the_caller(void)
{
    static const char text[] = "{\"message-id\" : \"m\\n\" , \"notifications\":[]}";
    test_memory memory;
    nd_staging *staging = open_staging(&memory);
    CHECK_EQUAL(scan(staging, text, 0, 100), ND_OK);
    const nd_staged *staged = nd_staging_look(staging);
    CHECK_EQUAL(staged->name_bytes, 5);
    CHECK(memcmp(text + staged->name_at, "\"m\\n\"", 5) == 0);
    CHECK_EQUAL(scan(staging, text, 1, 100), ND_ODD);
    CHECK_EQUAL(staged->name_bytes, 0);
    CHECK_EQUAL(scan(staging, "{}", 0, 100), ND_OK);
    CHECK_EQUAL(staged->name_bytes, 0);
    end_staging(&memory, staging);
}

static void records_made_elsewhere_stand_among_the_others(void)
{
    test_memory memory;
    nd_staging *staging = open_staging(&memory);
    CHECK_EQUAL(nd_staging_add(staging, (const uint8_t *)"{}", 2, 2 | 1ull << 56, 0), ND_OK);
    CHECK_EQUAL(scan(staging, EVENT("\"ep\":\"a\",\"path\":\"/1\""), 0, 100), ND_OK);
    CHECK_EQUAL(nd_staging_add(staging, (const uint8_t *)"{}", 2, 2, 1), ND_OK);
    CHECK_EQUAL(nd_staging_add(staging, (const uint8_t *)"{}", 2, 3, 1), ND_ERR_ARGUMENT);
    check_block(staging, "{}" PLAIN("a") "{}");
    const nd_staged *staged = nd_staging_look(staging);
    CHECK_EQUAL(nd_meta_kind(staged->meta[0]), 1);
    CHECK(staged->lasting_count == 2 && staged->lasting[0] == 1 && staged->lasting[1] == 2);
    nd_staging_clear(staging);
    check_block(staging, "");
    end_staging(&memory, staging);
}

/* The block has room for the text at first; blanks move its end past that of the records. */
static void records_fit_the_block_whatever_room_there_is(void)
{
    nd_scan_rules wide = rules;
    wide.containers_max = 1000;
    for (int blanks = 0; blanks < 2500; blanks++) {
        test_memory memory;
        nd_staging *staging;
        test_memory_begin(&memory);
        CHECK_EQUAL(nd_staging_open(&memory.io, &wide, &staging), ND_OK);
        char text[8192];
        int bytes = snprintf(text, sizeof text, "%*s{\"notifications\":[", blanks, "");
        for (int i = 0; i < 100; i++) {
            bytes += snprintf(text + bytes, sizeof text - (size_t)bytes, "{\"path\":\"/1\",\"ep\":\"a\",\"original-ep\":\"%d\"},", i);
        }
        snprintf(text + bytes - 1, sizeof text - (size_t)bytes + 1, "]}");
        CHECK_EQUAL(scan(staging, text, 0, 1000), ND_OK);
        CHECK_EQUAL(nd_staging_look(staging)->records_count, 100);
        end_staging(&memory, staging);
    }
}

static void without_memory_nothing_of_the_message_is_kept(void)
{
    char text[20000];
    int bytes = snprintf(text, sizeof text, "{\"notifications\":[");
    for (int i = 0; i < 200; i++) bytes += snprintf(text + bytes, sizeof text - (size_t)bytes, "{\"path\":\"/1\",\"ep\":\"%d\"},", i);
    snprintf(text + bytes - 1, sizeof text - (size_t)bytes + 1, "]}");
    uint64_t failures = 0;
    nd_scan_rules wide = rules;
    wide.containers_max = 1000;
    for (uint64_t fail_at = 2;; fail_at++) {                    /* until nothing fails; the first request is the staging's own */
        test_memory memory;
        nd_staging *staging;
        test_memory_begin(&memory);
        CHECK_EQUAL(nd_staging_open(&memory.io, &wide, &staging), ND_OK);
        memory.fail_at = fail_at;
        const nd_status status = scan(staging, text, 0, 1000);
        const int is_last = memory.requests < fail_at;
        CHECK_EQUAL(status, is_last ? ND_OK : ND_ERR_FULL);
        CHECK_EQUAL(nd_staging_look(staging)->records_count, is_last ? 200 : 0);
        end_staging(&memory, staging);
        if (is_last) break;
        failures++;
    }
    CHECK(failures > 4);
    test_memory memory;
    nd_staging *staging;
    test_memory_begin(&memory);
    memory.fail_at = 1;
    CHECK_EQUAL(nd_staging_open(&memory.io, &rules, &staging), ND_ERR_FULL);
    wide.ep_chars_max = 1 << 14;
    CHECK_EQUAL(nd_staging_open(&memory.io, &wide, &staging), ND_ERR_ARGUMENT);
    test_memory_end(&memory);
}

static void looking_for_the_odd_byte_is_the_same_at_any_place(void)
{
    for (size_t length = 0; length < 70; length++) {
        uint8_t *bytes = malloc(length > 0 ? length : 1);
        for (size_t at = 0; at < length; at++) {
            for (uint32_t value = 0; value < 256; value++) {
                memset(bytes, 'A', length);
                bytes[at] = (uint8_t)value;
                const int is_plain = value >= ' ' && value < 0x7f && value != '"' && value != '\\';
                const int is_digit = value != 0 && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
                                                          (int)value) != NULL;
                CHECK(nd_plain_end(bytes, bytes + length) == bytes + (is_plain ? length : at));
                CHECK(nd_base64_end(bytes, bytes + length) == bytes + (is_digit ? length : at));
            }
        }
        free(bytes);
    }
}

int main(void)
{
    RUN(any_order_and_spelling_comes_to_one_form);
    RUN(what_nobody_asked_for_is_read_strictly_and_dropped);
    RUN(what_is_wrong_is_odd);
    RUN(a_cut_text_is_odd_wherever_it_is_cut);
    RUN(a_payload_is_base64_with_nothing_in_its_spare_bits);
    RUN(meta_and_lasting_say_what_a_record_is);
    RUN(lines_are_taken_up_to_the_first_odd_one);
    RUN(white_space_of_one_text_is_not_taken_for_that_of_the_next);
    RUN(a_habit_does_not_hide_a_key_that_stands_twice);
    RUN(a_message_that_is_odd_at_its_end_leaves_nothing);
    RUN(brackets_in_strings_count_as_containers);
    RUN(a_name_is_left_to_the_caller);
    RUN(records_made_elsewhere_stand_among_the_others);
    RUN(records_fit_the_block_whatever_room_there_is);
    RUN(without_memory_nothing_of_the_message_is_kept);
    RUN(looking_for_the_odd_byte_is_the_same_at_any_place);
    return 0;
}
