#include "text.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct text text_open(char *buffer, size_t size)
{
    if (size > 0)
        buffer[0] = '\0';
    return (struct text){buffer, size, 0};
}

void text_add_list(struct text *text, const char *format, va_list arguments)
{
    if (text->used >= text->size)
        return;
    int length = vsnprintf(text->buffer + text->used, text->size - text->used, format, arguments);
    if (length > 0)
        text->used += (size_t)length;
}

void text_add(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    text_add_list(text, format, arguments);
    va_end(arguments);
}

/* Bytes of the UTF-8 character at `at`; 0 if there is none. */
static size_t utf8_length(const unsigned char *at)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = at[0] < 0x80   ? 1
                    : at[0] < 0xc0 ? 0
                    : at[0] < 0xe0 ? 2
                    : at[0] < 0xf0 ? 3
                    : at[0] < 0xf8 ? 4
                                   : 0;
    if (length < 2)
        return length;
    uint32_t character = at[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
        character = character << 6 | (at[i] & 0x3f);
    }
    bool surrogate = character >= 0xd800 && character <= 0xdfff;
    return character < least[length] || character > 0x10ffff || surrogate ? 0 : length;
}

void text_close(struct text *text)
{
    if (text->size == 0)
        return;
    for (char *at = text->buffer; *at != '\0';) {
        size_t length = utf8_length((const unsigned char *)at);
        if (length == 0)
            *at = '?';
        else if (length == 1 && ((unsigned char)*at < ' ' || *at == 0x7f))
            *at = ' ';
        at += length > 0 ? length : 1;
    }
}
