#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"

/* Between two tries to open a file that could not be opened anew. */
#define REOPEN_PAUSE CLOCK_NS_PER_S

_Static_assert(LOG_LINE_SIZE <= 4096, "PIPE_BUF: what a pipe that polls as writable takes without blocking");

static struct {
    enum log_level level;
    enum log_format format;
    int descriptor;
    bool is_socket;
    bool is_journal;
    bool relays;
    const char *path; /* NULL: standard error */
    bool starting;    /* errors go to standard error, too */
    bool wants_reopen;
    uint64_t reopen_at; /* after a failure: not before this */
    bool torn;          /* the last line went out in part */
    uint64_t dropped;
    uint64_t unsaid; /* of these, what no line has told yet */
} state = {.level = LOG_INFO, .descriptor = STDERR_FILENO};

void log_set_level(enum log_level level)
{
    state.level = level;
}

void log_set_format(enum log_format format)
{
    state.format = format;
}

void log_relay(void)
{
    state.relays = true;
}

uint64_t log_dropped(void)
{
    return state.dropped;
}

void log_restore(uint64_t dropped)
{
    state.dropped = dropped;
}

/* --- where it goes --- */

/* As sd-daemon(3) has it: device and inode of the stream that systemd has connected to the journal. */
static bool is_journal(const struct stat *status)
{
    const char *words = getenv("JOURNAL_STREAM");
    uintmax_t device, inode;
    return words && sscanf(words, "%ju:%ju", &device, &inode) == 2 && device == (uintmax_t)status->st_dev &&
           inode == (uintmax_t)status->st_ino;
}

/* A pipe or terminal is opened anew, as O_NONBLOCK belongs to the open file, which its other writers
 * share. */
void log_never_block(void)
{
    struct stat status;
    if (fstat(STDERR_FILENO, &status) < 0)
        return;
    state.is_socket = S_ISSOCK(status.st_mode);
    state.is_journal = is_journal(&status);
    if (!S_ISFIFO(status.st_mode) && !S_ISCHR(status.st_mode))
        return;
    int own = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_APPEND | O_NOCTTY | O_CLOEXEC);
    if (own >= 0)
        state.descriptor = own;
}

static int open_file(void)
{
    const int flags = O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    return open(state.path, flags, 0640);
}

static void use_file(int file)
{
    if (state.descriptor != STDERR_FILENO)
        close(state.descriptor);
    state.descriptor = file;
    state.wants_reopen = state.torn = false;
}

int log_open(const char *path)
{
    state.path = path;
    int file = open_file();
    if (file < 0) {
        state.path = NULL;
        return -1;
    }
    use_file(file);
    state.is_socket = state.is_journal = false;
    state.starting = true;
    return 0;
}

void log_serving(void)
{
    state.starting = false;
}

/* Whether somebody has removed the file: what is written to it would be lost without a word. */
static bool is_gone(void)
{
    struct stat status;
    return state.path && fstat(state.descriptor, &status) == 0 && status.st_nlink == 0;
}

static int try_reopen(void)
{
    int file = open_file();
    if (file < 0) {
        state.reopen_at = clock_now() + REOPEN_PAUSE;
        return -1;
    }
    use_file(file);
    return 0;
}

void log_reopen(void)
{
    if (!state.path)
        return;
    state.wants_reopen = true;
    if (try_reopen() == 0)
        log_event(LOG_INFO, "log_reopened", LOG_FIELDS(.path = state.path), "log file %s opened anew",
                  state.path);
    else
        log_event(LOG_ERROR, "log_not_reopened", LOG_FIELDS(.path = state.path),
                  "cannot open log file %s anew: %m; trying again", state.path);
}

/* Returns whether there is somewhere to write to. */
static bool have_file(void)
{
    bool gone = is_gone();
    if ((gone || state.wants_reopen) && clock_now() >= state.reopen_at)
        return try_reopen() == 0 || !gone;
    return !gone;
}

/* --- writing --- */

