#include "births.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "clock.h"
#include "generation.h"
#include "ipc.h"
#include "log.h"
#include "metrics.h"
#include "shared.h"
#include "stacks.h"
#include "standin.h"
#include "supervise.h"
#include "worker.h"
#include "workspace.h"

#define LABEL_SIZE 64
/* What a worker that was told to leave, and has no call, is given for the engine's stop(). */
#define LEAVE_TIMEOUT (5 * CLOCK_NS_PER_S)
/* Births asked for at a time: what the forkserver's socket has room for, with descriptors in flight. */
#define BIRTHS_UNDER_WAY 64
/* From asking for a worker to its first message; start() comes after it. */
#define BIRTH_TIMEOUT (10 * CLOCK_NS_PER_S)
/* Callers are told that no worker can be had after two processes in a row that did not become ready; after
 * six where they were killed: that can be somebody who kills at random. In the measure of backoff.vain. */
#define DESERTED_AFTER 6
/* Limits of recycling are drawn from this share of what was asked for to the whole, so that workers that were
 * born together do not leave together. */
#define JITTER_PER_CENT 10

static const char *seat_label(const struct seat *seat, char *label)
{
    return child_label(&seat->child, label, LABEL_SIZE);
}

static uint64_t random_number(void)
{
    uint64_t number;
    return getrandom(&number, sizeof(number), GRND_INSECURE) == (ssize_t)sizeof(number) ? number
                                                                                        : clock_now();
}

/* 90 to 100 % of it, and never 0 where it is not. */
static uint64_t jitter(uint64_t limit)
{
    uint64_t range = limit / (100 / JITTER_PER_CENT);
    return limit - (range > 0 ? random_number() % (range + 1) : 0);
}

/* --- a process's belongings --- */

static void release(struct seat *seat)
{
    if (seat->control >= 0) {
        ev_io_stop(seat->master->loop, &seat->control_watcher);
        close(seat->control);
    }
    if (seat->workspace >= 0)
        close(seat->workspace);
    if (seat->row)
        munmap(seat->row, ROW_SIZE);
    output_close(&seat->output);
    metrics_close(seat);
    stacks_drop(seat);
    if (seat->generation)
        seat->generation->seats--;
    seat->control = seat->workspace = -1;
    seat->row = NULL;
    seat->generation = NULL;
    seat->end = END_OWN;
    seat->deadline = (struct deadline){0};
    seat->stall = (struct stall){0};
    seat->slow_start = seat->explained = seat->parked = seat->outdated = false;
    seat->due = SEAT_NOT_DUE;
    seat->leave_by = 0;
}

static int create_workspace(struct seat *seat)
{
    uint32_t max_frame = seat->master->options->max_frame;
    struct metrics_table *table = seat->generation ? seat->generation->methods : NULL;
    seat->workspace = shared_create("cohab-workspace", workspace_size(max_frame, metrics_room(table)));
    if (seat->workspace < 0)
        return -1;
    seat->row = shared_map(seat->workspace, workspace_row(max_frame), ROW_SIZE, 1);
    if (!seat->row || metrics_open(seat, table) < 0)
        return -1;
    row_set_key(seat->row, seat->key = random_number());
    return 0;
}

int births_adopt(struct seat *seat)
{
    size_t at = workspace_row(seat->master->options->max_frame);
    seat->row = shared_map(seat->workspace, at, ROW_SIZE, 1);
    if (!seat->row || metrics_adopt(seat) < 0)
        return -1;
    output_adopt(&seat->output, seat->master->loop);
    if (seat->control >= 0)
        supervise_watch(seat, seat->control);
    return 0;
}

/* Workspace, output and control socket of a process that does not exist yet; the descriptors in message, but
 * for the workspace, are the caller's to close. -1 with errno. */
