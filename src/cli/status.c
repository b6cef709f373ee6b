/* Shows what the admin method "status" answers. Every field is optional here: another version of the
 * server may lack it. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "ask.h"
#include "json.h"
#include "memory.h"
#include "object.h"
#include "rows.h"
#include "text.h"
#include "usage.h"

#define METHOD "status"

static void put_field(FILE *out, const msgpack_object *map, const char *key, const char *after)
{
    object_put(out, map, key);
    fputs(after, out);
}

static void put_duration(FILE *out, const msgpack_object *map, const char *key, const char *after)
{
    object_put_seconds(out, map, key);
    fputs(after, out);
}

static void put_state(FILE *out, const msgpack_object *map, const char *after)
{
    static const struct {
        const char *name;
        enum text_colour colour;
    } states[] = {
        {"running", TEXT_GREEN},   {"idle", TEXT_GREEN},     {"busy", TEXT_BOLD},
        {"starting", TEXT_YELLOW}, {"leaving", TEXT_YELLOW}, {"stopping", TEXT_YELLOW},
        {"serving", TEXT_GREEN},   {"spare", TEXT_GREEN},    {"loading", TEXT_YELLOW},
        {"trying", TEXT_YELLOW},
    };
    const msgpack_object *state = object_find_text(map, "state");
    size_t i = 0;

    while (i < sizeof states / sizeof states[0] && !object_is_text(state, states[i].name))
        i++;
    if (i < sizeof states / sizeof states[0])
        text_paint(out, states[i].colour, states[i].name);
    else
        object_put(out, map, "state");
    fputs(after, out);
}

static unsigned count_workers(const msgpack_object *workers, const char *state)
{
    unsigned count = 0;

    for (uint32_t i = 0; workers && i < workers->via.array.size; i++)
        count += object_is_text(object_find(&workers->via.array.ptr[i], "state"), state);
    return count;
}

static void put_headline(FILE *out, const msgpack_object *status)
{
    const msgpack_object *server = object_find(status, "server");
    const msgpack_object *workers = object_find_array(status, "workers");
    unsigned busy = count_workers(workers, "busy");

    put_field(out, object_find(status, "engine"), "name", " ");
    put_field(out, object_find(status, "engine"), "version", "\t");
    put_state(out, server, " for ");
    put_duration(out, server, "uptime", ", ");
    fprintf(out, "%u of ", count_workers(workers, "idle") + busy);
    put_field(out, server, "workers", " workers ready, ");
    fprintf(out, "%u busy", busy);
    if (count_workers(workers, "spare") > 0)
        fprintf(out, ", %u spare", count_workers(workers, "spare"));
    fputc('\n', out);
}

static void put_server(FILE *out, const msgpack_object *server)
{
    fputs("server\tcohabd ", out);
    put_field(out, server, "version", ", pid ");
    put_field(out, server, "pid", ", ");
    put_field(out, server, "socket", "\n");
}

/* Where there is a choice. */
static void put_bounds(FILE *out, const msgpack_object *server)
{
    double min = 0, max = 0;

    if (object_find_number(server, "workers_min", &min) && object_find_number(server, "workers_max", &max) &&
        min < max)
        fprintf(out, "workers\tfrom %.0f to %.0f, as the load needs\n", min, max);
}

/* While there is more than the one that serves. */
static void put_generations(FILE *out, const msgpack_object *generations)
{
    for (uint32_t i = 0; generations && generations->via.array.size > 1 && i < generations->via.array.size;
         i++) {
        const msgpack_object *generation = &generations->via.array.ptr[i];
        fputs("generation\t", out);
        put_field(out, generation, "number", ": ");
        put_state(out, generation, ", ");
        put_field(out, generation, "workers", " workers, ");
        put_field(out, generation, "path", "\n");
    }
}

static void put_reloads(FILE *out, const msgpack_object *reload)
{
    double failed = 0;

    if (!reload || !object_find_number(reload, "failed", &failed) || failed == 0)
        return;
    fputs("reloads\t", out);
    put_field(out, reload, "done", " done, ");
    put_field(out, reload, "failed", " failed\n");
}

static void put_engine(FILE *out, const msgpack_object *engine)
{
    fputs("engine\t", out);
    put_field(out, engine, "path", ", generation ");
    put_field(out, engine, "generation", "\n");
}

static void put_connections(FILE *out, const msgpack_object *connections)
{
    fputs("connections\t", out);
    put_field(out, connections, "open", " of ");
    put_field(out, connections, "max", " open, ");
    put_field(out, connections, "accepted", " accepted, ");
    put_field(out, connections, "refused", " refused\n");
}

/* Of a server that has this. */
static void put_queue(FILE *out, const msgpack_object *queue)
{
    double waiting = 0;

    if (!queue)
        return;
    fputs("queue\t", out);
    put_field(out, queue, "waiting", " waiting");
    if (object_find_number(queue, "waiting", &waiting) && waiting > 0) {
        fputs(", the oldest for at most ", out);
        put_duration(out, queue, "oldest", "");
    }
    fputs("; ", out);
    put_field(out, queue, "timeouts", " timed out, ");
    put_field(out, queue, "shed", " shed\n");
}

static void put_totals(FILE *out, const msgpack_object *totals)
{
    fputs("calls\t", out);
    put_field(out, totals, "calls", "; deaths: workers ");
    put_field(out, totals, "worker_deaths", ", forkservers ");
    put_field(out, totals, "forkserver_deaths", "\n");
}

