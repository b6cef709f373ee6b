#include "replay_server.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client.h"

/* Of a directory in which the socket's name has room. */
#define LONGEST_PARENT 60
#define END_PATIENCE   5.0                /* seconds */
#define LOOK_PAUSE     (10 * 1000 * 1000) /* ns */

static const int caught_signals[] = {SIGINT, SIGTERM, SIGHUP};

/* For the signal handler. */
static volatile sig_atomic_t caught;
static volatile pid_t running; /* 0: there is none */

static int lifeline[2] = {-1, -1};
static char removed[sizeof((struct replay_server *)NULL)->directory]; /* at the end; "": nothing */

/* What waits for the server then sees that it is gone. */
static void on_signal(int signal)
{
    caught = signal;
    if (running > 0)
        kill(running, SIGQUIT);
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal}, old;

    for (size_t i = 0; i < sizeof caught_signals / sizeof caught_signals[0]; i++)
        if (sigaction(caught_signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(caught_signals[i], &action, NULL);
}

static void look_later(void)
{
    nanosleep(&(struct timespec){.tv_nsec = LOOK_PAUSE}, NULL);
}

/* Whether there is no process any more. */
static bool has_ended(void)
{
    if (running > 0 && waitpid(running, NULL, WNOHANG) != 0)
        running = 0;
    return running == 0;
}

static bool wait_end(double seconds)
{
    uint64_t until = client_after(seconds);

    while (!has_ended() && client_now() < until)
        look_later();
    return has_ended();
}

/* --- the directory --- */

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)status;
    (void)kind;
    (void)place;
    return remove(path);
}

static int make_directory(struct replay_server *server)
{
    const char *parent = getenv("TMPDIR");

    if (!parent || *parent != '/' || strlen(parent) > LONGEST_PARENT)
        parent = "/tmp";
    snprintf(server->directory, sizeof server->directory, "%s/cohab-replay-XXXXXX", parent);
    if (!mkdtemp(server->directory))
        return -1;
    strcpy(removed, server->directory);
    snprintf(server->socket, sizeof server->socket, "%s/s", server->directory);
    snprintf(server->reports, sizeof server->reports, "%s/crash", server->directory);
    snprintf(server->log, sizeof server->log, "%s/log", server->directory);
    return mkdir(server->reports, 0700);
}

int replay_server_prepare(struct replay_server *server)
{
    atexit(replay_server_end); /* for ends that nobody has thought of */
    catch_signals();
    return make_directory(server);
}

/* --- its life --- */

static void become_server(const struct replay_server *server, char *const *command)
{
    int log = open(server->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    setpgid(0, 0); /* Ctrl-C is the tool's alone */
    if (log < 0 || null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 ||
        dup2(log, STDERR_FILENO) < 0)
        _exit(EXIT_FAILURE);
    if (lifeline[0] == REPLAY_SERVER_LIFELINE)
        fcntl(lifeline[0], F_SETFD, 0);
    else if (dup2(lifeline[0], REPLAY_SERVER_LIFELINE) < 0)
        _exit(EXIT_FAILURE);
    execv(command[0], command);
    dprintf(STDERR_FILENO, "%s: %s\n", command[0], strerror(errno));
    _exit(EXIT_FAILURE);
}

int replay_server_start(const struct replay_server *server, char *const *command)
{
    if (pipe2(lifeline, O_CLOEXEC) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0)
        become_server(server, command);
    if (pid < 0)
        return -1;
    setpgid(pid, pid); /* whoever is first: it has one before it is signalled */
    running = pid;
    if (caught)
        kill(pid, SIGQUIT); /* it came before there was anything to end */
    return 0;
}

static bool is_up(const struct replay_server *server)
{
    struct client client;
    bool up = client_connect(&client, server->socket, false, client_after(1)) == 0;

    client_close(&client);
    return up;
}

enum replay_server_state replay_server_wait(const struct replay_server *server, double seconds)
{
    uint64_t until = client_after(seconds);

    while (client_now() < until) {
        if (has_ended())
            return REPLAY_SERVER_ENDED;
        if (is_up(server))
            return REPLAY_SERVER_UP;
        look_later();
    }
    return REPLAY_SERVER_LATE;
}

void replay_server_stop(double seconds)
{
    if (running > 0)
        kill(running, SIGTERM);
    wait_end(seconds);
}

static void end_process(void)
{
    pid_t group = running;

    if (running == 0)
        return;
    kill(running, SIGQUIT);
    if (!wait_end(END_PATIENCE)) {
        kill(-group, SIGKILL);
        wait_end(END_PATIENCE);
    }
}

void replay_server_end(void)
{
    end_process();
    if (*removed)
        nftw(removed, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    *removed = '\0';
    int signal_caught = caught;
    if (signal_caught == 0)
        return;
    signal(signal_caught, SIG_DFL);
    raise(signal_caught);
}