static int create_belongings(struct seat *seat, struct ipc_message *message)
{
    struct master *master = seat->master;
    int *descriptors = message->descriptors;
    message->descriptor_count = IPC_FORK_DESCRIPTORS;
    descriptors[IPC_FORK_CONTROL] = descriptors[IPC_FORK_OUTPUT] = -1;
    int created = create_workspace(seat);
    descriptors[IPC_FORK_WORKSPACE] = seat->workspace;
    if (created < 0)
        return -1;
    descriptors[IPC_FORK_OUTPUT] = output_open(&seat->output, master->loop,
                                               seat->child.number == 0 ? OUTPUT_STANDIN : seat->child.number);
    if (descriptors[IPC_FORK_OUTPUT] < 0)
        return -1;
    if (master->state != MASTER_STARTING && master->state != MASTER_SERVING)
        atomic_store_explicit(&seat->row->orders, ROW_REFUSE, memory_order_relaxed);
    int pair[2];
    if (ipc_pair(pair, 1) < 0)
        return -1;
    descriptors[IPC_FORK_CONTROL] = pair[1];
    supervise_watch(seat, pair[0]);
    return 0;
}

static void close_handed(const struct ipc_message *message)
{
    int saved = errno;
    for (int i = 0; i < IPC_FORK_DESCRIPTORS; i++)
        if (message->descriptors[i] >= 0 && i != IPC_FORK_WORKSPACE)
            close(message->descriptors[i]);
    errno = saved;
}

/* --- births --- */

static void begin(struct seat *seat, struct generation *generation, uint64_t now)
{
    const struct options *options = seat->master->options;
    child_begin(&seat->child, generation ? generation->number : 0, now);
    seat->generation = generation;
    if (generation)
        generation->seats++;
    seat->most_calls = jitter(options->max_requests);
    seat->most_age = jitter(options->max_age);
}

static int ask_for_worker(struct seat *seat, uint32_t flags)
{
    struct ipc_message message = {.type = IPC_FORK, .number = seat->child.number, .flags = flags};
    int result = create_belongings(seat, &message);
    if (result == 0)
        result = ipc_send(seat->generation->control, &message, MSG_DONTWAIT);
    close_handed(&message);
    return result;
}

static void begin_birth(struct seat *seat, struct generation *generation, uint32_t flags)
{
    begin(seat, generation, clock_now());
    seat->parked = flags & IPC_FORK_PARKED;
    if (ask_for_worker(seat, flags) == 0)
        return;
    if (errno == EPIPE || errno == ECONNRESET) { /* the forkserver is dead, and not reaped yet */
        generation_end(generation);
        births_bury(seat, 0, false);
    } else {
        births_end(seat, strerror(errno));
    }
}

struct seat *births_try(struct generation *generation)
{
    struct master *master = generation->master;
    for (unsigned i = 1; i <= master->seat_count; i++) {
        struct seat *seat = &master->seats[i];
        if (seat->child.state != CHILD_NONE)
            continue;
        begin_birth(seat, generation, IPC_FORK_SELFTEST | IPC_FORK_PARKED);
        return seat->child.state == CHILD_NONE ? NULL : seat;
    }
    return NULL;
}

void births_tell_lost(struct seat *seat, const char *why)
{
    char label[LABEL_SIZE];
    struct master *master = seat->master;
    if (!supervise_wants_births(master) || seat->child.number == 0)
        return;
    if (!seat->explained) {
        log_event(LOG_ERROR, "worker_not_started", SEAT_FIELDS(seat, .cause = why), "%s could not start: %s",
                  seat_label(seat, label), why);
        if (seat->generation == master->present)
            snprintf(master->start_problem, sizeof(master->start_problem), "a worker could not start: %.400s",
                     why);
    }
    reload_on_lost_birth(seat, why);
}

void births_bury(struct seat *seat, uint64_t answered, bool killed)
{
    struct master *master = seat->master;
    /* What dies with its forkserver is no failure of its own. */
    bool counts = seat->child.number > 0 && seat->generation == master->present &&
                  (seat->child.pid != 0 || master->present->control >= 0);
    release(seat);
    struct life life = child_end(&seat->child, clock_now(), answered, killed);
    if (counts)
        backoff_note(&master->births, &life);
    if (master->state == MASTER_STARTING)
        master_abandon(master);
}

