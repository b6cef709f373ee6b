#include "heartbeat.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "envelope.h"
#include "generation.h"
#include "log.h"
#include "notify.h"
#include "watchdog.h"

/* After its deadline a call has --kill-grace twice, and a killed worker some time to die. */
#define END_TIMEOUT (2 * CLOCK_NS_PER_S)

/* [0, 1, "cohab.ping", []] */
static const unsigned char question[] = {0,   0,   0,   15,  0x94, 0,   1,   0xaa, 'c', 'o',
                                         'h', 'a', 'b', '.', 'p',  'i', 'n', 'g',  0x90};
/* [1, 1, nil, []] */
#define MSGID       1u
#define ANSWER_SIZE (ENVELOPE_RESULT_HEADER + 1)

struct heartbeat {
    struct master *master;
    struct watchdog watchdog;
    ev_io watcher;                     /* the master's end; fd -1: no probe is under way */
    uint32_t slot;                     /* the other end */
    uint32_t tenant;                   /* that slot's generation, while the probe has it */
    unsigned char answer[ANSWER_SIZE]; /* what must come */
    unsigned char received[ANSWER_SIZE];
    size_t size;
    bool answered;
};

/* --- the probe --- */

unsigned heartbeat_open(const struct master *master)
{
    const struct heartbeat *heartbeat = master->heartbeat;
    if (!heartbeat || heartbeat->watcher.fd < 0)
        return 0;
    const struct slot *slot = &master->slots.slots[heartbeat->slot];
    return slot->open && slot->generation == heartbeat->tenant;
}

static void end_probe(struct heartbeat *heartbeat)
{
    if (heartbeat_open(heartbeat->master))
        slots_close(&heartbeat->master->slots, heartbeat->slot);
    ev_io_stop(heartbeat->master->loop, &heartbeat->watcher);
    close(heartbeat->watcher.fd);
    heartbeat->watcher.fd = -1;
}

void heartbeat_stop(struct master *master)
{
    if (master->heartbeat->watcher.fd >= 0)
        end_probe(master->heartbeat);
}

/* Anything but the right bytes is no answer: another probe follows. */
static void on_answer(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    (void)events;
    struct heartbeat *heartbeat = watcher->data;
    ssize_t size =
        recv(watcher->fd, heartbeat->received + heartbeat->size, ANSWER_SIZE - heartbeat->size, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    heartbeat->size += size > 0 ? (size_t)size : 0;
    bool right = memcmp(heartbeat->received, heartbeat->answer, heartbeat->size) == 0;
    if (size > 0 && right && heartbeat->size < ANSWER_SIZE)
        return;
    heartbeat->answered = size > 0 && right;
    end_probe(heartbeat);
    heartbeat_tick(heartbeat->master);
}

static void begin_probe(struct heartbeat *heartbeat)
{
    struct master *master = heartbeat->master;
    int pair[2];
    if (heartbeat->watcher.fd >= 0)
        return;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        log_event(LOG_WARN, "probe_failed", NULL, "cannot probe the workers: %m");
        return;
    }
    ssize_t sent = send(pair[0], question, sizeof(question), MSG_DONTWAIT | MSG_NOSIGNAL);
    int slot = slots_add(&master->slots, pair[1], master->options->io_timeout); /* takes pair[1] over */
    if (slot < 0 || sent != (ssize_t)sizeof(question)) {
        log_event(LOG_WARN, "probe_failed", NULL, "cannot probe the workers: %m");
        if (slot >= 0)
            slots_close(&master->slots, (uint32_t)slot);
        close(pair[0]);
        return;
    }
    heartbeat->slot = (uint32_t)slot;
    heartbeat->tenant = master->slots.slots[slot].generation;
    heartbeat->size = 0;
    ev_io_set(&heartbeat->watcher, pair[0], EV_READ);
    ev_io_start(master->loop, &heartbeat->watcher);
}

/* --- what is seen --- */

/* Of a call that runs. What else a worker does with a connection is bounded by the stall rule, and by
 * --io-timeout. */
