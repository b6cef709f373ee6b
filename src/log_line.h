/* PURE. What a line of the log looks like: text for people, or a JSON object for machines. */
#ifndef LOG_LINE_H
#define LOG_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

enum log_format {
    LOG_TEXT,
    LOG_JOURNAL, /* text for journald: its priority in front, and no date, as the journal keeps its own */
    LOG_JSON,
};

/* What an event is about, for machines: 0 and NULL where there is no such thing. */
struct log_fields {
    unsigned worker;     /* its number */
    pid_t pid;           /* of the process that the event is about */
    unsigned generation; /* of the engine */
    const char *role;    /* "forkserver", "reporter": of a process that is no worker */
    const char *engine;
    const char *method;
    const char *cause;
    const char *report; /* id */
    const char *path;
    uint64_t count;
    /* Of a call. */
    const char *code;          /* "OK", or that of its error */
    uint64_t duration, queued; /* ns */
    bool has_call;             /* sizes and peer are known */
    uint64_t request_bytes, response_bytes;
    pid_t peer_pid;
    uid_t peer_uid;
};

struct log_event {
    enum log_level level;
    const char *name;                /* a word, stable */
    const struct log_fields *fields; /* NULL: none */
    const char *message;             /* made one line of UTF-8 */
    pid_t process;                   /* that logs it */
    struct tm date;                  /* local time; UTC in JSON */
    unsigned ms;
};

/* Room for any line that is worth having: what is longer is cut, and is one whole line all the same. */
#define LOG_LINE_SIZE 4096

/* Writes the line with its end, not terminated. Returns its length. */
size_t log_line_format(char line[LOG_LINE_SIZE], enum log_format format, const struct log_event *event);

const char *log_level_name(enum log_level level);
/* "error", "warn", "info", "debug"; -1 for any other word. */
int log_level_parse(const char *word);
/* The level of a line that begins with a priority such as "<3>", as journald reads it; -1 without one. */
int log_line_priority(const char *line, size_t size);

/* Of a line that begins with a priority. */
#define LOG_PRIORITY_SIZE 3

#endif
