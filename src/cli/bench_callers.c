#include "bench_callers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "ask.h"
#include "client.h"
#include "clock.h"
#include "envelope.h"

#define PAUSE_FIRST BENCH_CALLERS_TICK
#define PAUSE_MOST  (4 * BENCH_CALLERS_TICK)
/* Descriptors besides the connections: standard ones, the loop's, and some to spare. */
#define OTHER_DESCRIPTORS 16

/* --- errors --- */

void bench_callers_fail(struct bench_callers *callers, uint64_t end, const char *code, const char *reason,
                        const char *message)
{
    record_error(callers->record, end, (struct record_text){code, strlen(code)},
                 (struct record_text){reason, strlen(reason)},
                 (struct record_text){message, strlen(message)});
}

static void fail_as_told(struct bench_callers *callers, uint64_t end,
                         const struct envelope_response *response)
{
    record_error(callers->record, end, (struct record_text){response->code, response->code_length},
                 (struct record_text){response->reason, response->reason_length},
                 (struct record_text){response->message, response->message_length});
}

/* Whether what happens to a caller now is part of the measurement. */
static bool counts(const struct bench_caller *caller, uint64_t now)
{
    return caller->state == BENCH_CALLER_BUSY ? caller->counts : now >= caller->all->record->start;
}

/* --- connecting --- */

static void on_socket(struct ev_loop *loop, struct ev_io *watcher, int events);

/* Watches for what the caller waits for. */
static void watch(struct bench_caller *caller)
{
    bool sending = caller->state == BENCH_CALLER_BUSY && !bench_connection_is_done(&caller->connection);
    int events = sending ? EV_READ | EV_WRITE : bench_caller_blocks(caller) ? 0 : EV_READ;

    if (ev_is_active(&caller->watcher) && (caller->watcher.events & (EV_READ | EV_WRITE)) == events)
        return;
    ev_io_stop(caller->all->loop, &caller->watcher);
    if (events == 0)
        return;
    ev_io_set(&caller->watcher, caller->connection.fd, events);
    ev_io_start(caller->all->loop, &caller->watcher);
}

static void become_ready(struct bench_caller *caller)
{
    caller->state = BENCH_CALLER_READY;
    caller->proven = false;
    watch(caller);
}

static void connect_anew(struct bench_caller *caller, uint64_t now)
{
    struct bench_callers *all = caller->all;

    if (bench_connection_open(&caller->connection, all->options->socket) < 0) {
        caller->connect_at = now + caller->pause;
        caller->pause = caller->pause < PAUSE_MOST ? 2 * caller->pause : PAUSE_MOST;
        return;
    }
    all->away--;
    all->record->reconnects += now >= all->record->start;
    become_ready(caller);
    all->on_ready(caller, all->context);
}

/* Closes the connection and opens another one: at once if it has served before, else after a pause, so that a
 * server that refuses everybody is not asked without end. */
static void leave(struct bench_caller *caller, uint64_t now)
{
    ev_io_stop(caller->all->loop, &caller->watcher);
    bench_connection_close(&caller->connection);
    caller->all->busy -= caller->state == BENCH_CALLER_BUSY;
    caller->state = BENCH_CALLER_AWAY;
    caller->all->away++;
    if (!caller->proven) {
        caller->connect_at = now + caller->pause;
        caller->pause = caller->pause < PAUSE_MOST ? 2 * caller->pause : PAUSE_MOST;
        return;
    }
    caller->pause = PAUSE_FIRST;
    connect_anew(caller, now);
}

static void fail_and_leave(struct bench_caller *caller, uint64_t now, const char *code, const char *reason,
                           const char *message)
{
    if (counts(caller, now))
        bench_callers_fail(caller->all, now, code, reason, message);
    leave(caller, now);
}

/* --- calls --- */

static size_t choose_call(struct bench_callers *callers)
{
    const struct bench_options *options = callers->options;
    size_t call = 0;

    if (options->call_count == 1)
        return 0;
    for (double at = random_unit(&callers->choice) * options->weights - options->calls[0].weight;
         at > 0 && call + 1 < options->call_count; at -= options->calls[call].weight)
        call++;
    return call;
}

