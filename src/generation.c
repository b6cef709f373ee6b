#include "generation.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "crashes.h"
#include "deaths.h"
#include "descriptors.h"
#include "forkserver.h"
#include "ipc.h"
#include "log.h"
#include "metrics.h"
#include "preload.h"
#include "shared.h"
#include "snapshot.h"
#include "supervise.h"
#include "title.h"

/* --- messages --- */

/* One of several strings that follow each other. */
static void copy_part(const struct ipc_message *message, int part, char *text, size_t size)
{
    size_t at = 0;
    for (; part > 0 && at < message->text_size; part--)
        at += strlen(message->text + at) + 1;
    snprintf(text, size, "%.*s", (int)size - 1, at < message->text_size ? message->text + at : "");
}

static void on_loaded(struct master *master, const struct ipc_message *message)
{
    struct forkserver_state *forkserver = &master->forkserver;
    forkserver->loaded = true;
    master->load_problem[0] = '\0';
    forkserver->progress_at = clock_now();
    copy_part(message, 0, forkserver->engine_name, sizeof(forkserver->engine_name));
    copy_part(message, 1, forkserver->engine_version, sizeof(forkserver->engine_version));
    copy_part(message, 2, forkserver->build_id, sizeof(forkserver->build_id));
    log_event(LOG_INFO, "engine_loaded",
              LOG_FIELDS(.pid = forkserver->pid, .generation = forkserver->generation,
                         .engine = forkserver->engine_name, .path = master->options->engine_path,
                         .duration = forkserver->progress_at - forkserver->born_at),
              "engine %s %s loaded, generation %u", forkserver->engine_name, forkserver->engine_version,
              forkserver->generation);
    supervise_births(master);
}

static void handle_forkserver_message(struct master *master, const struct ipc_message *message)
{
    unsigned number = message->number;
    switch (message->type) {
    case IPC_METHODS:
        metrics_add_methods(master, &master->forkserver.methods, message);
        break;
    case IPC_LOADED:
        on_loaded(master, message);
        break;
    case IPC_LOAD_FAILED:
        log_event(LOG_ERROR, "load_failed",
                  LOG_FIELDS(.pid = master->forkserver.pid, .generation = master->forkserver.generation,
                             .path = master->options->engine_path, .cause = message->text),
                  "engine %s: %s", master->options->engine_path, message->text);
        snprintf(master->load_problem, sizeof(master->load_problem), "the engine does not load: %.480s",
                 message->text);
        master->forkserver.explained = true;
        break;
    case IPC_FORK_FAILED:
        log_event(LOG_ERROR, "fork_failed", LOG_FIELDS(.worker = number, .cause = message->text),
                  "worker %u: cannot fork: %s", number,
                  message->text); /* its control socket ends the birth */
        break;
    default:
        log_event(LOG_WARN, "forkserver_rogue", LOG_FIELDS(.pid = master->forkserver.pid),
                  "the forkserver sent an unknown message (%u)", message->type);
    }
}

void generation_read(struct master *master)
{
    struct ipc_message message;
    int result = -1;
    while (master->forkserver.control >= 0 &&
           (result = ipc_receive(master->forkserver.control, &message, MSG_DONTWAIT)) == 1) {
        ipc_close_descriptors(&message);
        handle_forkserver_message(master, &message);
    }
    if (result == 0)
        ev_io_stop(master->loop, &master->forkserver.control_watcher); /* its death is reaped */
}

static void on_forkserver(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    (void)events;
    generation_read(watcher->data);
}

/* --- start and end --- */

void generation_end(struct master *master)
{
    if (master->forkserver.pid == 0 || master->forkserver.control < 0)
        return;
    ev_io_stop(master->loop, &master->forkserver.control_watcher);
    close(master->forkserver.control);
    master->forkserver.control = -1;
    if (kill(-master->forkserver.pid, SIGKILL) < 0) /* as long as it is not reaped, the group is no other's */
        kill(master->forkserver.pid, SIGKILL);      /* it has not come so far as to have a group */
}

/* In the forked child, until exec. The master has one thread, so that any call is safe here. */
_Noreturn static void become_forkserver(const struct master *master, int control, int output, char **argv)
{
    sigset_t none;
    sigemptyset(&none);
    setpgid(0, 0); /* Ctrl-C is for the master alone */
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
        dup2(output, STDERR_FILENO) < 0 || dup2(control, FD_FORKSERVER) < 0 ||
        dup2(master->slots.set, FD_SET) < 0 || dup2(master->forkserver.snapshot, FD_SNAPSHOT) < 0 ||
        dup2(master->crashes->table, FD_QUARANTINE) < 0 || sigprocmask(SIG_SETMASK, &none, NULL) < 0)
        _exit(EXIT_FAILURE);
    if (close_range(STDERR_FILENO + 1, FD_FORKSERVER - 1, 0) < 0 || close_range(FD_HANDED_END, ~0u, 0) < 0)
        _exit(EXIT_FAILURE); /* also what the master's own parent left it */
    signal(SIGHUP, SIG_DFL);
    signal(SIGUSR1, SIG_IGN); /* meant for the master's log, but sent to the whole control group */
    signal(SIGXFSZ, SIG_DFL); /* but SIGPIPE stays ignored: a log that nobody reads is no reason to die */
    preload_request();
    execv("/proc/self/exe", argv);
    _exit(FORKSERVER_EXIT_NOT_RUN);
}

static char **forkserver_argv(const struct master *master, unsigned generation)
{
    static char argv0[TITLE_ROOM];
    char **argv = calloc((size_t)master->argc + 1, sizeof(*argv));
    if (!argv)
        return NULL;
    int length = snprintf(argv0, sizeof(argv0), "%s %u", FORKSERVER_ARGV0, generation);
    memset(argv0 + length, ' ', sizeof(argv0) - 1 - (size_t)length);
    memcpy(argv, master->argv, (size_t)master->argc * sizeof(*argv));
    argv[0] = argv0;
    return argv;
}