static bool is_overdue(const struct seat *seat, const struct row_view *row, uint64_t now)
{
    const struct options *options = seat->master->options;
    uint64_t patience = 2 * options->kill_grace + END_TIMEOUT;
    uint64_t longest =
        seat->deadline.seen == row->request ? seat->deadline.seen_at + options->max_timeout : now;
    uint64_t deadline = row->deadline < longest ? row->deadline : longest;
    return row->state == ROW_RUNNING && now > deadline && now - deadline > patience;
}

static struct watchdog_view look(const struct master *master, uint64_t now)
{
    struct watchdog_view view = {.calls = master->past_calls, .answered = master->heartbeat->answered};
    for (unsigned i = 1; i <= master->seat_count; i++) { /* the stand-in is no worker */
        const struct seat *seat = &master->seats[i];
        struct row_view row;
        if (!seat_serves(seat) || seat->parked)
            continue;
        row_read(seat->row, seat->key, &row);
        view.calls += row.calls;
        if (row.claim == ROW_NO_CLAIM) {
            view.idle += seat->child.state == CHILD_READY;
            continue;
        }
        view.busy++;
        view.overdue += is_overdue(seat, &row, now);
    }
    return view;
}

/* A stop has time-outs of its own. */
static void beat(struct master *master, uint64_t now)
{
    struct heartbeat *heartbeat = master->heartbeat;
    struct watchdog_view view = look(master, now);
    if (master->state >= MASTER_STOPPING)
        view.answered = true;
    switch (watchdog_next(&heartbeat->watchdog, &view, now)) {
    case WATCHDOG_DO_NOTHING:
        break;
    case WATCHDOG_DO_PROBE:
        begin_probe(heartbeat);
        break;
    case WATCHDOG_DO_BEAT:
        heartbeat->answered = false;
        notify_alive();
        break;
    }
}

static unsigned count_ready(const struct master *master)
{
    unsigned ready = 0;
    for (unsigned i = 1; i <= master->seat_count; i++)
        ready += master->seats[i].child.state == CHILD_READY && !master->seats[i].parked;
    return ready;
}

static void tell_status(const struct master *master)
{
    char line[1280];
    const char *problem = master->load_problem[0] ? master->load_problem : master->start_problem;
    const char *reload = reload_state_name(master);
    const struct generation *present = master->present;
    if (master->state == MASTER_STARTING)
        snprintf(line, sizeof(line), "%s %.500s", present->loaded ? "Starting workers of" : "Loading",
                 present->path);
    else if (master->state == MASTER_SERVING)
        snprintf(line, sizeof(line), "Serving %s %s, generation %u: %u of %u workers ready%s%s%s%s",
                 present->engine_name, present->engine_version, present->number, count_ready(master),
                 master->pool.target, reload ? "; reload: " : "", reload ? reload : "", *problem ? "; " : "",
                 problem);
    else
        snprintf(line, sizeof(line), "Stopping");
    notify_status(line);
}

/* --- the whole --- */

unsigned heartbeat_slots(void)
{
    return notify_watchdog() > 0;
}

void heartbeat_init(struct master *master)
{
    struct heartbeat *heartbeat = calloc(1, sizeof(*heartbeat));
    if (!heartbeat)
        fatal("out of memory");
    *heartbeat = (struct heartbeat){.master = master, .watchdog.period = notify_watchdog()};
    envelope_write_result_header(heartbeat->answer, MSGID, 1);
    heartbeat->answer[ENVELOPE_RESULT_HEADER] = 0x90;
    ev_init(&heartbeat->watcher, on_answer);
    heartbeat->watcher.fd = -1;
    heartbeat->watcher.data = heartbeat;
    master->heartbeat = heartbeat;
}

void heartbeat_tick(struct master *master)
{
    if (!notify_is_on())
        return;
    tell_status(master);
    if (master->heartbeat->watchdog.period > 0 && master->state >= MASTER_SERVING)
        beat(master, clock_now());
}
