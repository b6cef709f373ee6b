#include "reporter.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crash_cause.h"
#include "crash_dir.h"
#include "envelope.h"
#include "log.h"
#include "options.h"
#include "quarantine.h"
#include "report_store.h"
#include "report_write.h"
#include "snapshot.h"
#include "symbols.h"

/* Jobs taken from the socket at a time; each holds its memory. */
#define TASKS_MAX 32
/* A stack over which the look-up of symbols takes longer than this, in s, is given up with this process. */
#define TASK_TIMEOUT 20
/* Frames that the caller is told. */
#define CALLER_FRAMES 16

struct task {
    struct reporter_job job;
    struct snapshot *snapshot; /* a copy of the untrusted one; NULL without memory */
    struct crash_cause cause;
    struct report_file file;
    long stack_offset; /* in the file; -1: it could not be written */
};

struct reporter {
    struct options options;
    struct report_store store;
    struct symbols *symbols;
    struct task *tasks[TASKS_MAX]; /* oldest first */
    unsigned count;
    bool ended; /* the master's end of the socket is closed */
};

static struct reporter_reply reply;

/* --- messages --- */

/* The master may be gone: the reports are written all the same. */
static void send_reply(void)
{
    ssize_t sent;
    do
        sent = send(REPORTER_SOCKET, &reply, REPORTER_REPLY_SIZE(&reply), MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
}

static int take_descriptor(struct msghdr *header)
{
    int descriptor = -1;
    struct cmsghdr *part = CMSG_FIRSTHDR(header);
    if (part && part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS)
        memcpy(&descriptor, CMSG_DATA(part), sizeof(descriptor));
    return descriptor;
}

/* Returns 1 with the memory's descriptor, or -1 where the job came without; 0 where there is none to be had
 * now. */
static int receive_job(struct reporter *reporter, struct reporter_job *job, int flags, int *memory)
{
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {.iov_base = job, .iov_len = sizeof(*job)};
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.space,
                            .msg_controllen = sizeof(control.space)};
    ssize_t size;
    do
        size = recvmsg(REPORTER_SOCKET, &header, flags | MSG_CMSG_CLOEXEC);
    while (size < 0 && errno == EINTR);
    if (size < 0 && errno == EAGAIN)
        return 0;
    if (size < (ssize_t)offsetof(struct reporter_job, stderr_tail) || job->stderr_size > REPORT_STDERR_SIZE ||
        (size_t)size != REPORTER_JOB_SIZE(job)) {
        reporter->ended = true;
        return 0;
    }
    *memory = take_descriptor(&header);
    return 1;
}

/* --- what came with a job --- */

struct memory {
    const unsigned char *bytes; /* NULL: none */
    size_t size;
};

static struct memory map_memory(int descriptor)
{
    struct memory memory = {0};
    struct stat status;
    if (descriptor < 0)
        return memory;
    if (fstat(descriptor, &status) == 0 && status.st_size > 0) {
        void *bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, descriptor, 0);
        if (bytes != MAP_FAILED)
            memory = (struct memory){.bytes = bytes, .size = (size_t)status.st_size};
    }
    close(descriptor);
    return memory;
}

/* A copy that nobody changes any more. Of a living process the copy may be a mixture: then it is none. */
static struct snapshot *copy_snapshot(const struct memory *memory, const struct reporter_job *job)
{
    struct snapshot *copy = aligned_alloc(_Alignof(struct snapshot), sizeof(*copy));
    if (!copy)
        return NULL;
    memset(copy, 0, offsetof(struct snapshot, maps));
    if (!memory->bytes || memory->size < sizeof(*copy) || job->snapshot > memory->size - sizeof(*copy))
        return copy;
    const struct snapshot *from = (const void *)(memory->bytes + job->snapshot);
    uint32_t kind = atomic_load_explicit(&from->kind, memory_order_acquire);
    memcpy(copy, from, offsetof(struct snapshot, maps));
    copy->maps_size = copy->maps_size < SNAPSHOT_MAPS_SIZE ? copy->maps_size : SNAPSHOT_MAPS_SIZE;
    copy->stack_size = copy->stack_size < SNAPSHOT_STACK_SIZE ? copy->stack_size : SNAPSHOT_STACK_SIZE;
    memcpy(copy->maps, from->maps, copy->maps_size);
    memcpy(copy->stack, from->stack, copy->stack_size);
    atomic_thread_fence(memory_order_acquire);
    bool same =
        from->serial == copy->serial && atomic_load_explicit(&from->kind, memory_order_relaxed) == kind;
    atomic_store_explicit(&copy->kind, same ? kind : (uint32_t)SNAPSHOT_NONE, memory_order_relaxed);
    return copy;
}

