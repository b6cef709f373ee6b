#include "crashes.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "crash_answer.h"
#include "crash_dir.h"
#include "deaths.h"
#include "envelope.h"
#include "generation.h"
#include "ipc.h"
#include "log.h"
#include "metrics.h"
#include "shared.h"

/* Jobs that the reporter has not taken yet; each holds a descriptor. */
#define UNSENT_MAX 64
/* And those that it has taken: what holds a caller is answered in time all the same. */
#define UNDER_WAY_MAX 1024
/* A caller waits so long for symbols: then it gets what is known. */
#define HOLD_TIME  (CLOCK_NS_PER_S / 10)
#define HOLD_TICK  0.005
#define WAIT_TIME  (2 * CLOCK_NS_PER_S)
#define WARM_AFTER (CLOCK_NS_PER_S / 10)

struct crash {
    struct crash *next;
    struct crashes *crashes;
    bool sent;
    bool quick; /* the first reply has come */
    int memory; /* until it is sent */
    uint64_t since;
    uint64_t death; /* of master->worker_deaths; UINT64_MAX: none */
    /* The caller. */
    bool held;
    uint64_t claim;
    struct recovery_plan plan;
    /* What the first reply said. */
    char id[REPORT_ID_SIZE], cause[REPORTER_TEXT_SIZE], top[REPORTER_TEXT_SIZE];
    crash_listener *listener;
    void *context;
    struct reporter_job job; /* as long as its tail is */
};

/* --- jobs --- */

static void take_out(struct crash *crash)
{
    struct crashes *crashes = crash->crashes;
    for (struct crash **at = &crashes->first; *at; at = &(*at)->next)
        if (*at == crash) {
            *at = crash->next;
            break;
        }
    crashes->last = &crashes->first;
    while (*crashes->last)
        crashes->last = &(*crashes->last)->next;
    if (!crash->sent) {
        crashes->unsent--;
        close(crash->memory);
    }
}

static struct crash *find(struct crashes *crashes, uint32_t number)
{
    for (struct crash *crash = crashes->first; crash; crash = crash->next)
        if (crash->job.number == number)
            return crash;
    return NULL;
}

static unsigned count_under_way(const struct crashes *crashes)
{
    unsigned count = 0;
    for (const struct crash *crash = crashes->first; crash; crash = crash->next)
        count++;
    return count;
}

/* Path and arguments, as far as they have room: for a replay. */
static void name_engine(struct reporter_job *job, const struct generation *generation)
{
    size_t at = (size_t)snprintf(job->engine, sizeof(job->engine), "%s", generation->path) + 1;
    memcpy(job->engine_name, generation->engine_name, sizeof(job->engine_name));
    memcpy(job->engine_version, generation->engine_version, sizeof(job->engine_version));
    memcpy(job->build_id, generation->build_id, sizeof(job->build_id));
    for (int i = 0; i < generation->spec.argc; i++) {
        size_t size = strlen(generation->spec.argv[i]) + 1;
        if (size > sizeof(job->engine) - at)
            return;
        memcpy(job->engine + at, generation->spec.argv[i], size);
        at += size;
        job->engine_args++;
    }
}

struct crash *crashes_new(struct master *master, const struct generation *generation,
                          enum reporter_job_kind kind)
{
    struct crashes *crashes = master->crashes;
    struct crash *crash = calloc(1, sizeof(*crash));
    struct timespec now;
    if (!crash)
        return NULL;
    clock_gettime(CLOCK_REALTIME, &now);
    crash->crashes = crashes;
    crash->memory = -1;
    crash->death = UINT64_MAX;
    struct reporter_job *job = &crash->job;
    job->kind = kind;
    job->number = ++crashes->number;
    job->time = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
    job->at = clock_now();
    name_engine(job, generation);
    memcpy(job->key, crashes->book.table->key, sizeof(job->key));
    return crash;
}

struct reporter_job *crashes_job(struct crash *crash)
{
    return &crash->job;
}

/* --- the caller's answer --- */

static void carry_out(struct master *master, uint32_t slot, enum recovery_action action)
{
    if (action == RECOVERY_REARM)
        slots_rearm(&master->slots, slot);
    else
        slots_close(&master->slots, slot);
}

