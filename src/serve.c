#include "serve.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "builtin.h"
#include "call.h"
#include "clock.h"
#include "envelope.h"
#include "frame.h"
#include "title.h"

/* The first receive takes up to this much: a small frame whole, and what is pipelined behind it. */
#define FIRST_RECEIVE (64u << 10)
/* However steadily its bytes come, a frame has this many io_timeouts, and one more for each SLOWEST bytes of
 * it. */
#define FRAME_TIMEOUTS 20u
#define SLOWEST        (64u << 10)
/* What a worker keeps in any case, of the request buffer and for a response. */
#define LARGE (1u << 20)

size_t serve_buffer_size(uint32_t max_frame)
{
    size_t size = FRAME_HEADER_SIZE + (size_t)max_frame + FIRST_RECEIVE;
    return (size + 4095) & ~(size_t)4095;
}

int serve_init(struct server *server, struct row *row, unsigned char *buffer, const struct options *options,
               struct engine *engine)
{
    *server = (struct server){.row = row,
                              .buffer = buffer,
                              .buffer_size = serve_buffer_size(options->max_frame),
                              .options = options,
                              .engine = engine,
                              .key = row->key_before};
    if (response_init(&server->response, options->max_frame) < 0 ||
        !msgpack_zone_init(&server->zone, MSGPACK_ZONE_CHUNK_SIZE))
        return -1;
    serve_ready(server);
    return 0;
}

/* --- receiving --- */

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void note_received(struct server *server, size_t received)
{
    server->received = received;
    server->touched = larger(received, server->touched);
    server->largest = larger(received, server->largest);
}

/* What the row says of the buffer. The kernel counts what the next receive brings on top of it. */
static void record_received(struct server *server)
{
    __atomic_store_n(&server->row->receive.msg_len, 0, __ATOMIC_RELAXED);
    atomic_store_explicit(&server->row->received, server->received, memory_order_relaxed);
}

/* recvmmsg(2), as the kernel then writes the number of bytes into the row in the same step in which it takes
 * them from the connection. Returns that number, 0 at the end of file, -1 with errno. */
static ssize_t receive_into_buffer(struct server *server, int connection, size_t wanted, int flags)
{
    struct iovec part = {.iov_base = server->buffer + server->received, .iov_len = wanted};
    struct mmsghdr *header = &server->row->receive;
    header->msg_hdr = (struct msghdr){.msg_iov = &part, .msg_iovlen = 1};
    if (recvmmsg(connection, header, 1, (unsigned)flags, NULL) < 0)
        return -1;
    return (ssize_t)__atomic_load_n(&header->msg_len, __ATOMIC_RELAXED);
}

/* Bytes to ask for next: no more than belongs to this frame, so that a client that pipelines without end does
 * not keep a worker. */
static size_t next_receive_size(const struct server *server)
{
    if (server->received < FRAME_HEADER_SIZE)
        return FRAME_HEADER_SIZE - server->received;
    return FRAME_HEADER_SIZE + (size_t)frame_get_length(server->buffer) - server->received;
}

/* How long that is ago; *since is 0 until this is first asked. In ns. */
static uint64_t time_since(uint64_t *since)
{
    uint64_t now = clock_now();
    if (*since == 0)
        *since = now;
    return now - *since;
}

/* A client that sends a byte now and then must not hold a worker for ever. */
static bool is_too_slow(const struct server *server, uint64_t *begun)
{
    return time_since(begun) / server->options->io_timeout >= FRAME_TIMEOUTS + server->received / SLOWEST;
}

/* Whether a wait that a signal has interrupted has lasted for an io_timeout: begun anew it would again have
 * that long. */
static bool is_over(const struct server *server, uint64_t *interrupted)
{
    return time_since(interrupted) >= server->options->io_timeout;
}

/* Waits for the rest of a frame whose beginning has come. An io_timeout without a byte ends the wait with
 * EAGAIN. */
static enum frame_progress receive_rest(struct server *server, int connection)
{
    uint64_t begun = 0, interrupted = 0;
    for (;;) {
        enum frame_progress progress =
            frame_check(server->buffer, server->received, server->options->max_frame);
        if (progress != FRAME_PARTIAL)
            return progress;
        if (is_too_slow(server, &begun)) {
            errno = EAGAIN;
            return FRAME_PARTIAL;
        }
        record_received(server);
        int flags = server->received < FRAME_HEADER_SIZE ? 0 : MSG_WAITALL;
        ssize_t count = receive_into_buffer(server, connection, next_receive_size(server), flags);
        if (count > 0) {
            note_received(server, server->received + (size_t)count);
            interrupted = 0;
        } else if (count == 0 || errno != EINTR || is_over(server, &interrupted)) {
            if (count == 0)
                errno = 0;
            else if (errno == EINTR)
                errno = EAGAIN;
            return FRAME_PARTIAL;
        }
    }
}

