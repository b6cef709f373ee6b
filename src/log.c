#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "text.h"

/* PIPE_BUF: a pipe that polls as writable takes this much without blocking. */
#define LINE_MAX_SIZE 4096

static enum log_level level = LOG_INFO;
static unsigned long dropped;
static int descriptor = STDERR_FILENO;
static bool is_socket;
static const char *const level_names[] = {
    [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"};

void log_set_level(enum log_level new_level)
{
    level = new_level;
}

int log_level_parse(const char *word)
{
    for (int i = LOG_ERROR; i <= LOG_DEBUG; i++)
        if (strcmp(word, level_names[i]) == 0)
            return i;
    return -1;
}

/* A pipe or terminal is opened anew, as O_NONBLOCK belongs to the open file, which its other writers
 * share. */
void log_never_block(void)
{
    struct stat status;
    if (fstat(STDERR_FILENO, &status) < 0)
        return;
    is_socket = S_ISSOCK(status.st_mode);
    if (!S_ISFIFO(status.st_mode) && !S_ISCHR(status.st_mode))
        return;
    int own = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_APPEND | O_NOCTTY | O_CLOEXEC);
    if (own >= 0)
        descriptor = own;
}

static void write_line(const char *line, size_t size)
{
    struct pollfd writable = {.fd = descriptor, .events = POLLOUT};
    ssize_t written = -1;
    if (is_socket)
        written = send(descriptor, line, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    else if (poll(&writable, 1, 0) == 1 && writable.revents & POLLOUT)
        written = write(descriptor, line, size);
    if (written < (ssize_t)size)
        dropped++;
}

static void log_va(enum log_level at, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));

static void log_va(enum log_level at, const char *format, va_list arguments)
{
    int saved = errno;
    char line[LINE_MAX_SIZE];
    struct timespec now;
    struct tm date;
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &date);
    size_t used = strftime(line, sizeof(line), "%Y-%m-%d %H:%M:%S", &date);
    used += (size_t)snprintf(line + used, sizeof(line) - used, ".%03ld cohabd[%d] %-5s ",
                             now.tv_nsec / 1000000, (int)getpid(), level_names[at]);
    if (dropped)
        used += (size_t)snprintf(line + used, sizeof(line) - used, "(%lu lines lost) ", dropped);
    struct text text = text_open(line + used, sizeof(line) - used - 1);
    errno = saved; /* %m */
    text_add_list(&text, format, arguments);
    text_close(&text); /* what an engine says must not look like lines of ours */
    used += strlen(line + used);
    line[used++] = '\n';
    unsigned long before = dropped;
    dropped = 0;
    write_line(line, used);
    if (dropped)
        dropped += before;
    errno = saved;
}

#define LOG_FUNCTION(name, at)                                                                               \
    void name(const char *format, ...)                                                                       \
    {                                                                                                        \
        va_list arguments;                                                                                   \
        va_start(arguments, format);                                                                         \
        if ((at) <= level)                                                                                   \
            log_va(at, format, arguments);                                                                   \
        va_end(arguments);                                                                                   \
    }

LOG_FUNCTION(log_error, LOG_ERROR)
LOG_FUNCTION(log_warn, LOG_WARN)
LOG_FUNCTION(log_info, LOG_INFO)
LOG_FUNCTION(log_debug, LOG_DEBUG)

static void log_always(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void log_always(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    log_va(LOG_INFO, format, arguments);
    va_end(arguments);
}

void log_output(unsigned number, const char *line, size_t size)
{
    if (number > 0)
        log_always("worker %u: %.*s", number, (int)size, line);
    else
        log_always("forkserver: %.*s", (int)size, line);
}

void fatal(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    log_va(LOG_ERROR, format, arguments);
    va_end(arguments);
    exit(EXIT_FAILURE);
}
