/* fault: an engine that misbehaves on demand, for tests of the server.
 *
 *   it dies
 *     crash()                      writes through a bad pointer: SIGSEGV
 *     crash_idempotent()           the same, but marked idempotent
 *     crash_once(path) -> str      creates path and crashes; "survived" if it exists; marked idempotent
 *     crash_in_thread()            SIGSEGV in a second thread
 *     overflow_stack()             recurses until SIGSEGV
 *     abort()                      SIGABRT
 *     double_free()                glibc writes to stderr and aborts
 *     exit(status)                 exit(3)
 *     exit_thread()                pthread_exit() of the only thread
 *     raise(signal)                raise(3); returns if it survives
 *     alarm(seconds)               returns; SIGALRM comes later, whatever the worker does then
 *     null_call()                  calls through a null pointer
 *     wild_write(address), wild_jump(address)
 *     assert_fails()               assert(3): a line on stderr, SIGABRT
 *     throw_uncaught(what)         std::runtime_error out of the method, from fault::Thrower::throw_it
 *     throw_bad_alloc()            operator new of more than there can be
 *     divide_by_zero()             SIGFPE
 *     illegal_instruction()        SIGILL
 *     bus_error()                  writes into a mapping whose file was truncated: SIGBUS
 *     quick_exit_status(status)    _exit(2)
 *     exit_with_destructor_crash() exit(0), on whose way the destructor of a static object crashes
 *     allocation_bomb(step = 16 MiB)
 *                                  allocates and touches until malloc() fails, then writes through NULL;
 *                                  RESOURCE_EXHAUSTED at 4 GiB
 *     allocation_throw()           the same by operator new: std::bad_alloc, uncaught
 *     crash_deep(depth)            as crash(), below that many calls of descend()
 *     crash_while_writing(size)    returns that many bytes; a thread crashes once the worker waits for the
 *                                  client to take them
 *     mutate_params(text)          writes over its own parameter, and crashes
 *     fork_crash() -> int          crashes in a child; that one's wait status
 *     own_handler(signal, what)    a handler of the engine's: "recover" (jumps out of it, into recover()),
 *                                  "chain" (calls the handler that was there before) or "die" (default
 *                                  action, raise(3)); each writes a line to stderr
 *     recover() -> str             "recovered" from its write through NULL, with that handler
 *   it does not end
 *     hang()                       blocks every signal and waits forever
 *     spin_forever()               loops forever, with signals as they are
 *     deadlock()                   locks a mutex twice, in lock_twice()
 *     sleep(seconds)               sleeps, whatever the deadline
 *     polite(seconds, outcome)     sleeps until it is cancelled, then fails with CANCELLED or, with outcome
 *                                  "value", returns "cancelled"; "done" if nobody cancels
 *     block(directory, name)       is held until it is released, see below
 *   it harms the worker around it, and returns normally
 *     close_fd(fd), close_from(lowest)
 *     replace_fd(fd)               puts /dev/null in its place
 *     write_fd(fd, data) -> int    write(2) without waiting; -errno on error
 *     truncate_fd(fd, size) -> int ftruncate(2); -errno on error
 *     open_fds() -> list[int]      the worker's open descriptors
 *     open_more(count)             opens /dev/null that often and keeps it; returns the descriptors
 *     scribble(mapping, value, outcome, offset, size) -> int
 *                                  fills "cohab-row", "cohab-request" or "cohab-meter", what the worker
 * shares with the server, or a part of it; outcome "return" (how many bytes), "crash", "exit", "kill"
 * (SIGKILL) or "spin" scribble_random(mapping, seed, outcome, offset, size) -> int the same with the bytes of
 * a random generator timer(seconds)               SIGALRM again and again, handled block_signals() blocks
 * every signal from now on set_signal(signal, action)   "default" or "ignore" limit_memory(size) RLIMIT_DATA
 * of this worker limit_files(count)           RLIMIT_NOFILE of this worker allocate(size) -> int allocates,
 * touches and keeps; returns how much this worker keeps by now; RESOURCE_EXHAUSTED if there is no memory
 *     free_all()                   gives back what allocate() kept
 *     leave_thread()               leaves a thread named "leftover"
 *     fork_child(seconds) -> int   a child lives on that long and holds every descriptor; its pid
 *     fork_exit(status) -> int     a child calls exit(3); its pid
 *     fork_return() -> int         a child returns (0) out of the method, too
 *   it says something odd
 *     stderr(text, times)          writes to descriptor 2
 *     print(text, times)           writes to stdout, through stdio and its buffer
 *     fail(code, reason, message)  cohab_fail_reason(), or cohab_fail() if reason is ""
 *     bad_result(kind)             nothing, two, truncated, garbage, too_long, not_utf8, deep, endless,
 *                                  nested_keys (maps as keys of maps),
 *                                  status (returns 7), silent (returns -1 without an error),
 *                                  success_after_error, error_after_result
 *   it tells where it is
 *     echo(x), pid(), cancelled(), deadline_left()
 *     hooks() -> dict              "load", "start": the pids in which they ran; "calls": of hooks() here
 *     blocked_signals()            the worker's signal mask, as a list of numbers
 *
 * block(directory, name = "") lets a test hold calls and count them without a clock. It makes a FIFO
 * directory/name (without a name: PID-COUNT), appends the line "NAME PID" to directory/started (a file, or a
 * FIFO that the test made and reads), waits until a byte is written into its own FIFO, removes it, and
 * returns the name. It looks at cohab_cancelled() and then fails with CANCELLED.
 *
 * Engine arguments, any number of them; those of one hook act in the order given.
 *
 *   log FILE                       every hook appends "load PID", "start PID", "stop PID", "selftest PID"
 *   load-fail, load-crash, load-abort, load-exit, load-hang
 *   start-fail, start-crash, start-abort, start-exit, start-hang
 *   stop-crash, stop-abort, stop-hang, selftest-fail, selftest-crash
 *   load-fail-while FILE, load-crash-while FILE, start-fail-while FILE, start-crash-while FILE
 *                                  only while FILE exists
 *   start-once FILE                the first start creates FILE, every other one fails
 *   load-sleep S, start-sleep S
 *   load-memory BYTES              allocates and touches
 *   load-stderr TEXT               writes TEXT and a newline to descriptor 2
 *   load-print TEXT                writes TEXT and a newline to stdout, through stdio
 *   load-thread                    leaves a thread named "leftover" running
 *   load-child                     leaves a child process for a minute
 *   load-signals                   blocks every signal, ignores SIGCHLD and SIGTERM
 *   load-handler WHAT, start-handler WHAT
 *                                  a handler for SIGSEGV, as own_handler() has them
 *   fd-high N                      opens descriptor number N
 *   fds COUNT                      opens that many descriptors */
