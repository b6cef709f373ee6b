/* Part of the engine `fault`: ways to die that need more than a line. fault.c says what each method does.
 *
 * What is to be seen in a stack has a function of its own, which is neither inlined nor left by a jump. */
#undef NDEBUG /* assert() is one of the ways */

#include "fault.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

NOINLINE static void write_badly(volatile int *address)
{
    *address = 1;
}

NOINLINE static int call_badly(int (*volatile function)(void))
{
    return function() + 1; /* + 1: else the call would be a jump */
}

int fault_null_call(struct cohab_call *call)
{
    (void)call;
    return call_badly(NULL) & 0;
}

int fault_wild_write(struct cohab_call *call)
{
    int64_t address;
    if (cohab_parse(call, "L", &address) != 0)
        return -1;
    write_badly((volatile int *)address);
    return 0;
}

int fault_wild_jump(struct cohab_call *call)
{
    int64_t address;
    if (cohab_parse(call, "L", &address) != 0)
        return -1;
    return call_badly((int (*)(void))address) & 0;
}

int fault_assert_fails(struct cohab_call *call)
{
    volatile int params = (int)cohab_params(call)->via.array.size;
    assert(params == 42);
    return 0;
}

/* --- Signals that the processor raises --------------------------------------------------------- */

NOINLINE static int divide(volatile int *dividend, volatile int *divisor)
{
#if defined(__x86_64__) || defined(__i386__)
    return *dividend / *divisor;
#else
    return *dividend + *divisor + raise(SIGFPE); /* division by zero traps nowhere else */
#endif
}

int fault_divide_by_zero(struct cohab_call *call)
{
    (void)call;
    volatile int one = 1, zero = 0;
    return divide(&one, &zero) & 0;
}

NOINLINE static void run_illegal_instruction(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __asm__ volatile("ud2");
#elif defined(__aarch64__)
    __asm__ volatile(".inst 0");
#else
    raise(SIGILL);
#endif
}

int fault_illegal_instruction(struct cohab_call *call)
{
    (void)call;
    run_illegal_instruction();
    return 0;
}

int fault_bus_error(struct cohab_call *call)
{
    int fd = memfd_create("fault", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, 8192) < 0)
        return cohab_fail(call, COHAB_INTERNAL, "memfd: %s", strerror(errno));
    char *mapping = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapping == MAP_FAILED || ftruncate(fd, 0) < 0)
        return cohab_fail(call, COHAB_INTERNAL, "mmap: %s", strerror(errno));
    close(fd);
    write_badly((volatile int *)(mapping + 4096));
    return 0;
}

/* --- Other ends -------------------------------------------------------------------------------- */

int fault_quick_exit_status(struct cohab_call *call)
{
    int status;
    if (cohab_parse(call, "i", &status) != 0)
        return -1;
    _exit(status);
}

struct chunk {
    struct chunk *next;
};

/* Returns how much it holds when it stops; without a limit that is FAULT_ALLOCATION_MAX or a little more. */
NOINLINE static int64_t hoard(struct chunk **chunks, size_t step)
{
    int64_t held = 0;
    while (held < FAULT_ALLOCATION_MAX) {
        struct chunk *chunk = malloc(step);
        if (chunk == NULL) {
            write_badly((volatile int *)chunk);
            break;
        }
        memset(chunk, 0x5a, step);
        chunk->next = *chunks;
        *chunks = chunk;
        held += (int64_t)step;
    }
    return held;
}

int fault_allocation_bomb(struct cohab_call *call)
{
    int64_t step = 16 << 20;
    if (cohab_parse(call, "|L", &step) != 0)
        return -1;
    if (step < (int64_t)sizeof(struct chunk) || step > FAULT_ALLOCATION_MAX)
        return cohab_fail(call, COHAB_INVALID_ARGUMENT, "argument 1 'step': %lld", (long long)step);
    struct chunk *chunks = NULL;
    int64_t held = hoard(&chunks, (size_t)step);
    for (struct chunk *next; chunks != NULL; chunks = next) {
        next = chunks->next;
        free(chunks);
    }
    return cohab_fail(call, COHAB_RESOURCE_EXHAUSTED, "no limit within %lld bytes", (long long)held);
}

NOINLINE static int lock_twice(pthread_mutex_t *mutex)
{
    pthread_mutex_lock(mutex);
    pthread_mutex_lock(mutex);
    return pthread_mutex_unlock(mutex);
}

int fault_deadlock(struct cohab_call *call)
{
    (void)call;
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    return lock_twice(&mutex) & 0;
}

/* --- Crashes that leave a stack, or a request, of a certain kind --------------------------------- */

NOINLINE static int descend(int64_t depth)
{
    volatile int here = (int)depth;
    if (depth == 0)
        write_badly((volatile int *)8);
    else
        here += descend(depth - 1);
    return here;
}

int fault_crash_deep(struct cohab_call *call)
{
    int64_t depth;
    if (cohab_parse(call, "L", &depth) != 0)
        return -1;
    return descend(depth) & 0;
}

int fault_mutate_params(struct cohab_call *call)
{
    const msgpack_object *params = cohab_params(call);
    const msgpack_object_str *text = &params->via.array.ptr[0].via.str;
    memset((char *)text->ptr, '#', text->size); /* where it lies in the request, which nobody may write to */
    write_badly((volatile int *)8);
    return 0;
}

int fault_fork_crash(struct cohab_call *call)
{
    pid_t child = fork();
    if (child == 0)
        write_badly((volatile int *)8);
    int status = 0;
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    return child < 0 ? cohab_fail(call, COHAB_INTERNAL, "fork: %s", strerror(errno))
                     : cohab_return(call, "i", status);
}

/* Whether the thread waits in the system call that writes a response, as the kernel sees it. */
static bool is_writing(pid_t thread)
{
    char path[64], text[32];
    snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", (int)thread);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        close(fd);
    text[size < 0 ? 0 : size] = '\0';
    return size > 0 && strtol(text, NULL, 10) == SYS_sendmmsg && strchr(text, ' ') != NULL;
}

static void *crash_when_main_thread_writes(void *unused)
{
    (void)unused;
    while (!is_writing(getpid()))
        usleep(200);
    write_badly((volatile int *)8);
    return NULL;
}

int fault_crash_while_writing(struct cohab_call *call)
{
    int64_t size;
    pthread_t thread;
    if (cohab_parse(call, "L", &size) != 0)
        return -1;
    char *blob = cohab_alloc(call, (size_t)size);
    if (blob == NULL)
        return cohab_fail(call, COHAB_RESOURCE_EXHAUSTED, "no memory for %lld bytes", (long long)size);
    memset(blob, 0x5a, (size_t)size);
    if (pthread_create(&thread, NULL, crash_when_main_thread_writes, NULL) != 0)
        return cohab_fail(call, COHAB_INTERNAL, "no thread");
    pthread_detach(thread);
    return cohab_return(call, "y#", blob, (size_t)size);
}
