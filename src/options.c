#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "frame.h"
#include "quarantine.h"
#include "size.h"

#define EXIT_USAGE          2
#define SPARE_MAX           16
#define CRASH_KEEP_MAX      100000
#define CRASH_KEEP_SIZE_MAX (UINT64_C(1) << 50)
#define MAX_MEMORY_MIN      (UINT64_C(16) << 20)
#define MAX_MEMORY_MAX      (UINT64_C(1) << 47)
#define CONNECTIONS_MAX     65536
#define STALL_TIMEOUT_MIN   (CLOCK_NS_PER_S / 4) /* the master looks every 100 ms */
#define SPIN_US_MAX         10000

static const char help_text[] =
    "Usage: cohabd [options] ENGINE [-- engine arguments]\n"
    "\n"
    "Serves ENGINE, a shared library, from worker processes behind one Unix socket. Runs in the foreground.\n"
    "An ENGINE without a slash is looked up among the installed engines: spell means libspell.so there.\n"
    "\n"
    "  --socket PATH           where clients connect (or $COHAB_SOCKET); PATH.ctl is the admin socket\n"
    "  --workers N|MIN:MAX     worker processes (default: the number of cores); with MIN:MAX as many as the\n"
    "                          load needs\n"
    "  --idle-timeout S        with MIN:MAX: workers that nothing needed for this long leave (10)\n"
    "  --spare N               workers kept ready beside those, to take a dead one's place at once (0)\n"
    "  --max-requests N        replace a worker after so many requests; 0: never (0)\n"
    "  --max-private SIZE      replace a worker with more memory of its own than this (no limit)\n"
    "  --max-age S             replace a worker that is older; 0: never (0)\n"
    "  --max-frame SIZE        largest request or response, less than 2G (64M+64K)\n"
    "  --max-connections N     clients at once; more are refused (1024)\n"
    "  --default-timeout S     deadline of a request that brings none (30, or --max-timeout)\n"
    "  --max-timeout S         latest deadline of any request (300)\n"
    "  --kill-grace S          after its deadline a call has this long to notice, its worker the same again "
    "to\n"
    "                          end itself; then it is killed (0.1)\n"
    "  --cancel-kill S         a call whose client has gone away has this long to notice, then its worker is "
    "killed\n"
    "                          as at a deadline (0: never)\n"
    "  --stall-timeout S       longest time that a worker may sit on a connection without going on (1)\n"
    "  --io-timeout S          longest time without a byte in the middle of a frame (0.5)\n"
    "  --spin-us N             busy-wait that long for a next request before sleeping: for machines with "
    "cores\n"
    "                          to spare (0)\n"
    "  --load-timeout S        load() and start() have this long, each (120)\n"
    "  --stop-timeout S        running calls have this long to finish when the server stops (30)\n"
    "  --socket-mode MODE      permissions of the socket, octal (0660)\n"
    "  --crash-dir DIR         where crash reports go (/var/lib/cohab/crash as root, else\n"
    "                          ~/.local/state/cohab/crash; under systemd $STATE_DIRECTORY/crash)\n"
    "  --crash-keep N          reports kept, of crashes and of slow calls each; 0: none are written (100)\n"
    "  --crash-keep-size SIZE  reports kept, in all (1G)\n"
    "  --crash-params on|off   whether reports hold the request that the worker died of (on)\n"
    "  --core                  let crashing workers dump core\n"
    "  --max-memory SIZE       data that a worker may have, what load() has built included (no limit)\n"
    "  --slow-stack S          keep the stack of calls that run longer than this (0: off)\n"
    "  --quarantine-after K    refuse a request that has killed so many workers within an hour; 0: never "
    "(2)\n"
    "  --quarantine-timeouts   count calls that were ended for their deadline as kills, too\n"
    "  --lifeline-fd FD        stop when this inherited descriptor reaches end of file\n"
    "  --remove-directory      at the end remove the socket's directory, if nothing else is in it\n"
    "  --log-level LEVEL       error, warn, info or debug (info)\n"
    "  --log-format FORMAT     text, or json: one object a line (text)\n"
    "  --log-file FILE         log there, not to standard error; SIGUSR1 opens it anew\n"
    "  --log-requests          log every request\n"
    "  --slow S                log requests that take this long (0: off)\n"
    "  --replay FILE           run the request of a crash report in one process, without a server, and exit\n"
    "  --check                 load the engine, check its signatures, run its self-test, and exit\n"
    "  --version, --help\n"
    "\n"
    "Sizes take K, M, G; times are seconds. SIGTERM and SIGINT stop gracefully, a second one or SIGQUIT at "
    "once.\n";

