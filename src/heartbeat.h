/* Part of the master: what the service manager hears of it (notify.h): its state in a line, and, under a
 * watchdog, that calls can be served.
 *
 * The probe is a request of the master's own, over a connection of its own: one end of a socket pair takes a
 * slot, as any client's connection does, and some idle worker claims it, asks for the descriptor, and answers
 * a cohab.ping. The master knows the bytes that must come back, and decodes nothing. Its slot is one that
 * clients cannot have. */
#ifndef HEARTBEAT_H
#define HEARTBEAT_H

#include "master.h"

/* Slots that must be there beside the clients'. notify_init() comes first. */
unsigned heartbeat_slots(void);
void heartbeat_init(struct master *master);
/* To be called at every tick. */
void heartbeat_tick(struct master *master);
/* Gives up the probe that is under way; another one follows. */
void heartbeat_stop(struct master *master);
/* Of the open slots, those that are no client's. */
unsigned heartbeat_open(const struct master *master);

#endif
