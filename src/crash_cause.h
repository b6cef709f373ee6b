/* PURE. Why a process died: what its wait status, its master and its snapshot say, put together. The snapshot
 * is believed only where it fits what the other two say: it lies in memory that an engine can write to. */
#ifndef CRASH_CAUSE_H
#define CRASH_CAUSE_H

#include <stdbool.h>
#include <stdint.h>

#include "reporter.h"
#include "snapshot.h"

struct crash_cause {
    const char *kind; /* "signal", "exit", "deadline", "cancelled", "killed", "memory_limit", "oom_kill",
                         "stalled", "descriptors", "rogue", "slow": static */
    char text[REPORTER_TEXT_SIZE]; /* one line */
    int signal;                    /* 0: none */
    char signal_name[24];          /* "SIGSEGV" */
    const char *code;              /* "SEGV_MAPERR"; NULL: unknown */
    bool has_address;
    uint64_t address;
    bool sent; /* by sender_pid, sender_uid */
    int sender_pid;
    unsigned sender_uid;
    bool own;   /* the process raised it, or called exit, itself */
    int status; /* -1: it did not exit */
    bool core;
    bool has_snapshot; /* the snapshot is of this very end */
    enum report_phase phase;
    enum report_kill kill;
    char no_stack[REPORTER_TEXT_SIZE]; /* why there is no stack; empty where there should be one */
};

/* limit: of --max-memory, bytes, 0: none. */
void crash_cause_find(const struct reporter_job *job, const struct snapshot *snapshot, uint64_t limit,
                      struct crash_cause *cause);

/* "SIGSEGV", "SIGRTMIN+3", "signal 33". Returns text. */
const char *crash_signal_name(int signal, char *text, size_t size);

#endif
