/* nd_notification.c -- a notification from any spelling to the one that is stored. */

#include "nd_notification.h"

#include "nd_base64.h"

#define AGE_DIGITS_MAX   16u            /* of a max-age in a string */
#define NUMBER_BYTES_MAX 20u

/* --- keys ---------------------------------------------------------------------------- */

static nd_member member_of(const nd_text *key)
{
    switch (key->bytes) {
    case 2: return nd_text_equals(key, "ep", 2) ? ND_EP : nd_text_equals(key, "ct", 2) ? ND_CT : ND_UNKNOWN;
    case 3: return nd_text_equals(key, "uid", 3) ? ND_UID : ND_UNKNOWN;
    case 4: return nd_text_equals(key, "path", 4) ? ND_PATH : ND_UNKNOWN;
    case 7:
        return nd_text_equals(key, "payload", 7)   ? ND_PAYLOAD
               : nd_text_equals(key, "max-age", 7) ? ND_MAX_AGE
                                                   : ND_UNKNOWN;
    case 9: return nd_text_equals(key, "timestamp", 9) ? ND_TIMESTAMP : ND_UNKNOWN;
    case 11: return nd_text_equals(key, "original-ep", 11) ? ND_ORIGINAL_EP : ND_UNKNOWN;
    default: return ND_UNKNOWN;
    }
}

/* Read what stands before a value, and learn it; keys that are not known are collected. */
static const uint8_t *key_read(const nd_reader *reader, const uint8_t *at, nd_habit *habit, nd_keys *keys,
                               nd_member *member)
{
    nd_text key;
    const uint8_t *behind = nd_key_read(reader, at, &key);
    if (behind == NULL) return NULL;
    *member = member_of(&key);
    if (*member == ND_UNKNOWN && !nd_keys_add(keys, &key)) return NULL;
    if (habit != NULL) {
        habit->member = *member;
        nd_glue_learn(&habit->glue, at, *member == ND_UNKNOWN ? at : behind);
    }
    return behind;
}

/* --- values -------------------------------------------------------------------------- */

/* A payload that stands there as base64, or a string with escapes: what that is shows when it is written. */
static const uint8_t *payload_read(const nd_reader *reader, const uint8_t *at, nd_notification *event)
{
    nd_text *payload = &event->texts[ND_PAYLOAD];
    const uint8_t *digits_end = nd_base64_end(at, reader->end), *behind = digits_end;
    while (behind < reader->end && *behind == '=' && behind - digits_end < 2) behind++;
    const size_t bytes = (size_t)(behind - at);
    if (behind < reader->end && *behind == '"') {
        if (bytes % 4 != 0) return NULL;
        *payload = (nd_text){.at = at, .raw_bytes = bytes, .bytes = bytes, .chars = bytes, .is_verbatim = 1};
        event->padding = (uint8_t)(behind - digits_end);
        return behind + 1;
    }
    behind = nd_text_read(at, reader->end, payload);
    return behind != NULL && !payload->is_verbatim ? behind : NULL;
}

/* A max-age in a string: 1 to 16 digits. */
static const uint8_t *age_text_read(const nd_reader *reader, const uint8_t *at, uint64_t *out)
{
    nd_text text;
    const uint8_t *behind = nd_text_read(at, reader->end, &text);
    if (behind == NULL || text.bytes == 0 || text.bytes > AGE_DIGITS_MAX) return NULL;
    uint8_t digits[AGE_DIGITS_MAX + ND_VECTOR_BYTES];
    nd_text_write(&text, reader->end, digits);
    uint64_t value = 0;
    for (size_t i = 0; i < text.bytes; i++) {
        if ((uint8_t)(digits[i] - '0') > 9) return NULL;
        value = value * 10 + (uint64_t)(digits[i] - '0');
    }
    *out = value;
    return value > reader->rules->integer_max ? NULL : behind;
}

/* Read a member's value; one that is null is not given. */
static const uint8_t *value_read(const nd_reader *reader, const uint8_t *at, nd_member member,
                                 nd_notification *event, uint32_t *given)
{
    if (member >= ND_UID) return nd_value_skip(reader, at, 3);  /* in message, array and event */
    if (at == reader->end) return NULL;
    if (*at == 'n') return nd_null_read(reader, at);
    *given |= 1u << member;
    if (member == ND_MAX_AGE) {
        return *at == '"' ? age_text_read(reader, at + 1, &event->max_age)
                          : nd_natural_read(reader, at, &event->max_age);
    }
    if (*at != '"') return NULL;
    if (member == ND_PAYLOAD) return payload_read(reader, at + 1, event);
    return nd_text_read(at + 1, reader->end, &event->texts[member]);
}

/* --- the event ----------------------------------------------------------------------- */

/* A name routes or identifies: it is not empty and has no control characters. */
static int is_name(const nd_text *text, uint32_t chars_max)
{
    return text->chars > 0 && text->chars <= chars_max && !text->has_control;
}

