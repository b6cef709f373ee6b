#include "supervise.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "crashes.h"
#include "deaths.h"
#include "descriptors.h"
#include "generation.h"
#include "ipc.h"
#include "log.h"
#include "metrics.h"
#include "request_log.h"
#include "serve.h"
#include "shared.h"
#include "snapshot.h"
#include "stacks.h"
#include "worker.h"

#define LABEL_SIZE 64
/* Births asked for at a time: what the forkserver's socket has room for, with descriptors in flight. */
#define BIRTHS_UNDER_WAY 64
/* From asking for a worker to its first message; start() comes after it. */
#define BIRTH_TIMEOUT (10 * CLOCK_NS_PER_S)
/* A worker says a word or two for each claim, and waits for the answer to one of them. */
#define MESSAGES_AT_ONCE 64
/* More than a control socket holds (net.core.wmem_default). */
#define MESSAGES_LEFT 4096

static const char *seat_label(const struct seat *seat, char *label)
{
    return child_label(&seat->child, label, LABEL_SIZE);
}

static void send_signal(const struct seat *seat, int signal)
{
    if (seat->child.pid == seat->master->reaped)
        return; /* its last messages are being read, and its pid may be somebody else's by now */
    if (kill(seat->child.pid, signal) < 0) /* an unreaped child: its pid is nobody else's */
        log_event(LOG_WARN, "signal_failed", SEAT_FIELDS(seat), "worker %u: cannot send signal %d: %m",
                  seat->child.number, signal);
}

/* --- births --- */

static void on_control(struct ev_loop *loop, ev_io *watcher, int events);

static void close_control(struct seat *seat)
{
    ev_io_stop(seat->master->loop, &seat->control_watcher);
    close(seat->control);
    seat->control = -1;
}

static void release_seat(struct seat *seat)
{
    if (seat->control >= 0)
        close_control(seat);
    if (seat->buffer >= 0)
        close(seat->buffer);
    if (seat->row)
        munmap(seat->row, ROW_SIZE);
    seat->buffer = -1;
    seat->row = NULL;
    output_close(&seat->output);
    metrics_close(seat);
    stacks_drop(seat);
    seat->end = END_OWN;
    seat->deadline = (struct deadline){0};
    seat->stall = (struct stall){0};
    seat->slow_start = false;
    seat->explained = false;
}

static uint64_t random_key(void)
{
    uint64_t key;
    return getrandom(&key, sizeof(key), GRND_INSECURE) == (ssize_t)sizeof(key) ? key : clock_now();
}

/* Row, request buffer, meter, control socket and output of a process that does not exist yet, and the request
 * for it. */
static int ask_for_worker(struct seat *seat)
{
    struct master *master = seat->master;
    int pair[2] = {-1, -1};
    int row = shared_create("cohab-row", ROW_SIZE);
    seat->buffer = shared_create("cohab-request",
                                 serve_buffer_size(master->options->max_frame) + sizeof(struct snapshot));
    seat->row = row >= 0 ? shared_map(row, ROW_SIZE, 1) : NULL;
    int output = output_open(&seat->output, master->loop, seat->child.number);
    int meter = metrics_open(seat, master->forkserver.methods);
    int result = -1;
    if (seat->row)
        row_set_key(seat->row, seat->key = random_key());
    if (seat->row && seat->buffer >= 0 && output >= 0 && meter >= 0 && ipc_pair(pair, 1) == 0) {
        struct ipc_message message = {.type = IPC_FORK,
                                      .number = seat->child.number,
                                      .descriptor_count = IPC_FORK_DESCRIPTORS,
                                      .descriptors = {[IPC_FORK_CONTROL] = pair[1],
                                                      [IPC_FORK_ROW] = row,
                                                      [IPC_FORK_BUFFER] = seat->buffer,
                                                      [IPC_FORK_OUTPUT] = output,
                                                      [IPC_FORK_METER] = meter}};
        seat->control = pair[0];
        ev_io_init(&seat->control_watcher, on_control, seat->control, EV_READ);
        seat->control_watcher.data = seat;
        ev_io_start(master->loop, &seat->control_watcher);
        result = ipc_send(master->forkserver.control, &message, MSG_DONTWAIT);
        int saved = errno;
        close(pair[1]);
        errno = saved;
    }
    int saved = errno;
    if (row >= 0)
        close(row);
    if (output >= 0)
        close(output);
    if (meter >= 0)
        close(meter);
    errno = saved;
    return result;
}

