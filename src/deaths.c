#include "deaths.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "crash_cause.h"
#include "crashes.h"
#include "envelope.h"
#include "generation.h"
#include "log.h"
#include "metrics.h"
#include "recovery.h"
#include "worker.h"
#include "workspace.h"

#define LABEL_SIZE 64
#define CAUSE_SIZE sizeof(((struct death *)0)->cause)
/* Looks at the rows and at the kernel's list before a connection counts as lost, and the time between two, in
 * s. */
#define SWEEP_LOOKS 6
#define SWEEP_TICK  0.001
/* A msgid ends at the latest here in a body: array, type and msgid, each in its longest form. */
#define MSGID_WITHIN (5 + 9 + 9)

const char *deaths_signal_name(int status, char *text, size_t size)
{
    return crash_signal_name(WTERMSIG(status), text, size);
}

void deaths_describe_status(int status, char *text, size_t size)
{
    char signal[32];
    if (WIFEXITED(status)) {
        snprintf(text, size, "exited with code %d", WEXITSTATUS(status));
        return;
    }
    snprintf(text, size, "killed by %s%s", deaths_signal_name(status, signal, sizeof(signal)),
             WCOREDUMP(status) ? ", core dumped" : "");
}

bool deaths_was_killed(int status)
{
    return WIFSIGNALED(status) && (WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGTERM);
}

/* --- recovery --- */

static bool other_row_claims(const struct master *master, uint64_t claim, const struct seat *except)
{
    for (unsigned i = 0; i <= master->seat_count; i++) {
        const struct seat *seat = &master->seats[i];
        if (seat != except && seat->row && row_read_claim(seat->row) == claim)
            return true;
    }
    return false;
}

/* Another worker has it, or its caller waits for what the master will say of one that died. */
static bool is_claimed(const struct master *master, uint32_t slot, const struct seat *except)
{
    uint64_t claim = slots_claim(&master->slots, slot);
    return other_row_claims(master, claim, except) || crashes_holds(master, claim);
}

bool deaths_claimed(const struct master *master, uint32_t slot)
{
    return is_claimed(master, slot, NULL);
}

static void settle_or_doubt(struct master *master, uint32_t slot, const struct seat *except)
{
    slots_doubt(&master->slots, slot);
    if (!is_claimed(master, slot, except))
        slots_settle(&master->slots, slot);
    else if (!ev_is_active(&master->doubt))
        ev_timer_again(master->loop, &master->doubt);
}

static void look_at_doubts(struct master *master)
{
    for (uint32_t slot = 0; master->slots.in_doubt > 0 && slot < master->slots.count; slot++)
        if (master->slots.slots[slot].in_doubt && !is_claimed(master, slot, NULL))
            slots_settle(&master->slots, slot);
    if (master->slots.in_doubt == 0)
        ev_timer_stop(master->loop, &master->doubt);
}

static void on_doubt(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    look_at_doubts(timer->data);
}

/* What the dead worker's request buffer shows: its first bytes are enough. */
static void read_buffer(const struct seat *seat, struct recovery_facts *facts)
{
    unsigned char bytes[FRAME_HEADER_SIZE + MSGID_WITHIN];
    ssize_t size = pread(seat->workspace, bytes, sizeof(bytes), 0);
    if (size != (ssize_t)sizeof(bytes)) { /* cannot be: a sealed memfd. Nothing is known: it is closed */
        facts->buffer_touched = true;
        return;
    }
    uint32_t length = frame_get_length(bytes);
    facts->buffer_touched = length != FRAME_NOTHING;
    if (length != 0 && length <= seat->master->options->max_frame)
        facts->frame_size = FRAME_HEADER_SIZE + (uint64_t)length;
    size_t body = length < sizeof(bytes) - FRAME_HEADER_SIZE ? length : sizeof(bytes) - FRAME_HEADER_SIZE;
    facts->has_msgid = envelope_read_msgid(bytes + FRAME_HEADER_SIZE, body, &facts->msgid);
}

/* Where the engine was not called, the row may still show the method of the call before. */
static void count_answer(struct seat *seat, const struct row_view *row, const char *code, uint32_t slot,
                         size_t size)
{
    struct master *master = seat->master;
    bool ran = row->state == ROW_RUNNING || (row->state == ROW_WRITING && row->writing_from == ROW_RUNNING);
    uint64_t received = row->received < UINT32_MAX ? row->received : 0; /* else it is no number of bytes */
    metrics_count_answer(
        master, SEAT_FIELDS(seat, .method = ran ? row->method : "(other)", .code = code,
                            .duration = ran ? metrics_duration(row->started, seat->child.born_at) : 0,
                            .queued = ran ? metrics_queued(row->queued) : 0, .has_call = true,
                            .request_bytes = received, .response_bytes = size,
                            .peer_pid = master->slots.slots[slot].peer_pid,
                            .peer_uid = master->slots.slots[slot].peer_uid));
}

