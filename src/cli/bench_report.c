#include "bench_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <msgpack.h>

#include "json.h"
#include "object.h"
#include "pack.h"
#include "rows.h"
#include "text.h"

#define COMMAND "bench"
/* From this share of a core on the generator itself may be what limits the figures. */
#define BUSY_GENERATOR 0.9
#define NS_PER_S       1e9

static const struct {
    const char *name;
    double share;
} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}};

#define QUANTILES (sizeof quantiles / sizeof quantiles[0])

static double per_second(uint64_t count, const struct bench_run_result *result)
{
    return result->seconds > 0 ? (double)count / result->seconds : 0;
}

/* --- for people --- */

static void put_count(FILE *out, uint64_t count)
{
    text_put_count(out, (double)count);
}

/* Three digits, also of a rate below 100. */
static void put_rate(FILE *out, double rate)
{
    if (rate >= 100)
        text_put_count(out, rate);
    else
        fprintf(out, "%.3g", rate);
}

static void put_load(FILE *out, const struct bench_options *options)
{
    fprintf(out, "load\t%s loop, %u connection%s", options->rate > 0 ? "open" : "closed",
            options->connections, options->connections == 1 ? "" : "s");
    if (options->rate > 0) {
        fputs(", ", out);
        put_rate(out, options->rate);
        fprintf(out, " calls per second (%s)", options->poisson ? "poisson" : "constant");
    }
    if (options->think > 0) {
        fputs(", thinking for ", out);
        text_put_latency(out, options->think);
    }
    fputs(options->echo ? ", against an echo\n" : "\n", out);
}

static void put_measured(FILE *out, const struct bench_options *options,
                         const struct bench_run_result *result)
{
    fputs("measured\t", out);
    text_put_latency(out, result->seconds);
    if (options->warmup > 0) {
        fputs(" after ", out);
        text_put_latency(out, options->warmup);
        fputs(" of warm-up", out);
    }
    fputs(result->interrupted ? ", interrupted\n" : "\n", out);
}

static void put_calls(FILE *out, const struct record *record, const struct histogram *all,
                      const struct bench_run_result *result)
{
    fputs("calls\t", out);
    put_count(out, all->total);
    fputs(", ", out);
    put_rate(out, per_second(all->total, result));
    fputs(" per second\nerrors\t", out);
    put_count(out, record->errors);
    if (record->errors > 0)
        fprintf(out, " (%.3g %%)", 100 * (double)record->errors / (double)(record->errors + all->total));
    if (record->reconnects > 0) {
        fputs("\nreconnects\t", out);
        put_count(out, record->reconnects);
    }
    fputs("\nbytes\t", out);
    put_count(out, record->bytes_sent);
    fputs(" sent, ", out);
    put_count(out, record->bytes_received);
    fputs(" received\n", out);
}

static void put_queue(FILE *out, const struct bench_run_result *result)
{
    fputs("queue\tat most ", out);
    put_count(out, result->queue_most);
    fputs(" calls waited for a connection\nstarts\tlate by ", out);
    text_put_latency(out, (double)histogram_quantile(&result->late, 0.5) / NS_PER_S);
    fputs(" (p50), ", out);
    text_put_latency(out, (double)histogram_quantile(&result->late, 0.99) / NS_PER_S);
    fputs(" (p99), ", out);
    text_put_latency(out, (double)result->late.max / NS_PER_S);
    fputs(" at most; part of the latencies\n", out);
}

static void put_latencies(FILE *out, const char *name, const struct histogram *histogram,
                          const struct bench_run_result *result)
{
    text_put_safe(out, name, strlen(name));
    fputc('\t', out);
    put_count(out, histogram->total);
    fputc('\t', out);
    put_rate(out, per_second(histogram->total, result));
    if (histogram->total == 0) {
        fputs("\t-\t-\t-\t-\t-\t-\t-\n", out);
        return;
    }
    fputc('\t', out);
    text_put_latency(out, (double)histogram->min / NS_PER_S);
    fputc('\t', out);
    text_put_latency(out, histogram_mean(histogram) / NS_PER_S);
    for (size_t i = 0; i < QUANTILES; i++) {
        fputc('\t', out);
        text_put_latency(out, (double)histogram_quantile(histogram, quantiles[i].share) / NS_PER_S);
    }
    fputc('\t', out);
    text_put_latency(out, (double)histogram->max / NS_PER_S);
    fputc('\n', out);
}