void bench_caller_start(struct bench_caller *caller, uint64_t started)
{
    struct bench_callers *all = caller->all;
    uint64_t deadline = started + clock_from_seconds(all->options->timeout);

    caller->call = choose_call(all);
    caller->state = BENCH_CALLER_BUSY;
    all->busy++;
    caller->started = started;
    caller->counts = started >= all->record->start;
    caller->give_up = deadline + ASK_PATIENCE;
    template_fill(&all->options->calls[caller->call].template, &all->values, ++caller->msgid, deadline,
                  &caller->connection.frame);
    caller->connection.sent = 0;
    bench_connection_send(&caller->connection);
    watch(caller);
}

/* False with why, where the reply is no answer to the call. */
static bool read_reply(const struct bench_caller *caller, const struct bench_reply *reply,
                       struct envelope_response *response, const char **why)
{
    const struct template_frame *frame = &caller->connection.frame;

    *why = "the reply is not a response";
    *response = (struct envelope_response){.has_msgid = true, .msgid = caller->msgid};
    if (caller->all->options->echo) {
        *why = "the reply is no echo of the request";
        return caller->state == BENCH_CALLER_BUSY && reply->size == frame->size &&
               memcmp(reply->head, frame->scratch, TEMPLATE_HEAD_SIZE) == 0;
    }
    if (!envelope_read_response(reply->head + FRAME_HEADER_SIZE, reply->head_size - FRAME_HEADER_SIZE,
                                response))
        return false;
    if (!response->has_msgid)
        return true;
    *why = "the reply is to another request";
    if (caller->state != BENCH_CALLER_BUSY || response->msgid != caller->msgid)
        return false;
    *why = "the reply came before the request was sent";
    return response->failed || caller->connection.sent == frame->size;
}

/* Errors after which the server closes the connection. */
static bool is_last_word(const struct bench_caller *caller, const struct envelope_response *response)
{
    static const char *const reasons[] = {"BAD_FRAME", "BAD_REQUEST", "TOO_DEEP", "TOO_LONG"};

    if (!response->has_msgid || caller->connection.sent < caller->connection.frame.size)
        return true;
    for (size_t i = 0; response->reason && i < sizeof reasons / sizeof reasons[0]; i++)
        if (response->reason_length == strlen(reasons[i]) &&
            memcmp(response->reason, reasons[i], response->reason_length) == 0)
            return true;
    return false;
}

static void take_reply(struct bench_caller *caller, uint64_t now, const struct bench_reply *reply)
{
    struct bench_callers *all = caller->all;
    struct envelope_response response;
    const char *why;

    if (!read_reply(caller, reply, &response, &why)) {
        fail_and_leave(caller, now, "UNKNOWN", "BAD_REPLY", why);
        return;
    }
    if (counts(caller, now)) {
        if (response.failed)
            fail_as_told(all, now, &response);
        else
            record_success(all->record, caller->call, now, now - caller->started);
        all->record->bytes_received += reply->size;
        all->record->bytes_sent += caller->state == BENCH_CALLER_BUSY ? caller->connection.sent : 0;
    }
    if (response.failed && is_last_word(caller, &response)) {
        leave(caller, now);
        return;
    }
    all->busy--;
    caller->state = BENCH_CALLER_READY;
    caller->proven = true;
    caller->pause = PAUSE_FIRST;
    all->on_ready(caller, all->context);
}

static void receive(struct bench_caller *caller, bool wait)
{
    struct bench_reply reply;
    enum bench_arrival arrival =
        bench_connection_receive(&caller->connection, caller->all->buffer, wait, &reply);

    switch (arrival) {
    case BENCH_NOTHING:
        break;
    case BENCH_REPLY:
        take_reply(caller, clock_now(), &reply);
        break;
    case BENCH_CONFUSED:
        fail_and_leave(caller, clock_now(), "UNKNOWN", "BAD_REPLY", "the reply is not one frame");
        break;
    case BENCH_LOST:
        fail_and_leave(caller, clock_now(), "UNAVAILABLE", "CONNECTION_LOST",
                       "the server closed the connection");
        break;
    }
}

static void on_socket(struct ev_loop *loop, struct ev_io *watcher, int events)
{
    struct bench_caller *caller = (struct bench_caller *)watcher;
    (void)loop;

    if (events & EV_WRITE) {
        bench_connection_send(&caller->connection);
        watch(caller);
    }
    if (events & EV_READ)
        receive(caller, false);
}