static void answer_for(struct seat *seat, const struct row_view *row, const struct recovery_plan *plan,
                       uint32_t slot, int status)
{
    char message[256], how[64], signal[32] = "";
    struct envelope_error error = {.message = message, .executed = true, .retry = row->idempotent};
    switch (plan->answer) {
    case RECOVERY_NO_ANSWER:
        return;
    case RECOVERY_WORKER_LOST:
        error.code = "UNAVAILABLE", error.reason = "WORKER_LOST", error.executed = false, error.retry = true;
        snprintf(message, sizeof(message), "the worker died before it called the engine");
        break;
    case RECOVERY_ENGINE_CRASHED:
        error.code = "INTERNAL", error.reason = "ENGINE_CRASHED";
        deaths_describe_status(status, how, sizeof(how));
        snprintf(message, sizeof(message), "the worker died in %s(): %s", row->method, how);
        if (WIFSIGNALED(status))
            error.signal = deaths_signal_name(status, signal, sizeof(signal));
        break;
    case RECOVERY_DEADLINE:
        error.code = "DEADLINE_EXCEEDED", error.reason = "DEADLINE";
        snprintf(message, sizeof(message), "the deadline passed and %s() was ended", row->method);
        break;
    case RECOVERY_CANCELLED: /* nobody is there to read it */
        error.code = "CANCELLED", error.reason = "CANCELLED", error.retry = false;
        snprintf(message, sizeof(message), "the client went away and %s() was ended", row->method);
        break;
    case RECOVERY_KILLED:
        error.code = "CANCELLED", error.reason = "KILLED", error.retry = false;
        snprintf(message, sizeof(message), "%s() was killed by an operator", row->method);
        break;
    case RECOVERY_STOPPING:
        error.code = "UNAVAILABLE", error.reason = "STOPPING";
        snprintf(message, sizeof(message), "the server stopped before %s() had finished", row->method);
        break;
    }
    unsigned char frame[ENVELOPE_ERROR_MAX];
    size_t size = envelope_write_error(frame, true, plan->msgid, &error);
    count_answer(seat, row, error.code, slot, size);
    (void)slots_send(&seat->master->slots, slot, frame, size); /* on failure the connection is closed */
}

/* Whether a worker that serves can have such a row: an engine may have written over it. Nothing seals the
 * claim of one that waits. */
static bool row_is_plausible(const struct master *master, const struct row_view *row)
{
    uint32_t slot = row_claim_slot(row->claim), generation = row_claim_generation(row->claim);
    if (!row->valid)
        return false;
    return row->claim == ROW_NO_CLAIM || (slot < master->slots.count && generation > 0 &&
                                          generation <= master->slots.slots[slot].generation);
}

static void acquit(struct master *master)
{
    for (uint32_t slot = 0; slot < master->slots.count; slot++)
        if (master->slots.slots[slot].suspect && is_claimed(master, slot, NULL))
            master->slots.slots[slot].suspect = false;
}

/* One look at the rows and at the kernel's list. A connection that is served can escape a look: its worker
 * may let go of it after the list was read and before its row is; so that it takes many, and apart in time.
 * What remains is closed: its worker may have been in the middle of a response. */
static void look_for_lost(struct master *master)
{
    acquit(master);
    slots_suspect(&master->slots, master->sweep_looks == 0);
    acquit(master);
    if (++master->sweep_looks < SWEEP_LOOKS)
        return;
    for (uint32_t slot = 0; slot < master->slots.count; slot++)
        if (master->slots.slots[slot].suspect)
            slots_close(&master->slots, slot);
    master->sweep_looks = 0;
    if (!master->sweep_again)
        ev_timer_stop(master->loop, &master->sweep);
    master->sweep_again = false;
}

static void on_sweep(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    look_for_lost(timer->data);
}

/* The row of a dead worker does not tell which connection it held: one that is disarmed while no row claims
 * it. */
static void close_lost(struct master *master)
{
    master->sweep_again = ev_is_active(&master->sweep);
    if (!master->sweep_again)
        ev_timer_again(master->loop, &master->sweep);
}

/* Whether it died of the end that the master brought to its request, and not of a crash of its own meanwhile.
 */
static bool was_ended(const struct seat *seat, const struct row_view *row, int status)
{
    bool expected = WIFEXITED(status) ? WEXITSTATUS(status) == WORKER_EXIT_ENDED
                                      : WTERMSIG(status) == SIGKILL || WTERMSIG(status) == WORKER_SIGNAL_END;
    return expected && seat->deadline.stage >= DEADLINE_SIGNALLED && row->request == seat->deadline.request;
}

