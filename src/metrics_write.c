#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "clock.h"
#include "crashes.h"
#include "exposition.h"
#include "generation.h"
#include "heartbeat.h"
#include "log.h"
#include "metrics.h"
#include "queue.h"

#define LABELS(...)                                                                                          \
    (const struct exposition_label[])                                                                        \
    {                                                                                                        \
        __VA_ARGS__,                                                                                         \
        {                                                                                                    \
            0                                                                                                \
        }                                                                                                    \
    }

/* A metric of one sample. */
static void put_one(FILE *out, const char *name, const char *type, const char *help, uint64_t value)
{
    exposition_begin(out, name, type, help);
    exposition_count(out, name, NULL, value);
}

/* --- calls --- */

/* Counts of calls are shown of each method of the engine from the start; all else, which is much, only of
 * methods that were called. */
static bool was_called(const struct metrics *metrics, unsigned series)
{
    return metrics->totals[series].words[METER_CALLS] > 0;
}

static void put_calls(FILE *out, const struct metrics *metrics)
{
    static const char name[] = "cohab_calls_total";
    exposition_begin(out, name, "counter", "Calls answered, by method and code (OK, or that of the error).");
    for (unsigned i = 0; i < metrics->series; i++)
        for (unsigned code = 0; code < METER_CODES; code++) {
            uint64_t count = metrics->totals[i].words[METER_CODE + code];
            if (count > 0 || (code == 0 && (i >= METER_METHODS || was_called(metrics, i))))
                exposition_count(
                    out, name, LABELS({"method", metrics->names[i]}, {"code", meter_code_name(code)}), count);
        }
}

static void put_times(FILE *out, const struct metrics *metrics, const char *name, const char *help,
                      unsigned buckets, unsigned sum)
{
    exposition_begin(out, name, "histogram", help);
    for (unsigned i = 0; i < metrics->series; i++)
        if (was_called(metrics, i))
            exposition_histogram(out, name, LABELS({"method", metrics->names[i]}),
                                 &metrics->totals[i].words[buckets], METER_BUCKETS, meter_bucket_bound,
                                 metrics->totals[i].words[sum]);
}

static void put_bytes(FILE *out, const struct metrics *metrics, const char *name, const char *help,
                      unsigned word)
{
    exposition_begin(out, name, "counter", help);
    for (unsigned i = 0; i < metrics->series; i++)
        if (was_called(metrics, i))
            exposition_count(out, name, LABELS({"method", metrics->names[i]}),
                             metrics->totals[i].words[word]);
}

static void put_methods(FILE *out, const struct metrics *metrics)
{
    put_calls(out, metrics);
    put_times(out, metrics, "cohab_call_duration_seconds",
              "From the moment in which a worker has read the request until the response lies ready.",
              METER_DURATION, METER_DURATION_SUM);
    put_times(
        out, metrics, "cohab_queue_seconds",
        "From the moment in which the client sent the request until a worker has read it, of clients that "
        "tell.",
        METER_QUEUED, METER_QUEUED_SUM);
    put_bytes(out, metrics, "cohab_request_bytes_total", "Bytes of requests, frame headers included.",
              METER_REQUEST_BYTES);
    put_bytes(out, metrics, "cohab_response_bytes_total", "Bytes of responses, frame headers included.",
              METER_RESPONSE_BYTES);
}

/* --- the server --- */

static void put_connections(FILE *out, const struct master *master)
{
    put_one(out, "cohab_connections_open", "gauge", "Connections open now.",
            master->slots.open - heartbeat_open(master));
    put_one(out, "cohab_connections_max", "gauge", "Connections that may be open.",
            master->options->max_connections);
    put_one(out, "cohab_connections_accepted_total", "counter", "Connections accepted.", master->accepted);
    put_one(out, "cohab_connections_refused_total", "counter", "Connections refused.", master->refused);
}

static void put_queue(FILE *out, struct master *master)
{
    struct queue_sight sight;
    queue_measure(master, &sight);
    put_one(out, "cohab_queue_waiting", "gauge",
            "Connections with a request that no worker has taken up yet.", sight.waiting);
    exposition_begin(out, "cohab_queue_oldest_seconds", "gauge", "None of these has waited for longer.");
    exposition_seconds(out, "cohab_queue_oldest_seconds", NULL, sight.oldest);
    put_one(out, "cohab_queue_timeouts_total", "counter",
            "Requests that were past their deadline when a worker took them up.", master->metrics->late);
    put_one(out, "cohab_queue_shed_total", "counter", "Requests refused for --max-queue-time.",
            master->metrics->shed);
}

enum { STARTING, IDLE, BUSY, SPARE, LEAVING, STATES };

static unsigned state_of(const struct seat *seat)
{
    if (seat->child.state == CHILD_LEAVING)
        return LEAVING;
    if (seat->child.state != CHILD_READY)
        return STARTING;
    return seat->parked ? SPARE : row_read_claim(seat->row) == ROW_NO_CLAIM ? IDLE : BUSY;
}

static void put_workers(FILE *out, const struct master *master)
{
    static const char *const states[STATES] = {"starting", "idle", "busy", "spare", "leaving"};
    unsigned counts[STATES] = {0};
    for (unsigned i = 1; i <= master->seat_count; i++)
        if (master->seats[i].child.state != CHILD_NONE)
            counts[state_of(&master->seats[i])]++;
    put_one(out, "cohab_workers_wanted", "gauge", "Workers that are to serve.", master->pool.target);
    put_one(out, "cohab_workers_recycled_total", "counter",
            "Workers replaced for --max-requests, --max-private or --max-age.", master->recycled);
    exposition_begin(out, "cohab_workers", "gauge", "Workers, by state.");
    for (unsigned i = 0; i < STATES; i++)
        exposition_count(out, "cohab_workers", LABELS({"state", states[i]}), counts[i]);
}

