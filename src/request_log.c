#include "request_log.h"

#include <inttypes.h>
#include <stdio.h>

#include "metrics.h"

/* Of all workers, at a look of the master's; a line takes about 7 microseconds. */
#define LINES_AT_ONCE 400

static void describe_queue(const struct log_fields *call, char *text, size_t size)
{
    text[0] = '\0';
    if (call->queued > 0)
        snprintf(text, size, " after %.3f ms in the queue", (double)call->queued / 1e6);
}

static void describe_peer(const struct log_fields *call, char *text, size_t size)
{
    text[0] = '\0';
    if (call->peer_pid > 0)
        snprintf(text, size, ", for pid %d of uid %u", (int)call->peer_pid, (unsigned)call->peer_uid);
}

static void log_call(const struct options *options, const struct log_fields *call)
{
    char queue[64], peer[64];
    bool slow = options->slow && call->duration >= options->slow;
    describe_queue(call, queue, sizeof(queue));
    describe_peer(call, peer, sizeof(peer));
    log_event(slow ? LOG_WARN : LOG_INFO, slow ? "slow_request" : "request", call,
              "worker %u: %s%s %s in %.3f ms%s, %" PRIu64 " bytes in, %" PRIu64 " out%s", call->worker,
              call->method, call->method[0] == '(' ? "" : "()", call->code, (double)call->duration / 1e6,
              queue, call->request_bytes, call->response_bytes, peer);
}

unsigned request_log_take(struct seat *seat, unsigned most)
{
    struct metering *metering = &seat->metering;
    struct meter_record record;
    unsigned count = 0;
    for (; count < most && metering->meter && meter_take(metering->meter, &metering->read, &record); count++)
        log_call(seat->master->options,
                 SEAT_FIELDS(seat, .method = metrics_name(seat, record.method),
                             .code = meter_code_name(record.code), .duration = record.duration,
                             .queued = record.queued, .has_call = true, .request_bytes = record.request_bytes,
                             .response_bytes = record.response_bytes, .peer_pid = record.peer_pid,
                             .peer_uid = record.peer_uid));
    return count;
}

void request_log_tell(struct master *master)
{
    struct metrics *metrics = master->metrics;
    uint64_t lost = metrics->unlogged - metrics->unlogged_said;
    if (lost == 0)
        return;
    metrics->unlogged_said = metrics->unlogged;
    log_event(LOG_WARN, "requests_not_logged", LOG_FIELDS(.count = lost),
              "%" PRIu64 " requests were not logged: there were too many at a time", lost);
}

static bool is_on(const struct options *options)
{
    return options->log_requests || options->slow;
}

bool request_log_look(struct master *master)
{
    unsigned left = LINES_AT_ONCE;
    if (!is_on(master->options))
        return false;
    for (unsigned i = 0; i <= master->seat_count; i++) {
        struct seat *seat = &master->seats[(master->look + i) % (master->seat_count + 1)];
        left -= request_log_take(seat, left);
        if (seat->metering.meter && atomic_load_explicit(&seat->metering.meter->lost, memory_order_relaxed))
            metrics_collect(seat);
    }
    master->look++;
    request_log_tell(master);
    return left < LINES_AT_ONCE;
}

void request_log_answer(const struct master *master, const struct log_fields *call)
{
    const struct options *options = master->options;
    if (options->log_requests || (options->slow && call->duration >= options->slow))
        log_call(options, call);
}