bool bench_caller_blocks(const struct bench_caller *caller)
{
    return caller->all->blocking && caller->state == BENCH_CALLER_BUSY &&
           bench_connection_is_done(&caller->connection);
}

void bench_caller_wait(struct bench_caller *caller)
{
    receive(caller, true);
}

void bench_callers_tick(struct bench_callers *callers, uint64_t now)
{
    for (unsigned i = 0; i < callers->options->connections; i++) {
        struct bench_caller *caller = &callers->items[i];
        if (caller->state == BENCH_CALLER_BUSY && now >= caller->give_up)
            fail_and_leave(caller, now, "DEADLINE_EXCEEDED", "DEADLINE",
                           "no answer by the deadline, nor in the second after it");
        else if (caller->state == BENCH_CALLER_AWAY && now >= caller->connect_at)
            connect_anew(caller, now);
    }
}

void bench_callers_abandon(struct bench_callers *callers)
{
    uint64_t now = clock_now();

    for (unsigned i = 0; i < callers->options->connections; i++)
        if (callers->items[i].state == BENCH_CALLER_BUSY && callers->items[i].counts)
            bench_callers_fail(callers, now, "CANCELLED", "INTERRUPTED",
                               "the run was ended before the answer came");
}

/* --- birth and end --- */

/* Descriptors for all connections. Returns 0, or -1 after telling why not. */
static int allow_descriptors(unsigned connections)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)connections + OTHER_DESCRIPTORS;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted)
        return 0;
    limit.rlim_cur = wanted;
    if (wanted <= limit.rlim_max && setrlimit(RLIMIT_NOFILE, &limit) == 0)
        return 0;
    fprintf(stderr,
            "cohab: bench: %u connections need %ju open files, and %ju are allowed; raise the "
            "hard limit (ulimit -Hn), or use fewer connections\n",
            connections, (uintmax_t)wanted, (uintmax_t)limit.rlim_max);
    return -1;
}

static int connect_first(struct bench_caller *caller, unsigned number)
{
    const struct bench_options *options = caller->all->options;
    struct client client;

    if (client_connect(&client, options->socket, false, client_after(ASK_QUICK)) < 0) {
        fprintf(stderr, "cohab: bench: connection %u of %u: %s\n", number, options->connections, client.text);
        return CLI_NO_CONNECTION;
    }
    bench_connection_adopt(&caller->connection, client.fd);
    become_ready(caller);
    return CLI_OK;
}

static int allocate(struct bench_callers *callers)
{
    unsigned count = callers->options->connections;

    callers->items = calloc(count, sizeof *callers->items);
    callers->scratch = calloc(count, callers->options->scratch_size);
    callers->buffer = malloc(BENCH_BUFFER_SIZE);
    if (!callers->items || !callers->scratch || !callers->buffer)
        return -1;
    for (unsigned i = 0; i < count; i++) {
        struct bench_caller *caller = &callers->items[i];
        caller->all = callers;
        caller->connection.fd = -1;
        caller->connection.frame.scratch = callers->scratch + (size_t)i * callers->options->scratch_size;
        caller->pause = PAUSE_FIRST;
        ev_init(&caller->watcher, on_socket);
    }
    return 0;
}

int bench_callers_open(struct bench_callers *callers)
{
    unsigned count = callers->options->connections;

    callers->values.random = random_seeded(callers->options->seed);
    callers->choice = random_seeded(callers->options->seed + 1);
    if (allocate(callers) < 0) {
        fprintf(stderr, "cohab: bench: out of memory for %u connections\n", count);
        return CLI_CALL_FAILED;
    }
    if (allow_descriptors(count) < 0)
        return CLI_NO_CONNECTION;
    for (unsigned i = 0; i < count; i++) {
        int exit_code = connect_first(&callers->items[i], i + 1);
        if (exit_code != CLI_OK)
            return exit_code;
    }
    return CLI_OK;
}

void bench_callers_close(struct bench_callers *callers)
{
    for (unsigned i = 0; callers->items && i < callers->options->connections; i++) {
        ev_io_stop(callers->loop, &callers->items[i].watcher);
        bench_connection_close(&callers->items[i].connection);
    }
    free(callers->items);
    free(callers->scratch);
    free(callers->buffer);
}