static void put_reloads(FILE *out, const struct master *master)
{
    exposition_begin(out, "cohab_reloads_total", "counter", "Reloads, by outcome.");
    exposition_count(out, "cohab_reloads_total", LABELS({"outcome", "done"}), master->reloads);
    exposition_count(out, "cohab_reloads_total", LABELS({"outcome", "failed"}), master->failed_reloads);
}

static void put_deaths(FILE *out, const struct master *master)
{
    static const char name[] = "cohab_worker_deaths_total";
    static const char *const causes[METRICS_DEATHS] = {
        [METRICS_SIGNAL] = "signal",       [METRICS_EXIT] = "exit",     [METRICS_DEADLINE] = "deadline",
        [METRICS_CANCELLED] = "cancelled", [METRICS_KILLED] = "killed", [METRICS_STALLED] = "stalled",
        [METRICS_OOM] = "out_of_memory",   [METRICS_ROGUE] = "rogue",   [METRICS_DESCRIPTORS] = "descriptors",
        [METRICS_START] = "start",
    };
    exposition_begin(out, name, "counter", "Workers that ended unexpectedly, by cause.");
    for (unsigned i = 0; i < METRICS_DEATHS; i++)
        exposition_count(out, name, LABELS({"cause", causes[i]}), master->metrics->deaths[i]);
    put_one(out, "cohab_forkserver_deaths_total", "counter",
            "Forkservers that ended unexpectedly after they had loaded the engine.",
            master->forkserver_deaths);
}

static void put_cancelled(FILE *out, const struct metrics *metrics)
{
    static const char name[] = "cohab_calls_cancelled_total";
    exposition_begin(out, name, "counter",
                     "Running calls that were told to stop: their client had gone away, or cohab kill.");
    exposition_count(out, name, LABELS({"cause", "client_gone"}), metrics->gone);
    exposition_count(out, name, LABELS({"cause", "killed"}), metrics->ordered);
}

static void put_crashes(FILE *out, const struct crashes *crashes, const struct metrics *metrics)
{
    unsigned watched = 0, refused = 0;
    for (size_t i = 0; i < QUARANTINE_ENTRIES; i++) {
        refused += crashes->book.records[i].hash != 0 && crashes->book.records[i].refused;
        watched += crashes->book.records[i].hash != 0;
    }
    put_one(out, "cohab_crash_reports_written_total", "counter", "Crash reports written.", crashes->written);
    put_one(out, "cohab_crash_reports_lost_total", "counter", "Crash reports that could not be written.",
            crashes->lost);
    exposition_begin(out, "cohab_quarantine_entries", "gauge", "Requests that have killed workers.");
    exposition_count(out, "cohab_quarantine_entries", LABELS({"state", "watched"}), watched - refused);
    exposition_count(out, "cohab_quarantine_entries", LABELS({"state", "refused"}), refused);
    put_one(out, "cohab_quarantine_refusals_total", "counter", "Requests refused as they are in quarantine.",
            metrics->refused);
}

static void put_log(FILE *out, const struct metrics *metrics)
{
    put_one(out, "cohab_log_lines_dropped_total", "counter", "Lines of the log that had nowhere to go.",
            log_dropped());
    put_one(out, "cohab_output_lines_dropped_total", "counter",
            "Lines printed by engines that were not logged, as there were too many at a time.",
            output_lines_skipped());
    put_one(out, "cohab_requests_not_logged_total", "counter",
            "Requests that --log-requests or --slow had no room for.", metrics->unlogged);
}

static void put_server(FILE *out, const struct master *master)
{
    char generation[16];
    const struct generation *present = master->present;
    snprintf(generation, sizeof(generation), "%u", present->number);
    exposition_begin(out, "cohab_engine_info", "gauge", "The engine and its generation, as labels.");
    exposition_count(out, "cohab_engine_info",
                     LABELS({"engine", present->engine_name}, {"engine_version", present->engine_version},
                            {"generation", generation}, {"version", COHAB_VERSION}),
                     1);
    exposition_begin(out, "cohab_uptime_seconds", "gauge", "Since the server was started.");
    exposition_seconds(out, "cohab_uptime_seconds", NULL, clock_now() - master->started_at);
}

static void put_all(FILE *out, struct master *master)
{
    put_server(out, master);
    put_methods(out, master->metrics);
    put_cancelled(out, master->metrics);
    put_connections(out, master);
    put_queue(out, master);
    put_workers(out, master);
    put_reloads(out, master);
    put_deaths(out, master);
    put_crashes(out, master->crashes, master->metrics);
    put_log(out, master->metrics);
}

int metrics_pack(struct master *master, msgpack_packer *packer)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return -1;
    for (unsigned i = 0; i <= master->seat_count; i++)
        metrics_collect(&master->seats[i]);
    put_all(out, master);
    bool failed = ferror(out);
    failed |= fclose(out) != 0;
    if (!failed)
        failed = msgpack_pack_str_with_body(packer, text, size) < 0;
    free(text);
    return failed ? -1 : 0;
}