static void end_birth(struct seat *seat, const char *why);

static void begin_birth(struct seat *seat, uint64_t now)
{
    struct master *master = seat->master;
    child_begin(&seat->child, master->forkserver.generation, now);
    if (ask_for_worker(seat) < 0) {
        end_birth(seat, strerror(errno));
        return;
    }
    if (master->state != MASTER_STARTING && master->state != MASTER_SERVING)
        atomic_store_explicit(&seat->row->orders, ROW_REFUSE, memory_order_relaxed);
}

bool supervise_wants_births(const struct master *master)
{
    return master->state == MASTER_STARTING || master->state == MASTER_SERVING ||
           master->state == MASTER_STOPPING;
}

void supervise_births(struct master *master)
{
    uint64_t now = clock_now();
    if (!supervise_wants_births(master))
        return;
    if (master->forkserver.pid == 0 && now >= master->forkserver.backoff.retry_at)
        (void)generation_start(master);
    if (!master->forkserver.loaded || master->forkserver.control < 0)
        return;
    unsigned under_way = 0;
    for (unsigned i = 0; i < master->options->workers; i++)
        under_way += master->seats[i].child.state == CHILD_STARTING && master->seats[i].child.pid == 0;
    for (unsigned i = 0; i < master->options->workers && under_way < BIRTHS_UNDER_WAY; i++)
        if (child_due(&master->seats[i].child, now)) {
            begin_birth(&master->seats[i], now);
            under_way++;
        }
}

static void log_lost_birth(const struct seat *seat, const char *why)
{
    char label[LABEL_SIZE];
    if (seat->explained || !supervise_wants_births(seat->master))
        return;
    log_event(LOG_ERROR, "worker_not_started", SEAT_FIELDS(seat, .cause = why), "%s could not start: %s",
              seat_label(seat, label), why);
    snprintf(seat->master->start_problem, sizeof(seat->master->start_problem),
             "a worker could not start: %.400s", why);
}

/* A birth that came to nothing: the process never introduced itself, or could not be asked for. */
static void end_birth(struct seat *seat, const char *why)
{
    log_lost_birth(seat, why);
    release_seat(seat);
    child_end(&seat->child, clock_now(), 0, false);
    if (seat->master->state == MASTER_STARTING)
        master_abandon(seat->master);
}

/* --- messages --- */

static void hand_out(struct seat *seat, uint64_t claim)
{
    struct ipc_message answer = {.type = IPC_GONE, .claim = claim};
    uint32_t slot;
    if (slots_find(&seat->master->slots, claim, &slot)) {
        answer.type = IPC_GRANT;
        answer.descriptor_count = 1;
        answer.descriptors[0] = FD_BASE + (int)slot;
    }
    if (ipc_send(seat->control, &answer, MSG_DONTWAIT) == 0)
        return;
    if (errno != EPIPE && errno != ECONNRESET) /* else it is dead, and will be reaped */
        log_event(LOG_WARN, "handout_failed", SEAT_FIELDS(seat),
                  "worker %u: cannot hand out a connection: %m", seat->child.number);
    (void)shutdown(seat->control,
                   SHUT_WR); /* it waits no longer and leaves in WAITING: the slot is armed again */
}

static void on_ready(struct seat *seat)
{
    char label[LABEL_SIZE];
    child_ready(&seat->child);
    seat->master->start_problem[0] = '\0';
    log_event(LOG_INFO, "worker_ready", SEAT_FIELDS(seat, .duration = clock_now() - seat->child.born_at),
              "%s ready", seat_label(seat, label));
    if (seat->master->state == MASTER_STARTING)
        master_serve(seat->master);
}

/* What a worker says is checked like what a client says: an engine can write to its control socket. -1: no
 * worker says this. */
static int handle_message(struct seat *seat, const struct ipc_message *message)
{
    struct master *master = seat->master;
    uint32_t slot;
    switch (message->type) {
    case IPC_HELLO:
        if (seat->child.pid == 0)
            seat->child.pid = seat->output.pid = message->sender;
        if (seat->child.generation == master->forkserver.generation)
            master->forkserver.progress_at = clock_now();
        if (!supervise_wants_births(master))
            send_signal(seat, SIGKILL); /* born too late: it holds nothing yet */
        break;
    case IPC_READY:
        if (seat->child.state == CHILD_STARTING && seat->child.pid == message->sender)
            on_ready(seat);
        break;
    case IPC_START_FAILED:
        snprintf(master->start_problem, sizeof(master->start_problem), "start() failed: %.480s",
                 message->text_size ? message->text : "no reason given");
        log_event(LOG_ERROR, "worker_not_started",
                  SEAT_FIELDS(seat, .path = master->options->engine_path, .cause = master->start_problem),
                  "worker %u: engine %s: %s", seat->child.number, master->options->engine_path,
                  master->start_problem);
        seat->explained = true;
        break;
    case IPC_WANT:
        hand_out(seat, message->claim);
        break;
    case IPC_CLOSED:
        if (slots_find(&master->slots, message->claim, &slot))
            slots_close(&master->slots, slot);
        break;
    default:
        return -1;
    }
    return 0;
}

