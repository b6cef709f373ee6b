/* The work that every program compared does: the same as engine/echo's methods. C and C++. */
#ifndef WORK_H
#define WORK_H

#include <errno.h>
#include <time.h>

static inline double work_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Waits that long without using the CPU. */
static inline void work_sleep(double seconds)
{
    struct timespec left;
    left.tv_sec = (time_t)seconds;
    left.tv_nsec = (long)((seconds - (double)left.tv_sec) * 1e9);
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        continue;
}

/* Uses that much CPU time of the calling thread, however many share the core. */
static inline void work_spin(double seconds)
{
    enum { STEP = 1000 }; /* additions between two looks at the clock: about a microsecond */
    double start = work_clock(CLOCK_THREAD_CPUTIME_ID);
    volatile unsigned sum = 0;
    while (work_clock(CLOCK_THREAD_CPUTIME_ID) - start < seconds) {
        for (unsigned i = 0; i < STEP; i++)
            sum = sum + i;
    }
}

/* Dies of SIGSEGV. */
static inline void work_crash(void)
{
    volatile int *volatile pointer = (volatile int *)8;
    *pointer = 1;
}

#endif
