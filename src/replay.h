/* ROLE replay: runs the request of a crash report again in this one process, without master and forkserver,
 * for debuggers and memory checkers: `cohabd --replay FILE ENGINE`. */
#ifndef REPLAY_H
#define REPLAY_H

#include "options.h"

/* Prints the outcome as one line. Returns the exit code: 0 where the request ran, whatever came of it. */
int replay_run(const struct options *options);

#endif
