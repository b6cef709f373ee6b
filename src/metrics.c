#include "metrics.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "clock.h"
#include "log.h"
#include "request_log.h"
#include "shared.h"
#include "workspace.h"

static const char *const fixed_names[METER_METHODS] = {
    [METER_OTHER] = "(other)",
    [METER_BUILTIN] = "cohab.ping",
    [METER_BUILTIN + 1] = "cohab.methods",
    [METER_BUILTIN + 2] = "cohab.version",
};

int metrics_init(struct master *master)
{
    struct metrics *metrics = calloc(1, sizeof(*metrics)); /* pages that nobody uses cost nothing */
    if (!metrics)
        return -1;
    for (unsigned i = 0; i < METER_METHODS; i++)
        strcpy(metrics->names[i], fixed_names[i]);
    metrics->series = METER_METHODS;
    master->metrics = metrics;
    return 0;
}

/* --- names --- */

static unsigned find(const struct metrics *metrics, const char *name)
{
    for (unsigned i = 0; i < metrics->series; i++)
        if (strcmp(metrics->names[i], name) == 0)
            return i;
    return METER_OTHER;
}

/* Printable ASCII, cut where long: what a row shows of a method is cut and cleaned like this, too. */
static void clean(const char *name, char text[METER_NAME_SIZE])
{
    size_t length = strnlen(name, METER_NAME_SIZE - 1);
    memcpy(text, name, length);
    text[length] = '\0';
    for (char *c = text; *c; c++)
        if (*c < 0x20 || *c > 0x7e)
            *c = '?';
}

static unsigned find_or_add(struct metrics *metrics, const char *name)
{
    char text[METER_NAME_SIZE];
    clean(name, text);
    unsigned series = find(metrics, text);
    if (series != METER_OTHER || metrics->series == METRICS_SERIES_MAX)
        return series;
    memcpy(metrics->names[metrics->series], text, sizeof(text));
    return metrics->series++;
}

static struct metrics_table *make_table(void)
{
    struct metrics_table *table = calloc(1, sizeof(*table));
    if (!table)
        return NULL;
    table->references = 1;
    table->methods = METER_METHODS;
    for (unsigned i = 0; i < METER_METHODS; i++)
        table->series[i] = (uint16_t)i;
    return table;
}

void metrics_add_methods(struct master *master, struct metrics_table **table,
                         const struct ipc_message *message)
{
    if (!*table)
        *table = make_table();
    for (size_t at = 0; *table && at < message->text_size && (*table)->methods < METRICS_SERIES_MAX;) {
        const char *name = message->text + at;
        (*table)->series[(*table)->methods++] = (uint16_t)find_or_add(master->metrics, name);
        at += strlen(name) + 1;
    }
}

void metrics_release(struct metrics_table **table)
{
    if (*table && --(*table)->references == 0)
        free(*table);
    *table = NULL;
}

const char *metrics_name(const struct seat *seat, uint32_t method)
{
    const struct metrics_table *table = seat->metering.table;
    unsigned series = table && method < table->methods ? table->series[method] : METER_OTHER;
    return seat->master->metrics->names[series];
}

/* --- a worker's meter --- */

unsigned metrics_room(const struct metrics_table *table)
{
    return table ? table->methods : METER_METHODS;
}

int metrics_adopt(struct seat *seat)
{
    struct metering *metering = &seat->metering;
    size_t at = workspace_meter(seat->master->options->max_frame);
    metering->meter = shared_map(seat->workspace, at, meter_size(metering->methods), 0);
    return metering->meter ? 0 : -1;
}

int metrics_open(struct seat *seat, struct metrics_table *table)
{
    struct metering *metering = &seat->metering;
    metering->methods = metrics_room(table);
    metering->last = calloc(metering->methods, sizeof(*metering->last));
    if (!metering->last)
        return -1;
    if (metrics_adopt(seat) < 0)
        return -1;
    metering->table = table;
    if (table)
        table->references++;
    return 0;
}