/* The whole frame of a dead worker's request, if that is what lies in its buffer. */
static const unsigned char *find_frame(const struct memory *memory, const struct reporter_job *job,
                                       size_t *size)
{
    if (job->kind != REPORTER_DEATH || job->request == 0 || !memory->bytes || job->snapshot > memory->size ||
        job->snapshot < FRAME_HEADER_SIZE)
        return NULL;
    size_t whole = FRAME_HEADER_SIZE + (size_t)frame_get_length(memory->bytes);
    if (whole > job->snapshot || whole > job->received)
        return NULL;
    *size = whole;
    return memory->bytes;
}

/* --- quick --- */

static uint64_t hash_request(const struct reporter_job *job, const struct envelope_request *request)
{
    const struct quarantine_request parts = {.method = request->method,
                                             .method_length = request->method_length,
                                             .params = request->params,
                                             .params_size = request->params_size};
    return quarantine_hash(job->key, &parts);
}

static void blame_quickly(const struct task *task)
{
    struct symbols_frame frame = {0};
    const struct snapshot *snapshot = task->snapshot;
#if defined(__x86_64__)
    uint64_t at = snapshot ? snapshot->registers[16] : 0;
#else
    uint64_t at = snapshot ? snapshot->registers[32] : 0;
#endif
    if (task->cause.has_snapshot && symbols_locate(snapshot->maps, snapshot->maps_size, at, &frame))
        symbols_describe(&frame, reply.top, sizeof(reply.top));
}

static void begin_reply(const struct task *task, enum reporter_reply_type type)
{
    memset(&reply, 0, offsetof(struct reporter_reply, data));
    reply.type = type;
    reply.number = task->job.number;
    memcpy(reply.id, task->file.id, sizeof(reply.id));
    memcpy(reply.cause, task->cause.text, sizeof(reply.cause));
    memcpy(reply.no_stack, task->cause.no_stack, sizeof(reply.no_stack));
}

static void reply_quickly(const struct task *task, const struct report_facts *facts)
{
    begin_reply(task, REPORTER_QUICK);
    reply.kill = task->cause.kill;
    reply.hash = facts->hash;
    if (facts->request) {
        reply.size = facts->request->params_size;
        reply.deadline = facts->request->has_deadline ? facts->request->deadline : 0;
    }
    blame_quickly(task);
    send_reply();
}

static bool wants_file(const struct reporter *reporter, const struct task *task)
{
    return (task->job.kind == REPORTER_DEATH || task->job.kind == REPORTER_SLOW) &&
           reporter->store.directory && reporter->store.keep > 0;
}

static void begin_file(struct reporter *reporter, struct task *task)
{
    if (!wants_file(reporter, task))
        return;
    const char *suffix = task->job.kind == REPORTER_SLOW ? "slow" : "crash";
    if (report_store_begin(&reporter->store, (time_t)task->job.time, suffix, &task->file) < 0)
        log_error("cannot write a crash report to %s: %m", reporter->store.directory);
}

static void give_file_up(struct reporter *reporter, struct task *task)
{
    log_error("cannot write crash report %s to %s: %m", task->file.id, reporter->store.directory);
    report_store_abort(&reporter->store, &task->file);
    task->file.id[0] = '\0';
}

static uint64_t queue_time(const struct reporter_job *job, const struct envelope_request *request)
{
    if (!request->has_sent || request->sent > job->started)
        return UINT64_MAX;
    return job->started - request->sent;
}

