/* A report as it lies in a file (docs/debugging.md has its keys): one msgpack map. Written in two steps, so
 * that a reporter that dies over a stack leaves a report without one. */
#ifndef REPORT_WRITE_H
#define REPORT_WRITE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <msgpack.h>

#include "crash_cause.h"
#include "envelope.h"
#include "options.h"
#include "reporter.h"
#include "symbols.h"

/* All that a report is made of. */
struct report_facts {
    const struct reporter_job *job;
    const struct options *options;
    const struct crash_cause *cause;
    const char *id;
    const unsigned char *frame; /* the request as it was received, header included; NULL: there is none, or
                                   none whole */
    size_t frame_size;
    const struct envelope_request *request; /* the frame, understood; NULL: it could not be */
    uint64_t hash;                          /* 0: unknown */
    uint64_t queued;                        /* ns; UINT64_MAX: unknown */
};

/* Writes everything but the stack, and says in its place that there is none. Returns the offset at which
 * report_write_stack() goes on, -1 on failure. */
long report_write_facts(FILE *stream, const struct report_facts *facts);
/* Replaces what stands there by the stack. -1 on failure. */
int report_write_stack(FILE *stream, long offset, const struct symbols_frame *frames, size_t count,
                       const char *no_stack);
/* One msgpack array of maps. */
void report_pack_stack(msgpack_packer *packer, const struct symbols_frame *frames, size_t count);

#endif
