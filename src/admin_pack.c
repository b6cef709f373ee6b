#include "admin_pack.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "crashes.h"
#include "generation.h"
#include "heartbeat.h"
#include "metrics.h"
#include "pack.h"
#include "queue.h"
#include "text.h"

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

/* Empty: nil. */
static void pack_optional_entry(msgpack_packer *packer, const char *key, const char *value)
{
    if (*value)
        pack_text_entry(packer, key, value);
    else
        pack_nil_entry(packer, key);
}

static uint64_t since(uint64_t then, uint64_t now)
{
    return now > then ? now - then : 0;
}

static void pack_server(const struct master *master, msgpack_packer *packer, uint64_t now)
{
    pack_text(packer, "server");
    msgpack_pack_map(packer, 9);
    pack_number_entry(packer, "pid", (uint64_t)getpid());
    pack_text_entry(packer, "version", COHAB_VERSION);
    pack_text_entry(packer, "socket", master->options->socket);
    pack_text_entry(packer, "state", master->state == MASTER_SERVING ? "running" : "stopping");
    pack_seconds_entry(packer, "uptime", since(master->started_at, now));
    pack_number_entry(packer, "workers", master->pool.target);
    pack_number_entry(packer, "workers_min", master->pool.min);
    pack_number_entry(packer, "workers_max", master->pool.max);
    pack_number_entry(packer, "spare", master->pool.spare);
}

static void pack_engine(const struct master *master, msgpack_packer *packer)
{
    pack_text(packer, "engine");
    msgpack_pack_map(packer, 4);
    pack_text_entry(packer, "name", master->present->engine_name);
    pack_text_entry(packer, "version", master->present->engine_version);
    pack_text_entry(packer, "path", master->present->path);
    pack_number_entry(packer, "generation", master->present->number);
}

static const char *generation_state(const struct master *master, const struct generation *generation)
{
    if (generation == master->reload.candidate && generation != master->present)
        return generation->loaded ? "trying" : "loading";
    if (generation != master->present)
        return "leaving";
    return generation->pid != 0 && generation->loaded ? "serving" : "loading";
}

static void pack_generations(const struct master *master, msgpack_packer *packer, uint64_t now)
{
    size_t count = 0;
    for (const struct generation *generation = master->generations; generation; generation = generation->next)
        count++;
    pack_text(packer, "generations");
    msgpack_pack_array(packer, count);
    for (const struct generation *generation = master->generations; generation;
         generation = generation->next) {
        msgpack_pack_map(packer, 8);
        pack_number_entry(packer, "number", generation->number);
        pack_text_entry(packer, "state", generation_state(master, generation));
        pack_optional_entry(packer, "engine", generation->engine_name);
        pack_optional_entry(packer, "version", generation->engine_version);
        pack_text_entry(packer, "path", generation->path);
        if (generation->pid > 0)
            pack_number_entry(packer, "forkserver", (uint64_t)generation->pid);
        else
            pack_nil_entry(packer, "forkserver");
        pack_number_entry(packer, "workers", generation->seats);
        pack_seconds_entry(packer, "age", since(generation->born_at, now));
    }
}

static void pack_reload(const struct master *master, msgpack_packer *packer)
{
    const char *state = reload_state_name(master);
    pack_text(packer, "reload");
    msgpack_pack_map(packer, 3);
    pack_optional_entry(packer, "state", state ? state : "");
    pack_number_entry(packer, "done", master->reloads);
    pack_number_entry(packer, "failed", master->failed_reloads);
}

static void pack_connections(const struct master *master, msgpack_packer *packer)
{
    pack_text(packer, "connections");
    msgpack_pack_map(packer, 5);
    pack_number_entry(packer, "open", master->slots.open - heartbeat_open(master));
    pack_number_entry(packer, "max", master->options->max_connections);
    pack_number_entry(packer, "accepted", master->accepted);
    if (master->options->max_connections_per_uid > 0)
        pack_number_entry(packer, "max_per_uid", master->options->max_connections_per_uid);
    else
        pack_nil_entry(packer, "max_per_uid");
    pack_number_entry(packer, "refused", master->refused);
}

static void pack_queue(struct master *master, msgpack_packer *packer)
{
    struct queue_sight sight;
    queue_measure(master, &sight);
    for (unsigned i = 0; i <= master->seat_count; i++)
        metrics_collect(&master->seats[i]);
    pack_text(packer, "queue");
    msgpack_pack_map(packer, 4);
    pack_number_entry(packer, "waiting", sight.waiting);
    pack_seconds_entry(packer, "oldest", sight.oldest);
    pack_number_entry(packer, "timeouts", master->metrics->late);
    pack_number_entry(packer, "shed", master->metrics->shed);
}

