#include "option_table.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "frame.h"
#include "quarantine.h"
#include "size.h"

#define FIELD(name) offsetof(struct options, name)
#define SECOND      CLOCK_NS_PER_S

const struct option_rule option_rules[] = {
    {"socket", OPTION_TEXT, FIELD(socket), NULL, 0, 0, "PATH", "Clients",
     "where clients connect (or $COHAB_SOCKET); PATH.ctl is the admin socket", false},
    {"socket-mode", OPTION_MODE, FIELD(socket_mode), "0660", 0, 0777, "MODE", NULL,
     "permissions of the socket, octal", false},
    {"max-connections", OPTION_NUMBER, FIELD(max_connections), "1024", 1, 65536, "N", NULL,
     "clients at once; more are refused", false},
    {"max-connections-per-uid", OPTION_NUMBER, FIELD(max_connections_per_uid), "0", 0, 65536, "N", NULL,
     "clients of one user at once; 0: no limit of their own", false},
    {"max-frame", OPTION_SIZE32, FIELD(max_frame), "64M+64K", 64, FRAME_MAX_LIMIT, "SIZE", NULL,
     "largest request or response, less than 2G", false},
    {"io-timeout", OPTION_SECONDS, FIELD(io_timeout), "0.5", 1, 0, "S", NULL,
     "longest time without a byte in the middle of a frame", false},

    {"workers", OPTION_WORKERS, FIELD(workers_min), NULL, 1, WORKERS_MAX, "N|MIN:MAX", "Workers",
     "worker processes (default: the number of cores); with MIN:MAX as many as the load needs", false},
    {"idle-timeout", OPTION_SECONDS, FIELD(idle_timeout), "10", 1, 0, "S", NULL,
     "with MIN:MAX: workers that nothing needed for this long leave", false},
    {"spare", OPTION_NUMBER, FIELD(spare), "0", 0, 16, "N", NULL,
     "workers kept ready beside those, to take a dead one's place at once", false},
    {"max-requests", OPTION_COUNT, FIELD(max_requests), "0", 0, INT64_MAX, "N", NULL,
     "replace a worker after so many requests; 0: never", false},
    {"max-private", OPTION_SIZE, FIELD(max_private), NULL, 64, UINT64_C(1) << 47, "SIZE", NULL,
     "replace a worker with more memory of its own than this (no limit)", false},
    {"max-age", OPTION_SECONDS, FIELD(max_age), "0", 0, 0, "S", NULL,
     "replace a worker that is older; 0: never", false},
    {"max-memory", OPTION_SIZE, FIELD(max_memory), NULL, UINT64_C(16) << 20, UINT64_C(1) << 47, "SIZE", NULL,
     "data that a worker may have, what load() has built included (no limit)", false},
    {"spin-us", OPTION_MICROSECONDS, FIELD(spin), "0", 0, 10000, "N", NULL,
     "busy-wait that long for a next request before sleeping: for machines with cores to spare", false},

    {"default-timeout", OPTION_SECONDS, FIELD(default_timeout), NULL, 1, 0, "S", "Time limits",
     "deadline of a request that brings none (30, or --max-timeout)", false},
    {"max-timeout", OPTION_SECONDS, FIELD(max_timeout), "300", 1, 0, "S", NULL,
     "latest deadline of any request", false},
    {"max-queue-time", OPTION_SECONDS, FIELD(max_queue_time), "0", 0, 0, "S", NULL,
     "refuse requests that have waited for longer, once waits have been too long for S (0.1 s at least); 0: "
     "never",
     false},
    {"kill-grace", OPTION_SECONDS, FIELD(kill_grace), "0.1", 0, 0, "S", NULL,
     "after its deadline a call has this long to notice, its worker the same again to end itself; then it is "
     "killed",
     false},
    {"cancel-kill", OPTION_SECONDS, FIELD(cancel_kill), "0", 0, 0, "S", NULL,
     "a call whose client has gone away has this long to notice, then its worker is killed as at a deadline; "
     "0: never",
     false},
    {"stall-timeout", OPTION_SECONDS, FIELD(stall_timeout), "1", SECOND / 4, 0, "S", NULL,
     "longest time that a worker may sit on a connection without going on", false},
    {"load-timeout", OPTION_SECONDS, FIELD(load_timeout), "120", 1, 0, "S", NULL,
     "load() and start() have this long, each", false},
    {"stop-timeout", OPTION_SECONDS, FIELD(stop_timeout), "30", 0, 0, "S", NULL,
     "running calls have this long to finish when the server stops", false},

    {"crash-dir", OPTION_TEXT, FIELD(crash_dir), NULL, 0, 0, "DIR", "Crashes",
     "where crash reports go (/var/lib/cohab/crash as root, else ~/.local/state/cohab/crash; under systemd "
     "$STATE_DIRECTORY/crash)",
     false},
    {"crash-keep", OPTION_NUMBER, FIELD(crash_keep), "100", 0, 100000, "N", NULL,
     "reports kept, of crashes and of slow calls each; 0: none are written", false},
    {"crash-keep-size", OPTION_SIZE, FIELD(crash_keep_size), "1G", 64, UINT64_C(1) << 50, "SIZE", NULL,
     "reports kept, in all", false},
    {"crash-params", OPTION_SWITCH, FIELD(crash_params), "on", 0, 0, "on|off", NULL,
     "whether reports hold the request that the worker died of", false},
    {"core", OPTION_FLAG, FIELD(core), NULL, 0, 0, NULL, NULL, "let crashing workers dump core", false},
    {"slow-stack", OPTION_SECONDS, FIELD(slow_stack), "0", 0, 0, "S", NULL,
     "keep the stack of calls that run longer than this; 0: off", false},
    {"quarantine-after", OPTION_NUMBER, FIELD(quarantine_after), "2", 0, QUARANTINE_AFTER_MAX, "K", NULL,
     "refuse a request that has killed so many workers within an hour; 0: never", false},
    {"quarantine-timeouts", OPTION_FLAG, FIELD(quarantine_timeouts), NULL, 0, 0, NULL, NULL,
     "count calls that were ended for their deadline as kills, too", false},

    {"log-level", OPTION_LEVEL, FIELD(log_level), "info", 0, 0, "LEVEL", "Log", "error, warn, info or debug",
     false},
    {"log-format", OPTION_FORMAT, FIELD(log_format), "text", 0, 0, "FORMAT", NULL,
     "text, or json: one object a line", false},
    {"log-file", OPTION_TEXT, FIELD(log_file), NULL, 0, 0, "FILE", NULL,
     "log there, not to standard error; SIGUSR1 opens it anew", false},
    {"log-requests", OPTION_FLAG, FIELD(log_requests), NULL, 0, 0, NULL, NULL, "log every request", false},
    {"slow", OPTION_SECONDS, FIELD(slow), "0", 0, 0, "S", NULL, "log requests that take this long; 0: off",
     false},

    {"lifeline-fd", OPTION_DESCRIPTOR, FIELD(lifeline), NULL, 0, INT_MAX, "FD", "For programs that start it",
     "stop when this inherited descriptor reaches end of file", true},
    {"remove-directory", OPTION_FLAG, FIELD(remove_directory), NULL, 0, 0, NULL, NULL,
     "at the end remove the socket's directory, if nothing else is in it", true},

    {"config", OPTION_ACTION, 0, NULL, 0, 0, "FILE", "Other",
     "read options from FILE: name = value, a line each; and engine = ENGINE, arg = ARGUMENT", true},
    {"replay", OPTION_TEXT, FIELD(replay), NULL, 0, 0, "FILE", NULL,
     "run the request of a crash report in one process, without a server, and exit", true},
    {"check", OPTION_FLAG, FIELD(check), NULL, 0, 0, NULL, NULL,
     "load the engine, check its signatures, run its self-test, and exit", true},
    {"show-config", OPTION_ACTION, 0, NULL, 0, 0, NULL, NULL,
     "print every option, its value and where that comes from, and exit", true},
    {"version", OPTION_ACTION, 0, NULL, 0, 0, NULL, NULL, NULL, true},
    {"help", OPTION_ACTION, 0, NULL, 0, 0, NULL, NULL, NULL, true},
};
const size_t option_count = sizeof(option_rules) / sizeof(*option_rules);

