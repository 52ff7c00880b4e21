/* nd_base64.c -- the ends of base64 texts. */

#include "nd_base64.h"

static const uint8_t digits[65] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int nd_base64_padding(const uint8_t *text, size_t bytes)
{
    const size_t length = (size_t)(nd_base64_end(text, text + bytes) - text);
    const size_t padding = bytes - length;
    if (bytes % 4 != 0 || padding > 2) return -1;
    for (size_t i = length; i < bytes; i++) {
        if (text[i] != '=') return -1;
    }
    return (int)padding;
}

/* What a digit stands for. */
static uint32_t value_of(uint8_t digit)
{
    if (digit >= 'a') return digit - 'a' + 26u;
    if (digit >= 'A') return digit - 'A' + 0u;
    if (digit >= '0') return digit - '0' + 52u;
    return digit == '+' ? 62 : 63;
}

void nd_base64_tidy(uint8_t *text, size_t bytes, uint32_t padding)
{
    uint8_t *last = text + bytes - 1 - padding;
    const uint32_t spare = padding == 1 ? 3 : 15;               /* bits of the last digit that carry nothing */
    *last = digits[value_of(*last) & ~spare];
}