/* --- sending --- */

/* In the row before the row says WRITING. */
static void record_response(struct row *row, uint32_t state, uint64_t size)
{
    __atomic_store_n(&row->send.msg_len, 0, __ATOMIC_RELAXED);
    atomic_store_explicit(&row->response_size, size, memory_order_relaxed);
    atomic_store_explicit(&row->writing_from, state, memory_order_relaxed);
}

/* sendmmsg(2), as the kernel then writes into the row, in the same step, how much it has taken. */
static ssize_t send_part(struct row *row, int connection, const unsigned char *bytes, size_t size)
{
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = size};
    row->send.msg_hdr = (struct msghdr){.msg_iov = &part, .msg_iovlen = 1};
    if (sendmmsg(connection, &row->send, 1, MSG_NOSIGNAL) < 0)
        return -1;
    return (ssize_t)__atomic_load_n(&row->send.msg_len, __ATOMIC_RELAXED);
}

/* Sends the response, all of it or with an error; `last` where the connection is to be closed afterwards.
 * Where the descriptor turns out to be none of ours any more, nothing was sent, and the row says again what
 * it said. */
static enum serve_outcome send_frame(struct server *server, int connection, bool last)
{
    struct row *row = server->row;
    const unsigned char *frame = server->response.bytes;
    size_t size = server->response.size;
    server->largest = larger(size, server->largest);
    uint32_t state = atomic_load_explicit(&row->state, memory_order_relaxed);
    record_response(row, state, last ? ROW_SIZE_UNKNOWN : size);
    serve_set_state(server, ROW_WRITING);
    uint64_t interrupted = 0;
    for (size_t sent = 0; sent < size;) {
        ssize_t count = send_part(row, connection, frame + sent, size - sent);
        if (count >= 0) {
            sent += (size_t)count;
            interrupted = 0;
            if (sent < size) /* slow peer: from here on a death closes the connection */
                atomic_store_explicit(&row->response_size, ROW_SIZE_UNKNOWN, memory_order_relaxed);
        } else if (sent == 0 && (errno == EBADF || errno == ENOTSOCK)) {
            serve_set_state(server, (enum row_state)state);
            return SERVE_LOST;
        } else if (errno != EINTR || is_over(server, &interrupted)) {
            return SERVE_CLOSE; /* the peer is gone, or took nothing for an io_timeout */
        }
    }
    return SERVE_REARM;
}

static void answer_unreadable(struct server *server, const struct envelope_request *request,
                              const char *reason, const char *message)
{
    struct envelope_error error = {.code = "INVALID_ARGUMENT", .reason = reason, .message = message};
    response_error(&server->response, request->has_msgid, request->msgid, &error);
}

/* After which the stream cannot be read on. */
static enum serve_outcome send_last_frame(struct server *server, int connection)
{
    enum serve_outcome outcome = send_frame(server, connection, true);
    return outcome == SERVE_REARM ? SERVE_CLOSE : outcome;
}

static enum serve_outcome send_last_error(struct server *server, int connection, const char *reason,
                                          const char *message)
{
    static const struct envelope_request nobody = {.has_msgid = false};
    answer_unreadable(server, &nobody, reason, message);
    return send_last_frame(server, connection);
}

/* --- running --- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t request_deadline(const struct envelope_request *request, const struct options *options,
                                 uint64_t now)
{
    uint64_t deadline = now + options->max_timeout;
    if (request->has_deadline)
        deadline = earlier(deadline, request->deadline);
    if (request->has_timeout)
        deadline = earlier(deadline, now + clock_from_seconds(request->timeout));
    if (!request->has_deadline && !request->has_timeout)
        deadline = earlier(deadline, now + options->default_timeout);
    return deadline;
}

static void record_method(struct row *row, const char *name, size_t length)
{
    size_t kept = length < ROW_METHOD_SIZE ? length : ROW_METHOD_SIZE;
    memcpy(row->method, name, kept);
    atomic_store_explicit(&row->method_length, (uint32_t)kept, memory_order_relaxed);
}

/* From here on a death is the engine's: the master answers for this worker with what stands in the row. */
static void record_running(struct server *server, const struct cohab_call *call, uint32_t msgid, uint64_t now)
{
    struct row *row = server->row;
    const struct cohab_method *method = call->method->method;
    atomic_store_explicit(&row->request, call->request, memory_order_release);
    atomic_thread_fence(memory_order_release); /* the words below are never seen before the number */
    atomic_store_explicit(&row->msgid, msgid, memory_order_relaxed);
    atomic_store_explicit(&row->deadline, call->deadline, memory_order_relaxed);
    atomic_store_explicit(&row->started, now, memory_order_relaxed);
    atomic_store_explicit(&row->queued, server->record.queued, memory_order_relaxed);
    atomic_store_explicit(&row->idempotent, method->flags & COHAB_IDEMPOTENT, memory_order_relaxed);
    record_method(row, method->name, call->method->name_length);
    serve_set_state(server, ROW_RUNNING);
    title_set_suffix(method->name);
}

