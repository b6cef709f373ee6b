/* Part of the master: generations of the engine. One is one load of an engine by a forkserver, which then
 * forks workers. There is a present one, which workers are born from; while a reload is under way one more
 * (reload.h); and as many older ones as workers live of them. */
#ifndef GENERATION_H
#define GENERATION_H

#include "master.h"

/* What is to be loaded: as it was asked for, so that a link that points elsewhere meanwhile is followed
 * again. */
struct engine_spec {
    char *name; /* as given: a path, or the name of an installed engine */
    int argc;
    char **argv; /* for the engine */
};

/* A copy that is the caller's. -1 without memory. */
int engine_spec_copy(struct engine_spec *copy, const struct engine_spec *spec);
void engine_spec_clear(struct engine_spec *spec);

struct generation {
    struct master *master;
    struct generation *next; /* older */
    unsigned number;
    unsigned seats; /* processes of workers */
    struct engine_spec spec;
    char path[4096]; /* of the library; until it has loaded, as asked for */
    char engine_name[256], engine_version[256];
    char build_id[64]; /* hex */
    /* The forkserver's process. */
    pid_t pid; /* 0: none */
    int control;
    ev_io control_watcher;
    bool loaded;
    bool explained; /* it has said itself why it cannot load the engine */
    bool ended;     /* by the master: its death is no news */
    uint64_t born_at;
    uint64_t progress_at; /* when it loaded, or a worker of it last introduced itself */
    struct output output;
    int snapshot;                  /* memfd: what it writes down of itself when it crashes */
    struct metrics_table *methods; /* NULL: none are known yet */
};

/* Starts the forkserver of a new generation, which begins to load the engine; with the next number. It is put
 * into the master's list. NULL after a log line. */
struct generation *generation_start(struct master *master, const struct engine_spec *spec);
/* Starts the present generation, or a new one in its place where its forkserver is gone, if it is time. */
void generation_keep(struct master *master);
/* One that another program has started, with all but its watchers in place (handover.h). */
void generation_adopt(struct generation *generation);
/* Handles what a forkserver has sent. */
void generation_read(struct generation *generation);
/* The one whose forkserver has this pid; NULL: none. */
struct generation *generation_find(struct master *master, pid_t pid);
/* The forkserver's process was reaped; peak: its most resident memory, bytes. Living workers go on. */
void generation_died(struct generation *generation, int status, uint64_t peak);
/* Kills the forkserver and the births under way, whose processes are in its group; generation_died() follows
 * when it is reaped. */
void generation_end(struct generation *generation);
void generation_end_all(struct master *master);
/* Forkservers that exist. */
unsigned generation_alive(const struct master *master);
/* Frees those that nothing refers to any more. */
void generation_sweep(struct master *master);
/* Looks for one that takes too long to load its engine. */
void generation_look(struct master *master, uint64_t now);

#endif
