#include "capture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "clock.h"
#include "descriptors.h"

/* A handler's own needs are small; what the kernel puts there (AVX-512, AMX tiles) is not. */
#define STACK_SIZE (64u << 10)
/* Below the stack pointer, and in use, by the x86-64 ABI. */
#define RED_ZONE 128u
/* How long a second thread that crashes waits for the first to end the process. */
#define CLAIM_TRIES 1000

static const int fatal_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
#define FATAL_SIGNALS (sizeof(fatal_signals) / sizeof(*fatal_signals))

static struct snapshot *snapshot;
static const struct row *row;
static pid_t owner; /* the process whose snapshots these are: its children inherit the handlers */
static enum snapshot_phase phase;
static uint64_t serial;
static atomic_flag busy = ATOMIC_FLAG_INIT; /* stays set from a crash on */
static _Alignas(16) unsigned char handler_stack[STACK_SIZE];

/* --- what a handler does --- */

static pid_t own_pid(void)
{
    return (pid_t)syscall(SYS_getpid);
}

static pid_t own_thread(void)
{
    return (pid_t)syscall(SYS_gettid);
}

static bool claim(void)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    for (int i = 0; i < CLAIM_TRIES; i++) {
        if (!atomic_flag_test_and_set(&busy))
            return true;
        nanosleep(&pause, NULL);
    }
    return false;
}

static void copy_registers(const ucontext_t *context)
{
#if defined(__x86_64__)
    static const int order[] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI,
                                REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};
    for (size_t i = 0; i < sizeof(order) / sizeof(*order); i++)
        snapshot->registers[i] = (uint64_t)context->uc_mcontext.gregs[order[i]];
#elif defined(__aarch64__)
    for (size_t i = 0; i < 31; i++)
        snapshot->registers[i] = context->uc_mcontext.regs[i];
    snapshot->registers[31] = context->uc_mcontext.sp;
    snapshot->registers[32] = context->uc_mcontext.pc;
#else
#error "which registers this machine has is not known here"
#endif
}

static uint64_t stack_pointer(const ucontext_t *context)
{
#if defined(__x86_64__)
    return (uint64_t)context->uc_mcontext.gregs[REG_RSP];
#else
    return context->uc_mcontext.sp;
#endif
}

/* One mapping, as /proc/self/maps tells of it, and where its line is. */
struct mapping {
    uint64_t start, end;
    bool readable;
    bool has_file;
};

static const char *read_hex(const char *at, const char *end, uint64_t *value)
{
    *value = 0;
    for (; at < end; at++) {
        char c = *at;
        unsigned digit;
        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (unsigned)(c - 'a') + 10;
        else
            break;
        *value = *value << 4 | digit;
    }
    return at;
}

/* "7f12a000-7f12b000 r-xp 00001000 08:01 4711   /lib/x.so" */
static bool parse_mapping(const char *line, size_t size, struct mapping *mapping)
{
    const char *end = line + size, *at = read_hex(line, end, &mapping->start);
    if (at == end || *at++ != '-')
        return false;
    at = read_hex(at, end, &mapping->end);
    if (end - at < 6 || *at != ' ')
        return false;
    mapping->readable = at[1] == 'r';
    const char *path = memchr(at, '/', (size_t)(end - at));
    if (!path)
        path = memchr(at, '[', (size_t)(end - at));
    mapping->has_file = path && (*path == '/' || (end - path >= 6 && memcmp(path, "[vdso]", 6) == 0));
    return true;
}

/* What the stack pointer leads to: the mapping that it lies in; else the next one above, as with a stack that
 * has overflowed. */
static void look_for_stack(const struct mapping *mapping, uint64_t pointer, struct mapping *stack)
{
    if (mapping->end > pointer && mapping->readable && (stack->end == 0 || mapping->start < stack->start))
        *stack = *mapping;
}

static void keep_line(const char *line, size_t size)
{
    if (size > SNAPSHOT_MAPS_SIZE - snapshot->maps_size) {
        snapshot->maps_cut = 1;
        return;
    }
    memcpy(snapshot->maps + snapshot->maps_size, line, size);
    snapshot->maps_size += (uint32_t)size;
}

static void take_line(const char *line, size_t size, uint64_t pointer, struct mapping *stack)
{
    struct mapping mapping;
    if (!parse_mapping(line, size, &mapping))
        return;
    if (mapping.has_file)
        keep_line(line, size);
    look_for_stack(&mapping, pointer, stack);
}