static void write_facts(struct reporter *reporter, struct task *task, struct report_facts *facts)
{
    if (!task->file.stream)
        return;
    facts->id = task->file.id;
    task->stack_offset = report_write_facts(task->file.stream, facts);
    if (task->stack_offset < 0)
        give_file_up(reporter, task);
}

static void handle_quickly(struct reporter *reporter, struct task *task, int descriptor)
{
    struct memory memory = map_memory(descriptor);
    struct envelope_request request;
    const char *why;
    struct report_facts facts = {
        .job = &task->job, .options = &reporter->options, .cause = &task->cause, .queued = UINT64_MAX};
    static const struct snapshot nothing;
    task->snapshot = copy_snapshot(&memory, &task->job);
    crash_cause_find(&task->job, task->snapshot ? task->snapshot : &nothing, reporter->options.max_memory,
                     &task->cause);
    facts.frame = find_frame(&memory, &task->job, &facts.frame_size);
    if (facts.frame &&
        envelope_read_request(facts.frame + FRAME_HEADER_SIZE, facts.frame_size - FRAME_HEADER_SIZE, &request,
                              &why) == ENVELOPE_OK) {
        facts.request = &request;
        facts.hash = hash_request(&task->job, &request);
        facts.queued = queue_time(&task->job, &request);
    }
    begin_file(reporter, task);
    reply_quickly(task, &facts);
    write_facts(reporter, task, &facts);
    if (memory.bytes)
        munmap((void *)memory.bytes, memory.size);
}

/* --- thoroughly --- */

static int pack_into_reply(void *context, const char *bytes, size_t size)
{
    (void)context;
    if (size > REPORTER_DATA_SIZE - reply.data_size)
        return -1;
    memcpy(reply.data + reply.data_size, bytes, size);
    reply.data_size += (uint32_t)size;
    return 0;
}

/* As many frames as there is room for. */
static void pack_stack(const struct symbols_frame *frames, size_t count)
{
    msgpack_packer packer;
    msgpack_packer_init(&packer, NULL, pack_into_reply);
    for (;; count /= 2) {
        size_t room = REPORTER_DATA_SIZE;
        reply.data_size = 0;
        report_pack_stack(&packer, frames, count);
        if (count == 0 || room - reply.data_size > REPORTER_TEXT_SIZE * 16)
            return;
    }
}

/* Down to where the engine was entered: what is below is cohab's, and of no interest to callers. */
static void list_frames(const struct symbols_frame *frames, size_t count)
{
    count = symbols_bottom(frames, count);
    for (size_t i = 0; i < count && i < CALLER_FRAMES; i++) {
        char text[REPORTER_TEXT_SIZE];
        symbols_describe(&frames[i], text, sizeof(text));
        (void)pack_into_reply(NULL, text, strlen(text) + 1);
        reply.frames++;
    }
}

static void reply_thoroughly(const struct task *task, const struct symbols_frame *frames, size_t count,
                             const char *no_stack)
{
    begin_reply(task, REPORTER_DONE);
    snprintf(reply.no_stack, sizeof(reply.no_stack), "%s", no_stack ? no_stack : "");
    if (count > 0) {
        struct symbols_frame top = frames[symbols_top(frames, count)];
        top.file[0] = '\0'; /* in the list of frames */
        symbols_describe(&top, reply.top, sizeof(reply.top));
    }
    if (task->job.kind == REPORTER_DEATH)
        list_frames(frames, count);
    else
        pack_stack(frames, count);
    send_reply();
}

static void finish_file(struct reporter *reporter, struct task *task, const struct symbols_frame *frames,
                        size_t count, const char *no_stack)
{
    if (!task->file.stream)
        return;
    if (report_write_stack(task->file.stream, task->stack_offset, frames, count, no_stack) < 0) {
        give_file_up(reporter, task);
        return;
    }
    if (report_store_commit(&reporter->store, &task->file) < 0) {
        give_file_up(reporter, task);
        return;
    }
    report_store_prune(&reporter->store);
}