/* A request that has killed workers. */
static bool refuse_quarantined(const struct quarantine_table *table, const struct envelope_request *request,
                               char *message, size_t size, struct envelope_error *error)
{
    static struct quarantine_refusal refusal;
    static const char *reports[QUARANTINE_REPORTS];
    const struct quarantine_request parts = {.method = request->method,
                                             .method_length = request->method_length,
                                             .params = request->params,
                                             .params_size = request->params_size};
    if (!quarantine_find(table, &parts, &refusal))
        return false;
    size_t count = 0;
    char list[QUARANTINE_REPORTS * (QUARANTINE_REPORT_SIZE + 2)] = "";
    for (size_t i = 0; i < QUARANTINE_REPORTS; i++) {
        if (!refusal.reports[i][0])
            continue;
        snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s", count ? ", " : "",
                 refusal.reports[i]);
        reports[count++] = refusal.reports[i];
    }
    *error = (struct envelope_error){
        .code = "FAILED_PRECONDITION", .reason = "QUARANTINED", .reports = reports, .report_count = count};
    snprintf(message, size, "refused: requests like this one have killed %u worker%s%s%s%s", refusal.kills,
             refusal.kills == 1 ? "" : "s", count ? " (reports " : "", list, count ? ")" : "");
    return true;
}

/* What the master orders, if it has ordered anything. */
static bool refuse_as_ordered(const struct row *row, char *message, size_t size, struct envelope_error *error)
{
    switch (atomic_load_explicit(&row->orders, memory_order_acquire)) {
    case ROW_NO_WORKER:
        *error = (struct envelope_error){.code = "UNAVAILABLE", .reason = "NO_WORKER", .retry = true};
        snprintf(message, size, "no worker can be had: %.*s", (int)ROW_REFUSAL_SIZE,
                 row->refusals[atomic_load_explicit(&row->refusal, memory_order_acquire) & 1]);
        return true;
    case ROW_REFUSE:
        *error = (struct envelope_error){.code = "UNAVAILABLE", .reason = "STOPPING", .retry = true};
        snprintf(message, size, "the server is stopping");
        return true;
    default: /* of the master; or of an engine that has written over the row */
        return false;
    }
}

/* A request that has waited in vain, or for too long. */
static bool refuse_waited(struct server *server, const struct cohab_call *call, uint64_t now, char *message,
                          size_t size, struct envelope_error *error)
{
    uint64_t target = server->options->max_queue_time;
    bool too_long = target && shed_look(&server->shed, now, server->record.queued, target);
    if (now >= call->deadline) {
        *error =
            (struct envelope_error){.code = "DEADLINE_EXCEEDED", .reason = "QUEUE_TIMEOUT", .retry = true};
        snprintf(message, size, "the deadline passed before a worker was free");
        if (server->meter)
            meter_add(&server->meter->late, 1);
    } else if (too_long) {
        *error = (struct envelope_error){.code = "RESOURCE_EXHAUSTED", .reason = "OVERLOADED", .retry = true};
        snprintf(
            message, size,
            "the server is overloaded: requests wait for longer than --max-queue-time %g s, this one %.3f s",
            (double)target / 1e9, (double)server->record.queued / 1e9);
        if (server->meter)
            meter_add(&server->meter->shed, 1);
    } else {
        return false;
    }
    return true;
}

/* What keeps a well-formed request from the engine, before its parameters are unpacked: that may take many
 * times their size. */