/* An engine, or a child that it has left, writes to the worker's control socket. */
static void end_rogue(struct seat *seat)
{
    char label[LABEL_SIZE];
    log_event(LOG_WARN, "worker_rogue", SEAT_FIELDS(seat),
              "%s: its engine writes to cohab's control socket: killed", seat_label(seat, label));
    seat->end = END_ROGUE;
    send_signal(seat, SIGKILL);
    close_control(seat);
}

/* Reads what has come from a worker, but no more than it may have to say: whoever writes without end must not
 * hold the master up. */
static void read_messages(struct seat *seat, int most)
{
    struct ipc_message message;
    int result = 1;
    for (int i = 0; i < most && seat->control >= 0; i++) {
        result = ipc_receive(seat->control, &message, MSG_DONTWAIT);
        if (result == 0 || (result < 0 && errno != EPROTO))
            break;
        ipc_close_descriptors(&message);
        if (result < 0 || handle_message(seat, &message) < 0)
            end_rogue(seat);
    }
    if (result == 0)
        close_control(seat);
}

/* A control socket at its end tells of the death of a process that is not known by pid: a known one is
 * reaped. */
static bool birth_is_lost(const struct seat *seat)
{
    return seat->child.state == CHILD_STARTING && seat->child.pid == 0 && seat->control < 0;
}

static void on_control(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    (void)events;
    struct seat *seat = watcher->data;
    read_messages(seat, MESSAGES_AT_ONCE);
    if (birth_is_lost(seat)) {
        if (seat->master->forkserver.pid != 0)
            generation_read(seat->master); /* perhaps it says why */
        end_birth(seat, "its process died before it had introduced itself");
    }
    supervise_births(seat->master);
    master_look_at_stop(seat->master);
}

/* --- deadlines and stalls --- */

/* As last reported, and still so: a report may be older than somebody's SIGCONT. */
static bool is_stopped(const struct seat *seat)
{
    char path[64], line[256];
    if (!seat->child.stopped)
        return false;
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)seat->child.pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return errno == ENOENT; /* no /proc to see it in; else no descriptor: perhaps next time */
    const char *state = fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL; /* "4711 (name) T ..." */
    fclose(file);
    return state && state[1] == ' ' && (state[2] == 'T' || state[2] == 't');
}

/* What a row says of its start is no number to trust. */
static uint64_t call_age(const struct row_view *row)
{
    uint64_t now = clock_now();
    return row->started < now ? now - row->started : 0;
}

static void carry_out(struct seat *seat, enum deadline_step step, const struct row_view *row)
{
    char label[LABEL_SIZE];
    switch (step) {
    case DEADLINE_DO_NOTHING:
        break;
    case DEADLINE_DO_FLAG:
        atomic_store_explicit(&seat->row->cancel, seat->deadline.request, memory_order_relaxed);
        log_event(LOG_INFO, "deadline_passed",
                  SEAT_FIELDS(seat, .method = row->method, .duration = call_age(row)),
                  "%s: %s() is past its deadline", seat_label(seat, label), row->method);
        break;
    case DEADLINE_DO_SIGNAL:
        (void)syscall(SYS_tgkill, seat->child.pid, seat->child.pid,
                      WORKER_SIGNAL_END); /* dead: it is reaped */
        break;
    case DEADLINE_DO_STOP:
        send_signal(seat, SIGSTOP);
        break;
    case DEADLINE_DO_KILL:
        log_event(LOG_WARN, "deadline_ignored",
                  SEAT_FIELDS(seat, .method = row->method, .duration = call_age(row)),
                  "%s: %s() ignores its deadline: killed", seat_label(seat, label), row->method);
        send_signal(seat, SIGKILL);
        break;
    case DEADLINE_DO_CONTINUE:
        send_signal(seat, SIGCONT);
        break;
    }
}