static void pack_totals(const struct master *master, msgpack_packer *packer)
{
    uint64_t calls = master->past_calls;
    for (unsigned i = 0; i <= master->seat_count; i++)
        if (master->seats[i].row)
            calls += atomic_load_explicit(&master->seats[i].row->calls, memory_order_relaxed);
    pack_text(packer, "totals");
    msgpack_pack_map(packer, 4);
    pack_number_entry(packer, "recycled", master->recycled);
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
    return seat->parked ? "spare" : row->claim == ROW_NO_CLAIM ? "idle" : "busy";
}

static void pack_worker(const struct seat *seat, msgpack_packer *packer, uint64_t now)
{
    struct row_view row = {.claim = ROW_NO_CLAIM};
    if (seat->row)
        row_read(seat->row, seat->key, &row);
    bool running = seat->child.state == CHILD_READY && row.state == ROW_RUNNING;
    msgpack_pack_map(packer, 10);
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
    if (running && metrics_queued(row.queued) > 0)
        pack_seconds_entry(packer, "queued", row.queued);
    else
        pack_nil_entry(packer, "queued");
    pack_number_entry(packer, "calls", row.calls);
    if (row.private_memory > 0)
        pack_number_entry(packer, "private", row.private_memory);
    else
        pack_nil_entry(packer, "private");
    pack_seconds_entry(packer, "age", seat->child.state == CHILD_NONE ? 0 : since(seat->child.born_at, now));
}

/* Workers that are wanted, and whose processes cannot be asked for now; there is a place for each. */
static unsigned count_missing(const struct master *master)
{
    unsigned present = 0, free = 0;
    for (unsigned i = 1; i <= master->seat_count; i++) {
        enum child_state state = master->seats[i].child.state;
        present += state == CHILD_STARTING || state == CHILD_READY;
        free += state == CHILD_NONE;
    }
    unsigned missing = present < master->pool.target ? master->pool.target - present : 0;
    return missing < free ? missing : free;
}

static void pack_workers(const struct master *master, msgpack_packer *packer, uint64_t now)
{
    unsigned missing = count_missing(master), listed = 0;
    for (unsigned i = 1; i <= master->seat_count; i++)
        listed += master->seats[i].child.state != CHILD_NONE;
    pack_text(packer, "workers");
    msgpack_pack_array(packer, listed + missing);
    for (unsigned i = 1; i <= master->seat_count; i++) {
        const struct seat *seat = &master->seats[i];
        if (seat->child.state == CHILD_NONE && missing == 0)
            continue;
        missing -= seat->child.state == CHILD_NONE;
        pack_worker(seat, packer, now);
    }
}

static void pack_deaths(const struct master *master, msgpack_packer *packer, uint64_t now)
{
    uint64_t kept = master->worker_deaths < MASTER_DEATHS_KEPT ? master->worker_deaths : MASTER_DEATHS_KEPT;
    pack_text(packer, "deaths");
    msgpack_pack_array(packer, kept);
    for (uint64_t i = 0; i < kept; i++) {
        const struct death *death = &master->deaths[(master->worker_deaths - 1 - i) % MASTER_DEATHS_KEPT];
        msgpack_pack_map(packer, 5);
        pack_number_entry(packer, "worker", death->worker);
        pack_number_entry(packer, "pid", (uint64_t)death->pid);
        pack_text_entry(packer, "cause", death->cause);
        pack_seconds_entry(packer, "ago", since(death->at, now));
        pack_optional_entry(packer, "report", death->report);
    }
}

static void pack_crashes(const struct master *master, msgpack_packer *packer)
{
    pack_text(packer, "crashes");
    msgpack_pack_map(packer, 3);
    pack_optional_entry(packer, "directory", master->crashes->directory);
    pack_number_entry(packer, "written", master->crashes->written);
    pack_number_entry(packer, "lost", master->crashes->lost);
}

static void pack_log(const struct master *master, msgpack_packer *packer)
{
    pack_text(packer, "log");
    msgpack_pack_map(packer, 3);
    pack_optional_entry(packer, "file", master->options->log_file ? master->options->log_file : "");
    pack_number_entry(packer, "dropped", log_dropped());
    pack_number_entry(packer, "output_dropped", output_lines_skipped());
}

void admin_pack_status(struct master *master, msgpack_packer *packer)
{
    uint64_t now = clock_now();
    const char *problem = master->load_problem[0] ? master->load_problem : master->start_problem;
    msgpack_pack_map(packer, 13);
    pack_number_entry(packer, "version", 1);
    pack_optional_entry(packer, "problem", problem);
    pack_server(master, packer, now);
    pack_engine(master, packer);
    pack_generations(master, packer, now);
    pack_reload(master, packer);
    pack_connections(master, packer);
    pack_queue(master, packer);
    pack_totals(master, packer);
    pack_workers(master, packer, now);
    pack_deaths(master, packer, now);
    pack_crashes(master, packer);
    pack_log(master, packer);
}