static bool is_about_the_engine(const struct recovery_plan *plan)
{
    return plan->answer == RECOVERY_ENGINE_CRASHED || plan->answer == RECOVERY_DEADLINE ||
           plan->answer == RECOVERY_KILLED;
}

/* Design 4.2. The worker has been reaped, its messages have been read. crash: its report, NULL: there will be
 * none. */
static void recover(struct seat *seat, const struct row_view *row, int status, struct crash *crash)
{
    struct master *master = seat->master;
    struct recovery_facts facts = {
        .row = *row,
        .ended_request = was_ended(seat, row, status) ? row->request : 0,
        .why = seat->deadline.why,
        .stopping = master->state == MASTER_KILLING,
    };
    uint32_t slot = 0;
    if (!row_is_plausible(master, row)) {
        log_event(LOG_WARN, "row_overwritten", SEAT_FIELDS(seat),
                  "worker %u: its row was overwritten: the connection that it held is closed",
                  seat->child.number);
        close_lost(master);
        return;
    }
    facts.tenant = slots_find(&master->slots, row->claim, &slot);
    if (!facts.tenant)
        return;
    read_buffer(seat, &facts);
    struct recovery_plan plan = recovery_decide(&facts);
    log_event(LOG_DEBUG, "claim_recovered", SEAT_FIELDS(seat, .method = row->method),
              "worker %u was %s: slot %u, action %d, answer %d", seat->child.number,
              row_state_name(row->state), slot, (int)plan.action, (int)plan.answer);
    if (crash && is_about_the_engine(&plan)) {
        crashes_hold(crash, row->claim, &plan);
        return;
    }
    answer_for(seat, row, &plan, slot, status);
    if (!slots_find(&master->slots, row->claim, &slot))
        return; /* closed, as the answer could not be sent */
    switch (plan.action) {
    case RECOVERY_NOTHING:
        break;
    case RECOVERY_REARM:
        slots_rearm(&master->slots, slot);
        break;
    case RECOVERY_SETTLE:
        settle_or_doubt(master, slot, seat);
        break;
    case RECOVERY_CLOSE:
        slots_close(&master->slots, slot);
        break;
    }
}

/* --- deaths --- */

static const struct {
    enum end_cause cause;
    const char *words;
} ends[] = {
    [DEADLINE_PASSED] = {END_DEADLINE, "ran past its deadline"},
    [DEADLINE_CLIENT_GONE] = {END_CANCELLED, "went on after its client had gone"},
    [DEADLINE_KILL_ORDERED] = {END_KILLED, "was killed by an operator"},
};

static void describe_death(const struct seat *seat, const struct row_view *row, int status, char *cause,
                           size_t size)
{
    char how[64];
    bool running = row->valid && row->state == ROW_RUNNING && row->claim != ROW_NO_CLAIM;
    deaths_describe_status(status, how, sizeof(how));
    bool by_master = was_ended(seat, row, status);
    if (by_master)
        snprintf(cause, size, "ended: %s() %s", row->method, ends[seat->deadline.why].words);
    else if (running && WIFEXITED(status) && WEXITSTATUS(status) == WORKER_EXIT_DESCRIPTOR)
        snprintf(cause, size, "a descriptor of cohab's was closed or replaced in %s()", row->method);
    else if (running)
        snprintf(cause, size, "%s in %s()", how, row->method);
    else if (WIFEXITED(status) && WEXITSTATUS(status) == WORKER_EXIT_DESCRIPTOR)
        snprintf(cause, size, "a descriptor of cohab's was closed, replaced or not to be had");
    else
        snprintf(cause, size, "%s", how);
}

static bool has_left(const struct row_view *row, int status)
{
    return WIFEXITED(status) && WEXITSTATUS(status) == WORKER_EXIT_LEFT && row->state == ROW_WAITING;
}

static void log_death(struct seat *seat, const struct row_view *row, int status)
{
    char label[LABEL_SIZE], cause[CAUSE_SIZE];
    struct master *master = seat->master;
    uint64_t age = clock_now() - seat->child.born_at;
    child_label(&seat->child, label, sizeof(label));
    if (has_left(row, status)) {
        log_event(LOG_INFO, "worker_left", SEAT_FIELDS(seat, .duration = age), "%s left", label);
        return;
    }
    describe_death(seat, row, status, cause, sizeof(cause));
    const struct log_fields *fields =
        SEAT_FIELDS(seat, .engine = seat->generation ? seat->generation->engine_name : NULL, .cause = cause,
                    .duration = age, .method = row->valid && row->state == ROW_RUNNING ? row->method : NULL);
    if (master->state == MASTER_KILLING) /* by this master */
        log_event(LOG_INFO, "worker_ended", fields, "%s ended: %s", label, cause);
    else
        log_event(LOG_WARN, "worker_died", fields, "%s died: %s", label, cause);
    struct death *death = &master->deaths[master->worker_deaths++ % MASTER_DEATHS_KEPT];
    *death = (struct death){.worker = seat->child.number, .pid = seat->child.pid, .at = clock_now()};
    memcpy(death->cause, cause, sizeof(cause));
}