static void print_overview(const struct bench_options *options, const struct record *record,
                           const struct histogram *all, const struct bench_run_result *result)
{
    struct rows rows;

    rows_begin(&rows, COMMAND);
    put_load(rows.out, options);
    put_measured(rows.out, options, result);
    put_calls(rows.out, record, all, result);
    if (options->rate > 0 && result->late.total > 0)
        put_queue(rows.out, result);
    fprintf(rows.out, "generator\t%.0f %% of one core%s\n", 100 * result->own_cpu,
            result->own_cpu >= BUSY_GENERATOR ? ": the limit may be this program, not the server" : "");
    rows_print(&rows, "ll");
}

static void print_latencies(const struct bench_options *options, const struct record *record,
                            const struct histogram *all, const struct bench_run_result *result)
{
    static const char *const heading[] = {"METHOD", "CALLS", "PER S", "MIN", "MEAN", "P50",
                                          "P90",    "P99",   "P99.9", "MAX", NULL};
    struct rows rows;

    rows_begin(&rows, COMMAND);
    rows_put_heading(&rows, heading);
    for (size_t i = 0; i < options->call_count; i++)
        put_latencies(rows.out, options->calls[i].method, &record->calls[i], result);
    if (options->call_count > 1)
        put_latencies(rows.out, "all", all, result);
    putchar('\n');
    rows_print(&rows, "lrrrrrrrrr");
}

static int compare_errors(const void *left, const void *right)
{
    const struct record_error *a = *(const struct record_error *const *)left;
    const struct record_error *b = *(const struct record_error *const *)right;

    return a->count < b->count ? 1 : a->count > b->count ? -1 : strcmp(a->name, b->name);
}

/* Most frequent first. Returns their number. */
static size_t sort_errors(const struct record *record,
                          const struct record_error *sorted[RECORD_KINDS_MAX + 1])
{
    size_t count = 0;

    for (size_t i = 0; i <= RECORD_KINDS_MAX; i++)
        if (record->kinds[i].count > 0)
            sorted[count++] = &record->kinds[i];
    qsort(sorted, count, sizeof sorted[0], compare_errors);
    return count;
}

static void print_errors(const struct record *record)
{
    static const char *const heading[] = {"ERROR", "COUNT", "FIRST MESSAGE", NULL};
    const struct record_error *sorted[RECORD_KINDS_MAX + 1];
    size_t count = sort_errors(record, sorted);
    struct rows rows;

    if (count == 0)
        return;
    rows_begin(&rows, COMMAND);
    rows_put_heading(&rows, heading);
    for (size_t i = 0; i < count; i++) {
        text_put_safe(rows.out, sorted[i]->name, strlen(sorted[i]->name));
        fputc('\t', rows.out);
        put_count(rows.out, sorted[i]->count);
        fputc('\t', rows.out);
        text_put_safe(rows.out, sorted[i]->message, strlen(sorted[i]->message));
        fputc('\n', rows.out);
    }
    putchar('\n');
    rows_print(&rows, "lrl");
}

static struct histogram *sum_up(const struct record *record)
{
    struct histogram *all = malloc(sizeof *all);

    if (all)
        record_sum(record, all);
    else
        fputs("cohab: bench: out of memory for the report\n", stderr);
    return all;
}

int bench_report_table(const struct bench_options *options, const struct record *record,
                       const struct bench_run_result *result)
{
    struct histogram *all = sum_up(record);

    if (!all)
        return -1;
    text_allow_colours(stdout);
    print_overview(options, record, all, result);
    print_latencies(options, record, all, result);
    print_errors(record);
    free(all);
    return 0;
}

/* --- for programs --- */

static void pack_seconds(msgpack_packer *packer, const char *key, double ns)
{
    pack_text(packer, key);
    msgpack_pack_double(packer, ns / NS_PER_S);
}

static void pack_count(msgpack_packer *packer, const char *key, uint64_t count)
{
    pack_text(packer, key);
    msgpack_pack_uint64(packer, count);
}

/* The methods of a mixed workload stand in one string. */
static void pack_methods(msgpack_packer *packer, const struct bench_options *options)
{
    struct rows text;

    rows_begin(&text, COMMAND);
    for (size_t i = 0; i < options->call_count; i++)
        fprintf(text.out, "%s%s", i > 0 ? ", " : "", options->calls[i].method);
    fclose(text.out);
    pack_text(packer, "method");
    pack_text(packer, text.text);
    free(text.text);
}

