#include "upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "admin.h"
#include "clock.h"
#include "crashes.h"
#include "deaths.h"
#include "generation.h"
#include "handover.h"
#include "heartbeat.h"
#include "log.h"
#include "master.h"
#include "metrics.h"
#include "notify.h"
#include "stacks.h"

/* What waits for a reporter, or for a stack, has this long. */
#define SETTLE_TIME (3 * CLOCK_NS_PER_S)
#define DELETED     " (deleted)"

enum upgrade_state {
    UPGRADE_NONE,
    UPGRADE_CHECKING, /* the new program checks */
    UPGRADE_SETTLING, /* what cannot be handed over comes to its end */
    UPGRADE_READY,    /* the loop is to be left */
};

static struct upgrade {
    enum upgrade_state state;
    char **argv;
    char path[4096]; /* of the program */
    int program;     /* the file that was checked, and no other, is executed; -1: none */
    pid_t checker;   /* 0: none */
    bool timed_out;
    struct output output; /* of the checker */
    uint64_t began_at;
    uint64_t settle_by;
    char after[64]; /* version of the new program */
    upgrade_listener *listener;
    void *context;
} upgrade = {.program = -1, .output.watcher.fd = -1};

/* --- how it ends --- */

static void clear(void)
{
    output_close(&upgrade.output);
    if (upgrade.program >= 0)
        close(upgrade.program);
    upgrade.program = -1;
    upgrade.state = UPGRADE_NONE;
}

static void fail(struct master *master, const char *why)
{
    static char output[REPORT_STDERR_SIZE];
    struct upgrade_result result = {.before = COHAB_VERSION,
                                    .after = COHAB_VERSION,
                                    .duration = clock_now() - upgrade.began_at,
                                    .problem = why,
                                    .output = output};
    result.output_size = output_copy_tail(&upgrade.output, output, sizeof(output));
    bool reload = master->reload.again && master->state == MASTER_SERVING;
    log_event(master->state == MASTER_SERVING ? LOG_ERROR : LOG_INFO, "upgrade_failed",
              LOG_FIELDS(.path = upgrade.path, .cause = why, .duration = result.duration),
              "no upgrade: %s; version " COHAB_VERSION " goes on", why);
    upgrade_listener *listener = upgrade.listener;
    upgrade.listener = NULL;
    clear();
    master->reload.again = false;
    if (listener)
        listener(upgrade.context, &result);
    if (reload)
        reload_ask(master);
}

void upgrade_cancel(struct master *master)
{
    if (upgrade.state == UPGRADE_NONE)
        return;
    if (upgrade.checker > 0)
        (void)kill(-upgrade.checker, SIGKILL);
    fail(master, "the server stops");
}

/* --- the check --- */

/* In the forked child, until exec. */
_Noreturn static void become_checker(char **argv, int output)
{
    sigset_t none;
    sigemptyset(&none);
    setpgid(0, 0); /* Ctrl-C is for the master alone */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
        dup2(output, STDERR_FILENO) < 0 || sigprocmask(SIG_SETMASK, &none, NULL) < 0)
        _exit(EXIT_FAILURE);
    signal(SIGHUP, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGXFSZ, SIG_DFL);
    notify_forget();
    execveat(upgrade.program, "", argv, environ, AT_EMPTY_PATH);
    dprintf(STDERR_FILENO, "cohabd: cannot execute %s: %s\n", upgrade.path, strerror(errno));
    _exit(EXIT_FAILURE);
}

/* The master's options, and the engine that serves. */
static char **checker_argv(const struct master *master)
{
    static char argv0[128], check[] = "--check", separator[] = "--";
    char versions[96];
    const struct options *options = master->options;
    const struct engine_spec *spec = &master->present->spec;
    const struct handover_versions ours = handover_versions(options->max_frame);
    char **argv = calloc((size_t)(options->word_count + spec->argc + 5), sizeof(*argv)), **at = argv;
    if (!argv)
        return NULL;
    snprintf(argv0, sizeof(argv0), "%s %s", UPGRADE_CHECK_ARGV0,
             handover_write_versions(&ours, versions, sizeof(versions)));
    *at++ = argv0;
    *at++ = check;
    memcpy(at, options->words, (size_t)options->word_count * sizeof(*at));
    at += options->word_count;
    *at++ = spec->name;
    *at++ = separator;
    memcpy(at, spec->argv, (size_t)spec->argc * sizeof(*at));
    return argv;
}