void births_end(struct seat *seat, const char *why)
{
    births_tell_lost(seat, why);
    births_bury(seat, 0, false);
}

/* The worker without an engine, which answers while no other can. */
static void begin_standin(struct master *master)
{
    struct seat *seat = &master->seats[0];
    struct ipc_message message = {0};
    begin(seat, NULL, clock_now());
    pid_t pid = create_belongings(seat, &message) == 0 ? standin_start(master, message.descriptors) : -1;
    close_handed(&message);
    if (pid > 0) {
        seat->child.pid = seat->output.pid = pid;
        standin_tell(master);
        return;
    }
    log_event(LOG_WARN, "standin_not_started", NULL,
              "cannot start a stand-in to answer while there is no worker: %m");
    births_bury(seat, 0, false);
}

/* --- the pool --- */

static bool is_present(const struct seat *seat)
{
    return seat->child.state == CHILD_READY && !seat->parked;
}

unsigned births_serving(const struct master *master)
{
    unsigned serving = 0;
    for (unsigned i = 1; i <= master->seat_count; i++)
        serving += is_present(&master->seats[i]);
    return serving;
}

static bool is_busy(const struct seat *seat)
{
    return seat->row && seat_serves(seat) && row_read_claim(seat->row) != ROW_NO_CLAIM;
}

/* One place more than there are processes, as far as there may be. Returns how many are under way without
 * being known by pid. */
static unsigned list_members(struct master *master, struct pool_member *members)
{
    unsigned under_way = 0;
    bool full = true;
    for (unsigned i = 1; i <= master->seat_count; i++) {
        const struct seat *seat = &master->seats[i];
        bool trial = seat == master->reload.trial && seat->child.state == CHILD_STARTING;
        members[i - 1] = (struct pool_member){.state = seat->child.state,
                                              .parked = seat->parked,
                                              .old = seat->outdated || seat->due != SEAT_NOT_DUE || trial,
                                              .busy = is_busy(seat)};
        under_way += seat->child.state == CHILD_STARTING && seat->child.pid == 0;
        full &= seat->child.state != CHILD_NONE;
    }
    if (full && master->seat_count < SEATS_MAX)
        members[master->seat_count++] = (struct pool_member){0};
    return under_way;
}

static void tell_leaving(const struct seat *seat)
{
    static const char *const why[] = {[SEAT_DUE_REQUESTS] = "--max-requests",
                                      [SEAT_DUE_PRIVATE] = "--max-private",
                                      [SEAT_DUE_AGE] = "--max-age"};
    char label[LABEL_SIZE];
    if (seat->due == SEAT_NOT_DUE)
        return;
    seat->master->recycled++;
    log_event(LOG_INFO, "worker_recycled", SEAT_FIELDS(seat, .cause = why[seat->due]), "%s leaves: %s",
              seat_label(seat, label), why[seat->due]);
}

static void have_leave(struct seat *seat)
{
    tell_leaving(seat);
    reload_on_replaced(seat);
    seat->child.state = CHILD_LEAVING;
    supervise_send_signal(seat, WORKER_SIGNAL_LEAVE);
}

static void have_serve(struct seat *seat)
{
    const struct ipc_message message = {.type = IPC_SERVE};
    if (ipc_send(seat->control, &message, MSG_DONTWAIT) < 0)
        supervise_send_signal(seat, SIGKILL); /* it has said nothing and heard nothing: it is dead, or mad */
    seat->parked = false;
}

static bool is_in_use(const struct seat *seat)
{
    return seat->child.state == CHILD_READY && !seat->outdated && seat->due == SEAT_NOT_DUE;
}

void births_fill_in(const struct seat *seat)
{
    struct master *master = seat->master;
    if (master->state != MASTER_SERVING || !is_in_use(seat) || seat->parked)
        return;
    for (unsigned i = 1; i <= master->seat_count; i++)
        if (is_in_use(&master->seats[i]) && master->seats[i].parked) {
            have_serve(&master->seats[i]);
            return;
        }
}

