#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "builtin.h"
#include "capture.h"
#include "clock.h"
#include "descriptors.h"
#include "ipc.h"
#include "private_memory.h"
#include "serve.h"
#include "shared.h"
#include "title.h"
#include "workspace.h"

#define OOM_SCORE_ADDED 500
#define OOM_SCORE_MAX   1000

/* The connection of a slot, as this worker knows it. Generation 0: not known. */
struct connection {
    uint32_t generation;
    dev_t device;
    ino_t inode;
    struct ucred peer; /* for the log of requests; pid 0: not asked for */
};

struct worker {
    unsigned number;
    pid_t master;
    struct server server;
    struct connection *connections; /* one a slot */
    sigset_t waiting_mask;          /* during epoll_pwait: lets WORKER_SIGNAL_LEAVE through */
};

/* For the signal handlers: one worker a process. */
static struct worker *self;
static volatile sig_atomic_t leaving;

_Noreturn static void leave(enum worker_exit status)
{
    _exit(status);
}

/* --- signals --- */

static void on_leave(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    (void)context;
    leaving = 1;
}

/* The master is gone: nobody enforces the running call's deadline any more but the alarm clock. */
static void outlive_master(const struct row_view *row)
{
    signal(SIGALRM, SIG_DFL);
    if (row->state == ROW_RUNNING) {
        uint64_t now = clock_now();
        alarm(row->deadline > now ? (unsigned)((row->deadline - now) / CLOCK_NS_PER_S) + 1 : 1);
    }
    kill(getpid(), WORKER_SIGNAL_LEAVE); /* blocked now; ends the next wait of the main thread */
}

/* On the main thread alone, so that the request cannot change while it is looked at. Async-signal-safe. */
static void on_end(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    int saved = errno;
    struct row_view row;
    row_read(self->server.row, self->server.key, &row);
    uint64_t cancel = atomic_load_explicit(&self->server.row->cancel, memory_order_relaxed);
    if (row.state == ROW_RUNNING && row.request == cancel) {
        capture_end(context);
        leave(WORKER_EXIT_ENDED);
    }
    if (getppid() != self->master)
        outlive_master(&row);
    errno = saved;
}

static void on_stack(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    int saved = errno;
    struct row *row = self->server.row;
    if (atomic_load_explicit(&row->state, memory_order_relaxed) == ROW_RUNNING)
        capture_live(context);
    uint32_t looks = atomic_load_explicit(&row->looks, memory_order_relaxed);
    atomic_store_explicit(&row->looks, looks + 1, memory_order_release);
    errno = saved;
}

static int handle(int signal, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_RESTART | SA_SIGINFO | SA_ONSTACK};
    sigfillset(&action.sa_mask);
    return sigaction(signal, &action, NULL);
}

/* WORKER_SIGNAL_LEAVE is blocked except while waiting: it never interrupts a call, and never falls between
 * the look at `leaving` and the wait. */
static int set_signals(struct worker *worker)
{
    sigset_t leave_set, prompt_set;
    sigemptyset(&leave_set);
    sigaddset(&leave_set, WORKER_SIGNAL_LEAVE);
    sigemptyset(&prompt_set);
    sigaddset(&prompt_set, WORKER_SIGNAL_END);
    sigaddset(&prompt_set, WORKER_SIGNAL_STACK);
    if (sigprocmask(SIG_BLOCK, &leave_set, NULL) < 0 ||
        sigprocmask(SIG_UNBLOCK, &prompt_set, &worker->waiting_mask) < 0)
        return -1;
    sigdelset(&worker->waiting_mask, WORKER_SIGNAL_LEAVE);
    sigdelset(&worker->waiting_mask, WORKER_SIGNAL_END);
    sigdelset(&worker->waiting_mask, WORKER_SIGNAL_STACK);
    if (handle(WORKER_SIGNAL_LEAVE, on_leave) < 0 || handle(WORKER_SIGNAL_END, on_end) < 0 ||
        handle(WORKER_SIGNAL_STACK, on_stack) < 0)
        return -1;
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

/* --- birth --- */

/* Set earlier the signal would come when the middle process exits, and a master that died before has to be
 * noticed. */
static int watch_master(pid_t master)
{
    if (prctl(PR_SET_PDEATHSIG, WORKER_SIGNAL_END) < 0)
        return -1;
    return getppid() == master ? 0 : -1;
}

/* The middle process exits as soon as it has forked: then the master, as the nearest subreaper, is the
 * parent. */
static int wait_for_master(const struct worker_birth *birth)
{
    const struct timespec pause = {.tv_nsec = 20000};
    while (getppid() == birth->middle)
        nanosleep(&pause, NULL);
    return watch_master(birth->master);
}

/* The kernel is to pick workers before the master. Raising one's own score is always allowed. */
static void raise_oom_score(void)
{
    int score = 0;
    FILE *file = fopen("/proc/self/oom_score_adj", "r+e");
    if (!file)
        return; /* a kernel without it has no choice to make */
    if (fscanf(file, "%d", &score) == 1) {
        rewind(file);
        fprintf(file, "%d",
                score + OOM_SCORE_ADDED < OOM_SCORE_MAX ? score + OOM_SCORE_ADDED : OOM_SCORE_MAX);
    }
    fclose(file);
}

/* What the engine prints goes to the master, which never lets it wait. */
static int place_output(int output)
{
    if (output < 0)
        return 0;
    if (dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0)
        return -1;
    close(output);
    return 0;
}

/* Moves the control socket out of the engine's reach. */
static int place_control(int control)
{
    int placed = fcntl(control, F_DUPFD_CLOEXEC, FD_CONTROL);
    if (placed != FD_CONTROL)
        return -1;
    close(control);
    return 0;
}

int worker_limit_memory(const struct options *options)
{
    struct rlimit limit;
    if (options->max_memory == 0)
        return 0;
    if (getrlimit(RLIMIT_DATA, &limit) < 0)
        return -1;
    if (limit.rlim_max == RLIM_INFINITY || limit.rlim_max > options->max_memory)
        limit.rlim_max = options->max_memory;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_DATA, &limit);
}