const struct option_rule *option_find(const char *name, size_t length)
{
    for (size_t i = 0; i < option_count; i++)
        if (strlen(option_rules[i].name) == length && memcmp(option_rules[i].name, name, length) == 0)
            return &option_rules[i];
    return NULL;
}

/* --- values --- */

__attribute__((format(printf, 3, 4))) static int refuse(char *error, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, size, format, arguments);
    va_end(arguments);
    return -1;
}

static int read_number(const struct option_rule *rule, const char *text, uint64_t *value, char *error,
                       size_t size)
{
    char *end;
    errno = 0;
    uint64_t high = rule->high ? rule->high : UINT64_MAX, number = strtoull(text, &end, 10);
    if (errno || !isdigit((unsigned char)*text) || *end || number < rule->low || number > high)
        return refuse(error, size, "takes a number from %" PRIu64 " to %" PRIu64 ", not '%s'", rule->low,
                      high, text);
    *value = number;
    return 0;
}

static int read_seconds(const struct option_rule *rule, const char *text, uint64_t *value, char *error,
                        size_t size)
{
    char *end;
    double seconds = strtod(text, &end);
    bool plain = strspn(text, "0123456789.eE-+") == strlen(text) && *text != '+';
    bool enough = clock_from_seconds(seconds) > 0 || (seconds == 0 && rule->low == 0);
    if (end == text || *end || !plain || seconds > 1e9 || !enough)
        return refuse(error, size, "takes a number of seconds%s, not '%s'", rule->low == 0 ? "" : " above 0",
                      text);
    if (clock_from_seconds(seconds) < rule->low)
        return refuse(error, size, "takes at least %g seconds, not '%s'", (double)rule->low / 1e9, text);
    *value = clock_from_seconds(seconds);
    return 0;
}

