#include "master.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin.h"
#include "births.h"
#include "cancel.h"
#include "clock.h"
#include "crashes.h"
#include "descriptors.h"
#include "envelope.h"
#include "generation.h"
#include "heartbeat.h"
#include "listen.h"
#include "log.h"
#include "metrics.h"
#include "notify.h"
#include "probe.h"
#include "stacks.h"
#include "supervise.h"
#include "upgrade.h"

#define TICK_IDLE 0.1
#define TICK_BUSY 0.01
/* Accepted at one go, so that a flood of connections does not keep the master from its other work. */
#define ACCEPT_BURST 64
#define ACCEPT_PAUSE 0.1
/* What workers that were told to leave are given before they are killed: they were idle. */
#define LEAVE_TIMEOUT (2 * CLOCK_NS_PER_S)
/* And what killed ones are given to die: a process that sleeps in the kernel may never. */
#define KILL_TIMEOUT (2 * CLOCK_NS_PER_S)
/* And what the reporter is given, at the end. */
#define REPORTS_TIMEOUT (2 * CLOCK_NS_PER_S)
/* How long a stop goes on refusing requests that keep coming after the last call has ended. */
#define QUIET_WAIT CLOCK_NS_PER_S

/* --- accepting --- */

static void refuse_connection(struct master *master, int connection, const struct envelope_error *error)
{
    unsigned char frame[ENVELOPE_ERROR_MAX];
    size_t size = envelope_write_error(frame, false, 0, error);
    (void)send(connection, frame, size, MSG_DONTWAIT | MSG_NOSIGNAL); /* it is closed either way */
    (void)shutdown(connection, SHUT_RDWR);
    close(connection);
    master->refused++;
}

static bool is_full(const struct master *master)
{
    return master->slots.open - heartbeat_open(master) >= master->options->max_connections;
}

/* Whether --max-connections-per-uid is reached. Where the peer is unknown, slots_add() will say so. */
static bool has_enough(const struct master *master, int connection, uid_t *uid)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);
    unsigned most = master->options->max_connections_per_uid;
    if (most == 0 || getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return false;
    *uid = peer.uid;
    uint32_t own = peer.uid == geteuid() ? heartbeat_open(master) : 0;
    return slots_count_of(&master->slots, peer.uid) - own >= most;
}

static void take_connection(struct master *master, int connection)
{
    char message[128];
    struct envelope_error too_many = {
        .code = "RESOURCE_EXHAUSTED", .reason = "TOO_MANY_CONNECTIONS", .message = message, .retry = true};
    uid_t uid;
    if (is_full(master) || has_enough(master, connection, &uid))
        cancel_look(master); /* of those that have gone away the loop may be yet to hear */
    if (is_full(master)) {
        snprintf(message, sizeof(message),
                 "the server has as many connections as it may have (--max-connections)");
        refuse_connection(master, connection, &too_many);
        return;
    }
    if (has_enough(master, connection, &uid)) {
        snprintf(message, sizeof(message),
                 "user %u has as many connections as one may have (--max-connections-per-uid)",
                 (unsigned)uid);
        refuse_connection(master, connection, &too_many);
        return;
    }
    master->accepted++;
    if (slots_add(&master->slots, connection, master->options->io_timeout) < 0)
        log_event(LOG_WARN, "connection_lost", NULL, "connection closed at once: %m");
}

static void pause_accepting(struct master *master)
{
    log_event(LOG_WARN, "accept_failed", NULL, "cannot accept connections: %m; trying again in %g s",
              ACCEPT_PAUSE);
    ev_io_stop(master->loop, &master->listener);
    ev_timer_again(master->loop, &master->resume);
}

/* Returns whether there may be more. */
static bool accept_one(struct master *master)
{
    int connection = accept4(master->listener.fd, NULL, NULL, SOCK_CLOEXEC);
    if (connection >= 0) {
        take_connection(master, connection);
        return true;
    }
    if (errno == EINTR || errno == ECONNABORTED)
        return true;
    if (errno != EAGAIN)
        pause_accepting(master);
    return false;
}

static void on_listener(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    (void)events;
    for (int i = 0; i < ACCEPT_BURST && accept_one(watcher->data); i++)
        ;
}

static void on_resume(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)events;
    struct master *master = timer->data;
    ev_timer_stop(loop, timer);
    if (master->listener.fd >= 0)
        ev_io_start(loop, &master->listener);
}

/* --- stopping --- */

/* Then whoever connects from now on waits in it for the next server. */
static bool was_given_socket(const struct master *master)
{
    return master->options->listener >= 0;
}