/* Fill in what is not given, and see that the rest is within its limits. */
static int complete(const nd_reader *reader, nd_notification *event, uint32_t given)
{
    const nd_scan_rules *rules = reader->rules;
    const nd_text nothing = {.at = reader->end, .is_verbatim = 1};
    const uint32_t required = 1u << ND_EP | 1u << ND_PATH;
    if ((given & required) != required) return 0;
    if (!is_name(&event->texts[ND_EP], rules->ep_chars_max)) return 0;
    if (!is_name(&event->texts[ND_PATH], rules->path_chars_max)) return 0;
    event->has_original_ep = (given >> ND_ORIGINAL_EP & 1) != 0;
    if (event->has_original_ep && !is_name(&event->texts[ND_ORIGINAL_EP], rules->ep_chars_max)) return 0;
    if ((given >> ND_CT & 1) == 0) event->texts[ND_CT] = nothing;
    if (event->texts[ND_CT].chars > rules->ct_chars_max) return 0;
    if ((given >> ND_PAYLOAD & 1) == 0) event->texts[ND_PAYLOAD] = nothing;
    if ((given >> ND_MAX_AGE & 1) == 0) event->max_age = 0;
    event->is_lasting = event->max_age != 0 || (given >> ND_MAX_AGE & 1) == 0;
    return event->texts[ND_PAYLOAD].bytes <= ((size_t)rules->payload_bytes_max + 2) / 3 * 4;
}

const uint8_t *nd_notification_read(const nd_reader *reader, nd_habits *habits, const uint8_t *at,
                                    nd_notification *out)
{
    uint32_t seen = 0, given = 0;
    nd_keys keys;
    keys.count = 0;
    out->padding = 0;
    at = nd_pass(reader, at, '{');
    for (uint32_t number = 0; at != NULL; number++) {           /* a member each turn */
        nd_habit *habit = number < ND_HABITS_MAX ? &habits->members[number] : NULL;
        nd_member member;
        if (habit != NULL && nd_glue_holds(reader, &habit->glue, at)) {
            at += habit->glue.count;
            member = habit->member;
        } else if ((at = key_read(reader, at, habit, &keys, &member)) == NULL) {
            return NULL;
        }
        if (member != ND_UNKNOWN && (seen >> member & 1) != 0) return NULL;
        seen |= 1u << member;
        if ((at = value_read(reader, at, member, out, &given)) == NULL) return NULL;
        at = nd_skip_blanks(reader, at);
        if (at == reader->end) return NULL;
        if (*at == '}') return complete(reader, out, given) ? at + 1 : NULL;
        at = *at == ',' ? at + 1 : NULL;
    }
    return NULL;
}

/* --- writing ------------------------------------------------------------------------- */

#define PUT(out, literal) (memcpy((out), (literal), sizeof(literal) - 1), (out) + sizeof(literal) - 1)

static uint8_t *put_number(uint64_t number, uint8_t *out)
{
    if (number < 10) {
        *out = (uint8_t)('0' + number);
        return out + 1;
    }
    uint8_t digits[NUMBER_BYTES_MAX];
    uint32_t first = NUMBER_BYTES_MAX;
    do {
        digits[--first] = (uint8_t)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    memcpy(out, digits + first, NUMBER_BYTES_MAX - first);
    return out + (NUMBER_BYTES_MAX - first);
}

/* Write the payload, its last bits as they should be; NULL when it is not base64, or too long. */
static uint8_t *put_payload(const nd_reader *reader, const nd_notification *event, uint8_t *out)
{
    const nd_text *payload = &event->texts[ND_PAYLOAD];
    uint8_t *behind = nd_text_write(payload, reader->end, out);
    const int padding = payload->is_verbatim ? event->padding : nd_base64_padding(out, payload->bytes);
    if (padding < 0 || payload->bytes / 4 * 3 - (size_t)padding > reader->rules->payload_bytes_max) return NULL;
    if (padding > 0) nd_base64_tidy(out, payload->bytes, (uint32_t)padding);
    return behind;
}

size_t nd_notification_room(const nd_notification *event)
{
    size_t room = sizeof "{'ep':'','path':'','ct':'','payload':'','max-age':,'original-ep':''}";
    for (uint32_t i = 0; i < ND_ORIGINAL_EP; i++) room += event->texts[i].bytes;
    if (event->has_original_ep) room += event->texts[ND_ORIGINAL_EP].bytes;
    return room + NUMBER_BYTES_MAX + ND_VECTOR_BYTES;
}

uint64_t nd_notification_write(const nd_reader *reader, const nd_notification *event, uint8_t *out)
{
    const nd_text *texts = event->texts;
    const uint8_t *end = reader->end;
    uint8_t *at = PUT(out, "{\"ep\":\""), *ep = at;
    at = nd_text_write(&texts[ND_EP], end, at);
    at = PUT(at, "\",\"path\":\"");
    const uint8_t *path = at;
    at = nd_text_write(&texts[ND_PATH], end, at);
    if (*path != '/') return 0;
    at = PUT(at, "\",\"ct\":\"");
    at = nd_text_write(&texts[ND_CT], end, at);
    at = PUT(at, "\",\"payload\":\"");
    if ((at = put_payload(reader, event, at)) == NULL) return 0;
    at = PUT(at, "\",\"max-age\":");
    at = put_number(event->max_age, at);
    uint8_t *tail = at;
    if (event->has_original_ep) {
        at = PUT(at, ",\"original-ep\":\"");
        const uint8_t *name = at;
        at = nd_text_write(&texts[ND_ORIGINAL_EP], end, at);
        const int is_ep = texts[ND_ORIGINAL_EP].bytes == texts[ND_EP].bytes && memcmp(name, ep, texts[ND_EP].bytes) == 0;
        at = is_ep ? tail : PUT(at, "\"");
    }
    const uint64_t tail_bytes = (uint64_t)(at - tail);
    *at++ = '}';
    return (uint64_t)(at - out) | tail_bytes << 24 | (uint64_t)texts[ND_EP].bytes << 40;
}