enum option_id {
    OPTION_SOCKET = 256,
    OPTION_WORKERS,
    OPTION_IDLE_TIMEOUT,
    OPTION_SPARE,
    OPTION_MAX_REQUESTS,
    OPTION_MAX_PRIVATE,
    OPTION_MAX_AGE,
    OPTION_LOAD_TIMEOUT,
    OPTION_MAX_FRAME,
    OPTION_MAX_CONNECTIONS,
    OPTION_DEFAULT_TIMEOUT,
    OPTION_MAX_TIMEOUT,
    OPTION_KILL_GRACE,
    OPTION_CANCEL_KILL,
    OPTION_STALL_TIMEOUT,
    OPTION_IO_TIMEOUT,
    OPTION_SPIN_US,
    OPTION_STOP_TIMEOUT,
    OPTION_SOCKET_MODE,
    OPTION_CRASH_DIR,
    OPTION_CRASH_KEEP,
    OPTION_CRASH_KEEP_SIZE,
    OPTION_CRASH_PARAMS,
    OPTION_CORE,
    OPTION_MAX_MEMORY,
    OPTION_SLOW_STACK,
    OPTION_QUARANTINE_AFTER,
    OPTION_QUARANTINE_TIMEOUTS,
    OPTION_LIFELINE_FD,
    OPTION_REMOVE_DIRECTORY,
    OPTION_LOG_LEVEL,
    OPTION_LOG_FORMAT,
    OPTION_LOG_FILE,
    OPTION_LOG_REQUESTS,
    OPTION_SLOW,
    OPTION_REPLAY,
    OPTION_CHECK,
    OPTION_VERSION,
    OPTION_HELP,
};

static const struct option long_options[] = {
    {"socket", required_argument, NULL, OPTION_SOCKET},
    {"workers", required_argument, NULL, OPTION_WORKERS},
    {"idle-timeout", required_argument, NULL, OPTION_IDLE_TIMEOUT},
    {"spare", required_argument, NULL, OPTION_SPARE},
    {"max-requests", required_argument, NULL, OPTION_MAX_REQUESTS},
    {"max-private", required_argument, NULL, OPTION_MAX_PRIVATE},
    {"max-age", required_argument, NULL, OPTION_MAX_AGE},
    {"load-timeout", required_argument, NULL, OPTION_LOAD_TIMEOUT},
    {"max-frame", required_argument, NULL, OPTION_MAX_FRAME},
    {"max-connections", required_argument, NULL, OPTION_MAX_CONNECTIONS},
    {"default-timeout", required_argument, NULL, OPTION_DEFAULT_TIMEOUT},
    {"max-timeout", required_argument, NULL, OPTION_MAX_TIMEOUT},
    {"kill-grace", required_argument, NULL, OPTION_KILL_GRACE},
    {"cancel-kill", required_argument, NULL, OPTION_CANCEL_KILL},
    {"stall-timeout", required_argument, NULL, OPTION_STALL_TIMEOUT},
    {"io-timeout", required_argument, NULL, OPTION_IO_TIMEOUT},
    {"spin-us", required_argument, NULL, OPTION_SPIN_US},
    {"stop-timeout", required_argument, NULL, OPTION_STOP_TIMEOUT},
    {"socket-mode", required_argument, NULL, OPTION_SOCKET_MODE},
    {"crash-dir", required_argument, NULL, OPTION_CRASH_DIR},
    {"crash-keep", required_argument, NULL, OPTION_CRASH_KEEP},
    {"crash-keep-size", required_argument, NULL, OPTION_CRASH_KEEP_SIZE},
    {"crash-params", required_argument, NULL, OPTION_CRASH_PARAMS},
    {"core", no_argument, NULL, OPTION_CORE},
    {"max-memory", required_argument, NULL, OPTION_MAX_MEMORY},
    {"slow-stack", required_argument, NULL, OPTION_SLOW_STACK},
    {"quarantine-after", required_argument, NULL, OPTION_QUARANTINE_AFTER},
    {"quarantine-timeouts", no_argument, NULL, OPTION_QUARANTINE_TIMEOUTS},
    {"lifeline-fd", required_argument, NULL, OPTION_LIFELINE_FD},
    {"remove-directory", no_argument, NULL, OPTION_REMOVE_DIRECTORY},
    {"log-level", required_argument, NULL, OPTION_LOG_LEVEL},
    {"log-format", required_argument, NULL, OPTION_LOG_FORMAT},
    {"log-file", required_argument, NULL, OPTION_LOG_FILE},
    {"log-requests", no_argument, NULL, OPTION_LOG_REQUESTS},
    {"slow", required_argument, NULL, OPTION_SLOW},
    {"replay", required_argument, NULL, OPTION_REPLAY},
    {"check", no_argument, NULL, OPTION_CHECK},
    {"version", no_argument, NULL, OPTION_VERSION},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

_Noreturn static void usage_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

_Noreturn static void usage_error(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("cohabd: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs("; see cohabd --help\n", stderr);
    va_end(arguments);
    exit(EXIT_USAGE);
}

static const char *option_name(int id)
{
    for (const struct option *option = long_options; option->name; option++)
        if (option->val == id)
            return option->name;
    return "?";
}

/* getopt_long takes abbreviations: what they mean would change with every new option. */
static bool is_written_out(const char *word, int id)
{
    const char *name = option_name(id);
    size_t length = strlen(name);
    return strncmp(word, "--", 2) == 0 && strncmp(word + 2, name, length) == 0 &&
           (word[2 + length] == '\0' || word[2 + length] == '=');
}

static unsigned long parse_number(int id, const char *text, unsigned long low, unsigned long high)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno || !isdigit((unsigned char)*text) || *end || value < low || value > high)
        usage_error("--%s takes a number from %lu to %lu, not '%s'", option_name(id), low, high, text);
    return value;
}

