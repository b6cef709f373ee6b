/* PURE. Which worker processes exist, in what state, and when to try again after one that was of no
 * use. A worker is known by its number, which its successors inherit; the process id is an attribute. */
#ifndef CHILDREN_H
#define CHILDREN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum child_state {
    CHILD_NONE,     /* no process */
    CHILD_STARTING, /* asked for; its process may exist, and may be known */
    CHILD_READY,    /* serves, or could */
    CHILD_LEAVING,  /* told to leave once idle */
};

/* When a process may follow others, of the workers, the forkserver or the reporter. Zeroed: at once. */
struct backoff {
    unsigned failures; /* processes in a row that were of no use: short-lived, and no request answered */
    unsigned vain;     /* of processes in a row that did not even become ready: 3 each, of killed ones 1 */
    uint64_t noted_at; /* when the last of those ended */
    uint64_t retry_at; /* not before this; CLOCK_MONOTONIC, ns */
};

/* The life of a process that has ended. */
struct life {
    bool served;                /* it was ready, or had loaded the engine */
    bool killed;                /* by SIGKILL or SIGTERM */
    uint64_t born_at, ended_at; /* CLOCK_MONOTONIC, ns */
    uint64_t answered;          /* requests */
};

struct child {
    unsigned number; /* from 1; 0: the stand-in (standin.h) */
    enum child_state state;
    pid_t pid; /* 0 until the worker has introduced itself */
    unsigned generation;
    uint64_t born_at; /* CLOCK_MONOTONIC, ns */
    bool stopped;     /* by a stop signal, as the kernel last reported */
};

/* Failures that are not waited for. */
#define BACKOFF_FREE 3u

/* Delay before the next try after that many failures in a row: none after the first three, then 0.1 s,
 * doubling to at most 5 s. In ns. */
uint64_t backoff_delay(unsigned failures);
/* A life that was of use forgets the failures before it. One that served and was killed leaves them as they
 * are, and the next is due at once: that was done to it. Any other is one more failure; but of several that
 * lived at the same time only one counts. */
void backoff_note(struct backoff *backoff, const struct life *life);
/* A process has become ready: the next may follow at once. Whether it was of use is seen when it ends. */
void backoff_ready(struct backoff *backoff);
/* Whether failures are so many that one process at a time is tried. */
bool backoff_probes(const struct backoff *backoff);

/* The worker starts to exist, as far as the master knows. */
void child_begin(struct child *child, unsigned generation, uint64_t now);
/* Its process is gone, after it had answered that many requests: its life. */
struct life child_end(struct child *child, uint64_t now, uint64_t answered, bool killed);

/* "worker 3 (pid 4711)", for every log line. Returns label. */
const char *child_label(const struct child *child, char *label, size_t size);

#endif