static void stop_listening(struct master *master)
{
    if (master->listener.fd < 0)
        return;
    if (!was_given_socket(master)) {
        (void)unlink(master->options->socket); /* gone already: nothing to do */
        /* They are connected as far as they know: each gets its answer in close_connections(). */
        while (accept_one(master))
            ;
    }
    ev_io_stop(master->loop, &master->listener);
    ev_timer_stop(master->loop, &master->resume);
    close(master->listener.fd);
    master->listener.fd = -1;
}

/* Whoever has a request unread is told that it was not executed. */
static void close_connections(struct master *master)
{
    static const struct envelope_error stopping = {
        .code = "UNAVAILABLE", .reason = "STOPPING", .message = "the server has stopped", .retry = true};
    unsigned char frame[ENVELOPE_ERROR_MAX];
    size_t size = envelope_write_error(frame, false, 0, &stopping);
    for (uint32_t slot = 0; slot < master->slots.count; slot++)
        if (master->slots.slots[slot].open &&
            (slots_unread(slot) == 0 || slots_send(&master->slots, slot, frame, size) == 0))
            slots_close(&master->slots, slot);
}

/* One that was made for the socket alone. It stays where something else lies in it. */
static void remove_directory(const struct options *options)
{
    char *path = options->remove_directory ? strdup(options->socket) : NULL;
    if (path)
        (void)rmdir(dirname(path));
    free(path);
}

static void finish(struct master *master)
{
    master->state = MASTER_FINISHED;
    stop_listening(master);
    close_connections(master);
    generation_end_all(master);
    admin_close(master);
    listen_unlock(master->options->socket, master->lock);
    remove_directory(master->options);
    log_event(LOG_INFO, "stopped", LOG_FIELDS(.duration = clock_now() - master->started_at), "stopped");
    ev_break(master->loop, EVBREAK_ALL);
}

void master_abandon(struct master *master)
{
    supervise_signal(master, SIGKILL);
    generation_end_all(master);
    crashes_wait(master);
    crashes_end(master);
    stop_listening(master);
    admin_close(master);
    listen_unlock(master->options->socket, master->lock);
    exit(EXIT_FAILURE);
}

static void kill_all(struct master *master)
{
    master->state = MASTER_KILLING;
    master->stop_at = clock_now() + KILL_TIMEOUT;
    reload_cancel(master);
    upgrade_cancel(master);
    stop_listening(master);
    supervise_signal(master, SIGKILL);
    generation_end_all(master); /* births under way come to nothing */
}

static void begin_leaving(struct master *master)
{
    master->state = MASTER_LEAVING;
    master->leave_at = clock_now() + LEAVE_TIMEOUT;
    stop_listening(master);
    generation_end_all(master);
    supervise_leave(master);
}

void master_stop(struct master *master, bool now)
{
    if (master->state >= MASTER_KILLING)
        return;
    notify_stopping();
    if (now || master->state != MASTER_SERVING) {
        log_event(LOG_INFO, "stopping", NULL, "stopping at once");
        kill_all(master);
        return;
    }
    log_event(LOG_INFO, "stopping", NULL, "stopping; running calls have %g s",
              (double)master->options->stop_timeout / 1e9);
    master->state = MASTER_STOPPING;
    master->stop_at = clock_now() + master->options->stop_timeout;
    master->quiet_at = clock_now() + QUIET_WAIT;
    if (was_given_socket(master))
        stop_listening(master);
    supervise_refuse(master);
    reload_cancel(master);
    upgrade_cancel(master);
}

/* All calls that ran when the stop began have ended. Requests go on coming, to be refused: they are waited
 * for as long as there are any, but not for long. */
static bool is_quiet(struct master *master, uint64_t now)
{
    if (supervise_any_running(master)) {
        master->quiet_at = now + QUIET_WAIT;
        return false;
    }
    return !slots_poll(&master->slots) || now >= master->quiet_at;
}

/* Workers that were told to leave had no calls; one may have begun in that very moment, and has its time. */
static bool is_overdue(const struct master *master, uint64_t now)
{
    return now >= master->leave_at && (now >= master->stop_at || !supervise_any_running(master));
}

/* Callers wait for them. */
static bool reports_are_out(struct master *master, uint64_t now)
{
    if (master->reports_at == 0)
        master->reports_at = now + REPORTS_TIMEOUT;
    return !crashes_under_way(master) || now >= master->reports_at;
}

