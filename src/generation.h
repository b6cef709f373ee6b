/* Part of the master: its side of the forkserver, one generation of the engine. */
#ifndef GENERATION_H
#define GENERATION_H

#include "master.h"

/* Starts a forkserver, which begins to load the engine. -1 after a log line; then backoff.retry_at says when
 * to try again. */
int generation_start(struct master *master);
/* Handles what the forkserver has sent. */
void generation_read(struct master *master);
/* The forkserver's process was reaped; peak: its most resident memory, bytes. Living workers go on; a new one
 * is started when it is due. */
void generation_died(struct master *master, int status, uint64_t peak);
/* Kills the forkserver and the births under way, whose processes are in its group; generation_died() follows
 * when it is reaped. */
void generation_end(struct master *master);

#endif