static bool may_bear(const struct master *master, uint64_t now)
{
    const struct generation *present = master->present;
    if (!present->loaded || present->control < 0 || now < master->births.retry_at)
        return false;
    for (unsigned i = 1; backoff_probes(&master->births) && i <= master->seat_count; i++)
        if (master->seats[i].child.state == CHILD_STARTING && master->seats[i].generation == present)
            return false;
    return true;
}

static void run_pool(struct master *master)
{
    static struct pool_member members[SEATS_MAX];
    for (;;) {
        unsigned under_way = list_members(master, members);
        bool bear = under_way < BIRTHS_UNDER_WAY && may_bear(master, clock_now());
        struct pool_step step = pool_next(&master->pool, members, master->seat_count, bear);
        struct seat *seat = &master->seats[step.member + 1];
        switch (step.action) {
        case POOL_BIRTH:
            begin_birth(seat, master->present, master->pool.spare ? IPC_FORK_PARKED : 0);
            break;
        case POOL_SERVE:
            have_serve(seat);
            break;
        case POOL_LEAVE:
            have_leave(seat);
            break;
        case POOL_NOTHING:
            return;
        }
    }
}

/* Whether a worker, or the engine, has been starting for long. */
static bool is_slow(const struct master *master)
{
    const struct generation *present = master->present;
    if (present->pid != 0 && !present->loaded && clock_now() - present->born_at >= BIRTH_TIMEOUT)
        return true;
    for (unsigned i = 1; i <= master->seat_count; i++)
        if (master->seats[i].slow_start)
            return true;
    return false;
}

/* Whether nobody serves, for a reason that may last: one failure alone can be somebody's kill. */
static bool is_deserted(const struct master *master)
{
    return master->state == MASTER_SERVING && births_serving(master) == 0 &&
           (master->loads.vain >= DESERTED_AFTER || master->births.vain >= DESERTED_AFTER ||
            backoff_probes(&master->births) || is_slow(master));
}

static void keep_standin(struct master *master)
{
    struct seat *seat = &master->seats[0];
    bool deserted = is_deserted(master);
    if (seat->child.state == CHILD_NONE && deserted)
        begin_standin(master);
    else if (seat->child.state == CHILD_READY && !deserted && births_serving(master) > 0)
        have_leave(seat);
}

void births_go_on(struct master *master)
{
    if (!supervise_wants_births(master))
        return;
    generation_keep(master);
    run_pool(master);
    keep_standin(master);
    reload_go_on(master);
    generation_sweep(master);
}

/* --- looks --- */

/* Births are made one after the other: time counts from the last one, too. */
static bool birth_hangs(const struct seat *seat, uint64_t now)
{
    const struct generation *generation = seat->generation;
    uint64_t since = generation && generation->progress_at > seat->child.born_at ? generation->progress_at
                                                                                 : seat->child.born_at;
    return seat->child.pid == 0 && now - since >= BIRTH_TIMEOUT;
}

/* start() may take its time, but not in silence, and not for ever. */
static void look_at_start(struct seat *seat, uint64_t now)
{
    struct master *master = seat->master;
    char label[LABEL_SIZE], why[128];
    uint64_t age = now - seat->child.born_at;
    if (!seat->slow_start && age >= BIRTH_TIMEOUT) {
        seat->slow_start = true;
        log_event(LOG_WARN, "start_slow", SEAT_FIELDS(seat, .duration = age),
                  "%s: start() has not returned for 10 s", seat_label(seat, label));
        if (seat->generation == master->present && !master->start_problem[0])
            snprintf(master->start_problem, sizeof(master->start_problem),
                     "start() has not returned for 10 s");
    }
    if (seat->explained || age < master->options->load_timeout)
        return;
    snprintf(why, sizeof(why), "start() has not returned within %g s (--load-timeout)",
             (double)master->options->load_timeout / 1e9);
    births_tell_lost(seat, why);
    seat->explained = true;
    supervise_send_signal(seat, SIGKILL);
}

/* A birth that gets nowhere (the forkserver is stopped, an atfork handler hangs) is given up, and the
 * forkserver with it. */