static void pack_latency(msgpack_packer *packer, const struct histogram *all)
{
    pack_text(packer, "latency");
    if (all->total == 0) {
        msgpack_pack_nil(packer);
        return;
    }
    msgpack_pack_map(packer, QUANTILES + 3);
    pack_seconds(packer, "min", (double)all->min);
    pack_seconds(packer, "mean", histogram_mean(all));
    for (size_t i = 0; i < QUANTILES; i++)
        pack_seconds(packer, quantiles[i].name, (double)histogram_quantile(all, quantiles[i].share));
    pack_seconds(packer, "max", (double)all->max);
}

static void pack_errors(msgpack_packer *packer, const struct record *record)
{
    const struct record_error *sorted[RECORD_KINDS_MAX + 1];
    size_t count = sort_errors(record, sorted);

    pack_text(packer, "errors");
    msgpack_pack_map(packer, count);
    for (size_t i = 0; i < count; i++)
        pack_count(packer, sorted[i]->name, sorted[i]->count);
}

static void pack_histogram(msgpack_packer *packer, const struct histogram *all)
{
    size_t filled = 0;

    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        filled += all->counts[i] > 0;
    pack_text(packer, "histogram");
    msgpack_pack_array(packer, filled);
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (all->counts[i] == 0)
            continue;
        msgpack_pack_array(packer, 2);
        msgpack_pack_double(packer, (double)histogram_upper_bound(i) / NS_PER_S);
        msgpack_pack_uint64(packer, all->counts[i]);
    }
}

static void pack_seconds_or_nil(msgpack_packer *packer, const char *key, uint64_t ns, bool there)
{
    if (there) {
        pack_seconds(packer, key, (double)ns);
    } else {
        pack_text(packer, key);
        msgpack_pack_nil(packer);
    }
}

static void pack_timeline(msgpack_packer *packer, const struct record *record)
{
    pack_text(packer, "timeline");
    msgpack_pack_array(packer, record->second_count);
    for (size_t i = 0; i < record->second_count; i++) {
        const struct record_second *second = &record->seconds[i];
        msgpack_pack_map(packer, 6);
        pack_count(packer, "at", i);
        pack_count(packer, "calls", second->calls);
        pack_count(packer, "errors", second->errors);
        pack_seconds_or_nil(packer, "p50", second->p50, second->calls > 0);
        pack_seconds_or_nil(packer, "p99", second->p99, second->calls > 0);
        pack_seconds_or_nil(packer, "max", second->max, second->calls > 0);
    }
}

static void pack_number(msgpack_packer *packer, const char *key, double number)
{
    pack_text(packer, key);
    msgpack_pack_double(packer, number);
}

static void pack_report(msgpack_packer *packer, const struct bench_options *options,
                        const struct record *record, const struct histogram *all,
                        const struct bench_run_result *result)
{
    msgpack_pack_map(packer, 15);
    pack_count(packer, "version", 1);
    pack_methods(packer, options);
    pack_count(packer, "connections", options->connections);
    pack_text(packer, "rate");
    if (options->rate > 0)
        msgpack_pack_double(packer, options->rate);
    else
        msgpack_pack_nil(packer);
    pack_number(packer, "warmup", options->warmup);
    pack_number(packer, "duration", result->seconds);
    pack_count(packer, "calls", all->total);
    pack_number(packer, "calls_per_second", per_second(all->total, result));
    pack_count(packer, "bytes_sent", record->bytes_sent);
    pack_count(packer, "bytes_received", record->bytes_received);
    pack_latency(packer, all);
    pack_errors(packer, record);
    pack_count(packer, "reconnects", record->reconnects);
    pack_histogram(packer, all);
    pack_timeline(packer, record);
}

int bench_report_json(const struct bench_options *options, const struct record *record,
                      const struct bench_run_result *result)
{
    struct histogram *all = sum_up(record);
    msgpack_sbuffer packed;
    msgpack_packer packer;
    msgpack_unpacked tree;

    if (!all)
        return -1;
    msgpack_sbuffer_init(&packed);
    object_packer_init(&packer, &packed);
    pack_report(&packer, options, record, all, result);
    free(all);
    msgpack_unpacked_init(&tree);
    bool read = msgpack_unpack_next(&tree, packed.data, packed.size, NULL) == MSGPACK_UNPACK_SUCCESS;
    if (read)
        json_print(stdout, &tree.data);
    else
        fputs("cohab: bench: out of memory for the report\n", stderr);
    msgpack_unpacked_destroy(&tree);
    msgpack_sbuffer_destroy(&packed);
    return read ? 0 : -1;
}
