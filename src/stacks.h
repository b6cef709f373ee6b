/* Part of the master: has workers write down the stack of what they run, while they run it: for calls that
 * run longer than --slow-stack, and for whoever asks. A signal is all that it takes; the worker goes on. */
#ifndef STACKS_H
#define STACKS_H

#include <stdbool.h>

#include <msgpack.h>

#include "master.h"

/* What came of it, one element a worker that was running a call, in the order of their numbers: the value of
 * `workers` (docs/protocol.md). */
typedef void stacks_listener(void *context, const msgpack_sbuffer *workers);

/* -1 without memory. */
int stacks_init(struct master *master);
/* From time to time, for each worker that serves. */
void stacks_watch(struct seat *seat, const struct row_view *row, uint64_t now);
/* Asks the worker of that number, 0: all of them. The listener is called once, later. -1: another question is
 * under way; stacks_busy() says so, too. */
int stacks_ask(struct master *master, unsigned number, stacks_listener *listener, void *context);
bool stacks_busy(const struct master *master);
/* Nobody wants to know any more. */
void stacks_forget(struct master *master, const void *context);
/* The seat's process is gone. */
void stacks_drop(struct seat *seat);

#endif
