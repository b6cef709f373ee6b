#include "record.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
#define OTHERS "OTHER/ERRORS"

int record_begin(struct record *record, size_t call_count)
{
    *record = (struct record){.call_count = call_count};
    record->calls = calloc(call_count, sizeof *record->calls);
    record->now = calloc(1, sizeof *record->now);
    return record->calls && record->now ? 0 : -1;
}

void record_free(struct record *record)
{
    free(record->calls);
    free(record->now);
    free(record->seconds);
    *record = (struct record){0};
}

static void note_end(struct record *record, uint64_t end)
{
    if (end > record->last_end)
        record->last_end = end;
}

void record_success(struct record *record, size_t call, uint64_t end, uint64_t latency)
{
    record_tick(record, end);
    histogram_record(&record->calls[call], latency);
    histogram_record(record->now, latency);
    note_end(record, end);
}

static size_t append(char *to, size_t used, size_t size, struct record_text text)
{
    size_t taken = text.size < size - used - 1 ? text.size : size - used - 1;

    if (taken > 0)
        memcpy(to + used, text.bytes, taken);
    to[used + taken] = '\0';
    return used + taken;
}

static struct record_error *find_kind(struct record *record, const char *name)
{
    for (size_t i = 0; i < record->kind_count; i++)
        if (strcmp(record->kinds[i].name, name) == 0)
            return &record->kinds[i];
    bool full = record->kind_count == RECORD_KINDS_MAX;
    struct record_error *kind = &record->kinds[full ? RECORD_KINDS_MAX : record->kind_count];
    snprintf(kind->name, sizeof kind->name, "%s", full ? OTHERS : name);
    record->kind_count += !full;
    return kind;
}

void record_error(struct record *record, uint64_t end, struct record_text code, struct record_text reason,
                  struct record_text message)
{
    char name[RECORD_NAME_SIZE];
    size_t used = append(name, 0, sizeof name, code.size > 0 ? code : (struct record_text){"UNKNOWN", 7});

    if (reason.size > 0) {
        used = append(name, used, sizeof name, (struct record_text){"/", 1});
        append(name, used, sizeof name, reason);
    }
    record_tick(record, end);
    struct record_error *kind = find_kind(record, name);
    if (kind->count++ == 0)
        append(kind->message, 0, sizeof kind->message, message);
    record->errors++;
    record->errors_now++;
    note_end(record, end);
}

static struct record_second sum_up_second(const struct record *record)
{
    return (struct record_second){
        .calls = record->now->total,
        .errors = record->errors_now,
        .p50 = histogram_quantile(record->now, 0.5),
        .p99 = histogram_quantile(record->now, 0.99),
        .max = record->now->max,
    };
}

/* The room doubles whenever the count is a power of two. */
static bool close_second(struct record *record)
{
    size_t count = record->second_count;

    if ((count & (count - 1)) == 0) {
        struct record_second *larger = realloc(record->seconds, (count ? 2 * count : 1) * sizeof *larger);
        if (!larger)
            return false;
        record->seconds = larger;
    }
    record->seconds[record->second_count++] = sum_up_second(record);
    if (record->now->total > 0)
        memset(record->now, 0, sizeof *record->now);
    record->errors_now = 0;
    return true;
}

void record_tick(struct record *record, uint64_t now)
{
    while (now >= record->start + (record->second_count + 1) * SECOND)
        if (!close_second(record))
            return;
}

void record_end(struct record *record)
{
    if (record->now->total + record->errors_now > 0)
        close_second(record);
}

void record_sum(const struct record *record, struct histogram *sum)
{
    memset(sum, 0, sizeof *sum);
    for (size_t i = 0; i < record->call_count; i++)
        histogram_add(sum, &record->calls[i]);
}
