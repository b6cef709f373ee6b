/* PURE. When the service manager is told that the server is alive: while calls complete, while every busy
 * worker is inside its deadline, or when a probe has gone through a worker. A pool that is full is healthy;
 * one that only looks idle, and answers nothing, is not. */
#ifndef WATCHDOG_H
#define WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>

/* Since the last beat. All zeros but the period is the start. */
struct watchdog {
    uint64_t period; /* ns: silence of that length is death */
    uint64_t next;   /* when the next beat is due: CLOCK_MONOTONIC, ns */
    uint64_t calls;  /* answered, as of the last beat */
    bool probed;     /* it was a probe's, whose own call may be counted only since */
};

/* What is seen at a look. */
struct watchdog_view {
    uint64_t calls;      /* answered by all workers, in all */
    unsigned idle, busy; /* workers that have said that they are ready */
    unsigned overdue;    /* of the busy: past their deadline, and nothing has ended them */
    bool answered;       /* a probe has come back */
};

enum watchdog_step {
    WATCHDOG_DO_NOTHING,
    WATCHDOG_DO_PROBE, /* unless one is under way */
    WATCHDOG_DO_BEAT,
};

enum watchdog_step watchdog_next(struct watchdog *watchdog, const struct watchdog_view *view, uint64_t now);

#endif
