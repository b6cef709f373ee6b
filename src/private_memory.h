/* In a worker: how much memory is its own, no longer shared with the forkserver and the other workers: what
 * --max-private counts. The kernel adds it up over all page tables, which takes milliseconds where gigabytes
 * are shared: measured between requests, and seldom enough to cost one part in a hundred of the time. */
#ifndef PRIVATE_MEMORY_H
#define PRIVATE_MEMORY_H

#include "row.h"

/* Opens this process's /proc/self/smaps_rollup, at FD_MEMORY. -1 with errno. */
int private_memory_open(void);
/* Measures, if it is time, and writes the figure into the row. */
void private_memory_note(struct row *row);

#endif
