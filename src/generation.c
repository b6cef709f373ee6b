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

#include "births.h"
#include "clock.h"
#include "crashes.h"
#include "deaths.h"
#include "descriptors.h"
#include "forkserver.h"
#include "ipc.h"
#include "log.h"
#include "metrics.h"
#include "notify.h"
#include "preload.h"
#include "reload.h"
#include "shared.h"
#include "snapshot.h"
#include "supervise.h"
#include "title.h"

/* --- what is to be loaded --- */

int engine_spec_copy(struct engine_spec *copy, const struct engine_spec *spec)
{
    *copy = (struct engine_spec){.name = strdup(spec->name),
                                 .argc = spec->argc,
                                 .argv = calloc((size_t)spec->argc + 1, sizeof(char *))};
    bool whole = copy->name && copy->argv;
    for (int i = 0; whole && i < spec->argc; i++)
        whole = (copy->argv[i] = strdup(spec->argv[i])) != NULL;
    if (!whole)
        engine_spec_clear(copy);
    return whole ? 0 : -1;
}

void engine_spec_clear(struct engine_spec *spec)
{
    for (int i = 0; spec->argv && i < spec->argc; i++)
        free(spec->argv[i]);
    free(spec->argv);
    free(spec->name);
    *spec = (struct engine_spec){0};
}

/* --- messages --- */

/* One of several strings that follow each other. */
static void copy_part(const struct ipc_message *message, int part, char *text, size_t size)
{
    size_t at = 0;
    for (; part > 0 && at < message->text_size; part--)
        at += strlen(message->text + at) + 1;
    snprintf(text, size, "%.*s", (int)size - 1, at < message->text_size ? message->text + at : "");
}

static void on_loaded(struct generation *generation, const struct ipc_message *message)
{
    struct master *master = generation->master;
    generation->loaded = true;
    generation->progress_at = clock_now();
    copy_part(message, 0, generation->engine_name, sizeof(generation->engine_name));
    copy_part(message, 1, generation->engine_version, sizeof(generation->engine_version));
    copy_part(message, 2, generation->build_id, sizeof(generation->build_id));
    log_event(LOG_INFO, "engine_loaded",
              LOG_FIELDS(.pid = generation->pid, .generation = generation->number,
                         .engine = generation->engine_name, .path = generation->path,
                         .duration = generation->progress_at - generation->born_at),
              "engine %s %s loaded, generation %u", generation->engine_name, generation->engine_version,
              generation->number);
    if (generation == master->present) {
        master->load_problem[0] = '\0';
        backoff_ready(&master->loads);
    } else {
        reload_on_loaded(master, generation);
    }
    births_go_on(master);
}

/* Why it does not serve: for status, callers and whoever has asked for a reload. */
static void note_problem(struct generation *generation, const char *problem)
{
    struct master *master = generation->master;
    generation->explained = true;
    if (generation == master->present)
        snprintf(master->load_problem, sizeof(master->load_problem), "%.500s", problem);
    reload_note_problem(master, generation, problem);
}

static void on_load_failed(struct generation *generation, const char *why)
{
    char problem[LOAD_PROBLEM_SIZE];
    log_event(LOG_ERROR, "load_failed",
              LOG_FIELDS(.pid = generation->pid, .generation = generation->number, .path = generation->path,
                         .cause = why),
              "engine %s: %s", generation->path, why);
    snprintf(problem, sizeof(problem), "the engine does not load: %.450s", why);
    note_problem(generation, problem);
}

static void handle_message(struct generation *generation, const struct ipc_message *message)
{
    unsigned number = message->number;
    switch (message->type) {
    case IPC_METHODS:
        metrics_add_methods(generation->master, &generation->methods, message);
        break;
    case IPC_PATH:
        copy_part(message, 0, generation->path, sizeof(generation->path));
        break;
    case IPC_LOADED:
        on_loaded(generation, message);
        break;
    case IPC_LOAD_FAILED:
        on_load_failed(generation, message->text);
        break;
    case IPC_FORK_FAILED: /* its control socket ends the birth */
        log_event(LOG_ERROR, "fork_failed", LOG_FIELDS(.worker = number, .cause = message->text),
                  "worker %u: cannot fork: %s", number, message->text);
        snprintf(generation->master->start_problem, sizeof(generation->master->start_problem),
                 "a worker cannot be forked: %.450s", message->text);
        break;
    default:
        log_event(LOG_WARN, "forkserver_rogue", LOG_FIELDS(.pid = generation->pid),
                  "the forkserver sent an unknown message (%u)", message->type);
    }
}

