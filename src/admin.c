#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <msgpack.h>

#include "admin.h"
#include "admin_pack.h"
#include "births.h"
#include "calls.h"
#include "clock.h"
#include "crashes.h"
#include "envelope.h"
#include "generation.h"
#include "listen.h"
#include "log.h"
#include "master.h"
#include "metrics.h"
#include "pack.h"
#include "stacks.h"
#include "upgrade.h"

/* The admin socket: requests are small and rare, answers are small; connections are few. */
#define REQUEST_MAX     4096u
#define CONNECTIONS_MAX HANDOVER_ADMIN_MAX

_Static_assert(FRAME_HEADER_SIZE + REQUEST_MAX <= HANDOVER_REQUEST_MAX, "a request can be handed over");

struct admin_connection {
    struct admin *admin;
    ev_io watcher; /* fd -1: free */
    unsigned char request[FRAME_HEADER_SIZE + REQUEST_MAX];
    size_t received;
    bool asked;              /* at least one request has come */
    msgpack_sbuffer answers; /* not yet sent */
    size_t sent;
    bool waits;     /* for stacks, or for a reload */
    bool deferred;  /* its request waits for another one's stacks */
    uint32_t msgid; /* of the request that waits */
};

struct admin {
    struct master *master;
    char *path;
    ev_io listener;
    ev_timer resume; /* accepting goes on after a pause for lack of descriptors */
    struct admin_connection connections[CONNECTIONS_MAX];
};

/* --- parameters --- */

#define WORDS_MAX 64

/* A request's parameters: an array of texts, or of numbers. They are small (REQUEST_MAX). */
struct words {
    msgpack_unpacked unpacked;
    const msgpack_object_array *array;
};

static bool words_open(struct words *words, const struct envelope_request *request)
{
    size_t offset = 0;
    msgpack_unpacked_init(&words->unpacked);
    if (msgpack_unpack_next(&words->unpacked, (const char *)request->params, request->params_size, &offset) !=
        MSGPACK_UNPACK_SUCCESS)
        return false;
    words->array = &words->unpacked.data.via.array;
    return true;
}

static bool words_are(const struct words *words, msgpack_object_type type)
{
    for (uint32_t i = 0; i < words->array->size; i++)
        if (words->array->ptr[i].type != type)
            return false;
    return true;
}

/* An engine and its arguments; at least one word. -1 without memory. */
static int engine_spec_read(struct engine_spec *spec, const msgpack_object_array *words)
{
    spec->argv = calloc(words->size, sizeof(char *));
    for (uint32_t i = 0; spec->argv && i < words->size; i++) {
        char *word = strndup(words->ptr[i].via.str.ptr, words->ptr[i].via.str.size);
        if (!word)
            return -1;
        if (i == 0)
            spec->name = word;
        else
            spec->argv[spec->argc++] = word;
    }
    return spec->argv ? 0 : -1;
}