#include "fault.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct block {
    struct block *next;
    unsigned char data[];
};

static struct {
    pid_t load_pid;
    pid_t start_pid;
    int64_t calls;
    struct block *blocks;
    int64_t block_bytes;
} self;

/* --- How to misbehave -------------------------------------------------------------------------- */

static void do_crash(void)
{
    volatile int *volatile pointer = (volatile int *)8;
    *pointer = 1;
}

static void do_block_signals(void)
{
    unsigned long all = ~0ul; /* not sigprocmask(): that spares glibc's own signals */
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof(all));
}

static void do_hang(void)
{
    do_block_signals();
    for (;;)
        pause();
}

static void do_sleep(double seconds)
{
    struct timespec left = {.tv_sec = (time_t)seconds,
                            .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        continue;
}

static void *thread_leftover(void *unused)
{
    (void)unused;
    for (;;)
        pause();
    return NULL;
}

static void do_leave_thread(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, thread_leftover, NULL) == 0)
        pthread_setname_np(thread, "leftover");
}

static pid_t do_fork_child(double seconds)
{
    pid_t pid = fork();
    if (pid == 0) {
        do_sleep(seconds);
        _exit(0);
    }
    return pid;
}

static bool do_allocate(int64_t size)
{
    struct block *block = size < 0 ? NULL : malloc(sizeof(*block) + (size_t)size);
    if (block == NULL)
        return false;
    memset(block->data, 0x5a, (size_t)size);
    block->next = self.blocks;
    self.blocks = block;
    self.block_bytes += size;
    return true;
}

static bool append_line(const char *path, const char *line)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return false;
    bool written = write(fd, line, strlen(line)) == (ssize_t)strlen(line);
    close(fd);
    return written;
}

/* --- Methods: dies ----------------------------------------------------------------------------- */

static int fault_crash(struct cohab_call *call)
{
    (void)call;
    do_crash();
    return 0;
}

static int fault_crash_once(struct cohab_call *call)
{
    const char *path;
    if (cohab_parse(call, "s", &path) != 0)
        return -1;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0)
        do_crash();
    return cohab_return(call, "s", "survived");
}

static void *thread_crash(void *unused)
{
    (void)unused;
    do_crash();
    return NULL;
}

static int fault_crash_in_thread(struct cohab_call *call)
{
    (void)call;
    pthread_t thread;
    if (pthread_create(&thread, NULL, thread_crash, NULL) == 0)
        pthread_join(thread, NULL);
    return 0;
}

static volatile int stack_depth;

__attribute__((noinline)) static int recurse(volatile char *above)
{
    volatile char frame[4096];
    frame[0] = *above;
    if (++stack_depth < 0)
        return 0;
    return recurse(frame) + frame[0];
}

static int fault_overflow_stack(struct cohab_call *call)
{
    (void)call;
    volatile char top = 0;
    return recurse(&top) & 0;
}

