#include "crash_cause.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "worker.h"

/* Of a process at its limit: what it has not used is too little for what it asked for. */
#define NEAR_LIMIT(limit) ((limit) / 8 * 7)

const char *crash_signal_name(int signal, char *text, size_t size)
{
    const char *name = sigabbrev_np(signal);
    if (name)
        snprintf(text, size, "SIG%s", name);
    else if (signal >= SIGRTMIN && signal <= SIGRTMAX)
        snprintf(text, size, "SIGRTMIN+%d", signal - SIGRTMIN);
    else
        snprintf(text, size, "signal %d", signal); /* glibc keeps it for itself */
    return text;
}

/* --- names of si_code --- */

struct code_name {
    int signal, code;
    const char *name;
};

#define CODE(signal, code)                                                                                   \
    {                                                                                                        \
        signal, code, #code                                                                                  \
    }
static const struct code_name code_names[] = {
    CODE(SIGSEGV, SEGV_MAPERR), CODE(SIGSEGV, SEGV_ACCERR),  CODE(SIGSEGV, SEGV_BNDERR),
    CODE(SIGSEGV, SEGV_PKUERR), CODE(SIGBUS, BUS_ADRALN),    CODE(SIGBUS, BUS_ADRERR),
    CODE(SIGBUS, BUS_OBJERR),   CODE(SIGBUS, BUS_MCEERR_AR), CODE(SIGFPE, FPE_INTDIV),
    CODE(SIGFPE, FPE_INTOVF),   CODE(SIGFPE, FPE_FLTDIV),    CODE(SIGFPE, FPE_FLTOVF),
    CODE(SIGFPE, FPE_FLTUND),   CODE(SIGFPE, FPE_FLTRES),    CODE(SIGFPE, FPE_FLTINV),
    CODE(SIGILL, ILL_ILLOPC),   CODE(SIGILL, ILL_ILLOPN),    CODE(SIGILL, ILL_ILLADR),
    CODE(SIGILL, ILL_ILLTRP),   CODE(SIGILL, ILL_PRVOPC),    CODE(SIGTRAP, TRAP_BRKPT),
    CODE(SIGTRAP, TRAP_TRACE),
};

static const char *code_name(int signal, int code)
{
    switch (code) {
    case SI_USER:
        return "SI_USER";
    case SI_TKILL:
        return "SI_TKILL";
    case SI_QUEUE:
        return "SI_QUEUE";
    case SI_KERNEL:
        return "SI_KERNEL";
    }
    for (size_t i = 0; i < sizeof(code_names) / sizeof(*code_names); i++)
        if (code_names[i].signal == signal && code_names[i].code == code)
            return code_names[i].name;
    return NULL;
}

/* --- does the snapshot fit? --- */

static bool fits_status(const struct snapshot *snapshot, uint32_t kind, const struct reporter_job *job)
{
    bool exited = WIFEXITED(job->status);
    switch ((enum snapshot_kind)kind) {
    case SNAPSHOT_SIGNAL:
        return !exited && WTERMSIG(job->status) == snapshot->signal;
    case SNAPSHOT_EXIT:
        return exited && WEXITSTATUS(job->status) == (snapshot->status & 0xff);
    case SNAPSHOT_END:
        return exited && WEXITSTATUS(job->status) == WORKER_EXIT_ENDED && end_is_of_request(job->end);
    case SNAPSHOT_NONE:
    case SNAPSHOT_LIVE:
    case SNAPSHOT_KIND_COUNT:
        break;
    }
    return false;
}

static bool fits(const struct snapshot *snapshot, const struct reporter_job *job)
{
    uint32_t kind = atomic_load_explicit(&snapshot->kind, memory_order_acquire);
    if (snapshot->self_pid != job->pid || snapshot->request != job->request ||
        snapshot->phase >= SNAPSHOT_PHASE_COUNT)
        return false;
    return job->kind == REPORTER_DEATH ? fits_status(snapshot, kind, job) : kind == SNAPSHOT_LIVE;
}

/* --- the cause --- */

static bool is_fault(int signal)
{
    switch (signal) {
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGABRT:
    case SIGTRAP:
    case SIGSYS:
        return true;
    }
    return false;
}