/* How many methods it has room for is the master's decision, and the workspace's size. */
static int map_meter(struct server *server, int workspace)
{
    struct stat status;
    size_t at = workspace_meter(server->options->max_frame);
    if (fstat(workspace, &status) < 0 || (size_t)status.st_size < at + meter_size(METER_METHODS))
        return -1;
    size_t size = (size_t)status.st_size - at;
    server->meter = shared_map(workspace, at, size, 0);
    server->metered = (unsigned)((size - meter_size(0)) / sizeof(struct meter_method));
    return server->meter ? 0 : -1;
}

/* Sealed against every mapping that could write to it. */
static int map_quarantine(struct server *server)
{
    void *table = mmap(NULL, sizeof(*server->quarantine), PROT_READ, MAP_SHARED, FD_QUARANTINE, 0);
    if (table == MAP_FAILED)
        return -1;
    server->quarantine = table;
    close(FD_QUARANTINE);
    return 0;
}

static int set_up_memory(struct worker *worker, const struct worker_birth *birth,
                         const struct options *options, struct engine *engine)
{
    size_t snapshot = workspace_snapshot(options->max_frame);
    struct row *row = shared_map(birth->workspace, workspace_row(options->max_frame), ROW_SIZE, 1);
    unsigned char *buffer = shared_map(birth->workspace, 0, snapshot + sizeof(struct snapshot), 0);
    if (!row || !buffer ||
        capture_init((struct snapshot *)(void *)(buffer + snapshot), row, SNAPSHOT_STARTING) < 0 ||
        worker_limit_memory(options) < 0)
        return -1;
    worker->connections = calloc(options->max_connections, sizeof(*worker->connections));
    if (!worker->connections || serve_init(&worker->server, row, buffer, options, engine) < 0 ||
        map_meter(&worker->server, birth->workspace) < 0)
        return -1;
    close(birth->workspace);
    return map_quarantine(&worker->server) < 0 ? -1 : builtin_init();
}

static int tell_master(enum ipc_type type, uint64_t claim, const char *text)
{
    struct ipc_message message = {.type = (uint32_t)type, .claim = claim};
    if (text)
        ipc_set_text(&message, text);
    return ipc_send(FD_CONTROL, &message, MSG_DONTWAIT);
}

_Noreturn static void not_started(const char *why)
{
    (void)tell_master(IPC_START_FAILED, ROW_NO_CLAIM, why);
    leave(WORKER_EXIT_NOT_STARTED);
}

_Noreturn static void fail_selftest(const struct engine *engine)
{
    char why[ENGINE_ERROR_SIZE + 32];
    snprintf(why, sizeof(why), "selftest() failed: %s", engine->setup.error);
    (void)tell_master(IPC_START_FAILED, ROW_NO_CLAIM, why);
    leave(WORKER_EXIT_NOT_STARTED);
}