/* -1 with errno. */
static int start_checker(struct master *master)
{
    char **argv = checker_argv(master);
    int output = argv ? output_open(&upgrade.output, master->loop, OUTPUT_CHECK) : -1;
    pid_t pid = output < 0 ? -1 : fork();
    if (pid == 0)
        become_checker(argv, output);
    int saved = errno;
    free(argv);
    if (output >= 0)
        close(output);
    errno = saved;
    if (pid < 0)
        return -1;
    upgrade.checker = upgrade.output.pid = pid;
    return 0;
}

/* The last line of what it printed, without cohabd's own name; "" without any. */
static const char *last_line(char *text, size_t size)
{
    while (size > 0 && (text[size - 1] == '\n' || text[size - 1] == '\0'))
        size--;
    text[size] = '\0';
    char *line = strrchr(text, '\n');
    line = line ? line + 1 : text;
    if (log_line_priority(line, strlen(line)) >= 0)
        line += LOG_PRIORITY_SIZE;
    return strncmp(line, "cohabd: ", 8) == 0 ? line + 8 : line;
}

static void on_checked(struct master *master, int status)
{
    static char text[REPORT_STDERR_SIZE + 1];
    char how[64], why[1024];
    const char *line = last_line(text, output_copy_tail(&upgrade.output, text, REPORT_STDERR_SIZE));
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS &&
        sscanf(line, UPGRADE_ANSWER_SCANF, upgrade.after) == 1) {
        upgrade.state = UPGRADE_SETTLING;
        upgrade.settle_by = clock_now() + SETTLE_TIME;
        return;
    }
    deaths_describe_status(status, how, sizeof(how));
    if (upgrade.timed_out)
        snprintf(why, sizeof(why), "the check has not ended within %g s (--load-timeout)",
                 (double)master->options->load_timeout / 1e9);
    else if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS)
        snprintf(why, sizeof(why), "%.500s does not say that it can take over: is it a cohabd that can?",
                 upgrade.path);
    else if (WIFEXITED(status) && *line)
        snprintf(why, sizeof(why), "%s", line);
    else
        snprintf(why, sizeof(why), "the check of %.500s failed: %s", upgrade.path, how);
    fail(master, why);
}

bool upgrade_died(struct master *master, pid_t pid, int status)
{
    if (pid != upgrade.checker)
        return false;
    upgrade.checker = 0;
    (void)kill(-pid, SIGKILL); /* what load() has started */
    output_drain(&upgrade.output);
    if (upgrade.state == UPGRADE_CHECKING)
        on_checked(master, status);
    upgrade_look(master);
    return true;
}

/* --- how it begins --- */

/* The file that lies there now. */
static void find_program(void)
{
    ssize_t length = readlink("/proc/self/exe", upgrade.path, sizeof(upgrade.path) - 1);
    size_t suffix = strlen(DELETED);
    upgrade.path[length < 0 ? 0 : length] = '\0';
    if (length > (ssize_t)suffix && strcmp(upgrade.path + length - suffix, DELETED) == 0)
        upgrade.path[(size_t)length - suffix] = '\0';
}

void upgrade_init(char **argv)
{
    upgrade.argv = argv;
    find_program();
}

static const char *find_obstacle(const struct master *master)
{
    if (master->state != MASTER_SERVING)
        return "the server does not serve yet, or stops";
    if (upgrade.state != UPGRADE_NONE || upgrade.checker > 0)
        return "an upgrade is under way";
    if (master->reload.state != RELOAD_NONE)
        return "a reload is under way";
    return NULL;
}

int upgrade_begin(struct master *master, upgrade_listener *listener, void *context, char *problem,
                  size_t size)
{
    const char *obstacle = find_obstacle(master);
    if (obstacle) {
        snprintf(problem, size, "%s", obstacle);
        return -1;
    }
    upgrade.program = open(upgrade.path, O_PATH | O_CLOEXEC);
    if (upgrade.program < 0 || start_checker(master) < 0) {
        snprintf(problem, size, upgrade.program < 0 ? "cannot open %s: %s" : "cannot run %s: %s",
                 upgrade.path, strerror(errno));
        clear();
        return -1;
    }
    upgrade.state = UPGRADE_CHECKING;
    upgrade.timed_out = false;
    upgrade.began_at = clock_now();
    upgrade.listener = listener;
    upgrade.context = context;
    log_event(LOG_INFO, "upgrading", LOG_FIELDS(.pid = upgrade.checker, .path = upgrade.path),
              "upgrading: %s is checked", upgrade.path);
    return 0;
}

void upgrade_ask(struct master *master)
{
    char problem[512];
    if (upgrade_begin(master, NULL, NULL, problem, sizeof(problem)) < 0)
        log_event(LOG_ERROR, "upgrade_failed", LOG_FIELDS(.path = upgrade.path, .cause = problem),
                  "no upgrade: %s", problem);
}

void upgrade_forget_listener(const void *context)
{
    if (upgrade_is_for(context))
        upgrade.listener = NULL;
}

