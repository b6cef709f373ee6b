/* The log: one line an event, written by one write(2) to standard error or to a file. Never blocks: a line
 * that has no room is dropped and counted, and the count is said as soon as lines go out again. errno is
 * preserved.
 *
 * The master alone writes it. What its children say comes to it through pipes (output.h), so that a file that
 * is opened anew is at once everybody's. */
#ifndef LOG_H
#define LOG_H

#include <stddef.h>
#include <stdint.h>

#include "log_line.h"

/* For the master, which must not block: has lines written without blocking even where others write to the
 * same pipe; looks whether standard error is the journal. To be called once, first. */
void log_never_block(void);
/* For a child whose standard error leads to the master: lines carry a priority and nothing else. */
void log_relay(void);
/* Events above the level are not written. The default is LOG_INFO. */
void log_set_level(enum log_level level);
/* LOG_TEXT or LOG_JSON; the default is LOG_TEXT. */
void log_set_format(enum log_format format);
/* From here on lines go to the end of this file, which is created if it is missing; errors go to standard
 * error as well until log_serving(). path is borrowed. -1 with errno. */
int log_open(const char *path);
void log_serving(void);
/* Opens the file anew, after logrotate(8) has moved it; where that fails, the old one stays and it is tried
 * again every second. */
void log_reopen(void);
/* Lines dropped in this process's life. */
uint64_t log_dropped(void);
/* That many were before, under another program. */
void log_restore(uint64_t dropped);

/* name: a word that stays the same from version to version. The message is for people. */
void log_event(enum log_level level, const char *name, const struct log_fields *fields, const char *format,
               ...) __attribute__((format(printf, 4, 5)));
#define LOG_FIELDS(...) (&(const struct log_fields){__VA_ARGS__})

/* Events of which there is nothing to say but the message. */
#define log_error(...) log_event(LOG_ERROR, "note", NULL, __VA_ARGS__)
#define log_warn(...)  log_event(LOG_WARN, "note", NULL, __VA_ARGS__)
#define log_info(...)  log_event(LOG_INFO, "note", NULL, __VA_ARGS__)
#define log_debug(...) log_event(LOG_DEBUG, "note", NULL, __VA_ARGS__)

/* A line of what the engine, or cohab itself, printed in a process: fields.worker or fields.role tell which.
 * Written at any level, unless it begins with a priority such as "<7>". */
void log_output(const struct log_fields *fields, const char *line, size_t size);

/* An error, then exit(1): for a process that cannot go on. */
_Noreturn void fatal(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