/* --- reports --- */

static bool runs_request(const struct row_view *row)
{
    return row->valid && row->claim != ROW_NO_CLAIM &&
           (row->state == ROW_RUNNING || (row->state == ROW_WRITING && row->writing_from == ROW_RUNNING));
}

/* Not of those that left, nor of those that the master killed as the server stops. */
static bool deserves_report(const struct seat *seat, const struct row_view *row, int status)
{
    bool deserted = WIFEXITED(status) && WEXITSTATUS(status) == WORKER_EXIT_MASTER_GONE && !runs_request(row);
    return !has_left(row, status) && !deserted && seat->master->state != MASTER_KILLING;
}

static enum end_cause find_end(const struct seat *seat, const struct row_view *row, int status)
{
    if (was_ended(seat, row, status))
        return ends[seat->deadline.why].cause;
    if (seat->end != END_OWN)
        return seat->end;
    if (WIFEXITED(status) && WEXITSTATUS(status) == WORKER_EXIT_DESCRIPTOR)
        return END_DESCRIPTORS;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL &&
        oom_take(&seat->master->crashes->oom, clock_now()))
        return END_OOM;
    return END_OWN;
}

void deaths_fill_job(struct reporter_job *job, const struct seat *seat, const struct row_view *row)
{
    const struct master *master = seat->master;
    uint32_t slot;
    job->worker = seat->child.number;
    job->pid = seat->child.pid;
    job->generation = seat->child.generation;
    job->born_at = seat->child.born_at;
    job->snapshot = workspace_snapshot(master->options->max_frame);
    job->phase = seat_serves(seat) ? PHASE_IDLE : PHASE_START;
    job->served = row->valid ? row->calls : 0;
    if (!seat_serves(seat) || !runs_request(row))
        return;
    job->phase = PHASE_CALL;
    job->request = row->request;
    job->msgid = row->msgid;
    job->idempotent = row->idempotent;
    job->started = row->started;
    job->queued = row->queued;
    job->received = row->received;
    memcpy(job->method, row->method, sizeof(job->method));
    if (slots_find(&master->slots, row->claim, &slot)) {
        job->peer_pid = master->slots.slots[slot].peer_pid;
        job->peer_uid = master->slots.slots[slot].peer_uid;
    }
}

static struct crash *report(struct seat *seat, const struct row_view *row, int status, enum end_cause end,
                            uint64_t peak)
{
    struct crash *crash =
        seat->generation ? crashes_new(seat->master, seat->generation, REPORTER_DEATH) : NULL;
    if (!crash)
        return NULL;
    struct reporter_job *job = crashes_job(crash);
    deaths_fill_job(job, seat, row);
    job->status = status;
    job->end = end;
    job->peak = peak;
    output_drain(&seat->output);
    return crashes_send(crash, seat->workspace, &seat->output);
}

void deaths_report_start(struct seat *seat, int status, uint64_t peak)
{
    struct row_view row;
    row_read(seat->row, seat->key, &row);
    bool said_so = WIFEXITED(status) && WEXITSTATUS(status) == WORKER_EXIT_NOT_STARTED;
    seat->master->metrics->deaths[METRICS_START]++;
    if (!said_so && seat->master->state != MASTER_KILLING)
        (void)report(seat, &row, status, find_end(seat, &row, status), peak);
}

uint64_t deaths_take_over(struct seat *seat, int status, uint64_t peak)
{
    struct row_view row;
    struct crash *crash = NULL;
    row_read(seat->row, seat->key, &row);
    log_death(seat, &row, status);
    if (deserves_report(seat, &row, status)) {
        enum end_cause end = find_end(seat, &row, status);
        metrics_count_death(seat->master, end, status);
        crash = report(seat, &row, status, end, peak);
    }
    if (crash)
        crashes_note_death(crash, seat->master->worker_deaths - 1);
    recover(seat, &row, status, crash);
    if (!row_is_plausible(seat->master, &row))
        return 0;
    seat->master->past_calls += row.calls;
    return row.calls + (row.claim != ROW_NO_CLAIM); /* it died over one */
}

void deaths_init(struct master *master)
{
    ev_timer_init(&master->doubt, on_doubt, 0.001, 0.001);
    master->doubt.data = master;
    ev_timer_init(&master->sweep, on_sweep, SWEEP_TICK, SWEEP_TICK);
    master->sweep.data = master;
}