void generation_read(struct generation *generation)
{
    struct ipc_message message;
    int result = -1;
    while (generation->control >= 0 &&
           (result = ipc_receive(generation->control, &message, MSG_DONTWAIT)) == 1) {
        ipc_close_descriptors(&message);
        handle_message(generation, &message);
    }
    if (result == 0)
        ev_io_stop(generation->master->loop, &generation->control_watcher); /* its death is reaped */
}

static void on_forkserver(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    (void)events;
    generation_read(watcher->data);
}

/* --- start and end --- */

static void close_control(struct generation *generation)
{
    if (generation->control < 0)
        return;
    ev_io_stop(generation->master->loop, &generation->control_watcher);
    close(generation->control);
    generation->control = -1;
}

void generation_adopt(struct generation *generation)
{
    struct ev_loop *loop = generation->master->loop;
    output_adopt(&generation->output, loop);
    ev_io_init(&generation->control_watcher, on_forkserver, generation->control, EV_READ);
    generation->control_watcher.data = generation;
    if (generation->control >= 0)
        ev_io_start(loop, &generation->control_watcher);
}

void generation_end(struct generation *generation)
{
    if (generation->pid == 0 || generation->control < 0)
        return;
    close_control(generation);
    if (kill(-generation->pid, SIGKILL) < 0) /* as long as it is not reaped, the group is no other's */
        kill(generation->pid, SIGKILL);      /* it has not come so far as to have a group */
}

void generation_end_all(struct master *master)
{
    for (struct generation *generation = master->generations; generation; generation = generation->next)
        generation_end(generation);
}

/* In the forked child, until exec. The master has one thread, so that any call is safe here. */
_Noreturn static void become_forkserver(const struct generation *generation, int control, int output,
                                        char **argv)
{
    const struct master *master = generation->master;
    sigset_t none;
    sigemptyset(&none);
    setpgid(0, 0); /* Ctrl-C is for the master alone */
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
        dup2(output, STDERR_FILENO) < 0 || dup2(control, FD_FORKSERVER) < 0 ||
        dup2(master->slots.set, FD_SET) < 0 || dup2(generation->snapshot, FD_SNAPSHOT) < 0 ||
        dup2(master->crashes->table_view, FD_QUARANTINE) < 0 || sigprocmask(SIG_SETMASK, &none, NULL) < 0)
        _exit(EXIT_FAILURE);
    if (close_range(STDERR_FILENO + 1, FD_FORKSERVER - 1, 0) < 0 || close_range(FD_HANDED_END, ~0u, 0) < 0)
        _exit(EXIT_FAILURE); /* also what the master's own parent left it */
    signal(SIGHUP, SIG_DFL);
    signal(SIGUSR1, SIG_IGN); /* meant for the master, but sent to the whole control group */
    signal(SIGUSR2, SIG_IGN);
    signal(SIGXFSZ, SIG_DFL); /* but SIGPIPE stays ignored: a log that nobody reads is no reason to die */
    notify_forget();
    preload_request();
    execv("/proc/self/exe", argv);
    _exit(FORKSERVER_EXIT_NOT_RUN);
}

/* The master's own options, and this engine. */
static char **forkserver_argv(const struct generation *generation)
{
    static char argv0[TITLE_ROOM], separator[] = "--";
    const struct master *master = generation->master;
    const struct engine_spec *spec = &generation->spec;
    int at = 1 + master->options->word_count;
    char **argv = calloc((size_t)(at + 2 + spec->argc + 1), sizeof(*argv));
    if (!argv)
        return NULL;
    int length = snprintf(argv0, sizeof(argv0), "%s %u", FORKSERVER_ARGV0, generation->number);
    memset(argv0 + length, ' ', sizeof(argv0) - 1 - (size_t)length);
    memcpy(argv + 1, master->options->words, (size_t)(at - 1) * sizeof(*argv));
    argv[0] = argv0;
    argv[at] = spec->name;
    argv[at + 1] = separator;
    memcpy(argv + at + 2, spec->argv, (size_t)spec->argc * sizeof(*argv));
    return argv;
}

static void close_memory(struct generation *generation)
{
    output_close(&generation->output);
    if (generation->snapshot >= 0)
        close(generation->snapshot);
    generation->snapshot = -1;
}

