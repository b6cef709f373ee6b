#include "args_format.h"

#include <stdio.h>

enum args_result args_fail_format(char *error, size_t error_size, const char *format, const char *at,
                                  const char *complaint, ...)
{
    char text[100];
    va_list arguments;
    va_start(arguments, complaint);
    vsnprintf(text, sizeof(text), complaint, arguments);
    va_end(arguments);
    snprintf(error, error_size, "format \"%.80s\": %s at position %zu", format, text,
             (size_t)(at - format) + 1);
    for (size_t i = 0; i < error_size && error[i] != '\0'; i++)
        if (error[i] < ' ' || error[i] > '~')
            error[i] = '?';
    return ARGS_BAD_FORMAT;
}

size_t args_item_size(const char *at, enum args_use use)
{
    switch (*at) {
    case 'p':
    case 'i':
    case 'L':
    case 'K':
    case 'd':
    case 'D':
    case 'Q':
    case 'O':
        return 1;
    case 'n':
        return use == ARGS_BUILD ? 1 : 0;
    case 's':
        return at[1] == '#' ? 2 : 1;
    case 'z':
        return use == ARGS_BUILD ? 0 : at[1] == '#' ? 2 : 1;
    case 'y':
        return at[1] == '#' ? 2 : 0;
    default:
        return 0;
    }
}

enum args_result args_fail_item(char *error, size_t error_size, const char *format, const char *at)
{
    if (*at == 'y')
        return args_fail_format(error, error_size, format, at, "'y' without '#'");
    return args_fail_format(error, error_size, format, at, "unknown code '%c'", *at);
}
