/* Part of the master: looks after the workers, from birth to death. */
#ifndef SUPERVISE_H
#define SUPERVISE_H

#include "master.h"

int supervise_init(struct master *master);
/* Whether, in the server's present state, processes that die are replaced. */
bool supervise_wants_births(const struct master *master);
/* Handles what a new worker says on this control socket, which it owns from here on. */
void supervise_watch(struct seat *seat, int control);
/* To a worker that is alive, as far as is known; else nothing happens. */
void supervise_send_signal(const struct seat *seat, int signal);
/* One look at all rows for deadlines, at the shared set, and at the pool. Returns whether any worker is busy.
 */
bool supervise_look(struct master *master);
/* The same look at one worker. */
bool supervise_check(struct seat *seat);
/* Whether any worker runs a call, or writes its answer. */
bool supervise_any_running(const struct master *master);
/* Workers that exist, as far as is known: also those whose birth is under way. */
unsigned supervise_alive(const struct master *master);
/* Has all workers refuse requests from now on. */
void supervise_refuse(struct master *master);
/* Tells all workers to leave when they are idle. */
void supervise_leave(struct master *master);
void supervise_signal(struct master *master, int signal);

#endif
