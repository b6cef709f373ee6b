/* PURE. A snapshot: what a process writes down of itself in the moment in which it crashes, or in which
 * somebody asks what it is doing. It lies behind the frame in the worker's request buffer, in shared memory,
 * so that it outlives its process. It holds nothing but raw facts (registers, a copy of the stack, the list
 * of mapped files), as whoever takes it is in a signal handler; frames and symbols are worked out of it by
 * the reporter (symbols.h).
 *
 * One writer: capture.c in the worker (or the forkserver). Readers treat it as untrusted: an engine can
 * scribble over it. They map it read-only and check every size and index that they use. */
#ifndef SNAPSHOT_H
#define SNAPSHOT_H

#include <stdatomic.h>
#include <stdint.h>

#define SNAPSHOT_REGISTERS  33u
#define SNAPSHOT_MAPS_SIZE  (64u << 10)
#define SNAPSHOT_STACK_SIZE (8u << 20)

enum snapshot_kind {
    SNAPSHOT_NONE = 0,
    SNAPSHOT_SIGNAL, /* a fatal signal */
    SNAPSHOT_EXIT,   /* exit(3) was called */
    SNAPSHOT_END,    /* ended for its deadline */
    SNAPSHOT_LIVE,   /* somebody asked; the process went on */
    SNAPSHOT_KIND_COUNT
};

/* What the process was doing, as it knew itself. */
enum snapshot_phase {
    SNAPSHOT_LOADING, /* forkserver, in load() */
    SNAPSHOT_STARTING,
    SNAPSHOT_SERVING,
    SNAPSHOT_LEAVING, /* in stop(), or behind it */
    SNAPSHOT_PHASE_COUNT
};

struct snapshot {
    _Atomic uint32_t kind; /* enum snapshot_kind; written last */
    uint32_t phase;        /* enum snapshot_phase */
    uint64_t serial;       /* of the snapshots of this process, from 1 */
    uint64_t request;      /* number of the request, as in the row; 0: none was running */
    uint64_t at;           /* CLOCK_MONOTONIC, ns */
    int32_t signal;        /* SNAPSHOT_SIGNAL */
    int32_t code;          /* si_code */
    uint64_t address;      /* si_addr */
    int32_t sender_pid;    /* si_pid, where the signal was sent */
    uint32_t sender_uid;
    int32_t self_pid;
    int32_t thread;     /* thread id; that of the main thread is self_pid */
    int32_t status;     /* SNAPSHOT_EXIT */
    int32_t error;      /* errno */
    uint64_t data_size; /* private writable memory, what RLIMIT_DATA counts; bytes */
    /* By DWARF's numbers. x86-64: 0 to 15, and the program counter at 16. AArch64: x0 to x30, the stack
     * pointer at 31, the program counter at 32. */
    uint64_t registers[SNAPSHOT_REGISTERS];
    uint64_t stack_from; /* address of stack[0] */
    uint64_t stack_size; /* bytes that stack[] holds; 0: the stack pointer led nowhere */
    uint32_t maps_size;  /* bytes in maps[] */
    uint32_t maps_cut;   /* not 0: there were more */
    /* Lines of /proc/self/maps that belong to files or to the vdso, each with its line end. */
    char maps[SNAPSHOT_MAPS_SIZE];
    _Alignas(4096) unsigned char stack[SNAPSHOT_STACK_SIZE];
};

_Static_assert(sizeof(struct snapshot) % 4096 == 0, "a whole number of pages");

#endif
