/* Part of the master: the requests that no worker has taken up yet. They lie in their connections, and the
 * order in which they are taken up is the kernel's: the master reads none of them. What it says of the queue
 * comes from its own looks and from the rows of workers. */
#ifndef QUEUE_H
#define QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "master.h"

/* The queue at one moment. */
struct queue_sight {
    uint32_t waiting; /* connections with a request that no worker has taken up */
    uint64_t oldest;  /* ns: none of them waits for longer */
};

/* To be called at each look of the master's: notes when the queue is empty, and has the kernel wake a worker
 * if it is not (slots_poll()). Returns whether a request waits. */
bool queue_look(struct master *master);
/* Looks at all connections, if any request waits: slow enough to be done for those alone who ask. */
void queue_measure(struct master *master, struct queue_sight *sight);

#endif