static void enter_role(struct worker *worker, const struct worker_birth *birth, const struct options *options,
                       struct engine *engine)
{
    char words[32];
    close(FD_FORKSERVER);
    close(FD_SNAPSHOT);
    setpgid(0, 0); /* what the forkserver's group then holds is births that never came so far */
    snprintf(words, sizeof(words), birth->number ? "worker %u " : "stand-in ", birth->number);
    title_set(words);
    title_set_suffix("starting");
    if (place_control(birth->control) < 0 || place_output(birth->output) < 0 || wait_for_master(birth) < 0 ||
        tell_master(IPC_HELLO, ROW_NO_CLAIM, NULL) < 0)
        leave(WORKER_EXIT_NOT_STARTED);
    raise_oom_score();
    if (set_up_memory(worker, birth, options, engine) < 0)
        not_started("no memory for the worker");
    if (options->max_private && private_memory_open() < 0) /* now: start() may give the right to it up */
        not_started("cannot open /proc/self/smaps_rollup, which --max-private needs");
    if (set_signals(worker) < 0) /* before start(): its master may be gone by then */
        not_started("cannot install signal handlers");
    if (engine_run_start(engine) < 0)
        not_started(engine->setup.error);
    if (descriptors_find_foreign() >= 0)
        not_started("it left descriptors open at 1024 or above, where connections lie");
    if (birth->selftest && engine_run_selftest(engine) < 0)
        fail_selftest(engine);
    /* Again: start() may have changed the signals, or the user, which clears the parent's death signal. */
    if (watch_master(birth->master) < 0 || set_signals(worker) < 0 || capture_install() < 0 ||
        capture_watch_exit() < 0)
        not_started("cannot install signal handlers");
    capture_set_phase(SNAPSHOT_SERVING);
    if (tell_master(IPC_READY, ROW_NO_CLAIM, NULL) < 0)
        leave(WORKER_EXIT_NOT_STARTED);
    title_set_suffix(birth->parked ? "spare" : "idle");
}

/* One that was born parked, until it is told to serve, or to leave. */
static void wait_to_serve(const struct worker *worker)
{
    struct ipc_message message = {0};
    struct pollfd control = {.fd = FD_CONTROL, .events = POLLIN};
    while (!leaving && message.type != IPC_SERVE) {
        int count = ppoll(&control, 1, NULL, &worker->waiting_mask);
        if (count < 0 && errno != EINTR)
            leave(WORKER_EXIT_DESCRIPTOR);
        if (count > 0 && ipc_receive(FD_CONTROL, &message, 0) != 1)
            leave(WORKER_EXIT_MASTER_GONE);
    }
    title_set_suffix("idle");
}

/* --- connections --- */

static int descriptor_of(uint32_t slot)
{
    return FD_BASE + (int)slot;
}

static bool same_file(const struct connection *connection, int descriptor)
{
    struct stat status;
    return fstat(descriptor, &status) == 0 && status.st_dev == connection->device &&
           status.st_ino == connection->inode;
}

static void note_peer(struct connection *connection, int descriptor)
{
    socklen_t size = sizeof(connection->peer);
    if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &connection->peer, &size) < 0)
        connection->peer.pid = 0; /* it is logged without */
}

/* Puts a connection at its number. The number must come out as asked: an engine's descriptor may lie there */
static int place_connection(struct worker *worker, uint32_t slot, uint32_t generation, int received)
{
    struct connection *connection = &worker->connections[slot];
    struct stat status;
    /* Of an earlier tenant; else it is an engine's, and the number is taken. */
    if (connection->generation != 0 && same_file(connection, descriptor_of(slot)))
        close(descriptor_of(slot));
    int placed = fcntl(received, F_DUPFD_CLOEXEC, descriptor_of(slot));
    close(received);
    if (placed != descriptor_of(slot) || fstat(placed, &status) < 0)
        return -1;
    *connection =
        (struct connection){.generation = generation, .device = status.st_dev, .inode = status.st_ino};
    if (worker->server.options->log_requests || worker->server.options->slow)
        note_peer(connection, placed);
    return 0;
}

/* The one wait on the master. Returns whether there is such a connection. */
static bool fetch_connection(struct worker *worker, uint64_t claim)
{
    uint32_t slot = row_claim_slot(claim);
    struct ipc_message message = {.type = IPC_WANT, .claim = claim};
    if (ipc_send(FD_CONTROL, &message, 0) < 0)
        leave(errno == EBADF || errno == ENOTSOCK ? WORKER_EXIT_DESCRIPTOR : WORKER_EXIT_MASTER_GONE);
    int result = ipc_receive(FD_CONTROL, &message, 0);
    if (result == 0)
        leave(WORKER_EXIT_MASTER_GONE);
    if (result < 0) /* no descriptor free: in state WAITING, so that the slot is armed again */
        leave(WORKER_EXIT_DESCRIPTOR);
    if (message.type != IPC_GRANT || message.claim != claim || message.descriptor_count != 1)
        return false;
    if (place_connection(worker, slot, row_claim_generation(claim), message.descriptors[0]) < 0)
        leave(WORKER_EXIT_DESCRIPTOR);
    return true;
}

