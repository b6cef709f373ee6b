/* ROLE stand-in: a worker without an engine. While no worker can be had, it takes the requests that come and
 * answers each with UNAVAILABLE, reason NO_WORKER, and what the engine has said last, so that callers need
 * not wait for their deadlines, and the master still reads no frame.
 *
 * It is a fresh exec of the same binary, the master's child, with an argv[0] that begins with STANDIN_ARGV0;
 * it takes the place of number 0 and is else a worker like any other. */
#ifndef STANDIN_H
#define STANDIN_H

#include <sys/types.h>

#include "master.h"

#define STANDIN_ARGV0 "cohabd-standin"

/* Part of the master: forks and executes it with these descriptors, as in IPC_FORK. Its pid, or -1 with
 * errno. */
pid_t standin_start(struct master *master, const int *descriptors);
/* Part of the master: what it is to tell callers, from now on. */
void standin_tell(struct master *master);

/* Never returns. */
_Noreturn void standin_run(const struct options *options);

#endif