static void look_at_births(struct master *master, uint64_t now)
{
    for (unsigned i = 0; i <= master->seat_count; i++) {
        struct seat *seat = &master->seats[i];
        if (seat->child.state != CHILD_STARTING)
            continue;
        if (birth_hangs(seat, now)) {
            struct generation *generation = seat->generation;
            births_end(seat, "no process came into being for 10 s");
            generation_end(generation);
        } else if (seat->child.pid != 0) {
            look_at_start(seat, now);
        }
    }
}

/* One whose stop() does not return would keep its place, and its generation, for good. */
static void look_at_leaving(struct seat *seat, const struct row_view *row, uint64_t now)
{
    char label[LABEL_SIZE];
    if (seat->leave_by == 0 || row->claim != ROW_NO_CLAIM) {
        seat->leave_by = now + LEAVE_TIMEOUT;
    } else if (now >= seat->leave_by) {
        log_event(LOG_WARN, "worker_lingers", SEAT_FIELDS(seat), "%s does not leave: killed",
                  seat_label(seat, label));
        supervise_send_signal(seat, SIGKILL);
        seat->leave_by = now + LEAVE_TIMEOUT;
    }
}

void births_look_at(struct seat *seat, const struct row_view *row, uint64_t now)
{
    const struct master *master = seat->master;
    if (seat->child.state == CHILD_LEAVING && master->state == MASTER_SERVING)
        look_at_leaving(seat, row, now);
    if (seat->due != SEAT_NOT_DUE || seat->child.state != CHILD_READY || master->state != MASTER_SERVING ||
        seat->child.number == 0)
        return;
    if (seat->most_calls && row->calls >= seat->most_calls)
        seat->due = SEAT_DUE_REQUESTS;
    else if (master->options->max_private && row->private_memory > master->options->max_private)
        seat->due = SEAT_DUE_PRIVATE;
    else if (seat->most_age && now - seat->child.born_at >= seat->most_age)
        seat->due = SEAT_DUE_AGE;
}

static void look_at_load(struct master *master, unsigned busy, bool waiting, uint64_t now)
{
    struct pool_sight sight = {.serving = births_serving(master), .busy = busy, .waiting = waiting};
    unsigned before = master->pool.target;
    for (unsigned i = 1; i <= master->seat_count; i++)
        sight.starting += master->seats[i].child.state == CHILD_STARTING;
    if (sight.busy > sight.serving)
        sight.busy = sight.serving; /* some of those that are leaving are busy, too */
    if (pool_look(&master->pool, &sight, now, master->options->idle_timeout))
        log_event(LOG_INFO, "scaled", LOG_FIELDS(.count = master->pool.target), "%s: %u workers, not %u",
                  master->pool.target > before ? "requests wait" : "workers idle", master->pool.target,
                  before);
}

void births_look(struct master *master, unsigned busy, bool waiting)
{
    uint64_t now = clock_now();
    generation_look(master, now);
    look_at_births(master, now);
    if (master->state == MASTER_SERVING)
        look_at_load(master, busy, waiting, now);
}

void births_scale(struct master *master, unsigned min, unsigned max)
{
    pool_set_bounds(&master->pool, min, max);
    log_event(LOG_INFO, "scaled", LOG_FIELDS(.count = master->pool.target), "asked for %u to %u workers", min,
              max);
    births_go_on(master);
}

int births_init(struct master *master)
{
    const struct options *options = master->options;
    master->pool = (struct pool){.min = options->workers_min,
                                 .max = options->workers_max,
                                 .target = options->workers_min,
                                 .spare = options->spare};
    master->seat_count = options->workers_min + options->spare + POOL_SURGE;
    master->seats = calloc(SEATS_MAX + 1, sizeof(*master->seats)); /* places that nobody uses cost nothing */
    if (!master->seats)
        return -1;
    if (master->seat_count > SEATS_MAX)
        master->seat_count = SEATS_MAX;
    for (unsigned i = 0; i <= SEATS_MAX; i++)
        master->seats[i] = (struct seat){.child.number = i, .master = master, .workspace = -1, .control = -1};
    return 0;
}