static void take_signal(struct crash_cause *cause, const struct snapshot *snapshot)
{
    cause->code = code_name(snapshot->signal, snapshot->code);
    cause->sent = snapshot->code <= 0;
    cause->has_address = !cause->sent && snapshot->signal != SIGABRT;
    cause->address = snapshot->address;
    cause->sender_pid = snapshot->sender_pid;
    cause->sender_uid = snapshot->sender_uid;
    cause->own = !cause->sent || snapshot->sender_pid == snapshot->self_pid;
}

static bool is_at_limit(const struct snapshot *snapshot, uint64_t limit)
{
    return limit > 0 && (snapshot->error == ENOMEM || snapshot->data_size >= NEAR_LIMIT(limit));
}

/* What cohab itself ends by is _exit(2): who called exit(3) is the engine, whatever the number. */
static enum end_cause end_of(const struct reporter_job *job, const struct crash_cause *cause,
                             const struct snapshot *snapshot)
{
    bool called =
        cause->has_snapshot && atomic_load_explicit(&snapshot->kind, memory_order_relaxed) == SNAPSHOT_EXIT;
    return called && job->end == END_DESCRIPTORS ? END_OWN : (enum end_cause)job->end;
}

static const char *kind_of(const struct reporter_job *job, const struct crash_cause *cause,
                           const struct snapshot *snapshot, uint64_t limit)
{
    if (job->kind != REPORTER_DEATH)
        return "slow";
    switch (end_of(job, cause, snapshot)) {
    case END_DEADLINE:
        return "deadline";
    case END_CANCELLED:
        return "cancelled";
    case END_KILLED:
        return "killed";
    case END_STALLED:
        return "stalled";
    case END_ROGUE:
        return "rogue";
    case END_DESCRIPTORS:
        return "descriptors";
    case END_OOM:
        return "oom_kill";
    case END_OWN:
        break;
    }
    if (cause->own && cause->has_snapshot && is_at_limit(snapshot, limit))
        return "memory_limit";
    return cause->status >= 0 ? "exit" : "signal";
}

static enum report_kill kill_of(const struct reporter_job *job, const struct crash_cause *cause,
                                const struct snapshot *snapshot)
{
    if (job->kind != REPORTER_DEATH || job->request == 0)
        return KILL_NOT_ITS_OWN;
    switch (end_of(job, cause, snapshot)) {
    case END_DEADLINE:
        return KILL_DEADLINE;
    case END_OOM:
        return KILL_OWN;
    case END_OWN:
        return cause->own ? KILL_OWN : KILL_NOT_ITS_OWN;
    case END_CANCELLED:
    case END_KILLED:
    case END_STALLED:
    case END_ROGUE:
    case END_DESCRIPTORS:
        break;
    }
    return KILL_NOT_ITS_OWN;
}

static enum report_phase phase_of(const struct reporter_job *job, const struct crash_cause *cause,
                                  const struct snapshot *snapshot)
{
    if (job->phase == PHASE_IDLE && cause->has_snapshot && snapshot->phase == SNAPSHOT_LEAVING)
        return PHASE_STOP;
    return (enum report_phase)job->phase;
}

/* --- for people --- */

static void describe_place(const struct reporter_job *job, const struct crash_cause *cause, char *text,
                           size_t size)
{
    switch (cause->phase) {
    case PHASE_LOAD:
        snprintf(text, size, "in load()");
        return;
    case PHASE_START:
        snprintf(text, size, "in start()");
        return;
    case PHASE_CALL:
        snprintf(text, size, "in %s()", job->method);
        return;
    case PHASE_STOP:
        snprintf(text, size, "in stop()");
        return;
    case PHASE_IDLE:
        snprintf(text, size, "between requests");
        return;
    }
    *text = '\0';
}