static int fault_abort(struct cohab_call *call)
{
    (void)call;
    abort();
}

static int fault_double_free(struct cohab_call *call)
{
    (void)call;
    void *volatile memory = malloc(5000);
    void *volatile same = memory;
    free(memory);
    free(same);
    return 0;
}

static int fault_exit(struct cohab_call *call)
{
    int status;
    if (cohab_parse(call, "i", &status) != 0)
        return -1;
    exit(status);
}

static int fault_exit_thread(struct cohab_call *call)
{
    (void)call;
    pthread_exit(NULL);
}

static int fault_raise(struct cohab_call *call)
{
    int number;
    if (cohab_parse(call, "i", &number) != 0)
        return -1;
    raise(number);
    return 0;
}

static int fault_alarm(struct cohab_call *call)
{
    double seconds;
    if (cohab_parse(call, "d", &seconds) != 0)
        return -1;
    struct itimerval timer = {
        .it_value = {.tv_sec = (time_t)seconds,
                     .tv_usec = (suseconds_t)((seconds - (double)(time_t)seconds) * 1e6)}};
    signal(SIGALRM, SIG_DFL);
    return setitimer(ITIMER_REAL, &timer, NULL);
}

/* --- Methods: does not end --------------------------------------------------------------------- */

static int fault_hang(struct cohab_call *call)
{
    (void)call;
    do_hang();
    return 0;
}

static volatile bool spinning = true;

static int fault_spin_forever(struct cohab_call *call)
{
    (void)call;
    while (spinning)
        continue;
    return 0;
}

static int fault_sleep(struct cohab_call *call)
{
    double seconds;
    if (cohab_parse(call, "d", &seconds) != 0)
        return -1;
    do_sleep(seconds);
    return 0;
}

static int fault_polite(struct cohab_call *call)
{
    double seconds;
    const char *outcome = "error";
    if (cohab_parse(call, "d|s", &seconds, &outcome) != 0)
        return -1;
    for (double slept = 0; slept < seconds && !cohab_cancelled(call); slept += 0.001)
        do_sleep(0.001);
    if (!cohab_cancelled(call))
        return cohab_return(call, "s", "done");
    if (strcmp(outcome, "value") == 0)
        return cohab_return(call, "s", "cancelled");
    return cohab_fail(call, COHAB_CANCELLED, "polite() saw that it was cancelled");
}

static int wait_for_release(struct cohab_call *call, int fd)
{
    char byte;
    while (read(fd, &byte, 1) != 1) {
        if (cohab_cancelled(call))
            return cohab_fail(call, COHAB_CANCELLED, "block() was cancelled before it was released");
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        poll(&readable, 1, 20);
    }
    return 0;
}

static int fault_block(struct cohab_call *call)
{
    const char *directory, *name = "";
    if (cohab_parse(call, "s|s", &directory, &name) != 0)
        return -1;
    static long long serial;
    char own_name[64], fifo[4096], started[4096], line[1024];
    snprintf(own_name, sizeof(own_name), "%d-%lld", (int)getpid(), ++serial);
    if (*name == '\0')
        name = own_name;
    snprintf(fifo, sizeof(fifo), "%s/%s", directory, name);
    snprintf(started, sizeof(started), "%s/started", directory);
    snprintf(line, sizeof(line), "%s %d\n", name, (int)getpid());

    int fd = mkfifo(fifo, 0666) == 0 ? open(fifo, O_RDWR | O_NONBLOCK | O_CLOEXEC) : -1;
    if (fd < 0 || !append_line(started, line)) {
        int error = errno;
        if (fd >= 0)
            close(fd);
        return cohab_fail(call, COHAB_INTERNAL, "block() cannot use %s: %s", fifo, strerror(error));
    }
    int result = wait_for_release(call, fd);
    close(fd);
    unlink(fifo);
    return result == 0 ? cohab_return(call, "s", name) : -1;
}

/* --- Methods: harms the worker around it ------------------------------------------------------- */

static int fault_close_fd(struct cohab_call *call)
{
    int fd;
    if (cohab_parse(call, "i", &fd) != 0)
        return -1;
    close(fd);
    return 0;
}

static int fault_close_from(struct cohab_call *call)
{
    int lowest;
    if (cohab_parse(call, "i", &lowest) != 0)
        return -1;
    closefrom(lowest);
    return 0;
}

static int fault_replace_fd(struct cohab_call *call)
{
    int fd;
    if (cohab_parse(call, "i", &fd) != 0)
        return -1;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, fd) < 0)
        return cohab_fail(call, COHAB_INTERNAL, "dup2: %s", strerror(errno));
    if (null != fd)
        close(null);
    return 0;
}

