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

#include "births.h"
#include "clock.h"
#include "crashes.h"
#include "deaths.h"
#include "descriptors.h"
#include "generation.h"
#include "ipc.h"
#include "log.h"
#include "metrics.h"
#include "queue.h"
#include "request_log.h"
#include "serve.h"
#include "shared.h"
#include "snapshot.h"
#include "stacks.h"
#include "upgrade.h"
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

void supervise_send_signal(const struct seat *seat, int signal)
{
    if (seat->child.pid <= 0 || seat->child.pid == seat->master->reaped)
        return; /* its last messages are being read, and its pid may be somebody else's by now */
    if (kill(seat->child.pid, signal) < 0) /* an unreaped child: its pid is nobody else's */
        log_event(LOG_WARN, "signal_failed", SEAT_FIELDS(seat), "worker %u: cannot send signal %d: %m",
                  seat->child.number, signal);
}

static void close_control(struct seat *seat)
{
    ev_io_stop(seat->master->loop, &seat->control_watcher);
    close(seat->control);
    seat->control = -1;
}

bool supervise_wants_births(const struct master *master)
{
    return master->state == MASTER_STARTING || master->state == MASTER_SERVING ||
           master->state == MASTER_STOPPING;
}

/* --- messages --- */

static void hand_out(struct seat *seat, uint64_t claim)
{
    struct ipc_message answer = {.type = IPC_GONE, .claim = claim};
    uint32_t slot;
    if (slots_find(&seat->master->slots, claim, &slot) && !seat->master->slots.slots[slot].gone) {
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
    struct master *master = seat->master;
    seat->child.state = CHILD_READY;
    if (seat->child.number == 0) {
        log_event(LOG_WARN, "standin_ready", SEAT_FIELDS(seat),
                  "no worker can be had: requests are answered with UNAVAILABLE, NO_WORKER");
        return;
    }
    reload_on_ready(seat);
    if (seat->generation == master->present) {
        master->start_problem[0] = '\0';
        backoff_ready(&master->births);
    }
    log_event(LOG_INFO, "worker_ready", SEAT_FIELDS(seat, .duration = clock_now() - seat->child.born_at),
              "%s ready", seat_label(seat, label));
    if (master->state == MASTER_STARTING)
        master_serve(master);
}

static void on_start_failed(struct seat *seat, const char *why)
{
    struct master *master = seat->master;
    char problem[LOAD_PROBLEM_SIZE];
    const char *path = seat->generation ? seat->generation->path : "";
    bool selftest = strncmp(why, "selftest() failed", 17) == 0;
    snprintf(problem, sizeof(problem), "%s%.480s",
             selftest ? "" : "start() failed: ", *why ? why : "no reason given");
    log_event(LOG_ERROR, "worker_not_started", SEAT_FIELDS(seat, .path = path, .cause = problem),
              "worker %u: engine %s: %s", seat->child.number, path, problem);
    seat->explained = true;
    if (!seat->generation)
        return;
    if (seat->generation == master->present)
        memcpy(master->start_problem, problem, sizeof(problem));
    reload_note_problem(master, seat->generation, problem);
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
        if (seat->generation)
            seat->generation->progress_at = clock_now();
        if (!supervise_wants_births(master))
            supervise_send_signal(seat, SIGKILL); /* born too late: it holds nothing yet */
        break;
    case IPC_READY:
        if (seat->child.state == CHILD_STARTING && seat->child.pid == message->sender &&
            supervise_wants_births(master)) /* else it has been killed */
            on_ready(seat);
        break;
    case IPC_START_FAILED:
        on_start_failed(seat, message->text_size ? message->text : "");
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
    supervise_send_signal(seat, SIGKILL);
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
        if (seat->generation)
            generation_read(seat->generation); /* perhaps it says why */
        births_end(seat, "its process died before it had introduced itself");
    }
    births_go_on(seat->master);
    master_look_at_stop(seat->master);
}

