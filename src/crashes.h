/* Part of the master: what becomes of a crash. Reports are the reporter's work (reporter.h); here its jobs
 * are queued, the callers wait for its word (but not for long), and quarantine is told. */
#ifndef CRASHES_H
#define CRASHES_H

#include <stdbool.h>

#include "master.h"
#include "oom.h"
#include "quarantine.h"
#include "recovery.h"
#include "reporter.h"

struct crash;

/* Who has asked for a stack; called once, with nothing to be had where the reporter is gone. */
typedef void crash_listener(void *context, const struct reporter_reply *reply);

struct crashes {
    struct master *master;
    pid_t reporter; /* 0: none */
    int program;    /* the reporter's file; -1: there is none */
    ev_io socket;   /* fd -1: none */
    struct output output;
    struct backoff backoff;
    uint64_t born_at;
    uint64_t written_before;     /* reports, when it was born */
    struct crash *first, **last; /* jobs under way, oldest first */
    unsigned unsent;             /* of those, not with the reporter yet */
    unsigned held;               /* of those, with a caller that waits */
    uint32_t number;             /* of the last job */
    ev_timer due;                /* while any caller waits */
    struct quarantine book;
    int table;      /* memfd of the book's table */
    int table_view; /* the same, to be read alone: what children are given */
    struct oom oom;
    uint64_t written, lost;
    unsigned warmed;      /* the generation whose symbols the reporter has been told to read */
    char directory[4096]; /* empty: no reports are written */
};

/* Before the first forkserver. Ends the process where it cannot work. */
void crashes_init(struct master *master);
/* The same with a table that there is already, and without a reporter. */
void crashes_init_with(struct master *master, int table, int table_view);
/* Before another program takes over: callers wait no longer, and the reporter is left to finish by itself. It
 * is missed here when it dies, if there is no other program after all. */
void crashes_hand_over(struct master *master);
/* The reporter's process was reaped. */
void crashes_reporter_died(struct master *master, int status);
/* Starts one, if none is there and it is time. */
void crashes_start_reporter(struct master *master);

/* A job about a process of that generation, with what the master knows of itself filled in; NULL without
 * memory. */
struct crash *crashes_new(struct master *master, const struct generation *generation,
                          enum reporter_job_kind kind);
struct reporter_job *crashes_job(struct crash *crash);
/* Sends it, with the memory (borrowed) and the last output of the process. It is the reporter's from here on:
 * NULL where it could not be sent; else it stays valid until control returns to the loop. */
struct crash *crashes_send(struct crash *crash, int memory, const struct output *output);
/* Has the caller of the request wait for the reporter's word; then the plan is carried out. */
void crashes_hold(struct crash *crash, uint64_t claim, const struct recovery_plan *plan);
/* For a job that is no report. */
void crashes_listen(struct crash *crash, crash_listener *listener, void *context);
void crashes_forget_listener(struct master *master, const void *context);
/* Notes the death that status tells of, as its report is to be named there. */
void crashes_note_death(struct crash *crash, uint64_t death);

/* From time to time: lets the reporter read the symbols of a new generation. */
void crashes_warm(struct master *master);

/* Whether the slot's present tenant waits for an answer of ours. */
bool crashes_holds(const struct master *master, uint64_t claim);
/* Whether a report, or a caller's answer, is still to come. */
bool crashes_under_way(const struct master *master);
/* Before serving and after it: waits for what the reporter has to say, but not for long. */
void crashes_wait(struct master *master);
/* Has the reporter end, and waits for that, but not for long. Nothing can be reported any more. */
void crashes_end(struct master *master);

#endif