static int fault_write_fd(struct cohab_call *call)
{
    int fd;
    const char *data;
    size_t size;
    if (cohab_parse(call, "iy#", &fd, &data, &size) != 0)
        return -1;
    struct pollfd writable = {.fd = fd, .events = POLLOUT};
    if (poll(&writable, 1, 0) == 0)
        return cohab_return(call, "i", -EAGAIN);
    ssize_t written = write(fd, data, size);
    return cohab_return(call, "L", (int64_t)(written < 0 ? -errno : written));
}

static int fault_truncate_fd(struct cohab_call *call)
{
    int fd;
    int64_t size;
    if (cohab_parse(call, "iL", &fd, &size) != 0)
        return -1;
    return cohab_return(call, "i", ftruncate(fd, (off_t)size) == 0 ? 0 : -errno);
}

static int fault_open_fds(struct cohab_call *call)
{
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL)
        return cohab_fail(call, COHAB_INTERNAL, "/proc/self/fd: %s", strerror(errno));
    int64_t fds[4096];
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL && count < 4096;) {
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(directory))
            fds[count++] = atoi(entry->d_name);
    }
    closedir(directory);
    return cohab_return(call, "Q", fds, count);
}

static int fault_open_more(struct cohab_call *call)
{
    int count;
    if (cohab_parse(call, "i", &count) != 0)
        return -1;
    int64_t fds[4096];
    size_t opened = 0;
    for (int fd; count > 0 && opened < 4096 && (fd = open("/dev/null", O_RDWR)) >= 0; count--)
        fds[opened++] = fd;
    return cohab_return(call, "Q", fds, opened);
}

/* SIGALRM, handled and forgotten, that often. */
static void on_timer(int number)
{
    (void)number;
}

static int fault_timer(struct cohab_call *call)
{
    double seconds;
    if (cohab_parse(call, "d", &seconds) != 0)
        return -1;
    struct sigaction action = {.sa_handler = on_timer, .sa_flags = SA_RESTART};
    struct itimerval timer = {.it_interval.tv_usec = (suseconds_t)(seconds * 1e6),
                              .it_value.tv_usec = (suseconds_t)(seconds * 1e6)};
    if (sigaction(SIGALRM, &action, NULL) < 0 || setitimer(ITIMER_REAL, &timer, NULL) < 0)
        return cohab_fail(call, COHAB_INTERNAL, "timer: %s", strerror(errno));
    return 0;
}

static int fault_block_signals(struct cohab_call *call)
{
    (void)call;
    do_block_signals();
    return 0;
}

static int fault_set_signal(struct cohab_call *call)
{
    int number;
    const char *action;
    if (cohab_parse(call, "is", &number, &action) != 0)
        return -1;
    if (signal(number, strcmp(action, "ignore") == 0 ? SIG_IGN : SIG_DFL) == SIG_ERR)
        return cohab_fail(call, COHAB_INVALID_ARGUMENT, "signal(%d): %s", number, strerror(errno));
    return 0;
}

static int set_limit(struct cohab_call *call, int resource)
{
    int64_t value;
    if (cohab_parse(call, "L", &value) != 0)
        return -1;
    struct rlimit limit;
    getrlimit(resource, &limit);
    limit.rlim_cur = (rlim_t)value;
    if (setrlimit(resource, &limit) != 0)
        return cohab_fail(call, COHAB_INVALID_ARGUMENT, "setrlimit: %s", strerror(errno));
    return 0;
}

static int fault_limit_memory(struct cohab_call *call)
{
    return set_limit(call, RLIMIT_DATA);
}

static int fault_limit_files(struct cohab_call *call)
{
    return set_limit(call, RLIMIT_NOFILE);
}

static int fault_allocate(struct cohab_call *call)
{
    int64_t size;
    if (cohab_parse(call, "L", &size) != 0)
        return -1;
    if (!do_allocate(size))
        return cohab_fail(call, COHAB_RESOURCE_EXHAUSTED, "no memory for %lld bytes", (long long)size);
    return cohab_return(call, "L", self.block_bytes);
}

static int fault_free_all(struct cohab_call *call)
{
    (void)call;
    while (self.blocks != NULL) {
        struct block *next = self.blocks->next;
        free(self.blocks);
        self.blocks = next;
    }
    self.block_bytes = 0;
    return 0;
}

static int fault_leave_thread(struct cohab_call *call)
{
    (void)call;
    do_leave_thread();
    return 0;
}

static int fault_fork_child(struct cohab_call *call)
{
    double seconds;
    if (cohab_parse(call, "d", &seconds) != 0)
        return -1;
    return cohab_return(call, "i", (int)do_fork_child(seconds));
}

static int fault_fork_exit(struct cohab_call *call)
{
    int status;
    if (cohab_parse(call, "i", &status) != 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0)
        exit(status);
    return cohab_return(call, "i", (int)pid);
}

