#include "size.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

static unsigned unit_shift(char unit)
{
    switch (unit) {
    case 'K':
    case 'k':
        return 10;
    case 'M':
    case 'm':
        return 20;
    case 'G':
    case 'g':
        return 30;
    }
    return 0;
}

enum size_result size_parse(const char *text, uint64_t high, uint64_t *size)
{
    uint64_t sum = 0;
    for (const char *at = text;; at++) {
        char *end;
        if (!isdigit((unsigned char)*at))
            return SIZE_NONE;
        errno = 0;
        unsigned long long term = strtoull(at, &end, 10);
        unsigned shift = unit_shift(*end);
        at = end + (shift != 0);
        if (*at != '\0' && *at != '+')
            return SIZE_NONE;
        if (errno || term > high >> shift || (uint64_t)term << shift > high - sum)
            return SIZE_TOO_LARGE;
        sum += (uint64_t)term << shift;
        if (*at == '\0')
            break;
    }
    *size = sum;
    return SIZE_OK;
}
