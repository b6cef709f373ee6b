#include "crash_text.h"

#include <time.h>

#include "object.h"
#include "text.h"

#define DAY 86400.0

static void put_date(FILE *out, double seconds)
{
    time_t whole = (time_t)seconds;
    struct tm date;
    char text[64];

    if (localtime_r(&whole, &date) && strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &date) > 0)
        fputs(text, out);
    else
        fputc('-', out);
}

void crash_text_put_time(FILE *out, const msgpack_object *report, bool both)
{
    struct timespec now;
    double seconds = -1;

    clock_gettime(CLOCK_REALTIME, &now);
    if (!object_find_number(report, "time", &seconds) || !(seconds >= 0 && seconds < 1e11)) {
        fputc('-', out);
        return;
    }
    double age = (double)now.tv_sec + (double)now.tv_nsec / 1e9 - seconds;
    bool recent = age >= 0 && age < DAY;
    if (both || !recent)
        put_date(out, seconds);
    if (both && recent)
        fputs(", ", out);
    if (recent) {
        text_put_seconds(out, age);
        fputs(" ago", out);
    }
}

static const struct {
    const char *kind;
    const char *words;
} kinds[] = {
    {"deadline", "deadline"},       {"cancelled", "client gone"},
    {"killed", "killed"},           {"memory_limit", "memory limit"},
    {"oom_kill", "out of memory"},  {"stalled", "stalled"},
    {"descriptors", "descriptors"}, {"slow", "slow"},
};

void crash_text_put_cause(FILE *out, const msgpack_object *cause)
{
    const msgpack_object *kind = object_find(cause, "kind");

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (object_is_text(kind, kinds[i].kind)) {
            fputs(kinds[i].words, out);
            return;
        }
    if (object_is_text(kind, "signal")) {
        object_put(out, cause, object_find_text(cause, "signal") ? "signal" : "kind");
    } else if (object_is_text(kind, "exit")) {
        fputs("exit(", out);
        object_put(out, cause, "status");
        fputc(')', out);
    } else {
        object_put(out, cause, "kind");
    }
}

static const struct {
    const char *code;
    const char *words;
} codes[] = {
    {"SEGV_MAPERR", "address not mapped"},
    {"SEGV_ACCERR", "no permission for this access"},
    {"SEGV_BNDERR", "outside the bounds of an object"},
    {"SEGV_PKUERR", "forbidden by a memory protection key"},
    {"SEGV_MTEAERR", "memory tag does not match"},
    {"SEGV_MTESERR", "memory tag does not match"},
    {"BUS_ADRALN", "address not aligned"},
    {"BUS_ADRERR", "no memory behind the address, such as beyond the end of a mapped file"},
    {"BUS_OBJERR", "hardware error of that memory"},
    {"BUS_MCEERR_AR", "hardware error of that memory"},
    {"BUS_MCEERR_AO", "hardware error of that memory"},
    {"FPE_INTDIV", "integer division by zero"},
    {"FPE_INTOVF", "integer overflow"},
    {"FPE_FLTDIV", "floating-point division by zero"},
    {"FPE_FLTOVF", "floating-point overflow"},
    {"FPE_FLTUND", "floating-point underflow"},
    {"FPE_FLTRES", "floating-point result is inexact"},
    {"FPE_FLTINV", "invalid floating-point operation"},
    {"FPE_FLTSUB", "subscript out of range"},
    {"ILL_ILLOPC", "illegal instruction"},
    {"ILL_ILLOPN", "illegal operand"},
    {"ILL_ILLADR", "illegal addressing mode"},
    {"ILL_ILLTRP", "illegal trap"},
    {"ILL_PRVOPC", "privileged instruction"},
    {"ILL_PRVREG", "privileged register"},
    {"ILL_COPROC", "coprocessor error"},
    {"ILL_BADSTK", "error of the internal stack"},
    {"TRAP_BRKPT", "breakpoint"},
    {"TRAP_TRACE", "trace trap"},
    {"SYS_SECCOMP", "system call forbidden by a seccomp filter"},
    {"SI_USER", "sent by kill()"},
    {"SI_QUEUE", "sent by sigqueue()"},
    {"SI_TKILL", "sent by tgkill(), as raise() and abort() do"},
    {"SI_TIMER", "a timer's"},
    {"SI_KERNEL", "sent by the kernel; for SIGSEGV: an address that no process can have"},
};

const char *crash_text_explain_code(const msgpack_object *code)
{
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (object_is_text(code, codes[i].code))
            return codes[i].words;
    return NULL;
}