static uint64_t parse_seconds(int id, const char *text, bool zero_allowed)
{
    char *end;
    double value = strtod(text, &end);
    bool plain = strspn(text, "0123456789.eE-+") == strlen(text) && *text != '+';
    bool enough = clock_from_seconds(value) > 0 || (value == 0 && zero_allowed);
    if (end == text || *end || !plain || value > 1e9 || !enough)
        usage_error("--%s takes a number of seconds%s, not '%s'", option_name(id),
                    zero_allowed ? "" : " above 0", text);
    return clock_from_seconds(value);
}

static uint64_t parse_size(int id, const char *text, uint64_t high)
{
    uint64_t size = 0;
    switch (size_parse(text, high, &size)) {
    case SIZE_OK:
        break;
    case SIZE_TOO_LARGE:
        usage_error("--%s takes a size up to %" PRIu64 " bytes, not '%s'", option_name(id), high, text);
    case SIZE_NONE:
        usage_error("--%s takes a size such as 4096, 64K or 64M+64K, not '%s'", option_name(id), text);
    }
    if (size < 64)
        usage_error("--%s takes a size from 64 to %" PRIu64 " bytes, not '%s'", option_name(id), high, text);
    return size;
}

static bool parse_switch(int id, const char *text)
{
    if (strcmp(text, "on") != 0 && strcmp(text, "off") != 0)
        usage_error("--%s takes on or off, not '%s'", option_name(id), text);
    return strcmp(text, "on") == 0;
}

static mode_t parse_mode(const char *text)
{
    char *end;
    unsigned long mode = strtoul(text, &end, 8);
    if (end == text || *end || mode > 0777)
        usage_error("--socket-mode takes an octal mode such as 0660, not '%s'", text);
    return (mode_t)mode;
}

static unsigned core_count(void)
{
    cpu_set_t set;
    int count =
        sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : (unsigned)count > WORKERS_MAX ? WORKERS_MAX : (unsigned)count;
}