void master_look_at_stop(struct master *master)
{
    uint64_t now = clock_now();
    bool leaving = master->state == MASTER_LEAVING;
    if (master->state == MASTER_STOPPING && is_quiet(master, now)) {
        begin_leaving(master);
    } else if ((master->state == MASTER_STOPPING && now >= master->stop_at) ||
               (leaving && is_overdue(master, now))) {
        log_event(LOG_WARN, "stop_overdue", NULL, "%s",
                  leaving ? "workers do not leave: killed" : "calls still run after --stop-timeout: killed");
        kill_all(master);
    }
    if (master->state == MASTER_LEAVING || master->state == MASTER_KILLING) {
        unsigned alive = supervise_alive(master) + generation_alive(master);
        if (alive > 0 && master->state == MASTER_KILLING && now >= master->stop_at)
            log_event(LOG_WARN, "left_behind", LOG_FIELDS(.count = alive),
                      "%u processes do not die; they are left behind", alive);
        else if (alive > 0)
            return;
        if (!reports_are_out(master, now))
            return;
        finish(master);
    }
}

static void on_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
    (void)loop;
    (void)events;
    master_stop(watcher->data, watcher->signum == SIGQUIT);
}

static void on_reopen(struct ev_loop *loop, ev_signal *watcher, int events)
{
    (void)loop;
    (void)watcher;
    (void)events;
    log_reopen();
}

static void on_upgrade(struct ev_loop *loop, ev_signal *watcher, int events)
{
    (void)loop;
    (void)events;
    upgrade_ask(watcher->data);
}

static void on_hangup(struct ev_loop *loop, ev_signal *watcher, int events)
{
    (void)loop;
    (void)events;
    struct master *master = watcher->data;
    if (master->state == MASTER_SERVING)
        reload_ask(master);
}

/* Both bounds, by one; as far as that goes. */
static void on_more_or_fewer(struct ev_loop *loop, ev_signal *watcher, int events)
{
    (void)loop;
    (void)events;
    struct master *master = watcher->data;
    struct pool *pool = &master->pool;
    if (watcher->signum == SIGTTIN && pool->max < WORKERS_MAX)
        births_scale(master, pool->min + 1, pool->max + 1);
    else if (watcher->signum == SIGTTOU && pool->min > 1)
        births_scale(master, pool->min - 1, pool->max - 1);
}

static void on_lifeline(struct ev_loop *loop, ev_io *watcher, int events)
{
    char ignored[64];
    (void)events;
    ssize_t size = read(watcher->fd, ignored, sizeof(ignored));
    if (size > 0 || (size < 0 && (errno == EINTR || errno == EAGAIN)))
        return;
    ev_io_stop(loop, watcher);
    log_event(LOG_INFO, "owner_gone", NULL, "the owner is gone");
    struct master *master = watcher->data;
    if (master->state <= MASTER_SERVING) /* else it stops already, and this is no order to hasten */
        master_stop(master, false);
}

/* --- the loop --- */

static void on_tick(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)events;
    struct master *master = timer->data;
    bool busy = supervise_look(master);
    births_go_on(master);
    crashes_start_reporter(master);
    crashes_warm(master);
    quarantine_expire(&master->crashes->book, clock_now());
    heartbeat_tick(master);
    upgrade_look(master);
    master_look_at_stop(master);
    timer->repeat = busy || master->state >= MASTER_STOPPING ? TICK_BUSY : TICK_IDLE;
    ev_timer_again(loop, timer);
}

void master_serve(struct master *master)
{
    if (admin_init(master) < 0)
        master_abandon(master);
    int listener = was_given_socket(master)
                       ? master->options->listener
                       : listen_unix(master->options->socket, master->options->socket_mode);
    if (listener < 0)
        master_abandon(master);
    ev_io_set(&master->listener, listener, EV_READ);
    ev_io_start(master->loop, &master->listener);
    master->state = MASTER_SERVING;
    log_event(LOG_INFO, "serving",
              LOG_FIELDS(.path = master->options->socket, .engine = master->present->engine_name,
                         .duration = clock_now() - master->started_at),
              "serving on %s", master->options->socket);
    log_serving();
    notify_ready();
    /* From here on nothing may end this process but a stop: what fails is logged and tried again. */
}

/* Nothing that was inherited stays open, the lifeline and the socket excepted: it would be held for the
 * server's life, or lie where connections will. */
