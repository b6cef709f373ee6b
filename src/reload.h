/* Part of the master: a reload. A candidate, a new generation, loads the engine afresh while the present one
 * serves; when it has loaded, and a first worker of it has started and passed the engine's self-test, it
 * becomes the present one and the pool replaces all other workers, one by one (pool.h). Until the last of
 * them is replaced the way back is open: where the candidate does not load, hangs, crashes, or its workers do
 * not start, the old generation goes on. */
#ifndef RELOAD_H
#define RELOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "reporter.h"

#define LOAD_PROBLEM_SIZE 512u

struct master;
struct seat;
struct generation;
struct engine_spec;

enum reload_state {
    RELOAD_NONE,
    RELOAD_LOADING,   /* the candidate loads */
    RELOAD_TRYING,    /* its first worker starts */
    RELOAD_REPLACING, /* the candidate is the present generation; workers of the old one leave */
};

/* How a reload has ended. Valid during the call. */
struct reload_result {
    bool done;
    const struct generation *generation; /* done: the new one; else the one that goes on */
    uint64_t duration;                   /* ns */
    unsigned replaced;                   /* workers */
    const char *problem;                 /* not done: why */
    const char *output;                  /* what the candidate printed last */
    size_t output_size;
};

/* Who has asked; called once. */
typedef void reload_listener(void *context, const struct reload_result *result);

struct reload {
    enum reload_state state;
    bool again; /* asked for by signal while one was under way */
    struct generation *candidate;
    struct generation *old; /* to go back to, while REPLACING */
    struct seat *trial;     /* where the candidate's first worker starts; NULL: not asked for yet */
    uint64_t began_at;
    unsigned failures; /* births, while REPLACING */
    unsigned replaced;
    char problem[LOAD_PROBLEM_SIZE]; /* what the candidate has said; empty: nothing */
    size_t output_size;
    char output[REPORT_STDERR_SIZE];
    reload_listener *listener;
    void *context;
};

/* Begins one; spec NULL: the engine as it is. listener may be NULL. -1, with the reason in problem, where
 * that cannot be now. */
int reload_begin(struct master *master, const struct engine_spec *spec, reload_listener *listener,
                 void *context, char *problem, size_t size);
/* As asked for by a signal: now, or after the one that is under way. */
void reload_ask(struct master *master);
void reload_forget_listener(struct master *master, const void *context);
/* The server stops: the candidate goes. */
void reload_cancel(struct master *master);
/* Whether the reload has a use for a generation. */
bool reload_holds(const struct master *master, const struct generation *generation);
/* "loading", "trying", "replacing"; NULL: none is under way. */
const char *reload_state_name(const struct master *master);

/* What happens to processes meanwhile; of those that are none of its business, it takes no notice. */
void reload_on_loaded(struct master *master, struct generation *generation);
void reload_note_problem(struct master *master, const struct generation *generation, const char *problem);
void reload_on_death(struct master *master, struct generation *generation);
void reload_on_ready(struct seat *seat);
void reload_on_replaced(struct seat *seat);
/* A worker that did not come to serve, before its place is cleared. why may be overridden by what its
 * generation has said. */
void reload_on_lost_birth(struct seat *seat, const char *why);
/* From time to time, and after births and deaths: takes it on as far as it can go now. */
void reload_go_on(struct master *master);

#endif