static void count_answer(const struct crash *crash, const char *code, size_t size)
{
    const struct reporter_job *job = &crash->job;
    metrics_count_answer(crash->crashes->master,
                         LOG_FIELDS(.worker = job->worker, .pid = job->pid, .generation = job->generation,
                                    .method = job->method, .code = code,
                                    .duration = metrics_duration(job->started, job->born_at),
                                    .queued = metrics_queued(job->queued), .has_call = true,
                                    .request_bytes = job->received < UINT32_MAX ? job->received : 0,
                                    .response_bytes = size, .peer_pid = job->peer_pid,
                                    .peer_uid = job->peer_uid));
}

/* The caller's wait ends; reply is NULL where the reporter has not come so far. */
static void answer(struct crash *crash, const struct reporter_reply *reply)
{
    struct master *master = crash->crashes->master;
    static unsigned char frame[ENVELOPE_ERROR_MAX];
    uint32_t slot;
    crash->held = false;
    if (--crash->crashes->held == 0)
        ev_timer_stop(master->loop, &crash->crashes->due);
    if (!slots_find(&master->slots, crash->claim, &slot))
        return;
    const struct crash_answer facts = {.job = &crash->job,
                                       .reply = reply,
                                       .id = reply ? reply->id : crash->id,
                                       .cause = reply ? reply->cause : crash->cause,
                                       .top = reply ? reply->top : crash->top,
                                       .msgid = crash->plan.msgid,
                                       .answer = crash->plan.answer};
    size_t size = crash_answer_write(frame, &facts);
    count_answer(crash, crash_answer_code(facts.answer), size);
    if (slots_send(&master->slots, slot, frame, size) == 0)
        carry_out(master, slot, crash->plan.action);
}

/* What is said without the reporter. */
static void describe_plainly(struct crash *crash)
{
    if (crash->cause[0])
        return;
    char signal[32];
    if (WIFEXITED(crash->job.status))
        snprintf(crash->cause, sizeof(crash->cause), "exited with status %d in %s()",
                 WEXITSTATUS(crash->job.status), crash->job.method);
    else
        snprintf(crash->cause, sizeof(crash->cause), "%s in %s()",
                 deaths_signal_name(crash->job.status, signal, sizeof(signal)), crash->job.method);
}

void crashes_hold(struct crash *crash, uint64_t claim, const struct recovery_plan *plan)
{
    struct crashes *crashes = crash->crashes;
    crash->held = true;
    crash->claim = claim;
    crash->plan = *plan;
    describe_plainly(crash);
    crashes->held++;
    if (!ev_is_active(&crashes->due))
        ev_timer_again(crashes->master->loop, &crashes->due);
}

static void on_due(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    struct crashes *crashes = timer->data;
    uint64_t now = clock_now();
    for (struct crash *crash = crashes->first; crash; crash = crash->next)
        if (crash->held && now - crash->since >= HOLD_TIME)
            answer(crash, NULL);
    (void)slots_poll(&crashes->master->slots);
}

bool crashes_holds(const struct master *master, uint64_t claim)
{
    for (const struct crash *crash = master->crashes->first; crash; crash = crash->next)
        if (crash->held && crash->claim == claim)
            return true;
    return false;
}

/* --- the end of a job --- */

static void tell_listener(struct crash *crash, const struct reporter_reply *reply)
{
    static const struct reporter_reply nothing = {.no_stack = "the reporter is not there"};
    if (crash->listener)
        crash->listener(crash->context, reply ? reply : &nothing);
    crash->listener = NULL;
}

static bool is_reported(const struct crash *crash)
{
    return crash->job.kind == REPORTER_DEATH || crash->job.kind == REPORTER_SLOW;
}

static void finish(struct crash *crash, const struct reporter_reply *reply)
{
    struct crashes *crashes = crash->crashes;
    take_out(crash);
    if (crash->held)
        answer(crash, reply);
    tell_listener(crash, reply);
    if (is_reported(crash) && crashes->directory[0] && !(reply && reply->id[0]))
        crashes->lost++;
    free(crash);
}

static void log_report(const struct crash *crash, const struct reporter_reply *reply)
{
    char who[32] = "the forkserver", report[REPORT_ID_SIZE + 16] = "";
    if (!is_reported(crash))
        return;
    if (crash->job.worker > 0)
        snprintf(who, sizeof(who), "worker %u", crash->job.worker);
    if (reply->id[0])
        snprintf(report, sizeof(report), " (report %s)", reply->id);
    log_event(
        LOG_INFO, "crash_reported",
        LOG_FIELDS(.worker = crash->job.worker, .pid = crash->job.pid, .generation = crash->job.generation,
                   .role = crash->job.worker > 0 ? NULL : "forkserver", .engine = crash->job.engine_name,
                   .method = crash->job.method, .cause = reply->cause, .report = reply->id),
        "%s: %s%s%s%s", who, reply->cause, reply->top[0] ? ": " : "", reply->top, report);
}