static void check_deadline(struct seat *seat, const struct row_view *row, uint64_t now)
{
    const struct options *options = seat->master->options;
    carry_out(
        seat,
        deadline_next(&seat->deadline, row, is_stopped(seat), now, options->kill_grace, options->max_timeout),
        row);
}

static void check_stall(struct seat *seat, const struct row_view *row, uint64_t now)
{
    char label[LABEL_SIZE];
    switch (stall_look(&seat->stall, row, is_stopped(seat), now, seat->master->options->stall_timeout)) {
    case STALL_DO_NOTHING:
        break;
    case STALL_DO_STOP:
        send_signal(seat, SIGSTOP);
        break;
    case STALL_DO_KILL:
        log_event(LOG_WARN, "worker_stalled", SEAT_FIELDS(seat, .cause = row_state_name(row->state)),
                  "%s: holds a connection and does not go on (%s): killed", seat_label(seat, label),
                  row_state_name(row->state));
        seat->end = END_STALLED;
        send_signal(seat, SIGKILL);
        break;
    case STALL_DO_CONTINUE:
        send_signal(seat, SIGCONT);
        break;
    }
}

/* Returns whether the worker is busy. */
static bool check_worker(struct seat *seat)
{
    struct row_view row;
    uint64_t now = clock_now();
    if (!seat_serves(seat))
        return false;
    row_read(seat->row, seat->key, &row);
    check_deadline(seat, &row, now);
    check_stall(seat, &row, now);
    stacks_watch(seat, &row, now);
    return row.claim != ROW_NO_CLAIM;
}

/* Births are made one after the other: time counts from the last one, too. */
static bool birth_hangs(const struct seat *seat, uint64_t now)
{
    const struct forkserver_state *forkserver = &seat->master->forkserver;
    bool present = seat->child.generation == forkserver->generation;
    uint64_t since = present && forkserver->progress_at > seat->child.born_at ? forkserver->progress_at
                                                                              : seat->child.born_at;
    return seat->child.pid == 0 && now - since >= BIRTH_TIMEOUT;
}

/* A birth that gets nowhere (the forkserver is stopped, an atfork handler hangs) is given up, and the
 * forkserver with it. start() may take its time, but not in silence. */
static void check_births(struct master *master, uint64_t now)
{
    bool hangs = false;
    char label[LABEL_SIZE];
    for (unsigned i = 0; i < master->options->workers; i++) {
        struct seat *seat = &master->seats[i];
        if (seat->child.state != CHILD_STARTING)
            continue;
        if (birth_hangs(seat, now)) {
            hangs |= seat->child.generation == master->forkserver.generation;
            end_birth(seat, "no process came into being for 10 s");
        } else if (seat->child.pid != 0 && !seat->slow_start && now - seat->child.born_at >= BIRTH_TIMEOUT) {
            seat->slow_start = true;
            log_event(LOG_WARN, "start_slow", SEAT_FIELDS(seat, .duration = now - seat->child.born_at),
                      "%s: start() has not returned for 10 s", seat_label(seat, label));
        }
    }
    if (hangs)
        generation_end(master);
}

bool supervise_look(struct master *master)
{
    bool busy = false;
    check_births(master, clock_now());
    output_tick();
    for (unsigned i = 0; i < master->options->workers; i++) {
        output_resume(&master->seats[i].output);
        busy |= check_worker(&master->seats[i]);
    }
    output_resume(&master->forkserver.output);
    output_resume(&master->crashes->output);
    busy |= request_log_look(master);
    (void)slots_poll(&master->slots);
    return busy;
}

/* --- deaths --- */

static void bury(struct seat *seat, int status, uint64_t peak)
{
    char how[64];
    uint64_t answered = 0;
    read_messages(seat, MESSAGES_LEFT); /* a connection that it closed is on record there alone */
    output_drain(&seat->output);
    if (seat->child.state == CHILD_STARTING) {
        deaths_describe_status(status, how, sizeof(how));
        log_lost_birth(seat, how);
        deaths_report_start(seat, status, peak);
    } else {
        answered = deaths_take_over(seat, status, peak);
    }
    release_seat(seat);
    child_end(&seat->child, clock_now(), answered, deaths_was_killed(status));
    if (seat->master->state == MASTER_STARTING)
        master_abandon(seat->master);
}

static struct seat *find_seat(struct master *master, pid_t pid)
{
    for (unsigned i = 0; i < master->options->workers; i++)
        if (master->seats[i].child.pid == pid)
            return &master->seats[i];
    return NULL;
}

