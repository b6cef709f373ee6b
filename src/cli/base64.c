#include "base64.h"

#include <stdint.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode_group(const unsigned char *bytes, size_t size, char digits[BASE64_GROUP_DIGITS])
{
    uint32_t group = 0;

    for (size_t i = 0; i < BASE64_GROUP_BYTES; i++)
        group = group << 8 | (i < size ? bytes[i] : 0);
    for (size_t i = 0; i < BASE64_GROUP_DIGITS; i++)
        digits[i] = i <= size ? alphabet[group >> (18 - 6 * i) & 63] : '=';
}

/* Decodes four digits, the last `padding` of which are '='. */
static bool decode_group(const char *digits, size_t padding, unsigned char *bytes)
{
    uint32_t group = 0;

    for (size_t i = 0; i < BASE64_GROUP_DIGITS; i++) {
        const char *place = memchr(alphabet, digits[i], sizeof alphabet - 1);
        if (!place && i < BASE64_GROUP_DIGITS - padding)
            return false;
        group = group << 6 | (place ? (uint32_t)(place - alphabet) : 0);
    }
    for (size_t i = 0; i < BASE64_GROUP_BYTES - padding; i++)
        bytes[i] = (unsigned char)(group >> (16 - 8 * i));
    return true;
}

bool base64_decode(const char *text, size_t size, unsigned char *bytes, size_t *length)
{
    if (size % BASE64_GROUP_DIGITS != 0)
        return false;
    size_t padding = 0;
    while (padding < 2 && padding < size && text[size - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < size; i += BASE64_GROUP_DIGITS) {
        size_t left_out = i + BASE64_GROUP_DIGITS == size ? padding : 0;
        if (!decode_group(text + i, left_out, bytes + i / BASE64_GROUP_DIGITS * BASE64_GROUP_BYTES))
            return false;
    }
    *length = size / BASE64_GROUP_DIGITS * BASE64_GROUP_BYTES - padding;
    return true;
}