static unsigned clear_words(struct quarantine *book, const msgpack_object_array *words)
{
    unsigned cleared = 0;
    if (words->size == 0)
        return quarantine_clear(book, NULL);
    for (uint32_t i = 0; i < words->size; i++) {
        char word[QUARANTINE_REPORT_SIZE];
        const msgpack_object_str *text = &words->ptr[i].via.str;
        if (text->size >= sizeof(word))
            continue;
        memcpy(word, text->ptr, text->size);
        word[text->size] = '\0';
        cleared += quarantine_clear(book, word);
    }
    return cleared;
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

static void handle_clear(struct admin_connection *connection, const struct envelope_request *request)
{
    struct words words;
    msgpack_sbuffer result;
    msgpack_packer packer;
    if (words_open(&words, request) && words_are(&words, MSGPACK_OBJECT_STR)) {
        msgpack_sbuffer_init(&result);
        msgpack_packer_init(&packer, &result, msgpack_sbuffer_write);
        unsigned cleared = clear_words(&connection->admin->master->crashes->book, words.array);
        log_event(LOG_INFO, "quarantine_cleared", LOG_FIELDS(.count = cleared),
                  "quarantine: %u requests cleared", cleared);
        msgpack_pack_map(&packer, 1);
        pack_text(&packer, "cleared");
        msgpack_pack_unsigned_int(&packer, cleared);
        answer_result(connection, request->msgid, &result);
        msgpack_sbuffer_destroy(&result);
    } else {
        answer_error(connection, request, "INVALID_ARGUMENT", "BAD_ARGUMENT",
                     "quarantine_clear() takes hashes and ids of reports; none: it clears all");
    }
    msgpack_unpacked_destroy(&words.unpacked);
}

static void go_on(struct admin_connection *connection, int result);

/* All that had to wait as long as one question was under way. */
static void wake_connections(struct admin *admin)
{
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
        if (admin->connections[i].watcher.fd >= 0)
            go_on(&admin->connections[i], 0);
}

static void on_stacks(void *context, const msgpack_sbuffer *workers)
{
    struct admin_connection *connection = context;
    struct admin *admin = connection->admin;
    msgpack_sbuffer result;
    msgpack_packer packer;
    msgpack_sbuffer_init(&result);
    msgpack_packer_init(&packer, &result, msgpack_sbuffer_write);
    msgpack_pack_map(&packer, 2);
    pack_text(&packer, "version");
    msgpack_pack_int(&packer, 1);
    pack_text(&packer, "workers");
    msgpack_sbuffer_write(&result, workers->data, workers->size);
    connection->waits = connection->deferred = false;
    answer_result(connection, connection->msgid, &result);
    msgpack_sbuffer_destroy(&result);
    wake_connections(admin);
}

/* One that is there, or wanted; 0: all. */
static bool has_worker(const struct master *master, uint64_t number)
{
    return number <= master->pool.target ||
           (number <= master->seat_count && master->seats[number].child.state != CHILD_NONE);
}

/* stack([worker]) */
static void handle_stack(struct admin_connection *connection, const struct envelope_request *request)
{
    struct master *master = connection->admin->master;
    struct words words;
    bool sound = words_open(&words, request) && words_are(&words, MSGPACK_OBJECT_POSITIVE_INTEGER) &&
                 words.array->size <= 1;
    uint64_t number = sound && words.array->size == 1 ? words.array->ptr[0].via.u64 : 0;
    msgpack_unpacked_destroy(&words.unpacked);
    if (!sound || !has_worker(master, number)) {
        answer_error(connection, request, "INVALID_ARGUMENT", "BAD_ARGUMENT",
                     sound ? "there is no worker of that number" : "stack() takes the number of a worker");
        return;
    }
    connection->waits = true;
    connection->msgid = request->msgid;
    (void)stacks_ask(master, (unsigned)number, on_stacks, connection); /* nobody else asks: may_handle() */
}

/* What is packed here has one entry each of a result or of an error's details. */
static void answer_reloaded(struct admin_connection *connection, const struct reload_result *result)
{
    msgpack_sbuffer body;
    msgpack_packer packer;
    msgpack_sbuffer_init(&body);
    msgpack_packer_init(&packer, &body, msgpack_sbuffer_write);
    admin_pack_reloaded(result, &packer);
    answer_result(connection, connection->msgid, &body);
    msgpack_sbuffer_destroy(&body);
}

static void on_reloaded(void *context, const struct reload_result *result)
{
    struct admin_connection *connection = context;
    connection->waits = connection->deferred = false;
    answer_reloaded(connection, result);
    go_on(connection, 0);
}

/* reload([engine, arguments ...]): without an engine, the one that serves, with its arguments. */
static void handle_reload(struct admin_connection *connection, const struct envelope_request *request)
{
    struct words words;
    char problem[256] = "reload() takes texts: an engine and its arguments, or nothing";
    struct engine_spec spec = {0};
    int begun = -1;
    bool sound = words_open(&words, request) && words_are(&words, MSGPACK_OBJECT_STR) &&
                 (words.array->size == 0 || engine_spec_read(&spec, words.array) == 0);
    if (sound)
        begun = reload_begin(connection->admin->master, words.array->size ? &spec : NULL, on_reloaded,
                             connection, problem, sizeof(problem));
    engine_spec_clear(&spec);
    msgpack_unpacked_destroy(&words.unpacked);
    connection->waits = begun == 0;
    connection->msgid = request->msgid;
    if (begun < 0)
        answer_error(connection, request, sound ? "FAILED_PRECONDITION" : "INVALID_ARGUMENT",
                     sound ? "NO_RELOAD" : "BAD_ARGUMENT", problem);
}

static void answer_upgraded(struct admin_connection *connection, const struct upgrade_result *result)
{
    msgpack_sbuffer body;
    msgpack_packer packer;
    msgpack_sbuffer_init(&body);
    msgpack_packer_init(&packer, &body, msgpack_sbuffer_write);
    admin_pack_upgraded(result, &packer);
    connection->waits = connection->deferred = false;
    answer_result(connection, connection->msgid, &body);
    msgpack_sbuffer_destroy(&body);
    go_on(connection, 0);
}

static void on_upgrade_failed(void *context, const struct upgrade_result *result)
{
    answer_upgraded(context, result);
}

/* upgrade() */
static void handle_upgrade(struct admin_connection *connection, const struct envelope_request *request)
{
    char problem[512];
    connection->msgid = request->msgid;
    connection->waits = upgrade_begin(connection->admin->master, on_upgrade_failed, connection, problem,
                                      sizeof(problem)) == 0;
    if (!connection->waits)
        answer_error(connection, request, "FAILED_PRECONDITION", "NO_UPGRADE", problem);
}

/* scale([min, max]) */
static void handle_scale(struct admin_connection *connection, const struct envelope_request *request,
                         msgpack_packer *packer, const msgpack_sbuffer *result)
{
    struct master *master = connection->admin->master;
    struct words words;
    bool sound = words_open(&words, request) && words_are(&words, MSGPACK_OBJECT_POSITIVE_INTEGER) &&
                 words.array->size == 2;
    uint64_t min = sound ? words.array->ptr[0].via.u64 : 0, max = sound ? words.array->ptr[1].via.u64 : 0;
    msgpack_unpacked_destroy(&words.unpacked);
    if (min < 1 || max < min || max > WORKERS_MAX) {
        answer_error(connection, request, "INVALID_ARGUMENT", "BAD_ARGUMENT",
                     "scale() takes two numbers of workers, from 1 to 256, the smaller one first");
        return;
    }
    unsigned before = master->pool.target;
    births_scale(master, (unsigned)min, (unsigned)max);
    admin_pack_scaled(master, before, packer);
    answer_result(connection, request->msgid, result);
}

/* Reads up to `most` numbers; those that are not given stay as they are. Returns how many there are, -1 if
 * they are something else. */
static int read_numbers(const struct envelope_request *request, uint64_t *numbers, uint32_t most)
{
    struct words words;
    bool sound = words_open(&words, request) && words_are(&words, MSGPACK_OBJECT_POSITIVE_INTEGER) &&
                 words.array->size <= most;
    int count = sound ? (int)words.array->size : -1;
    for (int i = 0; i < count; i++)
        numbers[i] = words.array->ptr[i].via.u64;
    msgpack_unpacked_destroy(&words.unpacked);
    return count;
}

/* ps([first]) */
static void handle_ps(struct admin_connection *connection, const struct envelope_request *request,
                      msgpack_packer *packer, const msgpack_sbuffer *result)
{
    uint64_t first = 0;
    if (read_numbers(request, &first, 1) < 0) {
        answer_error(connection, request, "INVALID_ARGUMENT", "BAD_ARGUMENT",
                     "ps() takes the number that the part before has named as next");
        return;
    }
    calls_pack(connection->admin->master, first < UINT32_MAX ? (uint32_t)first : UINT32_MAX, packer);
    answer_result(connection, request->msgid, result);
}

/* kill(worker), kill_call(pid, request) or kill_peer(pid). Returns NULL, or what is wrong with it. */
static const char *read_target(const struct master *master, const struct envelope_request *request,
                               struct calls_target *target)
{
    bool call = method_is(request, "kill_call"), peer = method_is(request, "kill_peer");
    uint64_t numbers[2] = {0, 0};
    int wanted = call ? 2 : 1;
    *target = (struct calls_target){0};
    bool sound = read_numbers(request, numbers, 2) == wanted && numbers[0] > 0 && numbers[0] <= INT32_MAX &&
                 (!call || numbers[1] > 0);
    if (!sound)
        return call   ? "kill_call() takes the process id of a worker, and the number of a request of it"
               : peer ? "kill_peer() takes a process id"
                      : "kill() takes the number of a worker";
    if (call)
        target->pid = (pid_t)numbers[0], target->request = numbers[1];
    else if (peer)
        target->peer = (pid_t)numbers[0];
    else if (!has_worker(master, numbers[0]))
        return "there is no worker of that number";
    else
        target->worker = (unsigned)numbers[0];
    return NULL;
}

static void handle_kill(struct admin_connection *connection, const struct envelope_request *request,
                        msgpack_packer *packer, const msgpack_sbuffer *result)
{
    struct master *master = connection->admin->master;
    struct calls_target target;
    const char *wrong = read_target(master, request, &target);
    if (wrong) {
        answer_error(connection, request, "INVALID_ARGUMENT", "BAD_ARGUMENT", wrong);
        return;
    }
    calls_kill(master, &target, packer);
    answer_result(connection, request->msgid, result);
}

static void handle_request(struct admin_connection *connection, const struct envelope_request *request)
{
    struct master *master = connection->admin->master;
    msgpack_sbuffer result;
    msgpack_packer packer;
    bool now;
    msgpack_sbuffer_init(&result);
    msgpack_packer_init(&packer, &result, msgpack_sbuffer_write);
    if (method_is(request, "status")) {
        admin_pack_status(master, &packer);
        answer_result(connection, request->msgid, &result);
    } else if (method_is(request, "metrics")) {
        if (metrics_pack(master, &packer) == 0)
            answer_result(connection, request->msgid, &result);
        else
            answer_error(connection, request, "RESOURCE_EXHAUSTED", "NO_MEMORY", "the server has no memory");
    } else if (method_is(request, "stack")) {
        handle_stack(connection, request);
    } else if (method_is(request, "ps")) {
        handle_ps(connection, request, &packer, &result);
    } else if (method_is(request, "kill") || method_is(request, "kill_call") ||
               method_is(request, "kill_peer")) {
        handle_kill(connection, request, &packer, &result);
    } else if (method_is(request, "quarantine_list")) {
        admin_pack_quarantine(master, &packer);
        answer_result(connection, request->msgid, &result);
    } else if (method_is(request, "quarantine_clear")) {
        handle_clear(connection, request);
    } else if (method_is(request, "reload")) {
        handle_reload(connection, request);
    } else if (method_is(request, "upgrade")) {
        handle_upgrade(connection, request);
    } else if (method_is(request, "scale")) {
        handle_scale(connection, request, &packer, &result);
    } else if (method_is(request, "stop") && stop_params(request, &now)) {
        msgpack_pack_nil(&packer);
        answer_result(connection, request->msgid, &result);
        log_event(LOG_INFO, "stop_asked", NULL, "asked to stop through the admin socket");
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
    stacks_forget(connection->admin->master, connection);
    reload_forget_listener(connection->admin->master, connection);
    upgrade_forget_listener(connection);
    connection->waits = false;
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
    if (connection->answers.size > 0 || connection->waits)
        return 0;
    enum frame_progress progress = frame_check(connection->request, connection->received, REQUEST_MAX);
    if (progress != FRAME_COMPLETE)
        return progress == FRAME_PARTIAL ? 0 : -1;
    uint32_t length = frame_get_length(connection->request);
    if (envelope_read_request(connection->request + FRAME_HEADER_SIZE, length, &request, &why) != ENVELOPE_OK)
        return -1;
    connection->asked = true;
    connection->deferred = method_is(&request, "stack") && stacks_busy(connection->admin->master);
    if (connection->deferred)
        return 0; /* one question at a time: wake_connections() comes back to this one */
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

/* After something was read (result 0, or -1: it is of no more use) or an answer has come. */
static void go_on(struct admin_connection *connection, int result)
{
    do
        result = result < 0 || write_answers(connection) < 0 ? -1 : handle_frame(connection);
    while (result > 0);
    if (result < 0) {
        close_connection(connection);
        return;
    }
    /* While answers wait, nothing more is read: a client that never reads cannot make them grow. */
    struct ev_loop *loop = connection->admin->master->loop;
    int wanted = connection->answers.size > 0 ? EV_WRITE : EV_READ;
    ev_io_stop(loop, &connection->watcher);
    ev_io_set(&connection->watcher, connection->watcher.fd, wanted);
    if (!connection->waits && !connection->deferred)
        ev_io_start(loop, &connection->watcher);
}

static void on_connection(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    struct admin_connection *connection = watcher->data;
    go_on(connection, events & EV_READ ? read_requests(connection) : 0);
}

/* A free place, or that of a connection that was opened and never used: those lock no operator out. */
static struct admin_connection *find_place(struct admin *admin)
{
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
        if (admin->connections[i].watcher.fd < 0)
            return &admin->connections[i];
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
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
        log_event(LOG_WARN, "admin_refused", LOG_FIELDS(.count = CONNECTIONS_MAX),
                  "admin connection refused: %d are in use", CONNECTIONS_MAX);
        close(fd);
        return;
    }
    connection->received = connection->sent = 0;
    connection->asked = connection->waits = connection->deferred = false;
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

static struct admin *make_admin(struct master *master)
{
    struct admin *admin = calloc(1, sizeof(*admin));
    if (!admin) {
        log_event(LOG_ERROR, "listen_failed", NULL, "cannot open the admin socket: out of memory");
        return NULL;
    }
    admin->master = master;
    admin->path = listen_path_with(master->options->socket, ".ctl");
    return admin;
}

static void watch(struct admin *admin, int listener)
{
    struct master *master = admin->master;
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
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
}

int admin_init(struct master *master)
{
    struct admin *admin = make_admin(master);
    int listener = admin ? listen_unix(admin->path, 0600) : -1;
    if (listener < 0)
        return -1;
    watch(admin, listener);
    return 0;
}

/* --- upgrade --- */

void admin_hand_over(const struct master *master, struct handover *handover)
{
    struct admin *admin = master->admin;
    handover->admin_listener = admin->listener.fd;
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
        struct admin_connection *connection = &admin->connections[i];
        bool waits = upgrade_is_for(connection);
        if (connection->watcher.fd < 0 || connection->answers.size > 0 || connection->deferred ||
            connection->waits != waits)
            continue;
        struct handover_admin *handed = &handover->admin[handover->admin_count++];
        *handed = (struct handover_admin){.descriptor = connection->watcher.fd,
                                          .asked = connection->asked,
                                          .waits = waits,
                                          .msgid = connection->msgid,
                                          .received = connection->received};
        memcpy(handed->request, connection->request, connection->received);
    }
}

static void adopt_connection(struct admin_connection *connection, const struct handover_admin *handed)
{
    connection->asked = handed->asked;
    connection->waits = handed->waits;
    connection->msgid = handed->msgid;
    connection->received = handed->received;
    memcpy(connection->request, handed->request, handed->received);
    msgpack_sbuffer_init(&connection->answers);
    ev_io_set(&connection->watcher, handed->descriptor, EV_READ);
    if (!connection->waits)
        ev_io_start(connection->admin->master->loop, &connection->watcher);
}

int admin_adopt(struct master *master, const struct handover *handover)
{
    struct admin *admin = make_admin(master);
    if (!admin)
        return -1;
    watch(admin, handover->admin_listener);
    for (unsigned i = 0; i < handover->admin_count; i++)
        if (handover->admin[i].received <= sizeof(admin->connections[i].request))
            adopt_connection(&admin->connections[i], &handover->admin[i]);
    return 0;
}

void admin_tell_upgraded(struct master *master, const struct handover *handover)
{
    const struct upgrade_result result = {.done = true,
                                          .before = handover->program,
                                          .after = COHAB_VERSION,
                                          .duration = clock_now() - handover->began_at};
    for (unsigned i = 0; i < handover->admin_count; i++)
        if (master->admin->connections[i].waits)
            answer_upgraded(&master->admin->connections[i], &result);
}

void admin_close(struct master *master)
{
    struct admin *admin = master->admin;
    if (!admin)
        return;
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
        if (admin->connections[i].watcher.fd >= 0)
            (void)write_answers(&admin->connections[i]); /* what does not go out now never will */
    ev_io_stop(master->loop, &admin->listener);
    ev_timer_stop(master->loop, &admin->resume);
    close(admin->listener.fd);
    (void)unlink(admin->path); /* gone already: nothing to do */
}