/* What a new one is given of its own: where to print, and where to write down how it crashed. */
static int open_memory(struct generation *generation, int *output)
{
    generation->snapshot = shared_create("cohab-snapshot", sizeof(struct snapshot));
    *output = output_open(&generation->output, generation->master->loop, OUTPUT_FORKSERVER);
    return generation->snapshot < 0 || *output < 0 ? -1 : 0;
}

/* Forks, with pair[1] and output for the child, which the caller closes. -1 with errno. */
static int launch(struct generation *generation, const int pair[2], int output)
{
    char **argv = forkserver_argv(generation);
    if (!argv)
        return -1;
    pid_t pid = fork();
    if (pid == 0)
        become_forkserver(generation, pair[1], output, argv);
    int saved = errno;
    free(argv);
    errno = saved;
    if (pid < 0)
        return -1;
    generation->pid = generation->output.pid = pid;
    generation->born_at = clock_now();
    generation->explained = false;
    generation->control = pair[0];
    metrics_release(&generation->methods);
    ev_io_init(&generation->control_watcher, on_forkserver, pair[0], EV_READ);
    generation->control_watcher.data = generation;
    ev_io_start(generation->master->loop, &generation->control_watcher);
    return 0;
}

static int start_forkserver(struct generation *generation)
{
    int pair[2] = {-1, -1}, output = -1;
    int result =
        open_memory(generation, &output) < 0 || ipc_pair(pair, 0) < 0 ? -1 : launch(generation, pair, output);
    if (result < 0) {
        log_event(LOG_ERROR, "forkserver_not_started", NULL, "cannot start a forkserver: %m");
        if (pair[0] >= 0)
            close(pair[0]);
        close_memory(generation);
    }
    if (pair[1] >= 0)
        close(pair[1]);
    if (output >= 0)
        close(output);
    return result;
}

static void discard(struct generation *generation)
{
    struct generation **link = &generation->master->generations;
    while (*link && *link != generation)
        link = &(*link)->next;
    if (*link)
        *link = generation->next;
    metrics_release(&generation->methods);
    engine_spec_clear(&generation->spec);
    free(generation);
}

struct generation *generation_start(struct master *master, const struct engine_spec *spec)
{
    struct generation *generation = calloc(1, sizeof(*generation));
    if (!generation || engine_spec_copy(&generation->spec, spec) < 0) {
        free(generation);
        log_event(LOG_ERROR, "forkserver_not_started", NULL, "cannot start a forkserver: out of memory");
        return NULL;
    }
    generation->master = master;
    generation->number = master->last_generation + 1;
    generation->control = generation->snapshot = -1;
    snprintf(generation->path, sizeof(generation->path), "%s", spec->name);
    generation->next = master->generations;
    master->generations = generation;
    if (start_forkserver(generation) < 0) {
        discard(generation);
        return NULL;
    }
    master->last_generation++;
    return generation;
}

/* Names of an engine that has not loaded again are better than none. */
static void replace_present(struct master *master)
{
    struct generation *old = master->present;
    struct generation *generation = generation_start(master, &old->spec);
    if (!generation)
        return;
    memcpy(generation->engine_name, old->engine_name, sizeof(old->engine_name));
    memcpy(generation->engine_version, old->engine_version, sizeof(old->engine_version));
    memcpy(generation->build_id, old->build_id, sizeof(old->build_id));
    memcpy(generation->path, old->path, sizeof(old->path));
    master->present = generation;
    generation_sweep(master);
}

static void note_failure(struct backoff *backoff)
{
    uint64_t now = clock_now();
    backoff_note(backoff, &(struct life){.born_at = now, .ended_at = now});
}

/* One that has never loaded, and so has no workers, is tried again under the next number. */
static void start_again(struct generation *generation)
{
    generation->number = generation->master->last_generation + 1;
    if (start_forkserver(generation) == 0)
        generation->master->last_generation++;
}

void generation_keep(struct master *master)
{
    struct generation *present = master->present;
    if (present->pid != 0 || clock_now() < master->loads.retry_at)
        return;
    if (present->loaded)
        replace_present(master);
    else
        start_again(present);
    if (master->present->pid == 0)
        note_failure(&master->loads);
}

struct generation *generation_find(struct master *master, pid_t pid)
{
    struct generation *generation = master->generations;
    while (generation && generation->pid != pid)
        generation = generation->next;
    return generation;
}

unsigned generation_alive(const struct master *master)
{
    unsigned alive = 0;
    for (const struct generation *generation = master->generations; generation; generation = generation->next)
        alive += generation->pid != 0;
    return alive;
}

