/* The callers of a load run: each has one connection and makes one call at a time on it. This module starts
 * calls and judges what comes back; when the next one starts is decided by the run (bench_run.c), which is
 * told of every caller that has become ready. */
#ifndef BENCH_CALLERS_H
#define BENCH_CALLERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ev.h>

#include "bench_connection.h"
#include "bench_options.h"
#include "record.h"

enum bench_caller_state {
    BENCH_CALLER_AWAY,  /* not connected */
    BENCH_CALLER_READY, /* for the next call */
    BENCH_CALLER_BUSY,
};

struct bench_callers;

struct bench_caller {
    struct ev_io watcher;
    struct bench_callers *all;
    struct bench_connection connection;
    enum bench_caller_state state;
    size_t call; /* which one of the workload */
    uint32_t msgid;
    bool counts;      /* the call started after the warm-up */
    uint64_t started; /* what its latency counts from */
    uint64_t give_up;
    bool proven;               /* has had an answer since it connected */
    uint64_t connect_at;       /* when AWAY */
    uint64_t pause;            /* between attempts to connect */
    struct bench_caller *next; /* in the run's queue of callers that are ready */
    bool queued;
    uint64_t due; /* when its pause to think is over */
};

struct bench_callers {
    const struct bench_options *options;
    struct record *record;
    struct ev_loop *loop;
    void (*on_ready)(struct bench_caller *caller, void *context);
    void *context;
    struct bench_caller *items; /* owned */
    unsigned busy, away;
    unsigned char *scratch; /* owned: of all frames */
    unsigned char *buffer;  /* owned: what is being received */
    struct template_values values;
    struct random choice; /* of the call */
    bool blocking;        /* one caller that waits in recv(): its socket is not watched while it does */
};

/* Connects all of them. Returns CLI_OK, or the exit code after telling what went wrong. To be closed after
 * either. Without a call of on_ready: all are ready. */
int bench_callers_open(struct bench_callers *callers);
void bench_callers_close(struct bench_callers *callers);

/* Begins a call on a ready caller. Its latency counts from `started`. */
void bench_caller_start(struct bench_caller *caller, uint64_t started);
/* Waits for the answer, or a signal, in recv(). Only when bench_caller_blocks(). */
bool bench_caller_blocks(const struct bench_caller *caller);
void bench_caller_wait(struct bench_caller *caller);

/* Gives up calls that are too late, and connects anew. To be called every BENCH_CALLERS_TICK. */
#define BENCH_CALLERS_TICK (UINT64_C(50) * 1000 * 1000) /* ns */
void bench_callers_tick(struct bench_callers *callers, uint64_t now);
/* Counts all calls that are under way as interrupted. */
void bench_callers_abandon(struct bench_callers *callers);

/* Counts a call that ended without a word of the server. */
void bench_callers_fail(struct bench_callers *callers, uint64_t end, const char *code, const char *reason,
                        const char *message);

#endif