/* The files that the process has mapped, as a snapshot would list them. */
static void warm(const struct reporter *reporter, const struct task *task)
{
    char path[64], line[4096];
    struct snapshot *snapshot = task->snapshot;
    snprintf(path, sizeof(path), "/proc/%d/maps", (int)task->job.pid);
    FILE *file = snapshot && reporter->symbols ? fopen(path, "re") : NULL;
    if (!file)
        return;
    snapshot->maps_size = 0;
    while (fgets(line, sizeof(line), file)) {
        size_t size = strlen(line);
        if (!strpbrk(line, "/[") || size > SNAPSHOT_MAPS_SIZE - snapshot->maps_size)
            continue;
        memcpy(snapshot->maps + snapshot->maps_size, line, size);
        snapshot->maps_size += (uint32_t)size;
    }
    fclose(file);
    symbols_warm(reporter->symbols, snapshot);
}

static void handle_thoroughly(struct reporter *reporter, struct task *task)
{
    static struct symbols_frame frames[SYMBOLS_FRAMES_MAX];
    const char *no_stack = task->cause.no_stack[0] ? task->cause.no_stack : NULL;
    size_t count = 0;
    alarm(TASK_TIMEOUT);
    if (task->job.kind == REPORTER_WARM)
        warm(reporter, task);
    if (task->cause.has_snapshot && reporter->symbols) {
        count = symbols_unwind(reporter->symbols, task->snapshot, frames, SYMBOLS_FRAMES_MAX, &no_stack);
        count = symbols_name(reporter->symbols, frames, count, SYMBOLS_FRAMES_MAX);
        if (count > 0)
            no_stack = NULL;
        if (task->snapshot->kind == SNAPSHOT_EXIT && count > 1) /* cohab's own handler */
            memmove(frames, frames + 1, --count * sizeof(*frames));
    }
    finish_file(reporter, task, frames, count, no_stack);
    alarm(0);
    reply_thoroughly(task, frames, count, no_stack);
}

/* --- the loop --- */

/* Returns whether there was one. */
static bool take_job(struct reporter *reporter, int flags)
{
    struct task *task = calloc(1, sizeof(*task));
    int descriptor = -1;
    if (!task || !receive_job(reporter, &task->job, flags, &descriptor)) {
        free(task);
        return false;
    }
    task->stack_offset = -1;
    handle_quickly(reporter, task, descriptor);
    reporter->tasks[reporter->count++] = task;
    return true;
}

static void finish_first(struct reporter *reporter)
{
    struct task *task = reporter->tasks[0];
    handle_thoroughly(reporter, task);
    memmove(reporter->tasks, reporter->tasks + 1, --reporter->count * sizeof(*reporter->tasks));
    free(task->snapshot);
    free(task);
}

static void run(struct reporter *reporter)
{
    while (!reporter->ended || reporter->count > 0) {
        int flags = reporter->count > 0 ? MSG_DONTWAIT : 0;
        while (!reporter->ended && reporter->count < TASKS_MAX && take_job(reporter, flags))
            flags = MSG_DONTWAIT;
        if (reporter->count > 0)
            finish_first(reporter);
    }
}

static void set_up(struct reporter *reporter, int argc, char **argv)
{
    static char directory[4096];
    options_parse(&reporter->options, argc, argv, OPTIONS_ROLE);
    fcntl(REPORTER_SOCKET, F_SETFD, FD_CLOEXEC);
    log_relay();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGTERM, SIG_IGN); /* to the whole control group: it ends with the master */
    const char *given = reporter->options.crash_dir;
    if (!given && crash_dir_default(directory, sizeof(directory)) == 0)
        given = directory;
    reporter->store = (struct report_store){.directory = given,
                                            .keep = reporter->options.crash_keep,
                                            .keep_size = reporter->options.crash_keep_size};
    if (given && reporter->store.keep > 0 && report_store_adopt(&reporter->store) > 0)
        log_warn("a reporter died over a crash report: that one is kept without its stack");
    reporter->symbols = symbols_new();
}

int main(int argc, char **argv)
{
    static struct reporter reporter;
    set_up(&reporter, argc, argv);
    run(&reporter);
    return EXIT_SUCCESS;
}
