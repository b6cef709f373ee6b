/* What the kernel must be able to do, found out at start. */
#ifndef PROBE_H
#define PROBE_H

/* A failed epoll_wait must leave the event in place: recovery rests on the kernel recording a claim in the
 * very step in which it consumes the event (docs/architecture.md). Ends the process, saying why, where that
 * does not hold (gVisor). */
void probe_kernel(void);

#endif
