/* What reports say, in words. */
#ifndef CRASH_TEXT_H
#define CRASH_TEXT_H

#include <stdio.h>

#include <msgpack.h>

/* "3m 12s ago" within a day, later the date; with `both` both of them. */
void crash_text_put_time(FILE *out, const msgpack_object *report, bool both);
/* "SIGSEGV", "exit(3)", "deadline": what fits into a table. */
void crash_text_put_cause(FILE *out, const msgpack_object *cause);
/* What a signal's code means; NULL where that is not known. */
const char *crash_text_explain_code(const msgpack_object *code);

#endif
