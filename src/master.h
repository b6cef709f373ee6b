/* ROLE master: what its parts share. master.c is the role: start, accept, tick, stop. supervise.c looks after
 * the forkserver and the workers: births, messages, deaths, deadlines. admin.c answers the admin socket. All
 * run in one libev loop; nothing here may block, and after master_run() has begun to serve nothing may end
 * the process but a finished stop. */
#ifndef MASTER_H
#define MASTER_H

#include <ev.h>
#include <msgpack.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "children.h"
#include "deadline.h"
#include "log.h"
#include "options.h"
#include "output.h"
#include "pool.h"
#include "reload.h"
#include "reporter.h"
#include "row.h"
#include "slots.h"
#include "stall.h"

enum master_state {
    MASTER_STARTING, /* loading the engine, waiting for the first worker; failures end the process */
    MASTER_SERVING,
    MASTER_STOPPING, /* running calls finish, other requests are refused */
    MASTER_LEAVING,  /* all was idle: the workers have been told to leave */
    MASTER_KILLING,  /* at once: everything was killed */
    MASTER_FINISHED, /* nothing is left; the loop ends */
};

/* A worker's stack, while it is asked for (stacks.h). All zeros: it is not. */
struct look {
    uint64_t asked_at;     /* CLOCK_MONOTONIC, ns; 0: not */
    uint64_t request;      /* whose */
    uint32_t looks;        /* that the row counted then */
    bool slow;             /* for --slow-stack */
    uint64_t slow_request; /* the last one that was asked about for --slow-stack */
    void *query;           /* who wants to know; NULL: nobody */
};

/* A worker's meter (metrics.h). */
struct metering {
    struct meter *meter;                /* NULL: none */
    unsigned methods;                   /* that it has room for */
    struct metrics_table *table;        /* NULL: it has only those that every engine has */
    struct meter_figures *last;         /* one a method */
    uint64_t refused, late, shed, lost; /* as they were last */
    uint64_t read;                      /* records */
    bool spoilt;                        /* it is not read any more */
};

/* Why a worker is to be replaced by a fresh one. */
enum seat_due {
    SEAT_NOT_DUE,
    SEAT_DUE_REQUESTS, /* --max-requests */
    SEAT_DUE_PRIVATE,  /* --max-private */
    SEAT_DUE_AGE,      /* --max-age */
};

/* A worker's place, and what belongs to its present process: fresh for every one. */
struct seat {
    struct child child;
    struct master *master;
    struct generation *generation; /* NULL: no process */
    struct row *row;               /* NULL: no process */
    uint64_t key;                  /* the row's */
    int workspace;                 /* memfd (workspace.h); -1: none */
    int control;
    ev_io control_watcher;
    struct deadline deadline;
    struct stall stall;
    struct output output;
    struct look look;
    struct metering metering;
    enum end_cause end; /* what the master has done to its process */
    bool explained;     /* its process has said why it does not start */
    bool slow_start;    /* it has been said that its start() takes long */
    bool parked;        /* it has not been told to serve yet */
    bool outdated;      /* a reload replaces it */
    enum seat_due due;
    uint64_t
        leave_by; /* when patience ends with one that was told to leave; 0: not told, or not seen since */
    uint64_t most_calls, most_age; /* when it is due: requests, and ns; 0: never */
};

/* Numbers of workers. Three descriptors each in the master, below the first connection's number. */
#define SEATS_MAX (WORKERS_MAX + 32u)

/* What an event is about: LOG_FIELDS() of a seat's process, and more. */
#define SEAT_FIELDS(seat, ...)                                                                               \
    LOG_FIELDS(.worker = (seat)->child.number, .pid = (seat)->child.pid,                                     \
               .generation = (seat)->child.generation, __VA_ARGS__)

/* Whether its process has said that it is ready: only then does its row mean anything. */
static inline bool seat_serves(const struct seat *seat)
{
    return seat->child.state == CHILD_READY || seat->child.state == CHILD_LEAVING;
}

