/* Base64 as in RFC 4648, section 4: with padding, without line ends. */
#ifndef BASE64_H
#define BASE64_H

#include <stdbool.h>
#include <stddef.h>

#define BASE64_GROUP_BYTES  3
#define BASE64_GROUP_DIGITS 4

/* Encodes up to three bytes. Fewer only at the end of the data. */
void base64_encode_group(const unsigned char *bytes, size_t size, char digits[BASE64_GROUP_DIGITS]);

/* Decodes into bytes, which has room for `size` bytes. False, if text is not base64. */
bool base64_decode(const char *text, size_t size, unsigned char *bytes, size_t *length);

#endif