static void note_report(struct crash *crash, const struct reporter_reply *reply)
{
    struct master *master = crash->crashes->master;
    crash->crashes->written += reply->id[0] != '\0';
    if (crash->death == UINT64_MAX || master->worker_deaths - crash->death > MASTER_DEATHS_KEPT)
        return;
    struct death *death = &master->deaths[crash->death % MASTER_DEATHS_KEPT];
    memcpy(death->report, reply->id, sizeof(death->report));
}

static void on_quick(struct crash *crash, const struct reporter_reply *reply)
{
    struct crashes *crashes = crash->crashes;
    const struct options *options = crashes->master->options;
    crash->quick = true;
    memcpy(crash->id, reply->id, sizeof(crash->id));
    memcpy(crash->cause, reply->cause, sizeof(crash->cause));
    memcpy(crash->top, reply->top, sizeof(crash->top));
    bool counts = reply->kill == KILL_OWN || (reply->kill == KILL_DEADLINE && options->quarantine_timeouts);
    if (!counts)
        return;
    const struct quarantine_kill kill = {.hash = reply->hash,
                                         .size = reply->size,
                                         .method = crash->job.method,
                                         .report = reply->id,
                                         .deadline = reply->deadline,
                                         .peer = crash->job.peer_pid};
    if (quarantine_note(&crashes->book, &kill, clock_now()))
        log_event(
            LOG_WARN, "quarantined",
            LOG_FIELDS(.method = crash->job.method, .report = reply->id, .count = options->quarantine_after),
            "requests like this one of %s() are refused from now on: they have killed %u workers",
            crash->job.method, options->quarantine_after);
}

/* --- the reporter --- */

static void close_socket(struct crashes *crashes)
{
    if (crashes->socket.fd < 0)
        return;
    ev_io_stop(crashes->master->loop, &crashes->socket);
    close(crashes->socket.fd);
    crashes->socket.fd = -1;
}

static void end_output(struct crashes *crashes)
{
    output_drain(&crashes->output);
    output_close(&crashes->output);
}

/* Returns 1; 0: when the socket has room again; -1: there is no reporter any more; -2: later, of lack of
 * something else. */
static int send_job(struct crashes *crashes, const struct crash *crash)
{
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec part = {.iov_base = (void *)&crash->job, .iov_len = REPORTER_JOB_SIZE(&crash->job)};
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.space,
                            .msg_controllen = sizeof(control.space)};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &crash->memory, sizeof(int));
    ssize_t sent;
    do
        sent = sendmsg(crashes->socket.fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return 1;
    if (errno == EAGAIN)
        return 0;
    return errno == ENOBUFS || errno == ENOMEM || errno == ETOOMANYREFS ? -2 : -1;
}

static void watch(struct crashes *crashes, bool full)
{
    int wanted = full ? EV_READ | EV_WRITE : EV_READ;
    if (crashes->socket.fd < 0 || crashes->socket.events == wanted)
        return;
    ev_io_stop(crashes->master->loop, &crashes->socket);
    ev_io_set(&crashes->socket, crashes->socket.fd, wanted);
    ev_io_start(crashes->master->loop, &crashes->socket);
}

static void send_jobs(struct crashes *crashes)
{
    int result = 1;
    for (struct crash *crash = crashes->first; crash && result == 1 && crashes->socket.fd >= 0;
         crash = crash->next) {
        if (crash->sent)
            continue;
        result = send_job(crashes, crash);
        if (result == 1) {
            crash->sent = true;
            crashes->unsent--;
            close(crash->memory);
            crash->memory = -1;
        }
    }
    if (result == -1)
        close_socket(crashes); /* its death is reaped */
    watch(crashes, result == 0);
}

static bool is_sound(const struct reporter_reply *message, ssize_t size)
{
    return size >= (ssize_t)offsetof(struct reporter_reply, data) &&
           message->data_size <= REPORTER_DATA_SIZE && (size_t)size == REPORTER_REPLY_SIZE(message);
}