static void set_option(struct options *options, int id, const char *value)
{
    switch (id) {
    case OPTION_SOCKET:
        options->socket = value;
        break;
    case OPTION_WORKERS:
        if (!options_parse_workers(value, &options->workers_min, &options->workers_max))
            usage_error("--workers takes a number from 1 to %u, or two such as 2:8, not '%s'", WORKERS_MAX,
                        value);
        break;
    case OPTION_IDLE_TIMEOUT:
        options->idle_timeout = parse_seconds(id, value, false);
        break;
    case OPTION_SPARE:
        options->spare = (unsigned)parse_number(id, value, 0, SPARE_MAX);
        break;
    case OPTION_MAX_REQUESTS:
        options->max_requests = parse_number(id, value, 0, LONG_MAX);
        break;
    case OPTION_MAX_PRIVATE:
        options->max_private = parse_size(id, value, MAX_MEMORY_MAX);
        break;
    case OPTION_MAX_AGE:
        options->max_age = parse_seconds(id, value, true);
        break;
    case OPTION_LOAD_TIMEOUT:
        options->load_timeout = parse_seconds(id, value, false);
        break;
    case OPTION_MAX_FRAME:
        options->max_frame = (uint32_t)parse_size(id, value, FRAME_MAX_LIMIT);
        break;
    case OPTION_MAX_CONNECTIONS:
        options->max_connections = (unsigned)parse_number(id, value, 1, CONNECTIONS_MAX);
        break;
    case OPTION_DEFAULT_TIMEOUT:
        options->default_timeout = parse_seconds(id, value, false);
        break;
    case OPTION_MAX_TIMEOUT:
        options->max_timeout = parse_seconds(id, value, false);
        break;
    case OPTION_KILL_GRACE:
        options->kill_grace = parse_seconds(id, value, true);
        break;
    case OPTION_CANCEL_KILL:
        options->cancel_kill = parse_seconds(id, value, true);
        break;
    case OPTION_STALL_TIMEOUT:
        options->stall_timeout = parse_seconds(id, value, false);
        if (options->stall_timeout < STALL_TIMEOUT_MIN)
            usage_error("--stall-timeout takes at least 0.25 seconds, not '%s'", value);
        break;
    case OPTION_IO_TIMEOUT:
        options->io_timeout = parse_seconds(id, value, false);
        break;
    case OPTION_SPIN_US:
        options->spin = parse_number(id, value, 0, SPIN_US_MAX) * 1000;
        break;
    case OPTION_STOP_TIMEOUT:
        options->stop_timeout = parse_seconds(id, value, true);
        break;
    case OPTION_SOCKET_MODE:
        options->socket_mode = parse_mode(value);
        break;
    case OPTION_CRASH_DIR:
        options->crash_dir = value;
        break;
    case OPTION_CRASH_KEEP:
        options->crash_keep = (unsigned)parse_number(id, value, 0, CRASH_KEEP_MAX);
        break;
    case OPTION_CRASH_KEEP_SIZE:
        options->crash_keep_size = parse_size(id, value, CRASH_KEEP_SIZE_MAX);
        break;
    case OPTION_CRASH_PARAMS:
        options->crash_params = parse_switch(id, value);
        break;
    case OPTION_CORE:
        options->core = true;
        break;
    case OPTION_MAX_MEMORY:
        options->max_memory = parse_size(id, value, MAX_MEMORY_MAX);
        if (options->max_memory < MAX_MEMORY_MIN)
            usage_error("--max-memory takes at least 16M, not '%s'", value);
        break;
    case OPTION_SLOW_STACK:
        options->slow_stack = parse_seconds(id, value, true);
        break;
    case OPTION_QUARANTINE_AFTER:
        options->quarantine_after = (unsigned)parse_number(id, value, 0, QUARANTINE_AFTER_MAX);
        break;
    case OPTION_QUARANTINE_TIMEOUTS:
        options->quarantine_timeouts = true;
        break;
    case OPTION_LIFELINE_FD:
        options->lifeline = (int)parse_number(id, value, 0, INT_MAX);
        break;
    case OPTION_REMOVE_DIRECTORY:
        options->remove_directory = true;
        break;
    case OPTION_LOG_LEVEL:
        if (log_level_parse(value) < 0)
            usage_error("--log-level takes error, warn, info or debug, not '%s'", value);
        options->log_level = (enum log_level)log_level_parse(value);
        break;
    case OPTION_LOG_FORMAT:
        if (strcmp(value, "text") != 0 && strcmp(value, "json") != 0)
            usage_error("--log-format takes text or json, not '%s'", value);
        options->log_format = strcmp(value, "json") == 0 ? LOG_JSON : LOG_TEXT;
        break;
    case OPTION_LOG_FILE:
        options->log_file = value;
        break;
    case OPTION_LOG_REQUESTS:
        options->log_requests = true;
        break;
    case OPTION_SLOW:
        options->slow = parse_seconds(id, value, true);
        break;
    case OPTION_REPLAY:
        options->replay = value;
        break;
    case OPTION_CHECK:
        options->check = true;
        break;
    case OPTION_VERSION:
        puts("cohabd " COHAB_VERSION);
        exit(EXIT_SUCCESS);
    case OPTION_HELP:
        fputs(help_text, stdout);
        exit(EXIT_SUCCESS);
    }
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

/* "spell" and "libspell.so" both mean libspell.so. */
static char *engine_candidate(const char *directory, const char *name)
{
    char *path;
    const char *suffix = strrchr(name, '.');
    bool is_file = suffix && strcmp(suffix, ".so") == 0;
    return asprintf(&path, is_file ? "%s/%s" : "%s/lib%s.so", directory, name) < 0 ? NULL : path;
}

static char *engine_look_up(const char *name, char *problem, size_t size)
{
    char executable[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", executable, sizeof(executable) - 1);
    if (length < 0) {
        snprintf(problem, size, "cannot read /proc/self/exe: %m; is /proc mounted?");
        return NULL;
    }
    executable[length] = '\0';
    *strrchr(executable, '/') = '\0';
    char installed[PATH_MAX + 64], built[PATH_MAX + 64];
    snprintf(installed, sizeof(installed), "%s/../" COHAB_ENGINE_DIR, executable);
    snprintf(built, sizeof(built), "%s/engine", executable);
    const char *const directories[] = {built, installed};
    for (size_t i = 0; i < 2; i++) {
        char *path = engine_candidate(directories[i], name);
        if (path && access(path, R_OK) == 0)
            return path;
        free(path);
    }
    snprintf(problem, size, "no engine named '%s' in %s or %s; give a path with a slash for a file elsewhere",
             name, built, installed);
    return NULL;
}

char *options_find_engine(const char *name, char *problem, size_t size)
{
    *problem = '\0';
    char *found = strchr(name, '/') ? strdup(name) : engine_look_up(name, problem, size);
    char *path = found ? realpath(found, NULL) : NULL;
    free(found);
    if (path && access(path, R_OK) == 0)
        return path;
    if (!*problem)
        snprintf(problem, size, "cannot open engine %s: %m", name);
    free(path);
    return NULL;
}

void options_check_directories(const struct options *options)
{
    const char *directory = options->crash_dir;
    if (!directory)
        return;
    struct stat status;
    if (stat(directory, &status) < 0)
        fatal("--crash-dir %s: %m", directory);
    if (!S_ISDIR(status.st_mode))
        fatal("--crash-dir %s is not a directory", directory);
    if (access(directory, W_OK | X_OK) < 0)
        fatal("--crash-dir %s: %m; cohabd runs as uid %u", directory, (unsigned)geteuid());
}

static void take_engine(struct options *options, int argc, char **argv, int at, enum options_use use)
{
    char problem[PATH_MAX * 3];
    options->engine_at = at;
    if (at >= argc && use == OPTIONS_ROLE)
        return; /* one without an engine */
    if (at >= argc)
        usage_error("no engine given");
    if (at + 1 < argc && strcmp(argv[at + 1], "--") != 0)
        usage_error("'%s' after the engine: options come before it, engine arguments after --", argv[at + 1]);
    options->engine_name = argv[at];
    if (use == OPTIONS_USER &&
        !(options->engine_path = options_find_engine(argv[at], problem, sizeof(problem))))
        fatal("%s", problem);
    options->engine_argv = argv + (at + 2 < argc ? at + 2 : argc);
    options->engine_argc = at + 2 < argc ? argc - at - 2 : 0;
}

static uint64_t shorter(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void options_parse(struct options *options, int argc, char **argv, enum options_use use)
{
    *options = (struct options){
        .socket = getenv("COHAB_SOCKET"),
        .workers_min = core_count(),
        .workers_max = core_count(),
        .idle_timeout = 10 * CLOCK_NS_PER_S,
        .load_timeout = 120 * CLOCK_NS_PER_S,
        .max_frame = (64u << 20) + (64u << 10),
        .max_connections = 1024,
        .max_timeout = 300 * CLOCK_NS_PER_S,
        .kill_grace = CLOCK_NS_PER_S / 10,
        .stall_timeout = CLOCK_NS_PER_S,
        .io_timeout = CLOCK_NS_PER_S / 2,
        .stop_timeout = 30 * CLOCK_NS_PER_S,
        .socket_mode = 0660,
        .crash_keep = 100,
        .crash_keep_size = UINT64_C(1) << 30,
        .crash_params = true,
        .quarantine_after = 2,
        .log_level = LOG_INFO,
        .lifeline = -1,
    };
    opterr = 0;
    int id, at = optind;
    for (; (id = getopt_long(argc, argv, "+:", long_options, NULL)) != -1; at = optind) {
        if (id == ':')
            usage_error("%s needs a value", argv[at]);
        if (id == '?' || !is_written_out(argv[at], id))
            usage_error("unknown option %s", argv[at]);
        set_option(options, id, optarg);
    }
    if (options->default_timeout > options->max_timeout)
        usage_error("--default-timeout is longer than --max-timeout");
    if (options->default_timeout == 0)
        options->default_timeout = shorter(30 * CLOCK_NS_PER_S, options->max_timeout);
    log_set_level(options->log_level);
    log_set_format(options->log_format);
    if (!options->check && !options->replay && (!options->socket || !*options->socket))
        usage_error("--socket PATH (or COHAB_SOCKET) is needed");
    take_engine(options, argc, argv, optind, use);
}