static int fault_fork_return(struct cohab_call *call)
{
    return cohab_return(call, "i", (int)fork());
}

/* --- Methods: says something odd --------------------------------------------------------------- */

static int fault_stderr(struct cohab_call *call)
{
    const char *text;
    size_t size;
    int64_t times = 1;
    if (cohab_parse(call, "s#|L", &text, &size, &times) != 0)
        return -1;
    while (times-- > 0 && write(STDERR_FILENO, text, size) >= 0)
        continue;
    return 0;
}

static int fault_print(struct cohab_call *call)
{
    const char *text;
    int times = 1;
    if (cohab_parse(call, "s|i", &text, &times) != 0)
        return -1;
    while (times-- > 0 && fputs(text, stdout) >= 0)
        continue;
    return 0;
}

static int fault_fail(struct cohab_call *call)
{
    int code;
    const char *reason, *message;
    if (cohab_parse(call, "iss", &code, &reason, &message) != 0)
        return -1;
    if (*reason == '\0')
        return cohab_fail(call, (enum cohab_code)code, "%s", message);
    return cohab_fail_reason(call, (enum cohab_code)code, reason, "%s", message);
}

static void pack_bytes(msgpack_packer *packer, const char *bytes, size_t size)
{
    packer->callback(packer->data, bytes, size);
}

static void pack_endless(msgpack_packer *packer)
{
    static const char piece[4096];
    msgpack_pack_bin(packer, UINT32_MAX);
    for (uint32_t left = UINT32_MAX; left >= sizeof(piece); left -= (uint32_t)sizeof(piece)) {
        if (msgpack_pack_bin_body(packer, piece, sizeof(piece)) != 0)
            return;
    }
}

/* What each kind writes, and what the method returns then. */
static const struct bad_result {
    const char *kind;
    const char *bytes;
    size_t size;
    bool fails;
    int status;
} bad_results[] = {
    {.kind = "nothing"},
    {.kind = "two", .bytes = "\x01\x02", .size = 2},
    {.kind = "truncated", .bytes = "\x93\x01", .size = 2},
    {.kind = "garbage", .bytes = "\xc1", .size = 1},
    {.kind = "too_long", .bytes = "\xdb\xff\xff\xff\xff", .size = 5},
    {.kind = "not_utf8", .bytes = "\xa2\xc3\x28", .size = 3},
    {.kind = "status", .bytes = "\x01", .size = 1, .status = 7},
    {.kind = "silent", .bytes = "\x01", .size = 1, .status = -1},
    {.kind = "success_after_error", .fails = true, .status = 0},
    {.kind = "error_after_result", .bytes = "\x01", .size = 1, .fails = true, .status = -1},
};

static int fault_bad_result(struct cohab_call *call)
{
    const char *kind;
    if (cohab_parse(call, "s", &kind) != 0)
        return -1;
    msgpack_packer *packer = cohab_result(call);
    for (size_t i = 0; i < sizeof(bad_results) / sizeof(bad_results[0]); i++) {
        const struct bad_result *bad = &bad_results[i];
        if (strcmp(kind, bad->kind) != 0)
            continue;
        if (bad->size > 0)
            pack_bytes(packer, bad->bytes, bad->size);
        if (bad->fails)
            cohab_fail(call, COHAB_ABORTED, "bad_result: %s", kind);
        return bad->status;
    }
    if (strcmp(kind, "endless") == 0) {
        pack_endless(packer);
        return 0;
    }
    if (strcmp(kind, "deep") == 0) {
        for (int depth = 0; depth < 10000; depth++)
            msgpack_pack_array(packer, 1);
        return msgpack_pack_nil(packer);
    }
    if (strcmp(kind, "nested_keys") == 0) {
        for (int depth = 0; depth < 24; depth++)
            msgpack_pack_map(packer, 1);
        msgpack_pack_map(packer, 0);
        for (int depth = 0; depth < 24; depth++)
            msgpack_pack_nil(packer);
        return 0;
    }
    return cohab_fail(call, COHAB_INVALID_ARGUMENT, "argument 1 'kind': unknown kind '%s'", kind);
}

/* --- Methods: tells where it is ---------------------------------------------------------------- */

static int fault_echo(struct cohab_call *call)
{
    const msgpack_object *value;
    if (cohab_parse(call, "O", &value) != 0)
        return -1;
    return cohab_return(call, "O", value);
}

static int fault_pid(struct cohab_call *call)
{
    return cohab_return(call, "i", (int)getpid());
}

static int fault_hooks(struct cohab_call *call)
{
    return cohab_return(call, "{s:i, s:i, s:L}", "load", (int)self.load_pid, "start", (int)self.start_pid,
                        "calls", ++self.calls);
}

static int fault_cancelled(struct cohab_call *call)
{
    return cohab_return(call, "p", (int)cohab_cancelled(call));
}