static void note_failure(struct forkserver_state *forkserver)
{
    backoff_note(&forkserver->backoff, &(struct life){.ended_at = clock_now()});
}

static void close_memory(struct master *master)
{
    struct forkserver_state *forkserver = &master->forkserver;
    output_close(&forkserver->output);
    if (forkserver->snapshot >= 0)
        close(forkserver->snapshot);
    forkserver->snapshot = -1;
}

/* What a new one is given of its own: where to print, and where to write down how it crashed. */
static int open_memory(struct master *master, int *output)
{
    struct forkserver_state *forkserver = &master->forkserver;
    forkserver->snapshot = shared_create("cohab-snapshot", sizeof(struct snapshot));
    *output = output_open(&forkserver->output, master->loop, OUTPUT_FORKSERVER);
    return forkserver->snapshot < 0 || *output < 0 ? -1 : 0;
}

int generation_start(struct master *master)
{
    struct forkserver_state *forkserver = &master->forkserver;
    int pair[2], output = -1;
    char **argv = forkserver_argv(master, forkserver->generation + 1);
    if (!argv || open_memory(master, &output) < 0 || ipc_pair(pair, 0) < 0) {
        free(argv);
        log_event(LOG_ERROR, "forkserver_not_started", NULL, "cannot start a forkserver: %m");
        note_failure(forkserver);
        if (output >= 0)
            close(output);
        close_memory(master);
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0)
        become_forkserver(master, pair[1], output, argv);
    int saved = errno;
    free(argv);
    close(pair[1]);
    close(output);
    errno = saved;
    if (pid < 0) {
        log_event(LOG_ERROR, "forkserver_not_started", NULL, "cannot fork a forkserver: %m");
        close(pair[0]);
        close_memory(master);
        note_failure(forkserver);
        return -1;
    }
    forkserver->pid = forkserver->output.pid = pid;
    forkserver->born_at = clock_now();
    forkserver->explained = false;
    forkserver->control = pair[0];
    forkserver->generation++;
    metrics_release(&forkserver->methods);
    ev_io_init(&forkserver->control_watcher, on_forkserver, pair[0], EV_READ);
    forkserver->control_watcher.data = master;
    ev_io_start(master->loop, &forkserver->control_watcher);
    return 0;
}

static void tell_never_loaded(struct master *master, const char *how)
{
    log_event(LOG_ERROR, "load_failed",
              LOG_FIELDS(.pid = master->forkserver.pid, .generation = master->forkserver.generation,
                         .path = master->options->engine_path, .cause = how),
              "engine %s: load() never returned: %s", master->options->engine_path, how);
    snprintf(master->load_problem, sizeof(master->load_problem), "load() never returned: %s", how);
}

/* A crash in load(), or of one that served. */
static void report_crash(struct master *master, int status, uint64_t peak)
{
    const struct forkserver_state *forkserver = &master->forkserver;
    bool deserves = supervise_wants_births(master) && !forkserver->explained &&
                    !(WIFEXITED(status) && WEXITSTATUS(status) == FORKSERVER_EXIT_NOT_RUN);
    struct crash *crash = deserves ? crashes_new(master, REPORTER_DEATH) : NULL;
    if (!crash)
        return;
    struct reporter_job *job = crashes_job(crash);
    job->pid = forkserver->pid;
    job->generation = forkserver->generation;
    job->status = status;
    job->phase = forkserver->loaded ? PHASE_IDLE : PHASE_LOAD;
    job->end =
        WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && oom_take(&master->crashes->oom, clock_now())
            ? END_OOM
            : END_OWN;
    job->born_at = forkserver->born_at;
    job->peak = peak;
    (void)crashes_send(crash, forkserver->snapshot, &forkserver->output);
}

void generation_died(struct master *master, int status, uint64_t peak)
{
    struct forkserver_state *forkserver = &master->forkserver;
    char how[64];
    deaths_describe_status(status, how, sizeof(how));
    if (forkserver->control >= 0) {
        ev_io_stop(master->loop, &forkserver->control_watcher);
        close(forkserver->control);
        forkserver->control = -1;
    }
    if (supervise_wants_births(master)) {
        if (forkserver->loaded)
            log_event(LOG_ERROR, "forkserver_died",
                      LOG_FIELDS(.pid = forkserver->pid, .generation = forkserver->generation, .cause = how),
                      "forkserver (pid %d) died: %s; a new one is started", (int)forkserver->pid, how);
        else if (WIFEXITED(status) && WEXITSTATUS(status) == FORKSERVER_EXIT_NOT_RUN)
            log_event(LOG_ERROR, "forkserver_not_started", LOG_FIELDS(.pid = forkserver->pid),
                      "cannot execute /proc/self/exe for a forkserver: is /proc mounted?");
        else if (!forkserver->explained)
            tell_never_loaded(master, how);
    }
    output_drain(&forkserver->output);
    report_crash(master, status, peak);
    close_memory(master);
    (void)kill(-forkserver->pid, SIGKILL); /* what load() has started, and births that had not come far */
    if (forkserver->loaded)
        master->forkserver_deaths++;
    struct life life = {.served = forkserver->loaded,
                        .killed = deaths_was_killed(status),
                        .born_at = forkserver->born_at,
                        .ended_at = clock_now()};
    backoff_note(&forkserver->backoff, &life);
    forkserver->loaded = false;
    forkserver->pid = 0;
    if (master->state == MASTER_STARTING)
        master_abandon(master);
}
