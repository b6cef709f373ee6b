/* PURE. What the two format languages of args.h have in common; only args_*.c include it. */
#ifndef ARGS_FORMAT_H
#define ARGS_FORMAT_H

#include "args.h"

enum args_use { ARGS_PARSE, ARGS_BUILD };

/* Characters of the item at `at`; 0 if there is none. */
size_t args_item_size(const char *at, enum args_use use);
/* Both tell what is wrong with format at `at`, the latter that there is no item, and return
 * ARGS_BAD_FORMAT. */
__attribute__((format(printf, 5, 6))) enum args_result args_fail_format(char *error, size_t error_size,
                                                                        const char *format, const char *at,
                                                                        const char *complaint, ...);
enum args_result args_fail_item(char *error, size_t error_size, const char *format, const char *at);

#endif
