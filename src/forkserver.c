#include "forkserver.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "build_id.h"
#include "capture.h"
#include "descriptors.h"
#include "engine_load.h"
#include "ipc.h"
#include "meter.h"
#include "preload.h"
#include "shared.h"
#include "text.h"
#include "title.h"
#include "worker.h"

#define THREAD_NAMES_SIZE 512

struct forkserver {
    const struct options *options;
    struct engine engine;
    pid_t master;
};

static void tell_master(enum ipc_type type, unsigned number, const char *text)
{
    struct ipc_message message = {.type = (uint32_t)type, .number = number};
    if (text)
        ipc_set_text(&message, text);
    if (ipc_send(FD_FORKSERVER, &message, 0) < 0)
        _exit(EXIT_FAILURE); /* the master is gone */
}

/* --- what load() may not leave behind --- */

/* Adds a thread's name to the list, if it is still there. */
static bool add_thread(struct text *names, const char *id, bool first)
{
    char path[64 + sizeof(((struct dirent *)0)->d_name)], name[32];
    snprintf(path, sizeof(path), "/proc/self/task/%s/comm", id);
    FILE *file = fopen(path, "re");
    bool found = file && fgets(name, sizeof(name), file);
    if (file)
        fclose(file);
    if (!found)
        return false;
    name[strcspn(name, "\n")] = '\0';
    text_add(names, "%s'%s'", first ? "" : ", ", name);
    return true;
}

/* The names of threads other than this one: they do not survive fork. Returns how many there are. */
static unsigned find_other_threads(char *list, size_t size)
{
    unsigned count = 0;
    struct text names = text_open(list, size);
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *entry; tasks && (entry = readdir(tasks));)
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != (int)getpid())
            count += add_thread(&names, entry->d_name, count == 0);
    if (tasks)
        closedir(tasks);
    text_close(&names);
    return count;
}

/* Whether there are any: the directory of them has a link for each, and two of its own. Cheap, and without
 * memory: what load() has built is to stay as it is. */
static bool has_threads(void)
{
    struct stat tasks;
    return stat("/proc/self/task", &tasks) == 0 && tasks.st_nlink > 3;
}

static int check_leftovers(struct engine *engine)
{
    char names[THREAD_NAMES_SIZE];
    unsigned threads = find_other_threads(names, sizeof(names));
    if (threads > 0)
        return cohab_setup_fail(&engine->setup,
                                "load() left %s running (%s): threads do not survive the fork of a worker; "
                                "create them in start()",
                                threads == 1 ? "a thread" : "threads", names);
    int descriptor = descriptors_find_foreign();
    if (descriptor >= 0)
        return cohab_setup_fail(
            &engine->setup,
            "load() left descriptor %d open: numbers from %d on belong to cohab's connections", descriptor,
            (int)FD_OWN);
    return 0;
}

int forkserver_load(struct engine *engine, const struct options *options)
{
    if (engine_open(engine, options->engine_path, options->engine_argc, options->engine_argv) < 0 ||
        engine_run_load(engine) < 0)
        return -1;
    /* A replay forks nothing, and has no connections: there, valgrind keeps descriptors of its own. */
    if (!options->replay && check_leftovers(engine) < 0)
        return -1;
    fflush(NULL); /* else every worker would write it again */
    return 0;
}

/* --- births --- */

/* Forks twice: the process in the middle exits, so that the worker becomes a child of the master, the nearest
 * subreaper. The first is a vfork: that process runs on the forkserver's memory while the forkserver waits,
 * and spares a second copy of the page tables. Returns 0 or an errno value. */
