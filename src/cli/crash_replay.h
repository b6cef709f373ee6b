/* Runs the request of a report again: in a private server with the same engine, or in one process under a
 * debugger or a memory checker. */
#ifndef CRASH_REPLAY_H
#define CRASH_REPLAY_H

#include <limits.h>
#include <stdbool.h>

#include <msgpack.h>

#include "crash_files.h"
#include "envelope.h"

struct replay {
    struct cli *cli;
    struct crash_file *file;
    const msgpack_object *report; /* the file's */
    double timeout;               /* of the call, seconds */
    bool json;
    char program[PATH_MAX]; /* cohabd */
    char engine[PATH_MAX];
};

/* Tells why nothing could be run. Returns the exit code. */
int crash_replay_refuse(const struct replay *replay, const char *what, const char *why);
bool crash_replay_has_phase(const struct replay *replay, const char *phase);

/* These return the exit code. request: NULL where the report is of another phase than a call. */
int crash_replay_in_server(const struct replay *replay, const struct envelope_request *request);
/* These become the program, and return where that fails. */
int crash_replay_in_gdb(const struct replay *replay);
int crash_replay_in_valgrind(const struct replay *replay);

#endif
