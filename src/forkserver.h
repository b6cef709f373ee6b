/* ROLE forkserver: loads the engine once, then forks workers when the master asks; one per generation of the
 * engine.
 *
 * It is a fresh exec of the same binary, with the same command line behind an argv[0] that begins with
 * FORKSERVER_ARGV0 and the number of its generation, and the descriptors FD_FORKSERVER (its control socket)
 * and FD_SET; it inherits nothing else of the master. */
#ifndef FORKSERVER_H
#define FORKSERVER_H

#include "engine_load.h"
#include "options.h"

#define FORKSERVER_ARGV0 "cohabd-forkserver"
/* Exit code of the process that should have become one, and could not be executed. */
#define FORKSERVER_EXIT_NOT_RUN 126

/* Never returns. Exits 1 after telling the master why the engine could not be loaded. */
_Noreturn void forkserver_run(const struct options *options, unsigned generation);

/* Opens the engine and runs its load(). -1 with one line in engine->setup.error. */
int forkserver_load(struct engine *engine, const struct options *options);
/* From here on an exit() fails loudly, as it must not look like success; until this is called with NULL.
 * `where`: what may have called it, "load() or selftest()". */
void forkserver_forbid_exit(const struct options *options, const char *where);

/* Loads the engine and runs its self-test, in a process that does nothing else. -1 after a line on standard
 * error. */
int forkserver_try(const struct options *options, struct engine *engine);
/* `cohabd --check`: loads the engine, runs its self-test, prints what it is. Returns the exit code. */
int forkserver_check(const struct options *options);

#endif
