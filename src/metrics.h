/* Part of the master: totals of what all workers have counted, those that are gone included, by the names of
 * methods. A worker's meter (meter.h) is untrusted: it is read into totals that only grow, and one that makes
 * no sense is not read any more. */
#ifndef METRICS_H
#define METRICS_H

#include <msgpack.h>

#include "ipc.h"
#include "master.h"
#include "meter.h"

/* Names that have totals of their own. Whatever more there is counts as METER_OTHER. */
#define METRICS_SERIES_MAX 1000

enum metrics_death {
    METRICS_SIGNAL,
    METRICS_EXIT,
    METRICS_DEADLINE,
    METRICS_CANCELLED,
    METRICS_KILLED,
    METRICS_STALLED,
    METRICS_OOM,
    METRICS_ROGUE,
    METRICS_DESCRIPTORS,
    METRICS_START, /* before it served */
    METRICS_DEATHS
};

/* Of one generation: where the figures of its methods go. */
struct metrics_table {
    unsigned references;
    unsigned methods; /* METER_METHODS included */
    uint16_t series[METRICS_SERIES_MAX];
};

struct metrics {
    unsigned series; /* in use; the first METER_METHODS are those of meter.h */
    char names[METRICS_SERIES_MAX][METER_NAME_SIZE];
    struct meter_figures totals[METRICS_SERIES_MAX];
    uint64_t refused;  /* requests in quarantine */
    uint64_t late;     /* requests past their deadline when a worker took them up */
    uint64_t shed;     /* requests refused by --max-queue-time */
    uint64_t unlogged; /* requests that --log-requests or --slow had no room for */
    uint64_t unlogged_said;
    uint64_t deaths[METRICS_DEATHS];
    uint64_t gone;    /* calls that ran when their clients went away */
    uint64_t ordered; /* calls that operators wanted ended */
};

/* -1 without memory. */
int metrics_init(struct master *master);
/* IPC_METHODS: adds its names to the table of a generation, which is made if it is NULL. */
void metrics_add_methods(struct master *master, struct metrics_table **table,
                         const struct ipc_message *message);
/* The table's owner lets go of it; workers may still use it. Sets it to NULL. */
void metrics_release(struct metrics_table **table);

/* Methods that a meter has room for; of a worker whose generation has this table, which may be NULL. */
unsigned metrics_room(const struct metrics_table *table);
/* Of a worker that another program has begun to count (handover.h). -1 with errno. */
int metrics_adopt(struct seat *seat);
/* Begins to count what a worker process will do that does not exist yet: its meter lies in its fresh
 * workspace. -1 with errno; metrics_close() takes back what has been done. */
int metrics_open(struct seat *seat, struct metrics_table *table);
/* The process is gone: its last figures count. */
void metrics_close(struct seat *seat);
/* Adds what a worker has counted since the last time. */
void metrics_collect(struct seat *seat);
/* The name of a method of the seat's generation. */
const char *metrics_name(const struct seat *seat, uint32_t method);

/* A call that the master has answered on a worker's behalf: counted, and logged if calls are. */
void metrics_count_answer(struct master *master, const struct log_fields *call);
/* How long such a call has run: started and born_at as the worker's row and the seat have them. */
uint64_t metrics_duration(uint64_t started, uint64_t born_at);
/* How long it had waited before, as its row has it. 0: unknown. */
uint64_t metrics_queued(uint64_t queued);
void metrics_count_death(struct master *master, enum end_cause end, int status);

/* Everything, in the Prometheus text format, as one string. -1 without memory. */
int metrics_pack(struct master *master, msgpack_packer *packer);

#endif