static void clear_descriptors(struct options *options)
{
    unsigned first = STDERR_FILENO + 1;
    if (options->listener >= 0) { /* it has this number (activation.c) */
        if (options->lifeline == options->listener)
            fatal("--lifeline-fd %d is the socket of LISTEN_FDS", options->lifeline);
        if (fcntl(options->listener, F_SETFD, FD_CLOEXEC) < 0)
            fatal("cannot use the socket of LISTEN_FDS: %m");
        first++;
    }
    if (options->lifeline >= 0) {
        bool placed = options->lifeline == (int)first ? fcntl(options->lifeline, F_SETFD, FD_CLOEXEC) == 0
                                                      : dup3(options->lifeline, (int)first, O_CLOEXEC) >= 0;
        if (!placed)
            fatal("--lifeline-fd %d: %m", options->lifeline);
        options->lifeline = (int)first++;
    }
    if (close_range(first, ~0u, 0) < 0)
        fatal("cannot close inherited descriptors: %m; cohab needs Linux 5.10 or later");
}

/* Descriptors for all connections, in the master and, by inheritance, in every worker. */
static void raise_descriptor_limit(struct options *options)
{
    struct rlimit limit;
    rlim_t fixed = (rlim_t)FD_BASE + heartbeat_slots(), needed = fixed + options->max_connections;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        fatal("cannot read the limit of open files: %m");
    if (limit.rlim_max < needed) {
        if (limit.rlim_max <= fixed)
            fatal("the hard limit of open files is %lu; cohabd needs %d and one for each connection (ulimit "
                  "-Hn)",
                  (unsigned long)limit.rlim_max, FD_BASE);
        options->max_connections = (unsigned)(limit.rlim_max - fixed);
        needed = limit.rlim_max;
        log_event(LOG_WARN, "connections_limited", LOG_FIELDS(.count = options->max_connections),
                  "the hard limit of open files is %lu: --max-connections is lowered to %u",
                  (unsigned long)limit.rlim_max, options->max_connections);
    }
    limit.rlim_cur = needed;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        fatal("cannot raise the limit of open files to %lu: %m", (unsigned long)needed);
}

/* 1, as 0 does not stop piped core patterns. Inherited by all children. */
static void limit_cores(const struct options *options)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_CORE, &limit) < 0)
        return;
    limit.rlim_cur = options->core ? limit.rlim_max : limit.rlim_max < 1 ? limit.rlim_max : 1;
    (void)setrlimit(RLIMIT_CORE, &limit); /* never above the hard limit */
}

static void watch_signals(struct master *master)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGQUIT};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        ev_signal_init(&master->signals[i], on_signal, numbers[i]);
        master->signals[i].data = master;
        ev_signal_start(master->loop, &master->signals[i]);
    }
    ev_signal_init(&master->reopen, on_reopen, SIGUSR1);
    ev_signal_start(master->loop, &master->reopen);
    ev_signal_init(&master->hangup, on_hangup, SIGHUP);
    ev_signal_init(&master->upgrade, on_upgrade, SIGUSR2);
    ev_signal_init(&master->more, on_more_or_fewer, SIGTTIN);
    ev_signal_init(&master->fewer, on_more_or_fewer, SIGTTOU);
    master->hangup.data = master->upgrade.data = master->more.data = master->fewer.data = master;
    ev_signal_start(master->loop, &master->hangup);
    ev_signal_start(master->loop, &master->upgrade);
    ev_signal_start(master->loop, &master->more);
    ev_signal_start(master->loop, &master->fewer);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a full log or memfd is an error like others */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL); /* libev unblocks nothing, and a mask survives exec; cannot fail */
}

static void init_watchers(struct master *master)
{
    ev_init(&master->listener, on_listener);
    master->listener.data = master;
    master->listener.fd = -1;
    ev_timer_init(&master->resume, on_resume, ACCEPT_PAUSE, ACCEPT_PAUSE);
    master->resume.data = master;
    ev_timer_init(&master->tick, on_tick, TICK_BUSY, TICK_BUSY);
    master->tick.data = master;
    ev_timer_start(master->loop, &master->tick);
    if (master->options->lifeline >= 0) {
        ev_io_init(&master->lifeline, on_lifeline, master->options->lifeline, EV_READ);
        master->lifeline.data = master;
        ev_io_start(master->loop, &master->lifeline);
    }
}

static void set_up_parts(struct master *master)
{
    limit_cores(master->options);
    master->loop = ev_loop_new(EVFLAG_AUTO); /* the default one would reap children itself */
    if (!master->loop)
        fatal("cannot create an event loop: %m");
    if (metrics_init(master) < 0 || supervise_init(master) < 0 || stacks_init(master) < 0)
        fatal("cannot set up: %m");
}

