#include "standin.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crashes.h"
#include "descriptors.h"
#include "ipc.h"
#include "notify.h"
#include "title.h"
#include "worker.h"

/* Where it finds what a worker is given. */
enum {
    STANDIN_CONTROL = STDERR_FILENO + 1,
    STANDIN_WORKSPACE,
    STANDIN_END,
};

/* --- the master --- */

/* In the forked child, until exec. Sources may lie where others are to go: all are moved out of the way
 * first. */
static int place_descriptors(const struct master *master, const int *descriptors)
{
    const int from[] = {descriptors[IPC_FORK_CONTROL],
                        descriptors[IPC_FORK_WORKSPACE],
                        descriptors[IPC_FORK_OUTPUT],
                        descriptors[IPC_FORK_OUTPUT],
                        master->slots.set,
                        master->crashes->table};
    const int to[] = {STANDIN_CONTROL, STANDIN_WORKSPACE, STDOUT_FILENO, STDERR_FILENO,
                      FD_SET,          FD_QUARANTINE};
    int moved[sizeof(from) / sizeof(*from)];
    for (size_t i = 0; i < sizeof(from) / sizeof(*from); i++)
        if ((moved[i] = fcntl(from[i], F_DUPFD, FD_HANDED_END)) < 0)
            return -1;
    for (size_t i = 0; i < sizeof(from) / sizeof(*from); i++)
        if (dup2(moved[i], to[i]) < 0)
            return -1;
    return close_range(STANDIN_END, FD_SET - 1, 0) < 0 || close_range(FD_SET + 1, FD_QUARANTINE - 1, 0) < 0 ||
                   close_range(FD_HANDED_END, ~0u, 0) < 0
               ? -1
               : 0;
}

_Noreturn static void become_standin(const struct master *master, const int *descriptors, char **argv)
{
    sigset_t none;
    sigemptyset(&none);
    setpgid(0, 0); /* Ctrl-C is for the master alone */
    if (place_descriptors(master, descriptors) < 0 || sigprocmask(SIG_SETMASK, &none, NULL) < 0)
        _exit(EXIT_FAILURE);
    signal(SIGHUP, SIG_DFL);
    signal(SIGUSR1, SIG_IGN); /* meant for the master's log, but sent to the whole control group */
    signal(SIGXFSZ, SIG_DFL);
    notify_forget();
    execv("/proc/self/exe", argv);
    _exit(EXIT_FAILURE);
}

pid_t standin_start(struct master *master, const int *descriptors)
{
    static char argv0[TITLE_ROOM];
    int count = 1 + master->options->word_count;
    char **argv = calloc((size_t)count + 1, sizeof(*argv));
    if (!argv)
        return -1;
    memset(argv0, ' ', sizeof(argv0) - 1);
    memcpy(argv0, STANDIN_ARGV0, sizeof(STANDIN_ARGV0) - 1);
    memcpy(argv + 1, master->options->words, (size_t)(count - 1) * sizeof(*argv));
    argv[0] = argv0;
    pid_t pid = fork();
    if (pid == 0)
        become_standin(master, descriptors, argv);
    free(argv);
    return pid;
}

void standin_tell(struct master *master)
{
    struct seat *seat = &master->seats[0];
    const char *problem = master->load_problem[0] ? master->load_problem : master->start_problem;
    if (seat->row && master->state == MASTER_SERVING)
        row_publish_refusal(seat->row, *problem ? problem : "workers die as soon as they are born");
}

/* --- the process --- */

void standin_run(const struct options *options)
{
    static const struct cohab_engine description = {
        .abi = COHAB_ENGINE_ABI, .size = sizeof(description), .name = "(none)", .version = ""};
    static struct engine engine = {.description = &description};
    const struct worker_birth birth = {.number = 0,
                                       .master = getppid(),
                                       .control = STANDIN_CONTROL,
                                       .workspace = STANDIN_WORKSPACE,
                                       .output = -1};
    fcntl(FD_SET, F_SETFD, FD_CLOEXEC);
    worker_run(&birth, options, &engine);
}