void supervise_watch(struct seat *seat, int control)
{
    seat->control = control;
    ev_io_init(&seat->control_watcher, on_control, control, EV_READ);
    seat->control_watcher.data = seat;
    ev_io_start(seat->master->loop, &seat->control_watcher);
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

static void log_end(const struct seat *seat, const struct row_view *row, enum log_level level,
                    const char *event, const char *what)
{
    char label[LABEL_SIZE];
    log_event(level, event, SEAT_FIELDS(seat, .method = row->method, .duration = call_age(row)),
              "%s: %s() %s", seat_label(seat, label), row->method, what);
}

static void set_flag(struct seat *seat, const struct row_view *row)
{
    struct metrics *metrics = seat->master->metrics;
    atomic_store_explicit(&seat->row->cancel, seat->deadline.request, memory_order_relaxed);
    switch (seat->deadline.why) {
    case DEADLINE_PASSED:
        log_end(seat, row, LOG_INFO, "deadline_passed", "is past its deadline");
        break;
    case DEADLINE_CLIENT_GONE:
        metrics->gone++;
        log_end(seat, row, LOG_INFO, "client_gone", "runs on, but its client has gone: told to stop");
        break;
    case DEADLINE_KILL_ORDERED:
        metrics->ordered++;
        log_end(seat, row, LOG_INFO, "kill_ordered", "is to end, an operator says");
        break;
    }
}

static void carry_out(struct seat *seat, enum deadline_step step, const struct row_view *row)
{
    bool deadline = seat->deadline.why == DEADLINE_PASSED;
    switch (step) {
    case DEADLINE_DO_NOTHING:
        break;
    case DEADLINE_DO_FLAG:
        set_flag(seat, row);
        break;
    case DEADLINE_DO_SIGNAL:
        (void)syscall(SYS_tgkill, seat->child.pid, seat->child.pid,
                      WORKER_SIGNAL_END); /* dead: it is reaped */
        break;
    case DEADLINE_DO_STOP:
        supervise_send_signal(seat, SIGSTOP);
        break;
    case DEADLINE_DO_KILL:
        log_end(seat, row, LOG_WARN, deadline ? "deadline_ignored" : "cancel_ignored",
                deadline ? "ignores its deadline: killed" : "ignores that it was cancelled: killed");
        supervise_send_signal(seat, SIGKILL);
        break;
    case DEADLINE_DO_CONTINUE:
        supervise_send_signal(seat, SIGCONT);
        break;
    }
}

static void check_deadline(struct seat *seat, const struct row_view *row, uint64_t now)
{
    const struct options *options = seat->master->options;
    const struct slots *slots = &seat->master->slots;
    uint32_t slot;
    const struct deadline_limits limits = {
        .grace = options->kill_grace, .longest = options->max_timeout, .cancel_kill = options->cancel_kill};
    const struct deadline_facts facts = {.now = now,
                                         .stopped = is_stopped(seat),
                                         .gone =
                                             slots_find(slots, row->claim, &slot) && slots->slots[slot].gone};
    carry_out(seat, deadline_next(&seat->deadline, row, &facts, &limits), row);
}

static void check_stall(struct seat *seat, const struct row_view *row, uint64_t now)
{
    char label[LABEL_SIZE];
    switch (stall_look(&seat->stall, row, is_stopped(seat), now, seat->master->options->stall_timeout)) {
    case STALL_DO_NOTHING:
        break;
    case STALL_DO_STOP:
        supervise_send_signal(seat, SIGSTOP);
        break;
    case STALL_DO_KILL:
        log_event(LOG_WARN, "worker_stalled", SEAT_FIELDS(seat, .cause = row_state_name(row->state)),
                  "%s: holds a connection and does not go on (%s): killed", seat_label(seat, label),
                  row_state_name(row->state));
        seat->end = END_STALLED;
        supervise_send_signal(seat, SIGKILL);
        break;
    case STALL_DO_CONTINUE:
        supervise_send_signal(seat, SIGCONT);
        break;
    }
}

bool supervise_check(struct seat *seat)
{
    struct row_view row;
    uint64_t now = clock_now();
    if (!seat_serves(seat))
        return false;
    row_read(seat->row, seat->key, &row);
    check_deadline(seat, &row, now);
    check_stall(seat, &row, now);
    stacks_watch(seat, &row, now);
    births_look_at(seat, &row, now);
    return row.claim != ROW_NO_CLAIM;
}

bool supervise_look(struct master *master)
{
    unsigned busy = 0;
    output_tick();
    for (unsigned i = 0; i <= master->seat_count; i++) {
        output_resume(&master->seats[i].output);
        busy += supervise_check(&master->seats[i]);
    }
    output_resume(&master->crashes->output);
    bool logs = request_log_look(master);
    births_look(master, busy, queue_look(master));
    return busy > 0 || logs;
}

/* --- deaths --- */

/* Of a worker that became ready when the server was leaving already: whether it has taken a request. */
static bool serves_unheard(const struct seat *seat)
{
    uint64_t claim = seat->row ? row_read_claim(seat->row) : ROW_NO_CLAIM;
    return !supervise_wants_births(seat->master) && claim != ROW_NO_CLAIM && row_claim_generation(claim) > 0;
}

static void bury(struct seat *seat, int status, uint64_t peak)
{
    char how[64];
    uint64_t answered = 0;
    births_fill_in(seat);
    read_messages(seat, MESSAGES_LEFT); /* a connection that it closed is on record there alone */
    output_drain(&seat->output);
    if (seat->child.state == CHILD_STARTING && !serves_unheard(seat)) {
        deaths_describe_status(status, how, sizeof(how));
        births_tell_lost(seat, how);
        if (supervise_wants_births(seat->master))
            deaths_report_start(seat, status, peak);
    } else {
        answered = deaths_take_over(seat, status, peak);
    }
    births_bury(seat, answered, deaths_was_killed(status));
}

static struct seat *find_seat(struct master *master, pid_t pid)
{
    for (unsigned i = 0; i <= master->seat_count; i++)
        if (master->seats[i].child.pid == pid)
            return &master->seats[i];
    return NULL;
}

/* A worker may die before its first message was read: then its pid is in that message. */
static struct seat *find_seat_of_dead(struct master *master, pid_t pid)
{
    for (unsigned i = 0; !find_seat(master, pid) && i <= master->seat_count; i++) {
        struct seat *seat = &master->seats[i];
        if (seat->child.state != CHILD_STARTING || seat->child.pid != 0)
            continue;
        read_messages(seat, MESSAGES_AT_ONCE);
        if (birth_is_lost(seat))
            births_end(seat, "its process died before it had introduced itself");
    }
    return find_seat(master, pid);
}

static void on_stop_or_continue(struct seat *seat, bool stopped)
{
    seat->child.stopped = stopped;
    if (stopped)
        (void)supervise_check(seat);
}

static void on_death(struct master *master, pid_t pid, int status, uint64_t peak)
{
    struct generation *generation = generation_find(master, pid);
    if (generation) {
        generation_read(generation);
        generation_died(generation, status, peak);
        return;
    }
    if (pid == master->crashes->reporter) {
        crashes_reporter_died(master, status);
        return;
    }
    if (upgrade_died(master, pid, status))
        return;
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
    births_go_on(master);
    master_look_at_stop(master);
}

/* --- the whole --- */

bool supervise_any_running(const struct master *master)
{
    for (unsigned i = 0; i <= master->seat_count; i++) {
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
    for (unsigned i = 0; i <= master->seat_count; i++)
        alive += master->seats[i].child.state != CHILD_NONE;
    return alive;
}

void supervise_refuse(struct master *master)
{
    for (unsigned i = 0; i <= master->seat_count; i++)
        if (master->seats[i].row)
            atomic_store_explicit(&master->seats[i].row->orders, ROW_REFUSE, memory_order_relaxed);
}

void supervise_leave(struct master *master)
{
    for (unsigned i = 0; i <= master->seat_count; i++)
        if (master->seats[i].child.state == CHILD_READY)
            master->seats[i].child.state = CHILD_LEAVING;
    supervise_signal(master, WORKER_SIGNAL_LEAVE);
}

void supervise_signal(struct master *master, int signal)
{
    for (unsigned i = 0; i <= master->seat_count; i++)
        if (master->seats[i].child.pid > 0)
            supervise_send_signal(&master->seats[i], signal);
}

int supervise_init(struct master *master)
{
    if (births_init(master) < 0)
        return -1;
    ev_signal_init(&master->children, on_children, SIGCHLD);
    master->children.data = master;
    ev_signal_start(master->loop, &master->children);
    deaths_init(master);
    return 0;
}