static int fault_deadline_left(struct cohab_call *call)
{
    return cohab_return(call, "d", cohab_deadline_left(call));
}

static int fault_blocked_signals(struct cohab_call *call)
{
    int64_t blocked[64];
    size_t count = 0;
    unsigned long mask = 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &mask, sizeof(mask));
    for (int number = 1; number <= 64; number++) {
        if (mask >> (number - 1) & 1)
            blocked[count++] = number;
    }
    return cohab_return(call, "Q", blocked, count);
}

#define METHOD(name_, signature_, flags_)                                                                    \
    {                                                                                                        \
        .name = #name_, .function = fault_##name_, .signature = #name_ signature_, .flags = (flags_)         \
    }

static const struct cohab_method methods[] = {
    METHOD(crash, "() -> None", 0),
    {.name = "crash_idempotent",
     .function = fault_crash,
     .signature = "crash_idempotent() -> None",
     .flags = COHAB_IDEMPOTENT},
    METHOD(crash_once, "(path: str) -> str", COHAB_IDEMPOTENT),
    METHOD(crash_in_thread, "() -> None", 0),
    METHOD(overflow_stack, "() -> None", 0),
    METHOD(abort, "() -> None", 0),
    METHOD(double_free, "() -> None", 0),
    METHOD(exit, "(status: int) -> None", 0),
    METHOD(exit_thread, "() -> None", 0),
    METHOD(raise, "(signal: int) -> None", 0),
    METHOD(alarm, "(seconds: float) -> None", 0),
    METHOD(null_call, "() -> None", 0),
    METHOD(wild_write, "(address: int) -> None", 0),
    METHOD(wild_jump, "(address: int) -> None", 0),
    METHOD(assert_fails, "() -> None", 0),
    METHOD(throw_uncaught, "(what: str) -> None", 0),
    METHOD(throw_bad_alloc, "() -> None", 0),
    METHOD(divide_by_zero, "() -> None", 0),
    METHOD(illegal_instruction, "() -> None", 0),
    METHOD(bus_error, "() -> None", 0),
    METHOD(quick_exit_status, "(status: int) -> None", 0),
    METHOD(exit_with_destructor_crash, "() -> None", 0),
    METHOD(allocation_bomb, "(step: int = 16777216) -> None", 0),
    METHOD(allocation_throw, "() -> None", 0),
    METHOD(crash_deep, "(depth: int) -> None", 0),
    METHOD(crash_while_writing, "(size: int) -> bytes", 0),
    METHOD(mutate_params, "(text: str) -> None", 0),
    METHOD(fork_crash, "() -> int", 0),
    METHOD(own_handler, "(signal: int, what: str) -> None", 0),
    METHOD(recover, "() -> str", 0),
    METHOD(hang, "() -> None", 0),
    METHOD(spin_forever, "() -> None", 0),
    METHOD(deadlock, "() -> None", 0),
    METHOD(sleep, "(seconds: float) -> None", 0),
    METHOD(polite, "(seconds: float, outcome: str = \"error\") -> str", 0),
    METHOD(block, "(directory: str, name: str = \"\") -> str", 0),
    METHOD(close_fd, "(fd: int) -> None", 0),
    METHOD(close_from, "(lowest: int) -> None", 0),
    METHOD(replace_fd, "(fd: int) -> None", 0),
    METHOD(write_fd, "(fd: int, data: bytes) -> int", 0),
    METHOD(truncate_fd, "(fd: int, size: int) -> int", 0),
    METHOD(open_fds, "() -> list[int]", 0),
    METHOD(open_more, "(count: int) -> list[int]", 0),
    METHOD(scribble,
           "(mapping: str, value: int, outcome: str = \"return\", offset: int = 0, size: int = "
           "9223372036854775807) -> int",
           0),
    METHOD(scribble_random,
           "(mapping: str, seed: int, outcome: str = \"return\", offset: int = 0, size: int = "
           "9223372036854775807) -> int",
           0),
    METHOD(timer, "(seconds: float) -> None", 0),
    METHOD(block_signals, "() -> None", 0),
    METHOD(set_signal, "(signal: int, action: str) -> None", 0),
    METHOD(limit_memory, "(size: int) -> None", 0),
    METHOD(limit_files, "(count: int) -> None", 0),
    METHOD(allocate, "(size: int) -> int", 0),
    METHOD(free_all, "() -> None", 0),
    METHOD(leave_thread, "() -> None", 0),
    METHOD(fork_child, "(seconds: float) -> int", 0),
    METHOD(fork_exit, "(status: int) -> int", 0),
    METHOD(fork_return, "() -> int", 0),
    {.name = "stderr", .function = fault_stderr, .signature = "stderr(text: str, times: int = 1) -> None"},
    METHOD(print, "(text: str, times: int = 1) -> None", 0),
    METHOD(fail, "(code: int, reason: str, message: str) -> None", 0),
    METHOD(bad_result, "(kind: str) -> Any", 0),
    METHOD(echo, "(x: Any) -> Any", COHAB_IDEMPOTENT),
    METHOD(pid, "() -> int", COHAB_IDEMPOTENT),
    METHOD(hooks, "() -> dict[str, int]", 0),
    METHOD(cancelled, "() -> bool", COHAB_IDEMPOTENT),
    METHOD(deadline_left, "() -> float", COHAB_IDEMPOTENT),
    METHOD(blocked_signals, "() -> list[int]", COHAB_IDEMPOTENT),
};