static int read_size(const struct option_rule *rule, const char *text, uint64_t *value, char *error,
                     size_t size)
{
    uint64_t bytes = 0;
    switch (size_parse(text, rule->high, &bytes)) {
    case SIZE_OK:
        break;
    case SIZE_TOO_LARGE:
        return refuse(error, size, "takes a size up to %" PRIu64 " bytes, not '%s'", rule->high, text);
    case SIZE_NONE:
        return refuse(error, size, "takes a size such as 4096, 64K or 64M+64K, not '%s'", text);
    }
    if (bytes < rule->low && rule->low >= 1 << 20)
        return refuse(error, size, "takes at least %" PRIu64 "M, not '%s'", rule->low >> 20, text);
    if (bytes < rule->low)
        return refuse(error, size, "takes a size from %" PRIu64 " to %" PRIu64 " bytes, not '%s'", rule->low,
                      rule->high, text);
    *value = bytes;
    return 0;
}

static int read_mode(const struct option_rule *rule, const char *text, mode_t *value, char *error,
                     size_t size)
{
    char *end;
    unsigned long mode = strtoul(text, &end, 8);
    if (end == text || *end || mode > rule->high)
        return refuse(error, size, "takes an octal mode such as 0660, not '%s'", text);
    *value = (mode_t)mode;
    return 0;
}

static int read_switch(const char *text, bool *value, char *error, size_t size)
{
    if (strcmp(text, "on") != 0 && strcmp(text, "off") != 0)
        return refuse(error, size, "takes on or off, not '%s'", text);
    *value = strcmp(text, "on") == 0;
    return 0;
}

static int read_level(const char *text, enum log_level *value, char *error, size_t size)
{
    if (log_level_parse(text) < 0)
        return refuse(error, size, "takes error, warn, info or debug, not '%s'", text);
    *value = (enum log_level)log_level_parse(text);
    return 0;
}

static int read_format(const char *text, enum log_format *value, char *error, size_t size)
{
    if (strcmp(text, "text") != 0 && strcmp(text, "json") != 0)
        return refuse(error, size, "takes text or json, not '%s'", text);
    *value = strcmp(text, "json") == 0 ? LOG_JSON : LOG_TEXT;
    return 0;
}

bool options_parse_workers(const char *text, unsigned *min, unsigned *max)
{
    char *end;
    if (!isdigit((unsigned char)*text))
        return false;
    unsigned long low = strtoul(text, &end, 10), high = low;
    if (*end == ':') {
        if (!isdigit((unsigned char)end[1]))
            return false;
        high = strtoul(end + 1, &end, 10);
    }
    if (*end || low < 1 || high < low || high > WORKERS_MAX)
        return false;
    *min = (unsigned)low;
    *max = (unsigned)high;
    return true;
}

static int read_workers(struct options *options, const char *text, char *error, size_t size)
{
    if (options_parse_workers(text, &options->workers_min, &options->workers_max))
        return 0;
    return refuse(error, size, "takes a number from 1 to %u, or two such as 2:8, not '%s'", WORKERS_MAX,
                  text);
}

int option_set(struct options *options, const struct option_rule *rule, const char *text, char *error,
               size_t size)
{
    void *field = (char *)options + rule->offset;
    uint64_t number;
    int result = 0;
    switch (rule->kind) {
    case OPTION_TEXT:
        *(const char **)field = text;
        break;
    case OPTION_WORKERS:
        return read_workers(options, text, error, size);
    case OPTION_NUMBER:
    case OPTION_DESCRIPTOR:
        if ((result = read_number(rule, text, &number, error, size)) == 0)
            *(unsigned *)field = (unsigned)number;
        break;
    case OPTION_COUNT:
        return read_number(rule, text, field, error, size);
    case OPTION_MICROSECONDS:
        if ((result = read_number(rule, text, &number, error, size)) == 0)
            *(uint64_t *)field = number * 1000;
        break;
    case OPTION_SECONDS:
        return read_seconds(rule, text, field, error, size);
    case OPTION_SIZE:
        return read_size(rule, text, field, error, size);
    case OPTION_SIZE32:
        if ((result = read_size(rule, text, &number, error, size)) == 0)
            *(uint32_t *)field = (uint32_t)number;
        break;
    case OPTION_MODE:
        return read_mode(rule, text, field, error, size);
    case OPTION_SWITCH:
    case OPTION_FLAG:
        return read_switch(text, field, error, size);
    case OPTION_LEVEL:
        return read_level(text, field, error, size);
    case OPTION_FORMAT:
        return read_format(text, field, error, size);
    case OPTION_ACTION:
        break;
    }
    return result;
}
