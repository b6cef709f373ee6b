#include "text.h"

#include <stdio.h>
#include <string.h>

#include "utf8.h"

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

void text_close(struct text *text)
{
    if (text->size == 0)
        return;
    const char *end = text->buffer + strlen(text->buffer);
    for (char *at = text->buffer; at < end;) {
        size_t length = utf8_length((const unsigned char *)at, (size_t)(end - at));
        if (length == 0)
            *at = '?';
        else if (length == 1 && ((unsigned char)*at < ' ' || *at == 0x7f))
            *at = ' ';
        at += length > 0 ? length : 1;
    }
}
