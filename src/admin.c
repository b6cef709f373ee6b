#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <msgpack.h>

#include "clock.h"
#include "envelope.h"
#include "listen.h"
#include "log.h"
#include "master.h"
#include "pack.h"

/* The admin socket: requests are small and rare, answers are small; connections are few. */
#define REQUEST_MAX     4096u
#define CONNECTIONS_MAX 16

struct admin_connection {
    struct admin *admin;
    ev_io watcher; /* fd -1: free */
    unsigned char request[FRAME_HEADER_SIZE + REQUEST_MAX];
    size_t received;
    bool asked;              /* at least one request has come */
    msgpack_sbuffer answers; /* not yet sent */
    size_t sent;
};

struct admin {
    struct master *master;
    char *path;
    ev_io listener;
    ev_timer resume; /* accepting goes on after a pause for lack of descriptors */
    struct admin_connection connections[CONNECTIONS_MAX];
};

/* --- status --- */

static void pack_text_entry(msgpack_packer *packer, const char *key, const char *value)
{
    pack_text(packer, key);
    pack_text(packer, value);
}

static void pack_number_entry(msgpack_packer *packer, const char *key, uint64_t value)
{
    pack_text(packer, key);
    msgpack_pack_uint64(packer, value);
}

static void pack_seconds_entry(msgpack_packer *packer, const char *key, uint64_t ns)
{
    pack_text(packer, key);
    msgpack_pack_double(packer, (double)ns / 1e9);
}

static void pack_nil_entry(msgpack_packer *packer, const char *key)
{
    pack_text(packer, key);
    msgpack_pack_nil(packer);
}

static uint64_t since(uint64_t then, uint64_t now)
{
    return now > then ? now - then : 0;
}

static void pack_server(const struct master *master, msgpack_packer *packer, uint64_t now)
{
    pack_text(packer, "server");
    msgpack_pack_map(packer, 6);
    pack_number_entry(packer, "pid", (uint64_t)getpid());
    pack_text_entry(packer, "version", COHAB_VERSION);
    pack_text_entry(packer, "socket", master->options->socket);
    pack_text_entry(packer, "state", master->state == MASTER_SERVING ? "running" : "stopping");
    pack_seconds_entry(packer, "uptime", since(master->started_at, now));
    pack_number_entry(packer, "workers", master->options->workers);
}

static void pack_engine(const struct master *master, msgpack_packer *packer)
{
    pack_text(packer, "engine");
    msgpack_pack_map(packer, 4);
    pack_text_entry(packer, "name", master->forkserver.engine_name);
    pack_text_entry(packer, "version", master->forkserver.engine_version);
    pack_text_entry(packer, "path", master->options->engine_path);
    pack_number_entry(packer, "generation", master->forkserver.generation);
}

static void pack_connections(const struct master *master, msgpack_packer *packer)
{
    pack_text(packer, "connections");
    msgpack_pack_map(packer, 4);
    pack_number_entry(packer, "open", master->slots.open);
    pack_number_entry(packer, "max", master->slots.count);
    pack_number_entry(packer, "accepted", master->accepted);
    pack_number_entry(packer, "refused", master->refused);
}

static void pack_totals(const struct master *master, msgpack_packer *packer)
{
    uint64_t calls = master->past_calls;
    for (unsigned i = 0; i < master->options->workers; i++)
        if (master->seats[i].row)
            calls += atomic_load_explicit(&master->seats[i].row->calls, memory_order_relaxed);
    pack_text(packer, "totals");
    msgpack_pack_map(packer, 3);
    pack_number_entry(packer, "calls", calls);
    pack_number_entry(packer, "worker_deaths", master->worker_deaths);
    pack_number_entry(packer, "forkserver_deaths", master->forkserver_deaths);
}

static const char *seat_state(const struct seat *seat, const struct row_view *row)
{
    switch (seat->child.state) {
    case CHILD_NONE:
    case CHILD_STARTING:
        return "starting";
    case CHILD_LEAVING:
        return "leaving";
    case CHILD_READY:
        break;
    }
    return row->claim == ROW_NO_CLAIM ? "idle" : "busy";
}

static void pack_worker(const struct seat *seat, msgpack_packer *packer, uint64_t now)
{
    struct row_view row = {.claim = ROW_NO_CLAIM};
    if (seat->row)
        row_read(seat->row, seat->key, &row);
    bool running = seat->child.state == CHILD_READY && row.state == ROW_RUNNING;
    msgpack_pack_map(packer, 8);
    pack_number_entry(packer, "number", seat->child.number);
    if (seat->child.pid > 0)
        pack_number_entry(packer, "pid", (uint64_t)seat->child.pid);
    else
        pack_nil_entry(packer, "pid");
    pack_number_entry(packer, "generation", seat->child.generation);
    pack_text_entry(packer, "state", seat_state(seat, &row));
    if (running) {
        pack_text_entry(packer, "method", row.method);
        pack_seconds_entry(packer, "running", since(row.started, now));
    } else {
        pack_nil_entry(packer, "method");
        pack_nil_entry(packer, "running");
    }
    pack_number_entry(packer, "calls", row.calls);
    pack_seconds_entry(packer, "age", seat->child.state == CHILD_NONE ? 0 : since(seat->child.born_at, now));
}

