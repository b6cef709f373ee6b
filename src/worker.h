/* ROLE worker: claims a request from the shared set, receives it, runs the engine, answers, re-arms; and
 * again. */
#ifndef WORKER_H
#define WORKER_H

#include <signal.h>
#include <sys/types.h>

#include "engine_load.h"
#include "options.h"

/* How a worker ends itself: exit codes that its master knows. An engine may call exit() with the same
 * numbers; what its row says then tells them apart. */
enum worker_exit {
    WORKER_EXIT_LEFT = 79, /* told to leave, and idle: no number that an engine is likely to exit with */
    WORKER_EXIT_NOT_STARTED = 80, /* start() failed, or the worker could not be set up */
    WORKER_EXIT_ENDED = 81,       /* its request was cancelled, and ran on */
    WORKER_EXIT_DESCRIPTOR = 82, /* a descriptor of cohab's was closed or replaced, or its number was taken */
    WORKER_EXIT_MASTER_GONE = 83,
};

/* Ends the running request, if it is the one in the row's cancel word. To the main thread, by tgkill(2). */
#define WORKER_SIGNAL_END (SIGRTMAX - 1)
/* Takes a snapshot of what runs, if anything does, and counts in the row. To the main thread. */
#define WORKER_SIGNAL_STACK (SIGRTMAX - 2)
/* Leave when idle. */
#define WORKER_SIGNAL_LEAVE SIGTERM

/* What a new worker process is given. The descriptors are the process's own. */
struct worker_birth {
    unsigned number;
    pid_t master;
    pid_t middle;                   /* the process that forked it and exits: its parent at first */
    int control, workspace, output; /* output -1: standard output and error are it already */
    bool selftest, parked;          /* as in IPC_FORK */
};

/* --max-memory. -1 with errno. */
int worker_limit_memory(const struct options *options);

/* Never returns. Memory of options and engine is shared copy-on-write with the forkserver. */
_Noreturn void worker_run(const struct worker_birth *birth, const struct options *options,
                          struct engine *engine);

#endif
