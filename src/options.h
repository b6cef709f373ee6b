/* cohabd's options, of the command line, the environment and the configuration file: one struct, filled once,
 * read by every role. option_table.h has the options themselves. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "log.h"

struct options {
    const char *socket; /* path; NULL only with check or replay */
    unsigned workers_min, workers_max;
    unsigned spare;     /* workers kept ready beside those that serve */
    uint32_t max_frame; /* bytes */
    unsigned max_connections;
    unsigned max_connections_per_uid;                                            /* 0: no limit */
    uint64_t max_queue_time;                                                     /* ns; 0: no limit */
    uint64_t default_timeout, max_timeout, kill_grace, io_timeout, stop_timeout; /* ns */
    uint64_t stall_timeout, spin;                                                /* ns */
    uint64_t load_timeout, idle_timeout;                                         /* ns */
    uint64_t max_requests;     /* of a worker; 0: no limit */
    uint64_t max_private;      /* of a worker, bytes; 0: no limit */
    uint64_t max_age;          /* of a worker, ns; 0: no limit */
    uint64_t cancel_kill;      /* ns; 0: never */
    const char *crash_dir;     /* NULL: the default one (crash_dir.h) */
    unsigned crash_keep;       /* reports of each kind; 0: none are written */
    uint64_t crash_keep_size;  /* bytes */
    bool crash_params;         /* reports hold the request */
    uint64_t max_memory;       /* of a worker, bytes; 0: no limit */
    uint64_t slow_stack;       /* ns; 0: off */
    unsigned quarantine_after; /* kills; 0: off */
    bool quarantine_timeouts;  /* deadlines count as kills */
    mode_t socket_mode;
    enum log_level log_level;
    enum log_format log_format;
    const char *log_file; /* NULL: standard error */
    bool log_requests;
    uint64_t slow; /* ns: calls that take as long are logged; 0: off */
    int lifeline;  /* descriptor whose end of file stops the server; -1: none */
    int listener;  /* the socket that the server was given (activation.h); -1: it makes its own */
    bool core;
    bool remove_directory;
    bool check;
    const char *replay; /* a crash report; NULL: serve */
    char **words;       /* the options, as a command line has them, for children; NULL in a role */
    int word_count;
    char *engine_name; /* as given */
    char *engine_path; /* resolved; NULL in a role */
    int engine_argc;
    char **engine_argv;
};

/* The most workers that there may be. */
#define WORKERS_MAX 256u

enum options_use {
    OPTIONS_USER, /* the program as it was started */
    OPTIONS_ROLE, /* a process that the master has started: the engine may be missing, and is not looked for
                   */
};

/* Takes options, in that order of rank, from the command line, the environment and the file of --config, and
 * resolves the engine. Prints --help and --version (exit 0) and errors (exit 2) itself. */
void options_parse(struct options *options, int argc, char **argv, enum options_use use);
/* The file that an engine's name stands for: a path, or the name of an installed one. The caller's to free;
 * NULL with a reason in problem. */
char *options_find_engine(const char *name, char *problem, size_t size);
/* "4" or "2:8". False, with nothing changed, where it is neither. */
bool options_parse_workers(const char *text, unsigned *min, unsigned *max);
/* Ends the process where a directory cannot be used. For the master alone: one that goes away later must not
 * keep a forkserver from starting. */
void options_check_directories(const struct options *options);

#endif