static void pack_workers(const struct master *master, msgpack_packer *packer, uint64_t now)
{
    pack_text(packer, "workers");
    msgpack_pack_array(packer, master->options->workers);
    for (unsigned i = 0; i < master->options->workers; i++)
        pack_worker(&master->seats[i], packer, now);
}

static void pack_deaths(const struct master *master, msgpack_packer *packer, uint64_t now)
{
    uint64_t kept = master->worker_deaths < MASTER_DEATHS_KEPT ? master->worker_deaths : MASTER_DEATHS_KEPT;
    pack_text(packer, "deaths");
    msgpack_pack_array(packer, kept);
    for (uint64_t i = 0; i < kept; i++) {
        const struct death *death = &master->deaths[(master->worker_deaths - 1 - i) % MASTER_DEATHS_KEPT];
        msgpack_pack_map(packer, 4);
        pack_number_entry(packer, "worker", death->worker);
        pack_number_entry(packer, "pid", (uint64_t)death->pid);
        pack_text_entry(packer, "cause", death->cause);
        pack_seconds_entry(packer, "ago", since(death->at, now));
    }
}

/* Documented, with its version rule, in docs/protocol.md. */
static void pack_status(const struct master *master, msgpack_packer *packer)
{
    uint64_t now = clock_now();
    const char *problem = master->load_problem[0] ? master->load_problem : master->start_problem;
    msgpack_pack_map(packer, 8);
    pack_number_entry(packer, "version", 1);
    if (problem[0])
        pack_text_entry(packer, "problem", problem);
    else
        pack_nil_entry(packer, "problem");
    pack_server(master, packer, now);
    pack_engine(master, packer);
    pack_connections(master, packer);
    pack_totals(master, packer);
    pack_workers(master, packer, now);
    pack_deaths(master, packer, now);
}

/* --- requests --- */

static bool method_is(const struct envelope_request *request, const char *name)
{
    return request->method_length == strlen(name) &&
           memcmp(request->method, name, request->method_length) == 0;
}

static void answer_error(struct admin_connection *connection, const struct envelope_request *request,
                         const char *code, const char *reason, const char *message)
{
    unsigned char frame[ENVELOPE_ERROR_MAX];
    struct envelope_error error = {.code = code, .reason = reason, .message = message};
    size_t size = envelope_write_error(frame, request->has_msgid, request->msgid, &error);
    msgpack_sbuffer_write(&connection->answers, (const char *)frame, size);
}

static void answer_result(struct admin_connection *connection, uint32_t msgid, const msgpack_sbuffer *result)
{
    unsigned char header[ENVELOPE_RESULT_HEADER];
    envelope_write_result_header(header, msgid, (uint32_t)result->size);
    msgpack_sbuffer_write(&connection->answers, (const char *)header, sizeof(header));
    msgpack_sbuffer_write(&connection->answers, result->data, result->size);
}

/* stop([now: bool]): params is [true] (0x91 0xc3), [false] or []. */
static bool stop_params(const struct envelope_request *request, bool *now)
{
    const unsigned char *params = request->params;
    *now = request->params_size == 2 && params[1] == 0xc3;
    return (request->params_size == 1 && params[0] == 0x90) ||
           (request->params_size == 2 && params[0] == 0x91 && (params[1] == 0xc2 || params[1] == 0xc3));
}

static void handle_request(struct admin_connection *connection, const struct envelope_request *request)
{
    connection->asked = true;
    struct master *master = connection->admin->master;
    msgpack_sbuffer result;
    msgpack_packer packer;
    bool now;
    msgpack_sbuffer_init(&result);
    msgpack_packer_init(&packer, &result, msgpack_sbuffer_write);
    if (method_is(request, "status")) {
        pack_status(master, &packer);
        answer_result(connection, request->msgid, &result);
    } else if (method_is(request, "stop") && stop_params(request, &now)) {
        msgpack_pack_nil(&packer);
        answer_result(connection, request->msgid, &result);
        log_info("asked to stop through the admin socket");
        master_stop(master, now);
    } else if (method_is(request, "stop")) {
        answer_error(connection, request, "INVALID_ARGUMENT", "BAD_ARGUMENT",
                     "stop() takes one bool: whether to stop at once");
    } else {
        answer_error(connection, request, "UNIMPLEMENTED", "NO_SUCH_METHOD",
                     "the admin socket has no such method");
    }
    msgpack_sbuffer_destroy(&result);
}

/* --- connections --- */

static void close_connection(struct admin_connection *connection)
{
    ev_io_stop(connection->admin->master->loop, &connection->watcher);
    close(connection->watcher.fd);
    connection->watcher.fd = -1;
    msgpack_sbuffer_destroy(&connection->answers);
}

