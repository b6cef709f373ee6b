/* In a worker, and in the forkserver while it loads: takes snapshots of the process (snapshot.h), in signal
 * handlers. Everything here that runs in a handler is async-signal-safe, takes no lock and no memory, and
 * runs on a stack of its own. Names are looked up afterwards, by the reporter.
 *
 * Handlers of fatal signals are installed only where the signal has its default action, so that an engine's
 * own (or a sanitizer's) stay; one that passes the signal on to the handler before it ends up here. */
#ifndef CAPTURE_H
#define CAPTURE_H

#include "row.h"
#include "snapshot.h"

/* The process takes snapshots of itself from here on, into `snapshot`, which is its own alone. `row` says
 * what runs, NULL where nothing ever does; both stay the caller's and must outlive the process's work. A
 * child that this process forks takes none. -1 with errno. */
int capture_init(struct snapshot *snapshot, const struct row *row, enum snapshot_phase phase);
void capture_set_phase(enum snapshot_phase phase);
/* Installs what is missing: an engine's hook may have put a signal back to its default. -1 with errno. */
int capture_install(void);
/* Has a call of exit(3) recorded. Handlers registered later run before: to be called as late as possible, and
 * may be called again. -1 without memory. */
int capture_watch_exit(void);
/* In a signal handler on the main thread, with the handler's third argument: what runs is about to be ended
 * for its deadline. */
void capture_end(void *context);
/* The same, for a process that goes on. */
void capture_live(void *context);

#endif