static void set_up_watchers(struct master *master)
{
    heartbeat_init(master);
    cancel_init(master);
    watch_signals(master);
    init_watchers(master);
}

static void set_up(struct master *master)
{
    probe_kernel();
    listen_check_path(master->options->socket);
    master->lock = listen_lock(master->options->socket);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
        fatal("cannot become a subreaper: %m");
    set_up_parts(master);
    if (slots_init(&master->slots, master->options->max_connections + heartbeat_slots()) < 0)
        fatal("cannot set up: %m");
    crashes_init(master);
    set_up_watchers(master);
}

static void open_log(const struct options *options)
{
    if (options->log_file && log_open(options->log_file) < 0)
        fatal("--log-file %s: %s", options->log_file,
              errno == ELOOP ? "it is a symbolic link, which is not followed" : strerror(errno));
}

static int run(struct master *master)
{
    do
        ev_run(master->loop, 0);
    while (upgrade_go(master));
    crashes_end(master);
    return EXIT_SUCCESS;
}

int master_run(const struct options *options)
{
    static struct master master;
    static struct options adjusted;
    adjusted = *options;
    clear_descriptors(&adjusted);
    log_never_block();
    open_log(options);
    notify_init();
    options_check_directories(options);
    raise_descriptor_limit(&adjusted);
    master = (struct master){.options = &adjusted, .started_at = clock_now()};
    master.queue_empty_at = master.started_at;
    set_up(&master);
    master.present = generation_start(&master, &(struct engine_spec){.name = adjusted.engine_name,
                                                                     .argc = adjusted.engine_argc,
                                                                     .argv = adjusted.engine_argv});
    if (!master.present)
        master_abandon(&master);
    return run(&master);
}

/* --- taking over --- */

static void adopt_workers(struct master *master)
{
    for (struct generation *generation = master->generations; generation; generation = generation->next)
        generation_adopt(generation);
    for (unsigned i = 0; i <= master->seat_count; i++)
        if (master->seats[i].child.state != CHILD_NONE && births_adopt(&master->seats[i]) < 0)
            fatal("cannot take over worker %u: %m", i);
}

/* What was under way goes on. */
static void go_on(struct master *master, const struct handover *handover)
{
    ev_io_set(&master->listener, handover->listener, EV_READ);
    ev_io_start(master->loop, &master->listener);
    if (master->slots.in_doubt > 0)
        ev_timer_again(master->loop, &master->doubt);
    if (master->slots.gone > 0)
        ev_timer_again(master->loop, &master->gone);
    if (handover->sweeps)
        ev_timer_again(master->loop, &master->sweep);
    ev_feed_signal_event(master->loop, SIGCHLD); /* deaths of which the other program has not heard */
    if (handover->reload)
        reload_ask(master);
}

static void tell_taken_over(const struct master *master, const struct handover *handover)
{
    log_event(LOG_INFO, "upgraded",
              LOG_FIELDS(.path = master->options->socket, .count = master->slots.open,
                         .duration = clock_now() - handover->began_at),
              "upgraded: version " COHAB_VERSION " goes on where %s was: %u workers, %u connections",
              handover->program, supervise_alive(master), (unsigned)master->slots.open);
}

int master_take_over(const struct options *options, struct handover *handover, const msgpack_object *document)
{
    static struct master master;
    char why[256];
    log_never_block();
    log_restore(handover->log_dropped);
    output_restore(handover->output_skipped);
    if (options->log_file && log_open(options->log_file) < 0)
        log_event(LOG_ERROR, "log_not_reopened", LOG_FIELDS(.path = options->log_file),
                  "cannot open log file %s anew: %m; logging to standard error", options->log_file);
    log_serving();
    notify_init();
    master = (struct master){.options = options};
    set_up_parts(&master);
    crashes_init_with(&master, handover->table, handover->table_view);
    handover->master = &master;
    if (handover_read_master(handover, document, why, sizeof(why)) < 0)
        fatal("cannot take over: what the server has left cannot be read: %s", why);
    if (slots_count_users(&master.slots) < 0)
        fatal("cannot take over: no memory for the connections");
    set_up_watchers(&master);
    adopt_workers(&master);
    if (admin_adopt(&master, handover) < 0)
        fatal("cannot take over: no memory for the admin socket");
    master.state = MASTER_SERVING;
    go_on(&master, handover);
    tell_taken_over(&master, handover);
    notify_ready();
    admin_tell_upgraded(&master, handover);
    return run(&master);
}