static int fork_worker(struct forkserver *forkserver, struct worker_birth *birth)
{
    pid_t middle = vfork();
    if (middle < 0)
        return errno;
    if (middle == 0) {
        birth->middle = getpid();
        pid_t worker = fork();
        if (worker == 0)
            worker_run(birth, forkserver->options, &forkserver->engine);
        _exit(worker < 0 ? errno : 0);
    }
    int status;
    while (waitpid(middle, &status, 0) < 0)
        if (errno != EINTR)
            return errno == ECHILD ? 0 : errno; /* the engine has SIGCHLD ignored: it exited, somehow */
    return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

static void handle_fork(struct forkserver *forkserver, struct ipc_message *message)
{
    if (message->type != IPC_FORK || message->descriptor_count != IPC_FORK_DESCRIPTORS)
        fatal("forkserver: unknown message %u", message->type);
    struct worker_birth birth = {.number = message->number,
                                 .master = forkserver->master,
                                 .control = message->descriptors[IPC_FORK_CONTROL],
                                 .workspace = message->descriptors[IPC_FORK_WORKSPACE],
                                 .output = message->descriptors[IPC_FORK_OUTPUT],
                                 .selftest = message->flags & IPC_FORK_SELFTEST,
                                 .parked = message->flags & IPC_FORK_PARKED};
    char why[THREAD_NAMES_SIZE + 64], names[THREAD_NAMES_SIZE];
    if (has_threads() && find_other_threads(names, sizeof(names)) > 0) {
        snprintf(why, sizeof(why), "threads run that load() has started: %s", names);
    } else {
        int error = fork_worker(forkserver, &birth);
        snprintf(why, sizeof(why), "%s", error ? strerror(error) : "");
    }
    for (int i = 0; i < IPC_FORK_DESCRIPTORS; i++)
        close(message->descriptors[i]);
    if (*why)
        tell_master(IPC_FORK_FAILED, message->number, why);
}

static void send_or_leave(struct ipc_message *message)
{
    if (ipc_send(FD_FORKSERVER, message, 0) < 0)
        _exit(EXIT_FAILURE); /* the master is gone */
}

/* As many in a message as it has room for. */
static void say_methods(const struct engine *engine)
{
    struct ipc_message message = {.type = IPC_METHODS};
    for (size_t i = 0; i < engine->method_count; i++) {
        char name[METER_NAME_SIZE];
        int length = snprintf(name, sizeof(name), "%s", engine->methods[i].method->name);
        size_t size = length < (int)sizeof(name) ? (size_t)length + 1 : sizeof(name);
        if (message.text_size + size > sizeof(message.text)) {
            send_or_leave(&message);
            message.text_size = 0;
        }
        memcpy(message.text + message.text_size, name, size);
        message.text_size += (uint32_t)size;
    }
    if (message.text_size > 0)
        send_or_leave(&message);
}

static void say_loaded(const struct cohab_engine *description)
{
    struct ipc_message message = {.type = IPC_LOADED};
    char build_id[64];
    build_id_find(description, build_id, sizeof(build_id));
    int length = snprintf(message.text, sizeof(message.text), "%.400s%c%.400s%c%s", description->name, '\0',
                          description->version, '\0', build_id);
    message.text_size = (uint32_t)length + 1;
    send_or_leave(&message);
}

/* load() may crash, or call exit(). */
static int watch_load(void)
{
    struct snapshot *snapshot = shared_map(FD_SNAPSHOT, 0, sizeof(*snapshot), 0);
    if (!snapshot || capture_init(snapshot, NULL, SNAPSHOT_LOADING) < 0)
        return -1;
    return capture_watch_exit();
}

static void tell_title(const char *what, unsigned generation)
{
    char words[TITLE_ROOM];
    snprintf(words, sizeof(words), "%.80s, generation %u", what, generation);
    title_set_suffix(words);
}

/* The options with the engine's file, which may be another one, or missing, since the server was started. */
static const struct options *find_engine(const struct options *options)
{
    static struct options resolved;
    char problem[ENGINE_ERROR_SIZE];
    resolved = *options;
    resolved.engine_path = options_find_engine(options->engine_name, problem, sizeof(problem));
    if (!resolved.engine_path) {
        tell_master(IPC_LOAD_FAILED, 0, problem);
        _exit(EXIT_FAILURE);
    }
    tell_master(IPC_PATH, 0, resolved.engine_path);
    return &resolved;
}

void forkserver_run(const struct options *options, unsigned generation)
{
    static struct forkserver forkserver;
    static struct ipc_message message;
    forkserver.master = getppid();
    fcntl(FD_FORKSERVER, F_SETFD,
          FD_CLOEXEC); /* they had to outlive one exec: of programs that engines start, none */
    fcntl(FD_SET, F_SETFD, FD_CLOEXEC);
    fcntl(FD_SNAPSHOT, F_SETFD, FD_CLOEXEC);
    fcntl(FD_QUARANTINE, F_SETFD, FD_CLOEXEC);
    setvbuf(stdout, NULL, _IOLBF, 0); /* it leads to a log */
    preload_forget_request();
    title_set("forkserver ");
    tell_title("loading", generation);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* it holds no request; load() may hang */
    if (getppid() != forkserver.master)
        _exit(EXIT_FAILURE);
    forkserver.options = find_engine(options);
    if (watch_load() < 0) {
        tell_master(IPC_LOAD_FAILED, 0, "cannot install signal handlers: is /proc mounted?");
        _exit(EXIT_FAILURE);
    }
    if (forkserver_load(&forkserver.engine, forkserver.options) < 0) {
        tell_master(IPC_LOAD_FAILED, 0, forkserver.engine.setup.error);
        _exit(EXIT_FAILURE);
    }
    signal(SIGTERM,
           SIG_IGN); /* to the whole control group: the master, its parent, ends it when it is time */
    preload_settle();
    tell_title(forkserver.engine.description->name, generation);
    say_methods(&forkserver.engine);
    say_loaded(forkserver.engine.description);
    while (ipc_receive(FD_FORKSERVER, &message, 0) == 1)
        handle_fork(&forkserver, &message);
    _exit(EXIT_SUCCESS);
}

/* --- --check --- */

static const char *guarded_engine; /* its path; NULL: it may exit */
static const char *guarded_hooks;

static void on_forbidden_exit(void)
{
    if (!guarded_engine)
        return;
    fprintf(stderr, "cohabd: engine %s: it called exit() in %s\n", guarded_engine, guarded_hooks);
    fflush(NULL);
    _exit(EXIT_FAILURE);
}

void forkserver_forbid_exit(const struct options *options, const char *where)
{
    if (!guarded_hooks)
        atexit(on_forbidden_exit);
    guarded_engine = where ? options->engine_path : NULL;
    guarded_hooks = where ? where : "";
}

int forkserver_check(const struct options *options)
{
    struct engine engine;
    options_check_directories(options);
    (void)close_range(STDERR_FILENO + 1, ~0u, 0); /* what was inherited is not the engine's */
    forkserver_forbid_exit(options, "load() or selftest()");
    bool failed = forkserver_load(&engine, options) < 0 || engine_run_selftest(&engine) < 0;
    forkserver_forbid_exit(options, NULL);
    if (failed) {
        fprintf(stderr, "cohabd: engine %s: %s\n", options->engine_path, engine.setup.error);
        return EXIT_FAILURE;
    }
    printf("engine %s %s: %zu method%s, self-test %s\n", engine.description->name,
           engine.description->version, engine.method_count, engine.method_count == 1 ? "" : "s",
           engine.description->selftest ? "passed" : "not provided");
    for (size_t i = 0; i < engine.method_count; i++)
        printf("  %s\n", engine.methods[i].method->signature);
    return EXIT_SUCCESS;
}
