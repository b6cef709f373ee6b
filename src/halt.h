/* PURE. A worker is never killed at a guess: it is stopped (SIGSTOP), looked at again, and then killed or
 * continued. */
#ifndef HALT_H
#define HALT_H

#include <stdbool.h>
#include <stdint.h>

/* In ns. What sleeps in the kernel (in vfork, on a dead file server, under a debugger) takes no stop signal;
 * but with one pending it does not get back to its own code either, so that after this time the row is as
 * good as that of a stopped one. */
#define HALT_PATIENCE UINT64_C(200000000)

/* Whether the second look can be taken, with SIGSTOP sent at `since`. */
static inline bool halt_is_over(bool stopped, uint64_t since, uint64_t now)
{
    return stopped || now - since >= HALT_PATIENCE;
}

#endif
