/* One line a message, to standard error, by one write(2). Never blocks: a line that a full pipe has no room
 * for is dropped and counted. errno is preserved. */
#ifndef LOG_H
#define LOG_H

#include <stddef.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* For the master, which must not block: has messages written without blocking even where others write to the
 * same pipe, as workers do. To be called once, first. */
void log_never_block(void);
/* Messages above the level are not written. The default is LOG_INFO. */
void log_set_level(enum log_level level);
/* "error", "warn", "info", "debug"; -1 for any other word. */
int log_level_parse(const char *word);

void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A line of what the engine printed: always written. number: of the worker; 0: the forkserver. */
void log_output(unsigned number, const char *line, size_t size);

/* log_error(), then exit(1): for a process that cannot go on. */
_Noreturn void fatal(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
