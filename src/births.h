/* Part of the master: births of workers and their planned leaves, as the pool has it (pool.h). */
#ifndef BIRTHS_H
#define BIRTHS_H

#include "master.h"

/* -1 without memory. */
int births_init(struct master *master);
/* A worker that another program has had born, with all but its memory and its watchers in place
 * (handover.h). -1 with errno. */
int births_adopt(struct seat *seat);
/* Asks for every process that is due, has parked workers serve and those leave that are to: as far as that
 * can be now. */
void births_go_on(struct master *master);
/* Asks for a first worker of a generation that is not the present one, which has to pass the engine's
 * self-test, and serves only once its generation is the present one. NULL where there is no place now, or
 * after a log line. */
struct seat *births_try(struct generation *generation);
/* Once a tick: births that hang, workers that are due, and the load. busy: workers; waiting: whether requests
 * wait. */
void births_look(struct master *master, unsigned busy, bool waiting);
/* From its row: whether the worker is due for recycling, and whether it leaves where it was told to. */
void births_look_at(struct seat *seat, const struct row_view *row, uint64_t now);
/* A birth that came to nothing: the process never introduced itself, or could not be asked for. */
void births_end(struct seat *seat, const char *why);
/* A worker whose birth was under way has died, or is given up. */
void births_tell_lost(struct seat *seat, const char *why);
/* Its process has died: a spare takes its place at once, before all else that is to be done. */
void births_fill_in(const struct seat *seat);
/* Its process is gone, and all that belonged to it goes. answered: requests. */
void births_bury(struct seat *seat, uint64_t answered, bool killed);
/* Workers that serve, neither parked nor told to leave. */
unsigned births_serving(const struct master *master);
/* New bounds of the number of workers. */
void births_scale(struct master *master, unsigned min, unsigned max);

#endif