/* --- Hooks: the engine's arguments ------------------------------------------------------------- */

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static int hook_fail(struct cohab_setup *setup, const char *argument)
{
    (void)argument;
    return cohab_setup_fail(setup, "failed on demand");
}

static int hook_crash(struct cohab_setup *setup, const char *argument)
{
    (void)setup, (void)argument;
    do_crash();
    return 0;
}

static int hook_abort(struct cohab_setup *setup, const char *argument)
{
    (void)setup, (void)argument;
    abort();
}

static int hook_exit(struct cohab_setup *setup, const char *argument)
{
    (void)setup, (void)argument;
    exit(3);
}

static int hook_hang(struct cohab_setup *setup, const char *argument)
{
    (void)setup, (void)argument;
    do_hang();
    return 0;
}

static int hook_sleep(struct cohab_setup *setup, const char *argument)
{
    (void)setup;
    do_sleep(atof(argument));
    return 0;
}

static int hook_memory(struct cohab_setup *setup, const char *argument)
{
    return do_allocate(atoll(argument)) ? 0 : cohab_setup_fail(setup, "no memory for %s bytes", argument);
}

static int hook_stderr(struct cohab_setup *setup, const char *argument)
{
    (void)setup;
    return write(STDERR_FILENO, argument, strlen(argument)) < 0 || write(STDERR_FILENO, "\n", 1) < 0 ? -1 : 0;
}

static int hook_print(struct cohab_setup *setup, const char *argument)
{
    (void)setup;
    return puts(argument) < 0 ? -1 : 0;
}

static int hook_fail_while(struct cohab_setup *setup, const char *argument)
{
    return exists(argument) ? cohab_setup_fail(setup, "failed on demand: %s exists", argument) : 0;
}

static int hook_crash_while(struct cohab_setup *setup, const char *argument)
{
    (void)setup;
    if (exists(argument))
        do_crash();
    return 0;
}

static int hook_thread(struct cohab_setup *setup, const char *argument)
{
    (void)setup, (void)argument;
    do_leave_thread();
    return 0;
}

static int hook_child(struct cohab_setup *setup, const char *argument)
{
    (void)setup, (void)argument;
    return do_fork_child(60) > 0 ? 0 : -1;
}

static int hook_signals(struct cohab_setup *setup, const char *argument)
{
    (void)setup, (void)argument;
    signal(SIGCHLD, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    do_block_signals();
    return 0;
}

static int hook_handler(struct cohab_setup *setup, const char *argument)
{
    if (fault_install_handler(SIGSEGV, argument) < 0)
        return cohab_setup_fail(setup, "handler '%s': %s", argument, strerror(errno));
    return 0;
}

static int hook_fd_high(struct cohab_setup *setup, const char *argument)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0 || dup2(fd, atoi(argument)) < 0)
        return cohab_setup_fail(setup, "cannot open descriptor %s: %s", argument, strerror(errno));
    close(fd);
    return 0;
}

static int hook_fds(struct cohab_setup *setup, const char *argument)
{
    for (int count = atoi(argument); count > 0; count--) {
        if (open("/dev/null", O_RDWR) < 0)
            return cohab_setup_fail(setup, "cannot open %s descriptors: %s", argument, strerror(errno));
    }
    return 0;
}

