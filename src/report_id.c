#include "report_id.h"

#include <string.h>

/* YYYYMMDD-HHMMSS-, in front of the number within that second. */
#define ID_DATE 16

bool report_id_is_valid(const char *id)
{
    size_t length = strspn(id, "0123456789-");
    return id[length] == '\0' && length > 0 && length < REPORT_ID_SIZE && id[0] != '-';
}

int report_id_compare(const char *a, const char *b)
{
    int by_date = strncmp(a, b, ID_DATE);
    if (by_date != 0)
        return by_date;
    size_t length_a = strlen(a), length_b = strlen(b); /* the same date: numbers without leading zeros */
    if (length_a != length_b)
        return length_a < length_b ? -1 : 1;
    return strcmp(a, b);
}