/* A worker may die before its first message was read: then its pid is in that message. */
static struct seat *find_seat_of_dead(struct master *master, pid_t pid)
{
    for (unsigned i = 0; !find_seat(master, pid) && i < master->options->workers; i++) {
        struct seat *seat = &master->seats[i];
        if (seat->child.state != CHILD_STARTING || seat->child.pid != 0)
            continue;
        read_messages(seat, MESSAGES_AT_ONCE);
        if (birth_is_lost(seat))
            end_birth(seat, "its process died before it had introduced itself");
    }
    return find_seat(master, pid);
}

static void on_stop_or_continue(struct seat *seat, bool stopped)
{
    seat->child.stopped = stopped;
    if (stopped)
        (void)check_worker(seat);
}

static void on_death(struct master *master, pid_t pid, int status, uint64_t peak)
{
    if (pid == master->forkserver.pid) {
        generation_read(master);
        generation_died(master, status, peak);
        return;
    }
    if (pid == master->crashes->reporter) {
        crashes_reporter_died(master, status);
        return;
    }
    struct seat *seat = find_seat_of_dead(master, pid);
    if (seat)
        bury(seat, status, peak);
    else
        log_event(LOG_DEBUG, "orphan_reaped", LOG_FIELDS(.pid = pid),
                  "reaped pid %d, which an engine left behind", (int)pid);
}

static void on_status(struct master *master, pid_t pid, int status, const struct rusage *usage)
{
    if (WIFSTOPPED(status) || WIFCONTINUED(status)) {
        struct seat *seat = find_seat(master, pid);
        if (seat)
            on_stop_or_continue(seat, WIFSTOPPED(status));
        return;
    }
    master->reaped = pid;
    on_death(master, pid, status, (uint64_t)usage->ru_maxrss * 1024); /* KiB */
    master->reaped = 0;
}

/* Not libev's own child watchers: they do not tell what memory a process has had. */
static void on_children(struct ev_loop *loop, ev_signal *watcher, int events)
{
    (void)loop;
    (void)events;
    struct master *master = watcher->data;
    struct rusage usage;
    int status;
    pid_t pid;
    while ((pid = wait4(-1, &status, WNOHANG | WUNTRACED | WCONTINUED, &usage)) > 0)
        on_status(master, pid, status, &usage);
    (void)slots_poll(&master->slots);
    supervise_births(master);
    master_look_at_stop(master);
}

/* --- the whole --- */

bool supervise_any_running(const struct master *master)
{
    for (unsigned i = 0; i < master->options->workers; i++) {
        struct row_view row;
        if (!seat_serves(&master->seats[i]))
            continue;
        row_read(master->seats[i].row, master->seats[i].key, &row);
        bool answering = row.state == ROW_WRITING && row.writing_from == ROW_RUNNING;
        if (row.claim != ROW_NO_CLAIM && (row.state == ROW_RUNNING || answering))
            return true;
    }
    return false;
}

unsigned supervise_alive(const struct master *master)
{
    unsigned alive = 0;
    for (unsigned i = 0; i < master->options->workers; i++)
        alive += master->seats[i].child.state != CHILD_NONE;
    return alive;
}

void supervise_refuse(struct master *master)
{
    for (unsigned i = 0; i < master->options->workers; i++)
        if (master->seats[i].row)
            atomic_store_explicit(&master->seats[i].row->orders, ROW_REFUSE, memory_order_relaxed);
}

void supervise_leave(struct master *master)
{
    for (unsigned i = 0; i < master->options->workers; i++)
        if (master->seats[i].child.state == CHILD_READY)
            master->seats[i].child.state = CHILD_LEAVING;
    supervise_signal(master, WORKER_SIGNAL_LEAVE);
}

void supervise_signal(struct master *master, int signal)
{
    for (unsigned i = 0; i < master->options->workers; i++)
        if (master->seats[i].child.pid > 0)
            send_signal(&master->seats[i], signal);
}

int supervise_init(struct master *master)
{
    master->seats = calloc(master->options->workers, sizeof(*master->seats));
    if (!master->seats)
        return -1;
    for (unsigned i = 0; i < master->options->workers; i++)
        master->seats[i] =
            (struct seat){.child.number = i + 1, .master = master, .buffer = -1, .control = -1};
    ev_signal_init(&master->children, on_children, SIGCHLD);
    master->children.data = master;
    ev_signal_start(master->loop, &master->children);
    deaths_init(master);
    return 0;
}