static void describe(const struct reporter_job *job, struct crash_cause *cause)
{
    char place[ROW_METHOD_SIZE + 16], how[64];
    size_t size = sizeof(cause->text);
    describe_place(job, cause, place, sizeof(place));
    if (cause->status >= 0)
        snprintf(how, sizeof(how), cause->has_snapshot ? "exit(%d) called" : "exited with status %d",
                 cause->status);
    else
        snprintf(how, sizeof(how), "%s", cause->signal_name);
    if (strcmp(cause->kind, "deadline") == 0)
        snprintf(cause->text, size, "ended: %s() ran past its deadline", job->method);
    else if (strcmp(cause->kind, "cancelled") == 0)
        snprintf(cause->text, size, "ended: %s() went on after its client had gone", job->method);
    else if (strcmp(cause->kind, "killed") == 0)
        snprintf(cause->text, size, "ended: %s() was killed by an operator", job->method);
    else if (strcmp(cause->kind, "slow") == 0)
        snprintf(cause->text, size, "%s() runs long", job->method);
    else if (strcmp(cause->kind, "stalled") == 0)
        snprintf(cause->text, size, "killed: it held a connection and did not go on");
    else if (strcmp(cause->kind, "rogue") == 0)
        snprintf(cause->text, size, "killed: its engine wrote to cohab's control socket");
    else if (strcmp(cause->kind, "descriptors") == 0)
        snprintf(cause->text, size, "the engine closed or replaced cohab's descriptors %s", place);
    else if (strcmp(cause->kind, "oom_kill") == 0)
        snprintf(cause->text, size, "killed by the kernel for lack of memory (OOM) %s", place);
    else if (strcmp(cause->kind, "memory_limit") == 0)
        snprintf(cause->text, size, "%s %s, at its memory limit (--max-memory)", how, place);
    else if (cause->sent && !cause->own && cause->has_snapshot)
        snprintf(cause->text, size, "%s %s, sent by pid %d (uid %u)", how, place, cause->sender_pid,
                 cause->sender_uid);
    else
        snprintf(cause->text, size, "%s %s", how, place);
}

static void explain_no_stack(const struct reporter_job *job, struct crash_cause *cause)
{
    size_t size = sizeof(cause->no_stack);
    if (cause->has_snapshot)
        return;
    if (job->kind != REPORTER_DEATH)
        snprintf(cause->no_stack, size, "the call ended, or did not react to the signal");
    else if (cause->status == WORKER_EXIT_ENDED && end_is_of_request(job->end))
        snprintf(cause->no_stack, size, "the record that the process made of itself was overwritten");
    else if (job->end == END_DESCRIPTORS)
        snprintf(cause->no_stack, size, "cohab noticed it after the engine's call, and left");
    else if (cause->status >= 0)
        snprintf(cause->no_stack, size, "it ended by _exit(%d), which runs no handler", cause->status);
    else if (cause->signal == SIGKILL && end_is_of_request(job->end))
        snprintf(cause->no_stack, size,
                 "it did not react to the signal that asks for its stack, and was killed "
                 "by SIGKILL, which runs no handler");
    else if (cause->signal == SIGKILL)
        snprintf(cause->no_stack, size, "killed by SIGKILL, which runs no handler");
    else if (is_fault(cause->signal))
        snprintf(cause->no_stack, size,
                 "no handler of cohab's ran: the engine has one of its own, or the thread had no stack left");
    else
        snprintf(cause->no_stack, size, "killed by %s, for which cohab has no handler", cause->signal_name);
}

void crash_cause_find(const struct reporter_job *job, const struct snapshot *snapshot, uint64_t limit,
                      struct crash_cause *cause)
{
    *cause = (struct crash_cause){.status = -1, .has_snapshot = fits(snapshot, job)};
    if (job->kind == REPORTER_DEATH && WIFEXITED(job->status)) {
        cause->status = WEXITSTATUS(job->status);
        cause->own = true;
    } else if (job->kind == REPORTER_DEATH) {
        cause->signal = WTERMSIG(job->status);
        cause->core = WCOREDUMP(job->status);
        cause->own = is_fault(cause->signal);
        crash_signal_name(cause->signal, cause->signal_name, sizeof(cause->signal_name));
        if (cause->has_snapshot)
            take_signal(cause, snapshot);
    }
    cause->kind = kind_of(job, cause, snapshot, limit);
    cause->kill = kill_of(job, cause, snapshot);
    cause->phase = phase_of(job, cause, snapshot);
    describe(job, cause);
    explain_no_stack(job, cause);
}