void generation_sweep(struct master *master)
{
    struct generation *next;
    for (struct generation *generation = master->generations; generation; generation = next) {
        next = generation->next;
        if (generation != master->present && generation->seats == 0 && generation->pid == 0 &&
            !reload_holds(master, generation))
            discard(generation);
    }
}

/* --- death --- */

static void tell_never_loaded(struct generation *generation, const char *how)
{
    char problem[LOAD_PROBLEM_SIZE];
    log_event(LOG_ERROR, "load_failed",
              LOG_FIELDS(.pid = generation->pid, .generation = generation->number, .path = generation->path,
                         .cause = how),
              "engine %s: load() never returned: %s", generation->path, how);
    snprintf(problem, sizeof(problem), "load() never returned: %.450s", how);
    note_problem(generation, problem);
}

static bool was_not_run(int status)
{
    return WIFEXITED(status) && WEXITSTATUS(status) == FORKSERVER_EXIT_NOT_RUN;
}

/* A crash in load(), or of one that served. */
static void report_crash(struct generation *generation, bool explained, int status, uint64_t peak)
{
    struct master *master = generation->master;
    bool deserves = supervise_wants_births(master) && !explained && !was_not_run(status);
    struct crash *crash = deserves ? crashes_new(master, generation, REPORTER_DEATH) : NULL;
    if (!crash)
        return;
    struct reporter_job *job = crashes_job(crash);
    job->pid = generation->pid;
    job->generation = generation->number;
    job->status = status;
    job->phase = generation->loaded ? PHASE_IDLE : PHASE_LOAD;
    job->end =
        WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && oom_take(&master->crashes->oom, clock_now())
            ? END_OOM
            : END_OWN;
    job->born_at = generation->born_at;
    job->peak = peak;
    (void)crashes_send(crash, generation->snapshot, &generation->output);
}

static void tell_death(struct generation *generation, int status)
{
    char how[64];
    deaths_describe_status(status, how, sizeof(how));
    if (generation->loaded)
        log_event(LOG_ERROR, "forkserver_died",
                  LOG_FIELDS(.pid = generation->pid, .generation = generation->number, .cause = how),
                  "forkserver (pid %d) died: %s%s", (int)generation->pid, how,
                  generation == generation->master->present ? "; a new one is started" : "");
    else if (was_not_run(status))
        log_event(LOG_ERROR, "forkserver_not_started", LOG_FIELDS(.pid = generation->pid),
                  "cannot execute /proc/self/exe for a forkserver: is /proc mounted?");
    else if (!generation->explained)
        tell_never_loaded(generation, how);
}

static void note_life(struct generation *generation, int status)
{
    struct master *master = generation->master;
    if (generation->loaded)
        master->forkserver_deaths++;
    if (generation != master->present)
        return;
    struct life life = {.served = generation->loaded,
                        .killed = deaths_was_killed(status),
                        .born_at = generation->born_at,
                        .ended_at = clock_now()};
    backoff_note(&master->loads, &life);
}

void generation_died(struct generation *generation, int status, uint64_t peak)
{
    struct master *master = generation->master;
    bool news = supervise_wants_births(master) && !generation->ended;
    bool explained = generation->explained;
    close_control(generation);
    output_drain(&generation->output);
    if (news) {
        tell_death(generation, status);
        report_crash(generation, explained, status, peak);
        note_life(generation, status);
    }
    (void)kill(-generation->pid, SIGKILL); /* what load() has started, and births that had not come far */
    reload_on_death(master, generation);   /* looks at its last output; what has a pid is not swept */
    close_memory(generation);
    generation->pid = 0;
    if (master->state == MASTER_STARTING)
        master_abandon(master);
    generation_sweep(master);
}

void generation_look(struct master *master, uint64_t now)
{
    for (struct generation *generation = master->generations; generation; generation = generation->next) {
        char problem[LOAD_PROBLEM_SIZE];
        output_resume(&generation->output);
        if (generation->pid == 0 || generation->control < 0 || generation->loaded ||
            now - generation->born_at < master->options->load_timeout)
            continue;
        snprintf(problem, sizeof(problem), "load() has not returned within %g s (--load-timeout)",
                 (double)master->options->load_timeout / 1e9);
        log_event(LOG_ERROR, "load_failed",
                  LOG_FIELDS(.pid = generation->pid, .generation = generation->number,
                             .path = generation->path, .cause = problem),
                  "engine %s: %s: killed", generation->path, problem);
        note_problem(generation, problem);
        generation_end(generation);
    }
}
