/* A worker's workspace: the memory that one worker process shares with the master, as one memfd, so that
 * it takes one descriptor and all of it can be found again by who has that. Its parts, one after the other:
 * request buffer, snapshot, row, meter. The master creates it before the process exists, and closes it after
 * its death. */
#ifndef WORKSPACE_H
#define WORKSPACE_H

#include "meter.h"
#include "row.h"
#include "serve.h"
#include "snapshot.h"

/* Where the parts begin; the request buffer at 0. */
static inline size_t workspace_snapshot(uint32_t max_frame)
{
    return serve_buffer_size(max_frame);
}

static inline size_t workspace_row(uint32_t max_frame)
{
    return workspace_snapshot(max_frame) + sizeof(struct snapshot);
}

static inline size_t workspace_meter(uint32_t max_frame)
{
    return workspace_row(max_frame) + ROW_SIZE;
}

/* methods: that the meter has room for. */
static inline size_t workspace_size(uint32_t max_frame, unsigned methods)
{
    return workspace_meter(max_frame) + meter_size(methods);
}

#endif
