/* Part of the engine `fault`: signal handlers of the engine's own, as libraries have them. */
#include "fault.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>

static struct sigaction previous[NSIG];
static sigjmp_buf way_out;

static void recover(int number, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    siglongjmp(way_out, number);
}

/* Puts back what was there and returns: the instruction is run again, and fails again. */
static void chain(int number, siginfo_t *info, void *context)
{
    const struct sigaction *before = &previous[number];
    if ((before->sa_flags & SA_SIGINFO) != 0)
        before->sa_sigaction(number, info, context);
    else if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN)
        before->sa_handler(number);
    else
        sigaction(number, before, NULL);
}

static void die(int number, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    signal(number, SIG_DFL);
    raise(number); /* blocked until the handler returns */
}

static const struct {
    const char *what;
    void (*handler)(int number, siginfo_t *info, void *context);
} handlers[] = {{"recover", recover}, {"chain", chain}, {"die", die}};

int fault_own_handler(struct cohab_call *call)
{
    int number;
    const char *what;
    if (cohab_parse(call, "is", &number, &what) != 0)
        return -1;
    for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++) {
        if (strcmp(handlers[i].what, what) != 0)
            continue;
        struct sigaction action = {.sa_sigaction = handlers[i].handler, .sa_flags = SA_SIGINFO};
        if (number < 1 || number >= NSIG || sigaction(number, &action, &previous[number]) < 0)
            return cohab_fail(call, COHAB_INVALID_ARGUMENT, "signal %d: %s", number, strerror(errno));
        return 0;
    }
    return cohab_fail(call, COHAB_INVALID_ARGUMENT, "argument 2 'what': unknown kind '%s'", what);
}

int fault_recover(struct cohab_call *call)
{
    volatile int *volatile pointer = NULL;
    if (sigsetjmp(way_out, 1) == 0)
        *pointer = 1;
    return cohab_return(call, "s", "recovered");
}