#define MASTER_DEATHS_KEPT 8

/* One of the last deaths, for status. */
struct death {
    unsigned worker;
    pid_t pid;
    uint64_t at;
    char cause[160];
    char report[REPORT_ID_SIZE]; /* id; empty: none, or not yet */
};

/* What is to survive an upgrade stands in handover_fields.h, too. */
struct master {
    const struct options *options;
    struct ev_loop *loop;
    enum master_state state;
    uint64_t started_at;
    uint64_t stop_at;    /* when patience with running calls ends */
    uint64_t leave_at;   /* when patience with workers that were told to leave ends */
    uint64_t quiet_at;   /* when patience with requests that are merely refused ends */
    uint64_t reports_at; /* when patience with reports ends that are not out yet; 0: it has not begun */
    int lock;
    struct slots slots;
    struct pool pool;
    struct seat *seats;             /* [0]: the stand-in; [n]: worker n, of 1 to seat_count */
    unsigned seat_count;            /* at most SEATS_MAX */
    struct generation *present;     /* whose workers are born */
    struct generation *generations; /* all, newest first */
    unsigned last_generation;       /* number */
    struct backoff births, loads;
    struct reload reload;
    struct admin *admin;
    struct crashes *crashes;
    struct stacks *stacks;
    struct metrics *metrics;
    struct heartbeat *heartbeat;
    unsigned look; /* counts request_log_look() */

    ev_io listener;
    ev_io lifeline;
    ev_signal signals[3];
    ev_signal reopen;      /* SIGUSR1 */
    ev_signal hangup;      /* SIGHUP: reload */
    ev_signal more, fewer; /* SIGTTIN, SIGTTOU: one worker */
    ev_signal upgrade;     /* SIGUSR2 */
    ev_signal children;    /* SIGCHLD */
    pid_t reaped;          /* whose death is being handled; 0: none */
    ev_timer tick;         /* every 100 ms, every 10 ms while a call runs */
    ev_timer doubt;        /* every 1 ms while a slot is in doubt */
    ev_io hangups;         /* clients that go away: cancel.c */
    ev_timer gone;         /* while a slot's client has gone */
    ev_timer sweep;        /* while lost connections are looked for: deaths.c */
    unsigned sweep_looks;
    bool sweep_again; /* another row was lost meanwhile */
    ev_timer resume;  /* accepting goes on after a pause for lack of descriptors */

    uint64_t queue_empty_at; /* when a look last found no request waiting (queue.h): CLOCK_MONOTONIC, ns */
    uint64_t past_calls;     /* of workers that are gone */
    uint64_t recycled;       /* workers that were due */
    uint64_t reloads, failed_reloads;
    uint64_t accepted, refused;
    uint64_t worker_deaths, forkserver_deaths;
    char load_problem[LOAD_PROBLEM_SIZE];    /* why there is no forkserver; empty: there is one */
    char start_problem[LOAD_PROBLEM_SIZE];   /* why the last worker did not start; empty: it did */
    struct death deaths[MASTER_DEATHS_KEPT]; /* ring: newest at (worker_deaths - 1) % MASTER_DEATHS_KEPT */
};

struct handover;

/* Never returns before the server has stopped; the exit code. */
int master_run(const struct options *options);
/* The same in a program that takes over from another (upgrade.h). */
int master_take_over(const struct options *options, struct handover *handover,
                     const msgpack_object *document);
/* The engine has loaded and a first worker is ready: opens the doors. */
void master_serve(struct master *master);
/* Begins a graceful stop, or with `now` one that does not wait; a second call hastens the first. */
void master_stop(struct master *master, bool now);
/* Before serving: ends the process with exit code 1, tidily. The reason has been logged. */
_Noreturn void master_abandon(struct master *master);
/* Takes a stop that has begun a step further, as far as it can go now; the last step ends the loop. To be
 * called from a watcher of the loop's and from nothing that will touch the master's parts afterwards. */
void master_look_at_stop(struct master *master);

#endif
