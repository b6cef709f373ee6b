/* PURE. Which worker processes exist, in what state, and when to try again after one that could not start. A
 * worker is known by its number, which its successors inherit, and its birth, which they do not; the process
 * id is an attribute. */
#ifndef CHILDREN_H
#define CHILDREN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum child_state {
    CHILD_NONE,     /* no process; born again at retry_at */
    CHILD_STARTING, /* asked for; its process may exist, and may be known */
    CHILD_READY,    /* serves */
    CHILD_LEAVING,  /* told to leave once idle */
};

struct child {
    unsigned number; /* from 1 */
    enum child_state state;
    uint64_t birth; /* distinguishes the successive processes of one number */
    pid_t pid;      /* 0 until the worker has introduced itself */
    unsigned generation;
    uint64_t born_at;  /* CLOCK_MONOTONIC, ns */
    uint64_t retry_at; /* with CHILD_NONE: not before this; 0: at once */
    unsigned failures; /* processes in a row that were of no use: short-lived, and no request answered */
    bool stopped;      /* by a stop signal, as the kernel last reported */
};

/* Delay before the next try after that many failures in a row: none after the first three, then 0.1 s,
 * doubling to at most 5 s. In ns. */
uint64_t children_backoff(unsigned failures);

/* The worker starts to exist, as far as the master knows. */
void child_begin(struct child *child, unsigned generation, uint64_t now);
/* It is ready. */
void child_ready(struct child *child);
/* Its process is gone, after it had answered that many requests: sets the time of the next try. */
void child_end(struct child *child, uint64_t now, uint64_t answered);
/* Its process was killed from outside, which is no fault of its own: the next one is due at once. */
void child_end_killed(struct child *child, uint64_t now);
/* Whether a process should be asked for now. */
bool child_due(const struct child *child, uint64_t now);

/* "worker 3 (pid 4711)", for every log line. Returns label. */
const char *child_label(const struct child *child, char *label, size_t size);

#endif