static void terminate_texts(struct reporter_reply *message)
{
    message->id[sizeof(message->id) - 1] = '\0';
    message->cause[sizeof(message->cause) - 1] = '\0';
    message->top[sizeof(message->top) - 1] = '\0';
    message->no_stack[sizeof(message->no_stack) - 1] = '\0';
}

static void handle_reply(struct crashes *crashes, struct reporter_reply *message)
{
    terminate_texts(message);
    struct crash *crash = find(crashes, message->number);
    if (!crash)
        return;
    if (message->type == REPORTER_QUICK) {
        on_quick(crash, message);
        return;
    }
    log_report(crash, message);
    note_report(crash, message);
    finish(crash, message);
}

static void read_replies(struct crashes *crashes)
{
    static struct {
        struct reporter_reply reply;
        char terminator; /* of the last frame */
    } message;
    while (crashes->socket.fd >= 0) {
        ssize_t size = recv(crashes->socket.fd, &message.reply, sizeof(message.reply), MSG_DONTWAIT);
        if (size < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (size <= 0 || !is_sound(&message.reply, size)) {
            close_socket(crashes);
            return;
        }
        handle_reply(crashes, &message.reply);
    }
}

static void on_socket(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    struct crashes *crashes = watcher->data;
    if (events & EV_READ)
        read_replies(crashes);
    if (events & EV_WRITE)
        send_jobs(crashes);
    (void)slots_poll(&crashes->master->slots);
    master_look_at_stop(crashes->master);
}

/* In the forked child, until exec. */
_Noreturn static void become_reporter(const struct crashes *crashes, int socket, int output)
{
    static char argv0[] = "cohab: reporter";
    const struct options *options = crashes->master->options;
    char **argv = calloc((size_t)options->word_count + 2, sizeof(*argv));
    sigset_t none;
    sigemptyset(&none);
    setpgid(0, 0); /* Ctrl-C is for the master alone */
    int program = fcntl(crashes->program, F_DUPFD_CLOEXEC, REPORTER_SOCKET + 1);
    int null = open("/dev/null", O_RDONLY);
    if (!argv || program < 0 || null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
        dup2(output, STDERR_FILENO) < 0)
        _exit(EXIT_FAILURE);
    if (socket == REPORTER_SOCKET ? fcntl(socket, F_SETFD, 0) < 0 : dup2(socket, REPORTER_SOCKET) < 0)
        _exit(EXIT_FAILURE);
    if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
        _exit(EXIT_FAILURE);
    (void)close_range(REPORTER_SOCKET + 1, ~0u, CLOSE_RANGE_CLOEXEC);
    signal(SIGHUP, SIG_DFL);
    signal(SIGUSR1, SIG_IGN); /* meant for the master, but sent to the whole control group */
    signal(SIGUSR2, SIG_IGN);
    argv[0] = argv0;
    memcpy(argv + 1, options->words, (size_t)options->word_count * sizeof(*argv));
    execveat(program, "", argv, environ, AT_EMPTY_PATH);
    _exit(EXIT_FAILURE);
}

static bool start_reporter(struct crashes *crashes)
{
    int pair[2];
    if (ipc_pair(pair, 0) < 0)
        return false;
    int output = output_open(&crashes->output, crashes->master->loop, OUTPUT_REPORTER);
    pid_t pid = output < 0 ? -1 : fork();
    if (pid == 0)
        become_reporter(crashes, pair[1], output);
    int saved = errno;
    close(pair[1]);
    if (output >= 0)
        close(output);
    if (pid < 0) {
        close(pair[0]);
        output_close(&crashes->output);
        errno = saved;
        return false;
    }
    crashes->reporter = crashes->output.pid = pid;
    crashes->born_at = clock_now();
    crashes->written_before = crashes->written;
    ev_io_set(&crashes->socket, pair[0], EV_READ);
    ev_io_start(crashes->master->loop, &crashes->socket);
    return true;
}

void crashes_start_reporter(struct master *master)
{
    struct crashes *crashes = master->crashes;
    uint64_t now = clock_now();
    if (crashes->reporter != 0 && crashes->unsent > 0)
        send_jobs(crashes);
    if (crashes->program < 0 || crashes->reporter != 0 || now < crashes->backoff.retry_at)
        return;
    if (!start_reporter(crashes)) {
        log_event(LOG_WARN, "reporter_not_started", NULL,
                  "cannot start cohabd-reporter: %m; crashes are not reported");
        backoff_note(&crashes->backoff, &(struct life){.born_at = now, .ended_at = now});
    }
    send_jobs(crashes);
}

void crashes_reporter_died(struct master *master, int status)
{
    struct crashes *crashes = master->crashes;
    char how[64];
    pid_t pid = crashes->reporter;
    read_replies(crashes);
    close_socket(crashes);
    end_output(crashes);
    crashes->reporter = 0;
    deaths_describe_status(status, how, sizeof(how));
    log_event(LOG_WARN, "reporter_died", LOG_FIELDS(.pid = pid, .role = "reporter", .cause = how),
              "cohabd-reporter died: %s", how);
    backoff_note(&crashes->backoff, &(struct life){.served = true,
                                                   .born_at = crashes->born_at,
                                                   .ended_at = clock_now(),
                                                   .answered = crashes->written - crashes->written_before});
    struct crash *next;
    for (struct crash *crash = crashes->first; crash; crash = next) {
        next = crash->next;
        if (crash->sent)
            finish(crash, NULL);
    }
    crashes_start_reporter(master);
}

/* Returns NULL, or why the job cannot be sent. */
static const char *take_memory(struct crash *crash, int memory)
{
    const struct crashes *crashes = crash->crashes;
    if (crashes->socket.fd < 0)
        return "there is no reporter";
    if (crashes->unsent >= UNSENT_MAX || count_under_way(crashes) >= UNDER_WAY_MAX)
        return "the reporter has too much to do";
    crash->memory = fcntl(memory, F_DUPFD_CLOEXEC, 0);
    return crash->memory < 0 ? strerror(errno) : NULL;
}

static void give_up(struct crash *crash, const char *why)
{
    if (is_reported(crash)) {
        crash->crashes->lost++;
        log_event(LOG_WARN, "report_lost",
                  LOG_FIELDS(.worker = crash->job.worker, .pid = crash->job.pid, .cause = why),
                  "a crash of worker %u is not reported: %s", crash->job.worker, why);
    }
    tell_listener(crash, NULL);
    free(crash);
}

struct crash *crashes_send(struct crash *crash, int memory, const struct output *output)
{
    struct crashes *crashes = crash->crashes;
    crashes_start_reporter(crashes->master);
    const char *why = take_memory(crash, memory);
    if (why) {
        give_up(crash, why);
        return NULL;
    }
    if (output)
        crash->job.stderr_size =
            (uint32_t)output_copy_tail(output, crash->job.stderr_tail, REPORT_STDERR_SIZE);
    crash->since = clock_now();
    *crashes->last = crash;
    crashes->last = &crash->next;
    crashes->unsent++;
    send_jobs(crashes);
    return crash;
}

/* Not at once: a server may be short-lived, and its workers have enough to do at first. */
void crashes_warm(struct master *master)
{
    struct crashes *crashes = master->crashes;
    const struct generation *present = master->present;
    if (crashes->warmed == present->number || !present->loaded ||
        clock_now() - present->progress_at < WARM_AFTER)
        return;
    for (unsigned i = 1; i <= master->seat_count; i++) {
        const struct seat *seat = &master->seats[i];
        bool fits = seat->generation == present && seat_serves(seat);
        struct crash *crash = fits ? crashes_new(master, present, REPORTER_WARM) : NULL;
        if (!crash)
            continue;
        crashes->warmed = present->number;
        crash->job.pid = seat->child.pid;
        (void)crashes_send(crash, seat->workspace, NULL);
        return;
    }
}

void crashes_note_death(struct crash *crash, uint64_t death)
{
    crash->death = death;
}

void crashes_listen(struct crash *crash, crash_listener *listener, void *context)
{
    crash->listener = listener;
    crash->context = context;
}

void crashes_forget_listener(struct master *master, const void *context)
{
    for (struct crash *crash = master->crashes->first; crash; crash = crash->next)
        if (crash->context == context)
            crash->listener = NULL;
}

bool crashes_under_way(const struct master *master)
{
    for (const struct crash *crash = master->crashes->first; crash; crash = crash->next)
        if (crash->held || is_reported(crash))
            return true;
    return false;
}

void crashes_wait(struct master *master)
{
    struct crashes *crashes = master->crashes;
    uint64_t end = clock_now() + WAIT_TIME;
    while (crashes_under_way(master) && crashes->socket.fd >= 0 && clock_now() < end) {
        struct pollfd socket = {.fd = crashes->socket.fd, .events = POLLIN};
        if (poll(&socket, 1, 100) > 0)
            read_replies(crashes);
        send_jobs(crashes);
    }
}

void crashes_hand_over(struct master *master)
{
    struct crashes *crashes = master->crashes;
    for (struct crash *crash = crashes->first; crash; crash = crash->next)
        if (crash->held)
            answer(crash, NULL);
    send_jobs(crashes);
    close_socket(crashes); /* it ends when it has done what it has */
    if (crashes->reporter > 0 && !crashes_under_way(master))
        (void)kill(crashes->reporter, SIGKILL);
}

void crashes_end(struct master *master)
{
    struct crashes *crashes = master->crashes;
    const struct timespec pause = {.tv_nsec = 1000000};
    uint64_t end = clock_now() + WAIT_TIME;
    crashes->program = -1; /* no other one is started */
    close_socket(crashes);
    if (crashes->reporter > 0 && !crashes_under_way(master))
        (void)kill(crashes->reporter, SIGKILL); /* it reads symbols that nobody wants any more, if anything */
    while (crashes->reporter > 0 && clock_now() < end && waitpid(crashes->reporter, NULL, WNOHANG) == 0)
        nanosleep(&pause, NULL);
    end_output(crashes);
}

/* --- set-up --- */

/* One that was given has been checked (options_check_directories()). */
static void settle_directory(struct crashes *crashes, const struct options *options)
{
    char *directory = crashes->directory;
    if (options->crash_keep == 0)
        return;
    if (options->crash_dir) {
        snprintf(directory, sizeof(crashes->directory), "%s", options->crash_dir);
        return;
    }
    if (crash_dir_default(directory, sizeof(crashes->directory)) == 0 && crash_dir_make(directory) == 0 &&
        access(directory, W_OK | X_OK) == 0)
        return;
    log_event(LOG_WARN, "no_reports", LOG_FIELDS(.path = directory),
              "no crash reports: cannot use %s: %m; see --crash-dir",
              *directory ? directory : "a default directory");
    directory[0] = '\0';
}

static struct quarantine_table *make_table(struct crashes *crashes)
{
    struct quarantine_table *table =
        shared_publish("cohab-quarantine", sizeof(*table), &crashes->table, &crashes->table_view);
    if (!table)
        fatal("cannot make the quarantine table: %m");
    if (getrandom(table->key, sizeof(table->key), GRND_INSECURE) != sizeof(table->key))
        table->key[0] = clock_now();
    return table;
}

/* Opened for good: what lies there later may be another version. */
static int open_program(void)
{
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 32);
    if (length < 0)
        return -1;
    path[length] = '\0';
    strcpy(strrchr(path, '/'), "/cohabd-reporter");
    int program = open(path, O_PATH | O_CLOEXEC);
    if (program < 0)
        log_event(LOG_WARN, "no_reports", LOG_FIELDS(.path = path),
                  "crashes are not reported: cannot open %s: %m", path);
    return program;
}

static struct quarantine_table *open_table(struct crashes *crashes, int table, int table_view)
{
    struct quarantine_table *memory = shared_open(table, sizeof(*memory));
    if (!memory)
        fatal("cannot map the quarantine table: %m");
    crashes->table = table;
    crashes->table_view = table_view;
    return memory;
}

void crashes_init_with(struct master *master, int table, int table_view)
{
    static struct crashes crashes;
    master->crashes = &crashes;
    crashes.master = master;
    crashes.last = &crashes.first;
    crashes.output.watcher.fd = -1;
    ev_init(&crashes.socket, on_socket);
    crashes.socket.fd = -1;
    crashes.socket.data = &crashes;
    ev_timer_init(&crashes.due, on_due, HOLD_TICK, HOLD_TICK);
    crashes.due.data = &crashes;
    quarantine_init(&crashes.book, table < 0 ? make_table(&crashes) : open_table(&crashes, table, table_view),
                    master->options->quarantine_after);
    oom_init(&crashes.oom, "/proc/self/cgroup", "/proc/self/mountinfo");
    settle_directory(&crashes, master->options);
    crashes.program = open_program();
}

void crashes_init(struct master *master)
{
    crashes_init_with(master, -1, -1);
    crashes_start_reporter(master);
}
