/* PURE. Sizes in bytes as people write them: terms with units (K, M, G: powers of 1024), added up, such as
 * "64M+64K". */
#ifndef SIZE_H
#define SIZE_H

#include <stdint.h>

enum size_result {
    SIZE_OK,
    SIZE_NONE,      /* no size */
    SIZE_TOO_LARGE, /* above `high` */
};

/* *size is set on SIZE_OK, and untouched otherwise. */
enum size_result size_parse(const char *text, uint64_t high, uint64_t *size);

#endif
