/* Part of the engine `fault`: signal handlers of the engine's own, as libraries have them. */
#include "fault.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static struct sigaction previous[NSIG];
static sigjmp_buf way_out;

/* So that a test can see that it ran. */
static void announce(void)
{
    static const char words[] = "fault: a handler of its own\n";
    ssize_t written = write(STDERR_FILENO, words, sizeof(words) - 1);
    (void)written;
}

static void recover(int number, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    announce();
    siglongjmp(way_out, number);
}

/* Puts back what was there and returns: the instruction is run again, and fails again. */
static void chain(int number, siginfo_t *info, void *context)
{
    const struct sigaction *before = &previous[number];
    announce();
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
    announce();
    signal(number, SIG_DFL);
    raise(number); /* blocked until the handler returns */
}

static const struct {
    const char *what;
    void (*handler)(int number, siginfo_t *info, void *context);
} handlers[] = {{"recover", recover}, {"chain", chain}, {"die", die}};

int fault_install_handler(int number, const char *what)
{
    for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++) {
        if (strcmp(handlers[i].what, what) != 0)
            continue;
        struct sigaction action = {.sa_sigaction = handlers[i].handler, .sa_flags = SA_SIGINFO};
        if (number >= 1 && number < NSIG)
            return sigaction(number, &action, &previous[number]);
    }
    errno = EINVAL;
    return -1;
}

int fault_own_handler(struct cohab_call *call)
{
    int number;
    const char *what;
    if (cohab_parse(call, "is", &number, &what) != 0)
        return -1;
    if (fault_install_handler(number, what) < 0)
        return cohab_fail(call, COHAB_INVALID_ARGUMENT, "signal %d, '%s': %s", number, what, strerror(errno));
    return 0;
}

int fault_recover(struct cohab_call *call)
{
    volatile int *volatile pointer = NULL;
    if (sigsetjmp(way_out, 1) == 0)
        *pointer = 1;
    return cohab_return(call, "s", "recovered");
}