static bool refuse(struct server *server, const struct cohab_call *call,
                   const struct envelope_request *request, uint64_t now, char *message, size_t size,
                   struct envelope_error *error)
{
    if (refuse_as_ordered(server->row, message, size, error) ||
        refuse_waited(server, call, now, message, size, error)) {
        return true;
    } else if (!call->method) {
        int shown = request->method_length < 200 ? (int)request->method_length : 200;
        *error = (struct envelope_error){.code = "UNIMPLEMENTED", .reason = "NO_SUCH_METHOD"};
        snprintf(message, size, "engine %s has no method '%.*s'", server->engine->description->name, shown,
                 request->method);
    } else if (call->method->signature &&
               !signature_check_count(call->method->signature, request->param_count, message, size)) {
        *error = (struct envelope_error){.code = "INVALID_ARGUMENT", .reason = "BAD_ARGUMENT"};
    } else if (server->quarantine && refuse_quarantined(server->quarantine, request, message, size, error)) {
        if (server->meter)
            meter_add(&server->meter->refused, 1);
    } else {
        return false;
    }
    return true;
}

/* Unpacks the parameters into the zone, and compares them with the signature. */
static bool refuse_params(struct server *server, const struct cohab_call *call,
                          const struct envelope_request *request, msgpack_object *params, char *message,
                          size_t size, struct envelope_error *error)
{
    size_t offset = 0;
    if (msgpack_unpack((const char *)request->params, request->params_size, &offset, &server->zone, params) !=
        MSGPACK_UNPACK_SUCCESS) {
        *error = (struct envelope_error){.code = "RESOURCE_EXHAUSTED", .reason = "NO_MEMORY", .retry = true};
        snprintf(message, size, "the worker has no memory for these parameters");
        return true;
    }
    *error = (struct envelope_error){.code = "INVALID_ARGUMENT", .reason = "BAD_ARGUMENT"};
    return call->method->signature &&
           !signature_check(call->method->signature, &params->via.array, message, size);
}

/* --- counting --- */

static void begin_record(struct server *server, const struct engine_method *method,
                         const struct envelope_request *request, uint64_t now)
{
    struct meter_record *record = &server->record;
    server->begun = now;
    if (method && method->meter < server->metered)
        record->method = method->meter;
    if (request->has_sent && request->sent < now && now - request->sent <= METER_QUEUED_MAX)
        record->queued = now - request->sent;
}

/* The response lies ready. */
static void count_call(struct server *server, size_t frame)
{
    struct meter_record *record = &server->record;
    const struct options *options = server->options;
    record->duration = server->begun ? clock_now() - server->begun : 0; /* 0: it could not be read */
    record->code = server->response.code ? meter_code(server->response.code) : 0;
    record->request_bytes = frame;
    record->response_bytes = server->response.size;
    meter_count(server->meter, record);
    if (options->log_requests || (options->slow && record->duration >= options->slow))
        meter_log(server->meter, record);
}

/* --- running, once it is known what --- */

static void run_request(struct server *server, const struct envelope_request *request)
{
    char message[ENVELOPE_MESSAGE_MAX];
    struct envelope_error error;
    msgpack_object params;
    uint64_t now = clock_now();
    const struct engine_method *method = engine_find(server->engine, request->method, request->method_length);
    struct cohab_call call = {.state = server->engine->state,
                              .method =
                                  method ? method : builtin_find(request->method, request->method_length),
                              .params = &params,
                              .zone = &server->zone,
                              .response = &server->response,
                              .row = server->row,
                              .request = server->request + 1,
                              .deadline = request_deadline(request, server->options, now)};
    begin_record(server, call.method, request, now);
    if (refuse(server, &call, request, now, message, sizeof(message), &error) ||
        refuse_params(server, &call, request, &params, message, sizeof(message), &error)) {
        error.message = message;
        response_error(&server->response, request->has_msgid, request->msgid, &error);
        return;
    }
    if (!method)
        call.state = server->engine; /* what builtin methods tell about */
    server->request++;
    record_running(server, &call, request->msgid, now);
    call_run(&call, request->msgid);
}

static const char *reason_of(enum envelope_result result)
{
    switch (result) {
    case ENVELOPE_BAD_FRAME:
        return "BAD_FRAME";
    case ENVELOPE_TOO_DEEP:
        return "TOO_DEEP";
    default:
        return "BAD_REQUEST";
    }
}

bool serve_answer(struct server *server)
{
    struct envelope_request request;
    const char *why;
    enum envelope_result result = envelope_read_request(server->buffer + FRAME_HEADER_SIZE,
                                                        frame_get_length(server->buffer), &request, &why);
    if (result == ENVELOPE_OK)
        run_request(server, &request);
    else
        answer_unreadable(server, &request, reason_of(result), why);
    return result == ENVELOPE_OK;
}