/* Of a server that has this. */
static void put_crashes(FILE *out, const msgpack_object *crashes)
{
    if (!crashes)
        return;
    fputs("crashes\t", out);
    put_field(out, crashes, "written", " reports written, ");
    put_field(out, crashes, "lost", " lost");
    if (object_find_text(crashes, "directory")) {
        fputs(", in ", out);
        object_put(out, crashes, "directory");
    }
    fputc('\n', out);
}

/* Of a server that has this. */
static void put_log(FILE *out, const msgpack_object *log)
{
    if (!log)
        return;
    fputs("log\t", out);
    put_field(out, log, "dropped", " lines lost, ");
    put_field(out, log, "output_dropped", " lines of engines' output lost");
    if (object_find_text(log, "file")) {
        fputs(", in ", out);
        object_put(out, log, "file");
    }
    fputc('\n', out);
}

static void put_problem(FILE *out, const msgpack_object *status)
{
    if (!object_find_text(status, "problem"))
        return;
    text_paint(out, TEXT_YELLOW, "problem");
    fputc('\t', out);
    put_field(out, status, "problem", "\n");
}

static void print_overview(const msgpack_object *status)
{
    struct rows rows;

    rows_begin(&rows, METHOD);
    put_headline(rows.out, status);
    put_server(rows.out, object_find(status, "server"));
    put_engine(rows.out, object_find(status, "engine"));
    put_generations(rows.out, object_find_array(status, "generations"));
    put_reloads(rows.out, object_find(status, "reload"));
    put_bounds(rows.out, object_find(status, "server"));
    put_connections(rows.out, object_find(status, "connections"));
    put_queue(rows.out, object_find(status, "queue"));
    put_totals(rows.out, object_find(status, "totals"));
    put_crashes(rows.out, object_find(status, "crashes"));
    put_log(rows.out, object_find(status, "log"));
    put_problem(rows.out, status);
    rows_print(&rows, "ll");
}

static void put_size(FILE *out, const msgpack_object *map, const char *key)
{
    double size = 0;

    if (object_find_number(map, key, &size))
        text_put_size(out, size);
    else
        fputc('-', out);
    fputc('\t', out);
}

static void put_worker(FILE *out, const msgpack_object *worker)
{
    put_field(out, worker, "number", "\t");
    put_field(out, worker, "pid", "\t");
    put_field(out, worker, "generation", "\t");
    put_state(out, worker, "\t");
    put_field(out, worker, "calls", "\t");
    put_size(out, worker, "private");
    put_duration(out, worker, "age", "\t");
    put_duration(out, worker, "running", "\t");
    put_field(out, worker, "method", "\n");
}

static void print_workers(const msgpack_object *workers)
{
    static const char *const heading[] = {"WORKER",  "PID", "GEN",     "STATE",  "CALLS",
                                          "PRIVATE", "AGE", "RUNNING", "METHOD", NULL};
    struct rows rows;

    if (!workers || workers->via.array.size == 0)
        return;
    rows_begin(&rows, METHOD);
    rows_put_heading(&rows, heading);
    for (uint32_t i = 0; i < workers->via.array.size; i++)
        put_worker(rows.out, &workers->via.array.ptr[i]);
    putchar('\n');
    rows_print(&rows, "rrrlrrrrl");
}

static void put_death(FILE *out, const msgpack_object *death, bool reports)
{
    put_field(out, death, "worker", "\t");
    put_field(out, death, "pid", "\t");
    put_duration(out, death, "ago", " ago\t");
    if (reports)
        put_field(out, death, "report", "\t");
    put_field(out, death, "cause", "\n");
}

static bool has_reports(const msgpack_object *deaths)
{
    for (uint32_t i = 0; i < deaths->via.array.size; i++)
        if (object_find(&deaths->via.array.ptr[i], "report"))
            return true;
    return false;
}

static void print_deaths(const msgpack_object *deaths)
{
    static const char *const heading[] = {"WORKER", "PID", "DIED", "CAUSE", NULL};
    static const char *const heading_with[] = {"WORKER", "PID", "DIED", "REPORT", "CAUSE", NULL};
    struct rows rows;

    if (!deaths || deaths->via.array.size == 0)
        return;
    bool reports = has_reports(deaths);
    rows_begin(&rows, METHOD);
    rows_put_heading(&rows, reports ? heading_with : heading);
    for (uint32_t i = 0; i < deaths->via.array.size; i++)
        put_death(rows.out, &deaths->via.array.ptr[i], reports);
    putchar('\n');
    rows_print(&rows, reports ? "rrrll" : "rrrl");
}

static int print_status(const msgpack_object *status, bool json)
{
    if (status->type != MSGPACK_OBJECT_MAP)
        return ask_tell_unknown(METHOD);
    if (json) {
        json_print(stdout, status);
        return CLI_OK;
    }
    text_allow_colours(stdout);
    print_overview(status);
    print_workers(object_find_array(status, "workers"));
    print_deaths(object_find_array(status, "deaths"));
    return CLI_OK;
}

int status_run(struct cli *cli, int argc, char **argv)
{
    bool json = false;
    const struct usage_option options[] = {
        {.name = "--json", .help = "print the status as JSON, for programs", .on = &json},
        {0},
    };
    struct client_reply reply;

    usage_read(cli, options, argc, argv);
    int exit_code =
        ask_once(cli, &(struct ask_question){.method = METHOD, .admin = true, .timeout = ASK_QUICK}, &reply);
    if (exit_code == CLI_OK)
        memory_measure(object_find_array(reply.result, "workers"));
    if (exit_code == CLI_OK)
        exit_code = print_status(reply.result, json);
    client_free_reply(&reply);
    return exit_code;
}