/* The kernel gives whole lines, as many as there is room for. */
static void read_mappings(uint64_t pointer, struct mapping *stack)
{
    static char buffer[8192]; /* under the claim */
    size_t held = 0;
    (void)lseek(FD_MAPS, 0, SEEK_SET);
    for (;;) {
        ssize_t count = read(FD_MAPS, buffer + held, sizeof(buffer) - held);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return;
        held += (size_t)count;
        char *line = buffer, *end;
        while ((end = memchr(line, '\n', held - (size_t)(line - buffer)))) {
            take_line(line, (size_t)(end + 1 - line), pointer, stack);
            line = end + 1;
        }
        held -= (size_t)(line - buffer);
        if (held == sizeof(buffer))
            return; /* no such line */
        memmove(buffer, line, held);
    }
}

/* Not memcpy(): a sanitizer that is loaded into the process would find fault with what it reads. Words, in
 * whole: a stack ends at a page. */
__attribute__((no_sanitize("address"))) static void copy_words(volatile uint64_t *to,
                                                               const volatile uint64_t *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        to[i] = from[i];
}

/* By the kernel, where it lets processes do that (a container may not): it stops at memory that another
 * thread has unmapped meanwhile, where a load would kill. Returns how much it was. */
static uint64_t copy_memory(uint64_t from, uint64_t size)
{
    struct iovec source = {.iov_base = (void *)(uintptr_t)from, .iov_len = size};
    struct iovec target = {.iov_base = snapshot->stack, .iov_len = size};
    long copied = syscall(SYS_process_vm_readv, owner, &target, 1, &source, 1, 0);
    if (copied >= 0)
        return (uint64_t)copied & ~UINT64_C(7);
    copy_words((volatile uint64_t *)(void *)snapshot->stack, (const volatile uint64_t *)(uintptr_t)from,
               size / sizeof(uint64_t));
    return size;
}

static void copy_stack(uint64_t pointer)
{
    struct mapping stack = {0};
    read_mappings(pointer, &stack);
    if (stack.end == 0)
        return;
    uint64_t from = pointer > stack.start + RED_ZONE ? (pointer - RED_ZONE) & ~UINT64_C(7) : stack.start;
    uint64_t size = stack.end - from;
    if (size > SNAPSHOT_STACK_SIZE)
        size = SNAPSHOT_STACK_SIZE;
    snapshot->stack_from = from;
    snapshot->stack_size = copy_memory(from, size);
}