static enum serve_outcome serve_frame(struct server *server, int connection, size_t frame)
{
    server->record.method = METER_OTHER;
    server->record.queued = 0;
    server->begun = 0;
    bool readable = serve_answer(server);
    if (server->meter)
        count_call(server, frame);
    if (!readable)
        return send_last_frame(server, connection);
    enum serve_outcome outcome = send_frame(server, connection, false);
    msgpack_zone_clear(&server->zone);
    return outcome;
}

/* The frame at the start of the buffer is answered: what is behind it becomes the start. The row still says
 * WRITING; from the moment in which buffer and row no longer tell the same, it says so in a way that has the
 * connection closed. */
static void drop_frame(struct server *server, size_t frame)
{
    struct row *row = server->row;
    size_t left = server->received - frame;
    if (left > 0) {
        atomic_store_explicit(&row->response_size, ROW_SIZE_UNKNOWN, memory_order_release);
        memmove(server->buffer, server->buffer + frame, left);
    }
    note_received(server, left);
    record_received(server);
    uint64_t calls = atomic_load_explicit(&row->calls, memory_order_relaxed);
    atomic_store_explicit(&row->calls, calls + 1, memory_order_relaxed);
}

static enum serve_outcome serve_frames(struct server *server, int connection)
{
    do {
        serve_set_state(server, ROW_RECEIVED);
        switch (receive_rest(server, connection)) {
        case FRAME_COMPLETE:
            break;
        case FRAME_INVALID:
            return send_last_error(
                server, connection, frame_get_length(server->buffer) == 0 ? "BAD_FRAME" : "TOO_LONG",
                frame_get_length(server->buffer) == 0 ? "a frame of length 0"
                                                      : "the frame is longer than the server's --max-frame");
        case FRAME_PARTIAL:
            if (errno != EAGAIN)
                return SERVE_CLOSE;
            return send_last_error(server, connection, "BAD_FRAME",
                                   "the frame did not come to its end within --io-timeout");
        }
        size_t frame = FRAME_HEADER_SIZE + (size_t)frame_get_length(server->buffer);
        enum serve_outcome outcome = serve_frame(server, connection, frame);
        if (outcome != SERVE_REARM)
            return outcome;
        drop_frame(server, frame); /* its length, from before the engine could write over it */
        response_reset(&server->response);
    } while (server->received > 0);
    return SERVE_REARM;
}

enum serve_outcome serve_connection(struct server *server, int connection)
{
    atomic_store_explicit(&server->row->seal, row_seal(row_read_claim(server->row), server->key),
                          memory_order_relaxed);
    ssize_t count = receive_into_buffer(server, connection, FIRST_RECEIVE, MSG_DONTWAIT);
    enum serve_outcome outcome;
    if (count > 0) {
        note_received(server, (size_t)count);
        outcome = serve_frames(server, connection);
    } else if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
        outcome = SERVE_REARM;
    } else if (count < 0 && (errno == EBADF || errno == ENOTSOCK)) {
        outcome = SERVE_LOST;
    } else {
        outcome = SERVE_CLOSE;
    }
    if (outcome != SERVE_LOST)
        serve_set_state(server, outcome == SERVE_REARM ? ROW_ANSWERED : ROW_CLOSING);
    return outcome;
}

/* --- the next claim --- */

/* Memory that a large frame took is given back, but not between one and the next: to take it again costs more
 * than the rest of the call. */
static void trim(struct server *server)
{
    bool large = server->largest > LARGE, keeps = large && server->was_large;
    server->largest = 0;
    server->was_large = large;
    if (keeps)
        return;
    response_trim(&server->response);
    if (server->touched <= LARGE)
        return;
    /* Where the kernel refuses, the memory merely stays. */
    (void)madvise(server->buffer + LARGE, server->buffer_size - LARGE, MADV_REMOVE);
    server->touched = 0;
}

/* The order of the three release stores is part of the protocol (docs/architecture.md) */
void serve_ready(struct server *server)
{
    struct row *row = server->row;
    trim(server);
    response_reset(&server->response);
    __atomic_store_n((uint64_t *)(void *)((char *)row + offsetof(struct row, claim.event.data)), ROW_NO_CLAIM,
                     __ATOMIC_RELEASE);
    note_received(server, 0);
    record_received(server);
    __atomic_store_n((uint32_t *)(void *)server->buffer, FRAME_NOTHING, __ATOMIC_RELEASE);
    serve_set_state(server, ROW_WAITING);
}
