/* PURE. Reads crash reports: one msgpack map each (docs/debugging.md). Whoever can write the file may
 * have written anything into it: its bounds are checked, and what is not the request's own frame must be
 * small, before anything is built from it. The frame, which can be huge, is pointed at and never looked into.
 */
#ifndef REPORT_READ_H
#define REPORT_READ_H

#include <stdbool.h>
#include <stddef.h>

#include <msgpack.h>

#include "envelope.h"
#include "report_id.h"

#define REPORT_VERSION 1
/* Most bytes of a report besides the request's frame. */
#define REPORT_REST_MAX (4u << 20)

enum report_result {
    REPORT_OK,
    REPORT_FOREIGN,   /* no whole report: cut off, or something else */
    REPORT_NEWER,     /* of a format that this version does not know */
    REPORT_TOO_LARGE, /* larger than any that is written */
    REPORT_NO_MEMORY,
};

struct report {
    msgpack_zone zone;
    msgpack_object root;        /* a map; leads into zone and the bytes */
    const unsigned char *frame; /* of the request: length word and body. NULL: the report has none */
    size_t frame_size;
    bool has_request; /* also where its frame was left out */
};

/* The bytes must outlive the report, which is to be closed after REPORT_OK alone. */
enum report_result report_open(struct report *report, const unsigned char *bytes, size_t size);
void report_close(struct report *report);
/* "", or one clause for people. */
const char *report_explain(enum report_result result);

/* Reads the request that the report holds; its pointers lead into the report. False with one clause in *why.
 */
bool report_read_request(const struct report *report, struct envelope_request *request, const char **why);

#endif