/* Returns false where the meter cannot be right. */
static bool fold(struct seat *seat)
{
    struct metrics *metrics = seat->master->metrics;
    struct metering *metering = &seat->metering;
    uint64_t age = clock_now() - seat->child.born_at;
    for (unsigned i = 0; i < metering->methods; i++) {
        unsigned series = metering->table ? metering->table->series[i] : i;
        if (!meter_fold(&metering->meter->methods[i], &metering->last[i], &metrics->totals[series], age))
            return false;
    }
    return meter_fold_word(&metering->meter->refused, &metering->refused, &metrics->refused, age) &&
           meter_fold_word(&metering->meter->late, &metering->late, &metrics->late, age) &&
           meter_fold_word(&metering->meter->shed, &metering->shed, &metrics->shed, age) &&
           meter_fold_word(&metering->meter->lost, &metering->lost, &metrics->unlogged, age);
}

void metrics_collect(struct seat *seat)
{
    struct metering *metering = &seat->metering;
    if (!metering->meter || !metering->last || metering->spoilt || fold(seat))
        return;
    metering->spoilt = true;
    log_event(LOG_WARN, "meter_overwritten", SEAT_FIELDS(seat),
              "worker %u: its counters were overwritten: its calls are not counted any more",
              seat->child.number);
}

void metrics_close(struct seat *seat)
{
    struct metering *metering = &seat->metering;
    metrics_collect(seat);
    (void)request_log_take(seat, METER_RECORDS);
    request_log_tell(seat->master);
    if (metering->meter)
        munmap(metering->meter, meter_size(metering->methods));
    free(metering->last);
    metrics_release(&metering->table);
    *metering = (struct metering){0};
}

/* --- what the master counts itself --- */

static void add_one(struct meter_figures *figures, unsigned word)
{
    figures->words[word]++;
}

/* The row is no witness to trust: no call has begun before its worker. */
uint64_t metrics_duration(uint64_t started, uint64_t born_at)
{
    uint64_t now = clock_now();
    return started >= born_at && started < now ? now - started : 0;
}

uint64_t metrics_queued(uint64_t queued)
{
    return queued <= METER_QUEUED_MAX ? queued : 0;
}

void metrics_count_answer(struct master *master, const struct log_fields *call)
{
    char text[METER_NAME_SIZE];
    clean(call->method, text);
    struct meter_figures *figures = &master->metrics->totals[find(master->metrics, text)];
    add_one(figures, METER_CALLS);
    add_one(figures, METER_CODE + meter_code(call->code));
    add_one(figures, METER_DURATION + meter_bucket(call->duration));
    figures->words[METER_DURATION_SUM] += call->duration;
    figures->words[METER_REQUEST_BYTES] += call->request_bytes;
    figures->words[METER_RESPONSE_BYTES] += call->response_bytes;
    if (call->queued > 0) {
        add_one(figures, METER_QUEUED + meter_bucket(call->queued));
        figures->words[METER_QUEUED_SUM] += call->queued;
    }
    request_log_answer(master, call);
}

void metrics_count_death(struct master *master, enum end_cause end, int status)
{
    static const enum metrics_death causes[] = {
        [END_DEADLINE] = METRICS_DEADLINE, [END_CANCELLED] = METRICS_CANCELLED,
        [END_KILLED] = METRICS_KILLED,     [END_STALLED] = METRICS_STALLED,
        [END_ROGUE] = METRICS_ROGUE,       [END_DESCRIPTORS] = METRICS_DESCRIPTORS,
        [END_OOM] = METRICS_OOM,
    };
    enum metrics_death cause = end == END_OWN ? WIFSIGNALED(status) ? METRICS_SIGNAL : METRICS_EXIT
                               : (unsigned)end < sizeof(causes) / sizeof(*causes) ? causes[end]
                                                                                  : METRICS_SIGNAL;
    master->metrics->deaths[cause]++;
}
