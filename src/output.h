/* Part of the master: what an engine prints, and what cohab itself has to say in a child. Each process writes
 * to a pipe of its own, which never makes it wait: what a full pipe has no room for is lost. The master logs
 * it line by line, and keeps the end of it for a crash report. */
#ifndef OUTPUT_H
#define OUTPUT_H

#include <ev.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "reporter.h"

#define OUTPUT_LINE_SIZE 1024u
/* Numbers of processes that are no workers. */
#define OUTPUT_FORKSERVER 0u
#define OUTPUT_REPORTER   UINT_MAX
#define OUTPUT_STANDIN    (UINT_MAX - 1)
#define OUTPUT_CHECK      (UINT_MAX - 2)

struct output {
    struct ev_loop *loop;
    ev_io watcher;       /* fd -1: none */
    unsigned number;     /* of the worker, or one of the above */
    pid_t pid;           /* set by the owner once it is known; 0 until then */
    unsigned lines_left; /* that may be logged until output_resume() */
    unsigned skipped;    /* lines that were not, since this was last said */
    size_t line_size;
    char line[OUTPUT_LINE_SIZE]; /* what has no end yet */
    size_t tail_size;
    char tail[2 * REPORT_STDERR_SIZE]; /* the last REPORT_STDERR_SIZE bytes of it count */
};

/* Begins with a new process. Returns the descriptor for it to write to, the caller's to close; -1 with errno.
 */
int output_open(struct output *output, struct ev_loop *loop, unsigned number);
/* Goes on with one that was begun by another program: descriptor, number, pid and bytes are there. */
void output_adopt(struct output *output, struct ev_loop *loop);
/* That many lines were not logged before. */
void output_restore(uint64_t lines_skipped);
/* A new tick: so many lines of all processes may be logged until the next one, since each takes time. */
void output_tick(void);
/* Goes on with what was held up, as one that prints without end was; to be called once a tick. */
void output_resume(struct output *output);
/* Lines of all processes that were not logged, as there were too many at a time. */
uint64_t output_lines_skipped(void);
/* At the end of the process: reads what is left, but no more than a pipe holds: processes that the engine has
 * left behind may go on printing. */
void output_drain(struct output *output);
void output_close(struct output *output);
/* Copies the last bytes. Returns how many. */
size_t output_copy_tail(const struct output *output, char *bytes, size_t size);

#endif