static int hook_once(struct cohab_setup *setup, const char *argument)
{
    int fd = open(argument, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return cohab_setup_fail(setup, "failed on demand: not the first start (%s)", strerror(errno));
    close(fd);
    return 0;
}

/* A word among the engine's arguments: in which hook it acts, and how. */
static const struct fault {
    const char *word;
    const char *hook;
    int (*act)(struct cohab_setup *setup, const char *argument);
    bool takes_argument;
} faults[] = {
    {.word = "load-sleep", .hook = "load", .act = hook_sleep, .takes_argument = true},
    {.word = "load-memory", .hook = "load", .act = hook_memory, .takes_argument = true},
    {.word = "load-stderr", .hook = "load", .act = hook_stderr, .takes_argument = true},
    {.word = "load-print", .hook = "load", .act = hook_print, .takes_argument = true},
    {.word = "load-thread", .hook = "load", .act = hook_thread},
    {.word = "load-child", .hook = "load", .act = hook_child},
    {.word = "load-signals", .hook = "load", .act = hook_signals},
    {.word = "load-handler", .hook = "load", .act = hook_handler, .takes_argument = true},
    {.word = "start-handler", .hook = "start", .act = hook_handler, .takes_argument = true},
    {.word = "fd-high", .hook = "load", .act = hook_fd_high, .takes_argument = true},
    {.word = "fds", .hook = "load", .act = hook_fds, .takes_argument = true},
    {.word = "load-fail-while", .hook = "load", .act = hook_fail_while, .takes_argument = true},
    {.word = "load-crash-while", .hook = "load", .act = hook_crash_while, .takes_argument = true},
    {.word = "load-fail", .hook = "load", .act = hook_fail},
    {.word = "load-crash", .hook = "load", .act = hook_crash},
    {.word = "load-abort", .hook = "load", .act = hook_abort},
    {.word = "load-exit", .hook = "load", .act = hook_exit},
    {.word = "load-hang", .hook = "load", .act = hook_hang},
    {.word = "start-sleep", .hook = "start", .act = hook_sleep, .takes_argument = true},
    {.word = "start-fail-while", .hook = "start", .act = hook_fail_while, .takes_argument = true},
    {.word = "start-crash-while", .hook = "start", .act = hook_crash_while, .takes_argument = true},
    {.word = "start-once", .hook = "start", .act = hook_once, .takes_argument = true},
    {.word = "start-fail", .hook = "start", .act = hook_fail},
    {.word = "start-crash", .hook = "start", .act = hook_crash},
    {.word = "start-abort", .hook = "start", .act = hook_abort},
    {.word = "start-exit", .hook = "start", .act = hook_exit},
    {.word = "start-hang", .hook = "start", .act = hook_hang},
    {.word = "stop-crash", .hook = "stop", .act = hook_crash},
    {.word = "stop-abort", .hook = "stop", .act = hook_abort},
    {.word = "stop-hang", .hook = "stop", .act = hook_hang},
    {.word = "selftest-fail", .hook = "selftest", .act = hook_fail},
    {.word = "selftest-crash", .hook = "selftest", .act = hook_crash},
};

/* What load found among the arguments; kept for the hooks that are not given them. */
static struct {
    const struct fault *fault;
    const char *argument;
} wanted[64];
static size_t wanted_count;
static const char *log_path;

static const struct fault *find_fault(const char *word)
{
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        if (strcmp(faults[i].word, word) == 0)
            return &faults[i];
    }
    return NULL;
}

static int read_arguments(struct cohab_setup *setup)
{
    int argc = cohab_setup_argc(setup);
    for (int i = 0; i < argc && wanted_count < 64; i++) {
        const char *word = cohab_setup_argv(setup, i);
        const struct fault *fault = find_fault(word);
        bool is_log = strcmp(word, "log") == 0;
        if (fault == NULL && !is_log)
            return cohab_setup_fail(setup, "unknown argument '%s'", word);
        const char *argument = NULL;
        if ((is_log || fault->takes_argument) && (argument = cohab_setup_argv(setup, ++i)) == NULL)
            return cohab_setup_fail(setup, "'%s' needs an argument", word);
        if (is_log) {
            log_path = argument;
            continue;
        }
        wanted[wanted_count].fault = fault;
        wanted[wanted_count++].argument = argument;
    }
    return 0;
}

static int run_hook(struct cohab_setup *setup, const char *hook)
{
    char line[64];
    snprintf(line, sizeof(line), "%s %d\n", hook, (int)getpid());
    if (log_path != NULL && !append_line(log_path, line))
        return setup == NULL ? -1 : cohab_setup_fail(setup, "%s: %s", log_path, strerror(errno));
    for (size_t i = 0; i < wanted_count; i++) {
        if (strcmp(wanted[i].fault->hook, hook) == 0 && wanted[i].fault->act(setup, wanted[i].argument) != 0)
            return -1;
    }
    return 0;
}

static int hook_load(struct cohab_setup *setup, void **state)
{
    *state = &self;
    self.load_pid = getpid();
    return read_arguments(setup) == 0 ? run_hook(setup, "load") : -1;
}

static int hook_start(struct cohab_setup *setup, void **state)
{
    (void)state;
    self.start_pid = getpid();
    return run_hook(setup, "start");
}

static void hook_stop(void *state)
{
    (void)state;
    run_hook(NULL, "stop");
}

static int hook_selftest(struct cohab_setup *setup, void *state)
{
    (void)state;
    return run_hook(setup, "selftest");
}

const struct cohab_engine cohab_engine = {
    COHAB_ENGINE_HEADER(methods), .name = "fault",   .version = COHAB_VERSION,  .load = hook_load,
    .start = hook_start,          .stop = hook_stop, .selftest = hook_selftest,
};