bool upgrade_is_for(const void *context)
{
    return upgrade.state != UPGRADE_NONE && upgrade.listener && upgrade.context == context;
}

bool upgrade_is_under_way(void)
{
    return upgrade.state != UPGRADE_NONE;
}

/* --- the change --- */

static bool is_settled(const struct master *master)
{
    for (unsigned i = 1; i <= master->seat_count; i++)
        if (master->seats[i].look.asked_at != 0)
            return false;
    return !crashes_under_way(master) && !stacks_busy(master);
}

void upgrade_look(struct master *master)
{
    uint64_t now = clock_now();
    output_resume(&upgrade.output);
    if (upgrade.state == UPGRADE_CHECKING && !upgrade.timed_out &&
        now - upgrade.began_at >= master->options->load_timeout) {
        upgrade.timed_out = true;
        (void)kill(-upgrade.checker, SIGKILL);
    }
    if (upgrade.state == UPGRADE_SETTLING && (is_settled(master) || now >= upgrade.settle_by)) {
        upgrade.state = UPGRADE_READY;
        ev_break(master->loop, EVBREAK_ALL);
    }
}

static void keep_open(void *context, int descriptor)
{
    (void)context;
    if (descriptor >= 0)
        (void)fcntl(descriptor, F_SETFD, 0);
}

static void close_on_exec(void *context, int descriptor)
{
    (void)context;
    if (descriptor >= 0)
        (void)fcntl(descriptor, F_SETFD, FD_CLOEXEC);
}

static void describe(struct master *master, struct handover *handover)
{
    const struct options *options = master->options;
    *handover = (struct handover){.master = master,
                                  .program = COHAB_VERSION,
                                  .began_at = upgrade.began_at,
                                  .max_frame = options->max_frame,
                                  .max_connections = options->max_connections,
                                  .given = options->listener >= 0,
                                  .listener = master->listener.fd,
                                  .lifeline = options->lifeline,
                                  .table = master->crashes->table,
                                  .table_view = master->crashes->table_view,
                                  .log_dropped = log_dropped(),
                                  .output_skipped = output_lines_skipped(),
                                  .sweeps = ev_is_active(&master->sweep),
                                  .reload = master->reload.again,
                                  .words = options->words,
                                  .word_count = options->word_count};
    admin_hand_over(master, handover);
}

/* The document's descriptor, which stays open over exec; -1 with errno. */
static int write_document(const struct handover *handover)
{
    msgpack_sbuffer document;
    msgpack_sbuffer_init(&document);
    errno = ENOMEM;
    int memfd = handover_write(handover, &document) < 0 ? -1 : memfd_create("cohab-handover", 0);
    size_t written = 0;
    while (memfd >= 0 && written < document.size) {
        ssize_t size = write(memfd, document.data + written, document.size - written);
        if (size > 0) {
            written += (size_t)size;
        } else if (size == 0 || errno != EINTR) {
            close(memfd);
            memfd = -1;
        }
    }
    msgpack_sbuffer_destroy(&document);
    return memfd;
}

/* Returns only where it fails, with errno. */
static void execute(const struct handover *handover)
{
    char text[64];
    int document = write_document(handover);
    if (document < 0)
        return;
    snprintf(text, sizeof(text), "%d.%d", (int)getpid(), document);
    if (setenv(UPGRADE_VARIABLE, text, 1) == 0) {
        handover_visit(handover, keep_open, NULL);
        execveat(upgrade.program, "", upgrade.argv, environ, AT_EMPTY_PATH);
        int saved = errno;
        handover_visit(handover, close_on_exec, NULL);
        unsetenv(UPGRADE_VARIABLE);
        errno = saved;
    }
    int saved = errno;
    close(document);
    errno = saved;
}

static void hand_over(struct master *master)
{
    static struct handover handover;
    char why[512];
    crashes_hand_over(master);
    heartbeat_stop(master);
    for (unsigned i = 0; i <= master->seat_count; i++)
        metrics_collect(&master->seats[i]);
    describe(master, &handover);
    notify_reloading();
    execute(&handover);
    snprintf(why, sizeof(why), "cannot execute %.400s: %s", upgrade.path, strerror(errno));
    notify_ready();
    fail(master, why);
}

/* Signals wait from here on, for this program or the next. What the loop has taken of them, and not acted on
 * yet, it does now. */
bool upgrade_go(struct master *master)
{
    sigset_t all, before;
    if (upgrade.state != UPGRADE_READY)
        return false;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    ev_run(master->loop, EVRUN_NOWAIT);
    if (upgrade.state == UPGRADE_READY)
        hand_over(master);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return master->state != MASTER_FINISHED;
}
