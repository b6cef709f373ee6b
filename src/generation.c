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
#include "deaths.h"
#include "descriptors.h"
#include "forkserver.h"
#include "ipc.h"
#include "log.h"
#include "preload.h"
#include "supervise.h"
#include "title.h"

/* --- messages --- */

static void on_loaded(struct master *master, const struct ipc_message *message)
{
    struct forkserver_state *forkserver = &master->forkserver;
    size_t name = strnlen(message->text, message->text_size);
    forkserver->loaded = true;
    master->load_problem[0] = '\0';
    forkserver->progress_at = clock_now();
    snprintf(forkserver->engine_name, sizeof(forkserver->engine_name), "%.255s", message->text);
    snprintf(forkserver->engine_version, sizeof(forkserver->engine_version), "%.255s",
             name + 1 < message->text_size ? message->text + name + 1 : "");
    log_info("engine %s %s loaded, generation %u", forkserver->engine_name, forkserver->engine_version,
             forkserver->generation);
    supervise_births(master);
}

static void handle_forkserver_message(struct master *master, const struct ipc_message *message)
{
    unsigned number = message->number;
    switch (message->type) {
    case IPC_LOADED:
        on_loaded(master, message);
        break;
    case IPC_LOAD_FAILED:
        log_error("engine %s: %s", master->options->engine_path, message->text);
        snprintf(master->load_problem, sizeof(master->load_problem), "the engine does not load: %.480s",
                 message->text);
        master->forkserver.explained = true;
        break;
    case IPC_FORK_FAILED:
        log_error("worker %u: cannot fork: %s", number,
                  message->text); /* its control socket ends the birth */
        break;
    default:
        log_warn("the forkserver sent an unknown message (%u)", message->type);
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
_Noreturn static void become_forkserver(const struct master *master, int control, char **argv)
{
    sigset_t none;
    sigemptyset(&none);
    setpgid(0, 0); /* Ctrl-C is for the master alone */
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0 ||
        dup2(control, FD_FORKSERVER) < 0 || dup2(master->slots.set, FD_SET) < 0 ||
        sigprocmask(SIG_SETMASK, &none, NULL) < 0)
        _exit(EXIT_FAILURE);
    if (close_range(STDERR_FILENO + 1, FD_FORKSERVER - 1, 0) < 0 || close_range(FD_SET + 1, ~0u, 0) < 0)
        _exit(EXIT_FAILURE); /* also what the master's own parent left it */
    signal(SIGHUP, SIG_DFL);
    signal(SIGXFSZ, SIG_DFL); /* but SIGPIPE stays ignored: a log that nobody reads is no reason to die */
    preload_request();
    execv("/proc/self/exe", argv);
    _exit(FORKSERVER_EXIT_NOT_RUN);
}

static char **forkserver_argv(const struct master *master)
{
    static char argv0[TITLE_ROOM];
    char **argv = calloc((size_t)master->argc + 1, sizeof(*argv));
    if (!argv)
        return NULL;
    memset(argv0, ' ', sizeof(argv0) - 1);
    memcpy(argv0, FORKSERVER_ARGV0, strlen(FORKSERVER_ARGV0));
    memcpy(argv, master->argv, (size_t)master->argc * sizeof(*argv));
    argv[0] = argv0;
    return argv;
}

static void note_failure(struct forkserver_state *forkserver)
{
    backoff_note(&forkserver->backoff, &(struct life){.ended_at = clock_now()});
}

int generation_start(struct master *master)
{
    struct forkserver_state *forkserver = &master->forkserver;
    int pair[2];
    char **argv = forkserver_argv(master);
    if (!argv || ipc_pair(pair, 0) < 0) {
        free(argv);
        log_error("cannot start a forkserver: %m");
        note_failure(forkserver);
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0)
        become_forkserver(master, pair[1], argv);
    int saved = errno;
    free(argv);
    close(pair[1]);
    errno = saved;
    if (pid < 0) {
        log_error("cannot fork a forkserver: %m");
        close(pair[0]);
        note_failure(forkserver);
        return -1;
    }
    forkserver->pid = pid;
    forkserver->born_at = clock_now();
    forkserver->explained = false;
    forkserver->control = pair[0];
    forkserver->generation++;
    ev_io_init(&forkserver->control_watcher, on_forkserver, pair[0], EV_READ);
    forkserver->control_watcher.data = master;
    ev_io_start(master->loop, &forkserver->control_watcher);
    return 0;
}

static void tell_never_loaded(struct master *master, const char *how)
{
    log_error("engine %s: load() never returned: %s", master->options->engine_path, how);
    snprintf(master->load_problem, sizeof(master->load_problem), "load() never returned: %s", how);
}

void generation_died(struct master *master, int status)
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
            log_error("forkserver (pid %d) died: %s; a new one is started", (int)forkserver->pid, how);
        else if (WIFEXITED(status) && WEXITSTATUS(status) == FORKSERVER_EXIT_NOT_RUN)
            log_error("cannot execute /proc/self/exe for a forkserver: is /proc mounted?");
        else if (!forkserver->explained)
            tell_never_loaded(master, how);
    }
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