/* ENOENT is no error while the file is still the same: the master has the slot in doubt, and will add it. */
static void rearm(const struct worker *worker, uint64_t claim)
{
    uint32_t slot = row_claim_slot(claim);
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = claim};
    if (epoll_ctl(FD_SET, EPOLL_CTL_MOD, descriptor_of(slot), &event) == 0)
        return;
    if (errno != ENOENT || !same_file(&worker->connections[slot], descriptor_of(slot)))
        leave(WORKER_EXIT_DESCRIPTOR); /* in state ANSWERED, which recovers the slot */
}

/* DEL, shutdown, close, in this order: a close alone leaves a registration behind that nobody can delete. */
static void close_connection(struct worker *worker, uint64_t claim)
{
    uint32_t slot = row_claim_slot(claim);
    if (!same_file(&worker->connections[slot], descriptor_of(slot)))
        leave(WORKER_EXIT_DESCRIPTOR); /* in state CLOSING, which has the master close it */
    /* ENOENT: in doubt, so it is out already. ENOTCONN: the peer is gone. */
    (void)epoll_ctl(FD_SET, EPOLL_CTL_DEL, descriptor_of(slot), NULL);
    (void)shutdown(descriptor_of(slot), SHUT_RDWR);
    close(descriptor_of(slot));
    worker->connections[slot].generation = 0;
    /* Where the master is slow this waits: it closes a thousand connections in the time of a few calls. */
    const struct ipc_message closed = {.type = IPC_CLOSED, .claim = claim};
    if (ipc_send(FD_CONTROL, &closed, 0) < 0)
        leave(WORKER_EXIT_DESCRIPTOR); /* in state CLOSING: the master, if it is there, finishes the close */
}

/* --- the loop --- */

/* --spin-us. Looks without waiting: with any other time-out the kernel could give a wake-up to a worker that
 * has just given up, and the request would lie beside sleeping ones. */
static int spin_for_request(const struct worker *worker, struct epoll_event *claim)
{
    uint64_t end = clock_now() + worker->server.options->spin;
    int count;
    do
        count = epoll_wait(FD_SET, claim, 1, 0);
    while (count == 0 && clock_now() < end);
    return count;
}

/* Waits for a request. The kernel writes the claim into the row in the step in which it consumes the event */
static bool claim_request(struct worker *worker)
{
    struct epoll_event *claim = &worker->server.row->claim.event;
    int count = worker->server.options->spin ? spin_for_request(worker, claim) : 0;
    if (count == 0)
        count = epoll_pwait(FD_SET, claim, 1, -1, &worker->waiting_mask);
    if (count < 0 && errno != EINTR)
        leave(WORKER_EXIT_DESCRIPTOR); /* the set is gone: an engine closed it */
    return count == 1;
}

static void serve_claim(struct worker *worker, uint64_t claim)
{
    uint32_t slot = row_claim_slot(claim);
    if (slot >= worker->server.options->max_connections)
        leave(WORKER_EXIT_DESCRIPTOR); /* not a claim that the master hands out: the row was overwritten */
    if (worker->connections[slot].generation != row_claim_generation(claim) &&
        !fetch_connection(worker, claim))
        return;
    worker->server.record.peer_pid = worker->connections[slot].peer.pid;
    worker->server.record.peer_uid = worker->connections[slot].peer.uid;
    switch (serve_connection(&worker->server, descriptor_of(slot))) {
    case SERVE_REARM:
        rearm(worker, claim);
        break;
    case SERVE_CLOSE:
        close_connection(worker, claim);
        break;
    case SERVE_LOST:
        leave(WORKER_EXIT_DESCRIPTOR);
    }
}

void worker_run(const struct worker_birth *birth, const struct options *options, struct engine *engine)
{
    static struct worker worker;
    worker.number = birth->number;
    worker.master = birth->master;
    self = &worker;
    enter_role(&worker, birth, options, engine);
    if (birth->parked)
        wait_to_serve(&worker);
    while (!leaving) {
        if (!claim_request(&worker))
            continue;
        serve_claim(&worker, row_read_claim(worker.server.row));
        serve_ready(&worker.server);
        title_set_suffix("idle");
        if (options->max_private)
            private_memory_note(worker.server.row);
    }
    capture_set_phase(SNAPSHOT_LEAVING);
    engine_run_stop(engine);
    fflush(NULL);
    leave(WORKER_EXIT_LEFT);
}