/* Handles the next frame, if it is there and the answer to the one before is out. 1: there is an answer to
 * send; 0: not now; -1: the connection is of no more use. */
static int handle_frame(struct admin_connection *connection)
{
    struct envelope_request request;
    const char *why;
    if (connection->answers.size > 0)
        return 0;
    enum frame_progress progress = frame_check(connection->request, connection->received, REQUEST_MAX);
    if (progress != FRAME_COMPLETE)
        return progress == FRAME_PARTIAL ? 0 : -1;
    uint32_t length = frame_get_length(connection->request);
    if (envelope_read_request(connection->request + FRAME_HEADER_SIZE, length, &request, &why) != ENVELOPE_OK)
        return -1;
    handle_request(connection, &request);
    size_t frame = FRAME_HEADER_SIZE + (size_t)length;
    memmove(connection->request, connection->request + frame, connection->received - frame);
    connection->received -= frame;
    return 1;
}

static int read_requests(struct admin_connection *connection)
{
    ssize_t size = recv(connection->watcher.fd, connection->request + connection->received,
                        sizeof(connection->request) - connection->received, MSG_DONTWAIT);
    if (size < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    if (size == 0)
        return -1;
    connection->received += (size_t)size;
    return 0;
}

static int write_answers(struct admin_connection *connection)
{
    msgpack_sbuffer *answers = &connection->answers;
    while (connection->sent < answers->size) {
        ssize_t size = send(connection->watcher.fd, answers->data + connection->sent,
                            answers->size - connection->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (size < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -1;
        connection->sent += (size_t)size;
    }
    msgpack_sbuffer_clear(answers);
    connection->sent = 0;
    return 0;
}

static void on_connection(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct admin_connection *connection = watcher->data;
    int result = events & EV_READ ? read_requests(connection) : 0;
    do
        result = result < 0 || write_answers(connection) < 0 ? -1 : handle_frame(connection);
    while (result > 0);
    if (result < 0) {
        close_connection(connection);
        return;
    }
    /* While answers wait, nothing more is read: a client that never reads cannot make them grow. */
    int wanted = connection->answers.size > 0 ? EV_WRITE : EV_READ;
    ev_io_stop(loop, watcher);
    ev_io_set(watcher, watcher->fd, wanted);
    ev_io_start(loop, watcher);
}

/* A free place, or that of a connection that was opened and never used: those lock no operator out. */
static struct admin_connection *find_place(struct admin *admin)
{
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        if (admin->connections[i].watcher.fd < 0)
            return &admin->connections[i];
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        if (!admin->connections[i].asked) {
            close_connection(&admin->connections[i]);
            return &admin->connections[i];
        }
    return NULL;
}

static void on_listener(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)events;
    struct admin *admin = watcher->data;
    int fd = accept4(watcher->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            ev_io_stop(loop, watcher); /* it would be called again at once */
            ev_timer_again(loop, &admin->resume);
        }
        return;
    }
    struct admin_connection *connection = find_place(admin);
    if (!connection) {
        log_warn("admin connection refused: %d are in use", CONNECTIONS_MAX);
        close(fd);
        return;
    }
    connection->received = connection->sent = 0;
    connection->asked = false;
    msgpack_sbuffer_init(&connection->answers);
    ev_io_set(&connection->watcher, fd, EV_READ);
    ev_io_start(loop, &connection->watcher);
}

static void on_resume(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)events;
    struct admin *admin = timer->data;
    ev_timer_stop(loop, timer);
    ev_io_start(loop, &admin->listener);
}

int admin_init(struct master *master)
{
    struct admin *admin = calloc(1, sizeof(*admin));
    if (!admin) {
        log_error("cannot open the admin socket: out of memory");
        return -1;
    }
    admin->master = master;
    admin->path = listen_path_with(master->options->socket, ".ctl");
    int listener = listen_unix(admin->path, 0600);
    if (listener < 0)
        return -1;
    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        struct admin_connection *connection = &admin->connections[i];
        connection->admin = admin;
        ev_init(&connection->watcher, on_connection);
        connection->watcher.fd = -1;
        connection->watcher.data = connection;
    }
    ev_timer_init(&admin->resume, on_resume, 0.1, 0.1);
    admin->resume.data = admin;
    ev_io_init(&admin->listener, on_listener, listener, EV_READ);
    admin->listener.data = admin;
    ev_io_start(master->loop, &admin->listener);
    master->admin = admin;
    return 0;
}

void admin_close(struct master *master)
{
    struct admin *admin = master->admin;
    if (!admin)
        return;
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        if (admin->connections[i].watcher.fd >= 0)
            (void)write_answers(&admin->connections[i]); /* what does not go out now never will */
    ev_io_stop(master->loop, &admin->listener);
    ev_timer_stop(master->loop, &admin->resume);
    close(admin->listener.fd);
    (void)unlink(admin->path); /* gone already: nothing to do */
}
