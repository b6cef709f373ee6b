/* ROLE reporter: what the master and cohabd-reporter say to each other. The reporter is a child of the master
 * that does everything slow about crashes: it unwinds stacks, looks symbols up, writes reports. It is an
 * executable of its own, since what it links (libdw and its compressors) must not stand in an engine's way by
 * its symbols, and is started with the master's command line and its socket at REPORTER_SOCKET.
 *
 * The master sends jobs, each with a worker's request buffer. The reporter answers each twice: with
 * REPORTER_QUICK as soon as it can, with what needs no symbols; with REPORTER_DONE when all is done. At the
 * end of file it finishes what it has, and ends. Both sides are of one build: the master executes the file
 * that lay beside it when it started. */
#ifndef REPORTER_H
#define REPORTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "report_id.h"
#include "row.h"

#define REPORTER_SOCKET 3

#define REPORT_STDERR_SIZE (16u << 10)

enum reporter_job_kind {
    REPORTER_DEATH, /* a process died: a report */
    REPORTER_SLOW,  /* a call takes long: a report of its stack */
    REPORTER_STACK, /* somebody wants to know what runs: no report */
    REPORTER_WARM,  /* workers have come to be: their symbols are to be at hand when one of them crashes */
};

/* What the master knows about the end of a process, beyond its wait status. */
enum end_cause {
    END_OWN,         /* nothing: it died of itself, or at somebody else's hands */
    END_DEADLINE,    /* ended for the deadline of its call */
    END_CANCELLED,   /* ended as the client of its call had gone away (--cancel-kill) */
    END_KILLED,      /* ended as an operator wanted its call ended (cohab kill) */
    END_STALLED,     /* it held a connection and did not go on: killed */
    END_ROGUE,       /* its engine wrote to cohab's control socket: killed */
    END_DESCRIPTORS, /* it found that a descriptor of cohab's was gone */
    END_OOM,         /* killed for lack of memory, as far as the control group tells */
};

/* Whether the master has ended a request, in the way of deadline.h. */
static inline bool end_is_of_request(uint32_t end)
{
    return end == END_DEADLINE || end == END_CANCELLED || end == END_KILLED;
}

enum report_phase { PHASE_LOAD, PHASE_START, PHASE_CALL, PHASE_IDLE, PHASE_STOP };

struct reporter_job {
    uint32_t kind;   /* enum reporter_job_kind */
    uint32_t number; /* of the job, from 1 */
    double time;     /* CLOCK_REALTIME, s */
    uint64_t at;     /* CLOCK_MONOTONIC, ns */
    /* The process. */
    uint32_t worker; /* 0: the forkserver */
    int32_t pid;
    uint32_t generation;
    int32_t status;    /* as of wait(2) */
    uint32_t end;      /* enum end_cause */
    uint32_t phase;    /* enum report_phase */
    uint64_t born_at;  /* CLOCK_MONOTONIC, ns */
    uint64_t served;   /* requests */
    uint64_t peak;     /* most resident memory, bytes; 0: unknown */
    uint64_t snapshot; /* where it is in the memory that comes with the job */
    /* The request that ran; where it is 0 there was none, and what follows means nothing. */
    uint64_t request; /* number */
    uint32_t msgid;
    uint32_t idempotent;
    uint64_t started;  /* CLOCK_MONOTONIC, ns */
    uint64_t queued;   /* as the row has it, ns */
    uint64_t received; /* bytes at the beginning of that memory */
    int32_t peer_pid;  /* 0: unknown */
    uint32_t peer_uid;
    char method[ROW_METHOD_SIZE + 1];
    /* The engine. */
    char engine_name[256], engine_version[256], build_id[64];
    uint32_t engine_args; /* how many */
    char engine[8192];    /* its path and arguments, each terminated */
    uint64_t key[2];      /* for the hash of the request */
    uint32_t stderr_size;
    char stderr_tail[REPORT_STDERR_SIZE]; /* sent as far as it is used */
};

enum reporter_reply_type { REPORTER_QUICK = 1, REPORTER_DONE };

/* Counts for quarantine: how the worker was killed. */
enum report_kill { KILL_NOT_ITS_OWN, KILL_OWN, KILL_DEADLINE };

#define REPORTER_TEXT_SIZE 256u
#define REPORTER_DATA_SIZE (48u << 10)

struct reporter_reply {
    uint32_t type;
    uint32_t number;         /* of the job */
    char id[REPORT_ID_SIZE]; /* of the report; empty: none is, or could be, written */
    /* QUICK */
    uint32_t kill; /* enum report_kill */
    uint32_t padding;
    uint64_t hash;     /* of the request; 0: unknown */
    uint64_t size;     /* of its parameters */
    uint64_t deadline; /* that it brought; CLOCK_MONOTONIC, ns; 0: none */
    /* Both */
    char cause[REPORTER_TEXT_SIZE]; /* "SIGSEGV in suggest()" */
    char top[REPORTER_TEXT_SIZE];   /* the frame to blame: in QUICK module and offset; empty: no stack */
    char no_stack[REPORTER_TEXT_SIZE];
    /* DONE. Of a death: texts of the innermost frames, each terminated. Else: the stack as in a report, one
     * msgpack array. */
    uint32_t frames; /* of a death */
    uint32_t data_size;
    char data[REPORTER_DATA_SIZE];
};

#define REPORTER_JOB_SIZE(job)     (offsetof(struct reporter_job, stderr_tail) + (job)->stderr_size)
#define REPORTER_REPLY_SIZE(reply) (offsetof(struct reporter_reply, data) + (reply)->data_size)

#endif