/* --- reload, scale --- */

static void pack_bool_entry(msgpack_packer *packer, const char *key, bool value)
{
    pack_text(packer, key);
    if (value)
        msgpack_pack_true(packer);
    else
        msgpack_pack_false(packer);
}

/* What an engine has printed, as UTF-8 without control characters but line ends. */
static void pack_output(msgpack_packer *packer, const char *output, size_t size)
{
    static char lines[REPORT_STDERR_SIZE * 4];
    size_t used = 0;
    for (size_t at = 0; at < size;) {
        const char *end = memchr(output + at, '\n', size - at);
        size_t length = end ? (size_t)(end - output) - at : size - at;
        struct text text = text_open(lines + used, sizeof(lines) - used - 1);
        text_add(&text, "%.*s", (int)length, output + at);
        text_close(&text);
        used += strlen(lines + used);
        lines[used++] = '\n';
        at += length + 1;
    }
    pack_text(packer, "output");
    msgpack_pack_str_with_body(packer, lines, used);
}

void admin_pack_reloaded(const struct reload_result *result, msgpack_packer *packer)
{
    msgpack_pack_map(packer, 9);
    pack_number_entry(packer, "version", 1);
    pack_bool_entry(packer, "done", result->done);
    pack_optional_entry(packer, "problem", result->done ? "" : result->problem);
    pack_number_entry(packer, "generation", result->generation->number);
    pack_text_entry(packer, "engine", result->generation->engine_name);
    pack_text_entry(packer, "engine_version", result->generation->engine_version);
    pack_number_entry(packer, "replaced", result->replaced);
    pack_seconds_entry(packer, "duration", result->duration);
    pack_output(packer, result->output ? result->output : "", result->output_size);
}

void admin_pack_upgraded(const struct upgrade_result *result, msgpack_packer *packer)
{
    msgpack_pack_map(packer, 8);
    pack_number_entry(packer, "version", 1);
    pack_bool_entry(packer, "done", result->done);
    pack_optional_entry(packer, "problem", result->done ? "" : result->problem);
    pack_number_entry(packer, "pid", (uint64_t)getpid());
    pack_text_entry(packer, "version_before", result->before);
    pack_text_entry(packer, "version_after", result->after);
    pack_seconds_entry(packer, "duration", result->duration);
    pack_output(packer, result->output ? result->output : "", result->output_size);
}

void admin_pack_scaled(const struct master *master, unsigned before, msgpack_packer *packer)
{
    msgpack_pack_map(packer, 4);
    pack_number_entry(packer, "workers_before", before);
    pack_number_entry(packer, "workers", master->pool.target);
    pack_number_entry(packer, "workers_min", master->pool.min);
    pack_number_entry(packer, "workers_max", master->pool.max);
}

/* --- quarantine --- */

static void pack_record(const struct quarantine_record *record, msgpack_packer *packer, uint64_t now)
{
    char hash[17];
    unsigned named = 0;
    snprintf(hash, sizeof(hash), "%016" PRIx64, record->hash);
    msgpack_pack_map(packer, 6);
    pack_text_entry(packer, "hash", hash);
    pack_text_entry(packer, "method", record->method);
    pack_number_entry(packer, "kills", record->kills);
    pack_text(packer, "quarantined");
    if (record->refused)
        msgpack_pack_true(packer);
    else
        msgpack_pack_false(packer);
    pack_text(packer, "reports");
    for (unsigned i = 0; i < record->kills; i++)
        named += record->reports[i][0] != '\0';
    msgpack_pack_array(packer, named);
    for (unsigned i = 0; i < record->kills; i++)
        if (record->reports[i][0])
            pack_text(packer, record->reports[i]);
    pack_seconds_entry(packer, "last", since(record->kills_at[record->kills - 1], now));
}

void admin_pack_quarantine(struct master *master, msgpack_packer *packer)
{
    struct quarantine *book = &master->crashes->book;
    uint64_t now = clock_now();
    unsigned count = 0;
    quarantine_expire(book, now);
    for (size_t i = 0; i < QUARANTINE_ENTRIES; i++)
        count += book->records[i].hash != 0;
    msgpack_pack_map(packer, 3);
    pack_number_entry(packer, "version", 1);
    pack_number_entry(packer, "after", book->after);
    pack_text(packer, "entries");
    msgpack_pack_array(packer, count);
    for (size_t i = 0; i < QUARANTINE_ENTRIES; i++)
        if (book->records[i].hash != 0)
            pack_record(&book->records[i], packer, now);
}