static bool write_bytes(const char *bytes, size_t size)
{
    struct pollfd writable = {.fd = state.descriptor, .events = POLLOUT};
    ssize_t written = -1;
    if (state.is_socket)
        written = send(state.descriptor, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    else if (poll(&writable, 1, 0) == 1 && writable.revents & POLLOUT)
        written = write(state.descriptor, bytes, size);
    if (written > 0)
        state.torn = written < (ssize_t)size;
    return written == (ssize_t)size;
}

/* line has a byte of room in front. */
static bool write_line(char *line, size_t size)
{
    line[0] = '\n'; /* ends a line that went out in part, on a disk that was full */
    bool out = have_file() && (state.torn ? write_bytes(line, size + 1) : write_bytes(line + 1, size));
    state.dropped += !out;
    state.unsaid += !out;
    return out;
}

static enum log_format format_now(void)
{
    if (state.relays)
        return LOG_JOURNAL;
    return state.format == LOG_TEXT && state.is_journal ? LOG_JOURNAL : state.format;
}

static void emit(enum log_level level, const char *name, const struct log_fields *fields, const char *message)
{
    char line[1 + LOG_LINE_SIZE];
    struct timespec now;
    struct log_event event = {
        .level = level, .name = name, .fields = fields, .message = message, .process = getpid()};
    clock_gettime(CLOCK_REALTIME, &now);
    event.ms = (unsigned)(now.tv_nsec / 1000000);
    if (format_now() == LOG_JSON)
        gmtime_r(&now.tv_sec, &event.date);
    else
        localtime_r(&now.tv_sec, &event.date);
    (void)write_line(line, log_line_format(line + 1, format_now(), &event));
    if (!state.starting || level != LOG_ERROR)
        return;
    ssize_t written = write(STDERR_FILENO, line + 1, log_line_format(line + 1, LOG_TEXT, &event));
    (void)written; /* the file has it */
}

static void tell_dropped(void)
{
    char message[64];
    uint64_t count = state.unsaid;
    state.unsaid = 0;
    snprintf(message, sizeof(message), "%" PRIu64 " %s of this log lost", count,
             count == 1 ? "line was" : "lines were");
    emit(LOG_WARN, "log_lines_lost", LOG_FIELDS(.count = count), message);
    if (state.unsaid > 0) { /* nor was this one */
        state.unsaid = count;
        state.dropped--;
    }
}

static void log_text(enum log_level level, const char *name, const struct log_fields *fields,
                     const char *message)
{
    if (state.unsaid > 0)
        tell_dropped();
    emit(level, name, fields, message);
}

static void log_list(enum log_level level, const char *name, const struct log_fields *fields,
                     const char *format, va_list arguments) __attribute__((format(printf, 4, 0)));

static void log_list(enum log_level level, const char *name, const struct log_fields *fields,
                     const char *format, va_list arguments)
{
    char message[LOG_LINE_SIZE];
    int saved = errno; /* for %m, and for the caller */
    vsnprintf(message, sizeof(message), format, arguments);
    log_text(level, name, fields, message);
    errno = saved;
}

void log_event(enum log_level level, const char *name, const struct log_fields *fields, const char *format,
               ...)
{
    if (level > state.level)
        return;
    va_list arguments;
    va_start(arguments, format);
    log_list(level, name, fields, format, arguments);
    va_end(arguments);
}

void log_output(const struct log_fields *fields, const char *line, size_t size)
{
    int priority = log_line_priority(line, size);
    if (priority > (int)state.level)
        return;
    if (priority >= 0) {
        line += LOG_PRIORITY_SIZE;
        size -= LOG_PRIORITY_SIZE;
    }
    char message[LOG_LINE_SIZE];
    if (state.format == LOG_JSON)
        snprintf(message, sizeof(message), "%.*s", (int)size, line);
    else if (fields->role)
        snprintf(message, sizeof(message), "%s: %.*s", fields->role, (int)size, line);
    else
        snprintf(message, sizeof(message), "worker %u: %.*s", fields->worker, (int)size, line);
    log_text(priority >= 0 ? (enum log_level)priority : LOG_INFO, "output", fields, message);
}

void fatal(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    log_list(LOG_ERROR, "fatal", NULL, format, arguments);
    va_end(arguments);
    exit(EXIT_FAILURE);
}
