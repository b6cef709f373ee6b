/* Whether the kernel kills processes of this control group for lack of memory: the group's own count of that,
 * by cgroup v2 (memory.events) or v1 (memory.oom_control). */
#ifndef OOM_H
#define OOM_H

#include <stdbool.h>
#include <stdint.h>

struct oom {
    char path[4096];     /* empty: there is no such count */
    uint64_t seen;       /* kills that have been told apart, or are too old */
    uint64_t pending;    /* kills that were counted, and belong to a death that is not known yet */
    uint64_t pending_at; /* CLOCK_MONOTONIC, ns */
};

/* Finds the group of a process, which its children share, in its /proc/PID/cgroup and /proc/PID/mountinfo. */
void oom_init(struct oom *oom, const char *groups, const char *mounts);
/* Of a death by SIGKILL that nobody of cohab's has caused: whether there was a kill that is not accounted for
 * yet. One is, then. */
bool oom_take(struct oom *oom, uint64_t now);

#endif