/* Bytes that RLIMIT_DATA counts, and the stack: the sixth figure of /proc/self/statm, in pages. */
static uint64_t read_data_size(void)
{
    char text[128];
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    ssize_t size = read(file, text, sizeof(text));
    close(file);
    uint64_t pages = 0;
    int column = 0;
    for (ssize_t i = 0; i < size && column < 6; i++) {
        if (text[i] == ' ')
            column++;
        else if (column == 5 && text[i] >= '0' && text[i] <= '9')
            pages = pages * 10 + (uint64_t)(text[i] - '0');
    }
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t running_request(void)
{
    if (!row)
        return 0;
    uint32_t state = atomic_load_explicit(&row->state, memory_order_relaxed);
    bool answering =
        state == ROW_WRITING && atomic_load_explicit(&row->writing_from, memory_order_relaxed) == ROW_RUNNING;
    return state == ROW_RUNNING || answering ? atomic_load_explicit(&row->request, memory_order_relaxed) : 0;
}

/* Under the claim; publish() is to follow. */
static void take(const ucontext_t *context, int error)
{
    atomic_store_explicit(&snapshot->kind, SNAPSHOT_NONE, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    memset((char *)snapshot + sizeof(snapshot->kind), 0,
           offsetof(struct snapshot, maps) - sizeof(snapshot->kind));
    snapshot->phase = phase;
    snapshot->serial = ++serial;
    snapshot->request = running_request();
    snapshot->at = clock_now();
    snapshot->self_pid = owner;
    snapshot->thread = own_thread();
    snapshot->error = error;
    copy_registers(context);
    copy_stack(stack_pointer(context));
}

static void publish(enum snapshot_kind kind)
{
    atomic_store_explicit(&snapshot->kind, (uint32_t)kind, memory_order_release);
}

/* --- fatal signals --- */

static void note_signal(const siginfo_t *info)
{
    snapshot->signal = info->si_signo;
    snapshot->code = info->si_code;
    if (info->si_code <= 0) {
        snapshot->sender_pid = info->si_pid;
        snapshot->sender_uid = info->si_uid;
    } else {
        snapshot->address = (uint64_t)(uintptr_t)info->si_addr;
    }
}

/* Dies of the signal as if nobody had caught it. A fault comes again when its instruction is executed again,
 * so that a core file shows the fault itself; a signal that was sent is sent again. */
static void die_of(const siginfo_t *info)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(info->si_signo, &action, NULL);
    bool comes_again = info->si_code > 0 && info->si_code != SI_KERNEL && info->si_signo != SIGTRAP &&
                       info->si_signo != SIGSYS &&
                       !(info->si_signo == SIGBUS && info->si_code == BUS_MCEERR_AO);
    if (!comes_again)
        (void)syscall(SYS_tgkill, own_pid(), own_thread(), info->si_signo); /* when the handler returns */
}

static void on_fatal(int number, siginfo_t *info, void *context)
{
    (void)number;
    int saved = errno;
    if (own_pid() == owner && claim()) {
        take(context, saved);
        note_signal(info);
        snapshot->data_size = read_data_size();
        publish(SNAPSHOT_SIGNAL);
    }
    die_of(info);
    errno = saved;
}

static int install(int number)
{
    struct sigaction present, action = {.sa_sigaction = on_fatal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    if (sigaction(number, NULL, &present) < 0)
        return -1;
    if (present.sa_flags & SA_SIGINFO || present.sa_handler != SIG_DFL)
        return 0;
    sigfillset(&action.sa_mask);
    return sigaction(number, &action, NULL);
}

/* An engine's own stays: it may count on its size. */
static int install_stack(void)
{
    stack_t present, own = {.ss_sp = handler_stack, .ss_size = sizeof(handler_stack)};
    if (sigaltstack(NULL, &present) < 0)
        return -1;
    return present.ss_flags & SS_DISABLE ? sigaltstack(&own, NULL) : 0;
}

int capture_install(void)
{
    if (install_stack() < 0)
        return -1;
    for (size_t i = 0; i < FATAL_SIGNALS; i++)
        if (install(fatal_signals[i]) < 0)
            return -1;
    return 0;
}

/* --- other occasions --- */

static void on_exit_called(int status, void *argument)
{
    (void)argument;
    ucontext_t context;
    int saved = errno;
    if (own_pid() != owner || atomic_load_explicit(&snapshot->kind, memory_order_relaxed) == SNAPSHOT_EXIT)
        return;
    if (getcontext(&context) < 0 || !claim())
        return;
    take(&context, saved);
    snapshot->status = status;
    publish(SNAPSHOT_EXIT);
    atomic_flag_clear(&busy); /* a destructor may crash yet */
}

int capture_watch_exit(void)
{
    return on_exit(on_exit_called, NULL) == 0 ? 0 : -1;
}

static void take_and_go_on(enum snapshot_kind kind, void *context)
{
    if (own_pid() != owner || atomic_flag_test_and_set(&busy))
        return;
    take(context, errno);
    publish(kind);
    atomic_flag_clear(&busy);
}

void capture_end(void *context)
{
    take_and_go_on(SNAPSHOT_END, context);
}

void capture_live(void *context)
{
    take_and_go_on(SNAPSHOT_LIVE, context);
}

/* --- set-up --- */

/* Opened in advance: an engine that crashes for lack of descriptors is one that needs a report. It tells of
 * the process that opened it. */
static int open_mappings(void)
{
    int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    int placed = dup3(file, FD_MAPS, O_CLOEXEC);
    close(file);
    return placed == FD_MAPS ? 0 : -1;
}

int capture_init(struct snapshot *own_snapshot, const struct row *own_row, enum snapshot_phase own_phase)
{
    owner = own_pid();
    snapshot = own_snapshot;
    row = own_row;
    phase = own_phase;
    serial = 0;
    atomic_flag_clear(&busy);
    return open_mappings() < 0 ? -1 : capture_install();
}

void capture_set_phase(enum snapshot_phase now)
{
    phase = now;
}
