/* PURE. Error texts: put together piece by piece in a buffer of the caller's, and always one line of UTF-8 in
 * the end, whatever came from outside and however small the buffer is. */
#ifndef TEXT_H
#define TEXT_H

#include <stdarg.h>
#include <stddef.h>

struct text {
    char *buffer; /* NUL-terminated if size > 0 */
    size_t size;
    size_t used; /* beyond size once something was cut off */
};

struct text text_open(char *buffer, size_t size);
__attribute__((format(printf, 2, 3))) void text_add(struct text *text, const char *format, ...);
__attribute__((format(printf, 2, 0))) void text_add_list(struct text *text, const char *format,
                                                         va_list arguments);
/* Replaces control characters by spaces, and what is no UTF-8 (a character cut in two, too) by question
 * marks. */
void text_close(struct text *text);

#endif
