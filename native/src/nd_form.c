/* nd_form.c -- how long a record is in a message. */

#include "nd_form.h"

#define HEAD(text) {(text), ND_LITERAL_BYTES(text)}

static const nd_array_head array_heads[ND_KINDS] = {
    HEAD("\"notifications\":["),
    HEAD("\"registrations\":["),
    HEAD("\"reg-updates\":["),
    HEAD("\"de-registrations\":["),
    HEAD("\"registrations-expired\":["),
    HEAD("\"async-responses\":["),
};

nd_array_head nd_array_head_of(uint8_t kind)
{
    return array_heads[kind];
}

uint32_t nd_decimal_bytes(uint64_t value)
{
    uint32_t digits = 1;
    while (value >= 10) {                                       /* at most 19 turns */
        value /= 10;
        digits++;
    }
    return digits;
}

int nd_header_is_possible(const nd_record *record)
{
    if (record->kind >= ND_KINDS) return 0;
    if (record->kind == ND_KIND_ASYNC) return 1;
    return record->body_bytes >= ND_LITERAL_BYTES(ND_BODY_HEAD) + 2u + record->ep_bytes + (uint64_t)record->tail_bytes;
}
