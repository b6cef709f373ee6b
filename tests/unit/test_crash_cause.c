#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "crash_cause.h"
#include "random.h"
#include "worker.h"

#define PID   4711
#define LIMIT (UINT64_C(256) << 20)

#define EXITED(status) W_EXITCODE(status, 0)
#define KILLED(signal) W_EXITCODE(0, signal)

static struct snapshot snapshot;
static struct reporter_job job;
static struct crash_cause cause;

/* A worker that ran f(), and has written nothing down. */
static int fresh(void **state)
{
    (void)state;
    memset(&snapshot, 0, sizeof(snapshot));
    job = (struct reporter_job){.kind = REPORTER_DEATH,
                                .pid = PID,
                                .phase = PHASE_CALL,
                                .request = 9,
                                .method = "f",
                                .status = KILLED(SIGSEGV)};
    return 0;
}

static void write_down(enum snapshot_kind kind, int signal, int code)
{
    snapshot.kind = (uint32_t)kind;
    snapshot.phase = SNAPSHOT_SERVING;
    snapshot.self_pid = PID;
    snapshot.request = 9;
    snapshot.signal = signal;
    snapshot.code = code;
    snapshot.address = 8;
    snapshot.sender_pid = PID;
}

static void find(void)
{
    crash_cause_find(&job, &snapshot, 0, &cause);
}

static void expect(const char *kind, const char *text, enum report_kill kill)
{
    assert_string_equal(cause.kind, kind);
    assert_string_equal(cause.text, text);
    assert_int_equal(cause.kill, kill);
}

static void test_a_fault(void **state)
{
    (void)state;
    write_down(SNAPSHOT_SIGNAL, SIGSEGV, SEGV_MAPERR);
    find();
    expect("signal", "SIGSEGV in f()", KILL_OWN);
    assert_true(cause.has_snapshot && cause.has_address && cause.own);
    assert_false(cause.sent);
    assert_int_equal(cause.address, 8);
    assert_string_equal(cause.code, "SEGV_MAPERR");
    assert_string_equal(cause.no_stack, "");
}

static void test_sent_by_itself(void **state)
{
    (void)state;
    job.status = KILLED(SIGABRT);
    write_down(SNAPSHOT_SIGNAL, SIGABRT, SI_TKILL);
    find();
    expect("signal", "SIGABRT in f()", KILL_OWN);
    assert_true(cause.sent && cause.own);
}

static void test_sent_by_another(void **state)
{
    (void)state;
    write_down(SNAPSHOT_SIGNAL, SIGSEGV, SI_USER);
    snapshot.sender_pid = 1234;
    snapshot.sender_uid = 5;
    find();
    expect("signal", "SIGSEGV in f(), sent by pid 1234 (uid 5)", KILL_NOT_ITS_OWN);
    assert_false(cause.has_address);
}

static void test_without_a_snapshot(void **state)
{
    (void)state;
    find();
    expect("signal", "SIGSEGV in f()", KILL_OWN); /* somebody else's handler has seen it */
    assert_non_null(strstr(cause.no_stack, "no handler of cohab's ran"));
    job.status = KILLED(SIGKILL);
    find();
    expect("signal", "SIGKILL in f()", KILL_NOT_ITS_OWN);
    assert_non_null(strstr(cause.no_stack, "SIGKILL, which runs no handler"));
    job.status = KILLED(SIGUSR1);
    find();
    expect("signal", "SIGUSR1 in f()", KILL_NOT_ITS_OWN);
    job.status = EXITED(3);
    find();
    expect("exit", "exited with status 3 in f()", KILL_OWN);
    assert_non_null(strstr(cause.no_stack, "_exit(3)"));
}

/* One that was written down earlier, or by somebody else, says nothing about this end. */
static void test_a_snapshot_that_does_not_fit(void **state)
{
    (void)state;
    write_down(SNAPSHOT_SIGNAL, SIGSEGV, SEGV_MAPERR);
    snapshot.request = 8;
    find();
    assert_false(cause.has_snapshot);
    write_down(SNAPSHOT_SIGNAL, SIGSEGV, SEGV_MAPERR);
    snapshot.self_pid = PID + 1;
    find();
    assert_false(cause.has_snapshot);
    write_down(SNAPSHOT_SIGNAL, SIGBUS, BUS_ADRERR);
    find();
    assert_false(cause.has_snapshot);
    write_down(SNAPSHOT_EXIT, 0, 0);
    find();
    assert_false(cause.has_snapshot);
    write_down(SNAPSHOT_LIVE, 0, 0);
    find();
    assert_false(cause.has_snapshot);
    write_down(SNAPSHOT_EXIT, 0, 0);
    snapshot.status = 4;
    job.status = EXITED(3);
    find();
    assert_false(cause.has_snapshot);
}

static void test_exit(void **state)
{
    (void)state;
    job.status = EXITED(3);
    write_down(SNAPSHOT_EXIT, 0, 0);
    snapshot.status = 0x103;
    find();
    expect("exit", "exit(3) called in f()", KILL_OWN);
    assert_true(cause.has_snapshot);
}

static void test_deadline(void **state)
{
    (void)state;
    job.end = END_DEADLINE;
    job.status = EXITED(WORKER_EXIT_ENDED);
    write_down(SNAPSHOT_END, 0, 0);
    find();
    expect("deadline", "ended: f() ran past its deadline", KILL_DEADLINE);
    assert_true(cause.has_snapshot);
    job.status = KILLED(SIGKILL);
    find();
    expect("deadline", "ended: f() ran past its deadline", KILL_DEADLINE);
    assert_false(cause.has_snapshot);
    assert_non_null(strstr(cause.no_stack, "did not react"));
}

/* By the same means as at a deadline, but nothing that the request is to blame for. */
static void test_a_call_that_nobody_wants_any_more(void **state)
{
    (void)state;
    static const struct {
        enum end_cause end;
        const char *kind, *text;
    } ends[] = {{END_CANCELLED, "cancelled", "ended: f() went on after its client had gone"},
                {END_KILLED, "killed", "ended: f() was killed by an operator"}};
    for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
        job.end = ends[i].end;
        job.status = EXITED(WORKER_EXIT_ENDED);
        write_down(SNAPSHOT_END, 0, 0);
        find();
        expect(ends[i].kind, ends[i].text, KILL_NOT_ITS_OWN);
        assert_true(cause.has_snapshot);
        job.status = KILLED(SIGKILL);
        find();
        expect(ends[i].kind, ends[i].text, KILL_NOT_ITS_OWN);
        assert_non_null(strstr(cause.no_stack, "did not react"));
    }
}

static void test_memory_limit(void **state)
{
    (void)state;
    write_down(SNAPSHOT_SIGNAL, SIGSEGV, SEGV_MAPERR);
    snapshot.data_size = LIMIT / 8 * 7;
    crash_cause_find(&job, &snapshot, LIMIT, &cause);
    expect("memory_limit", "SIGSEGV in f(), at its memory limit (--max-memory)", KILL_OWN);
    snapshot.data_size--;
    crash_cause_find(&job, &snapshot, LIMIT, &cause);
    expect("signal", "SIGSEGV in f()", KILL_OWN);
    snapshot.error = ENOMEM;
    crash_cause_find(&job, &snapshot, LIMIT, &cause);
    assert_string_equal(cause.kind, "memory_limit");
    crash_cause_find(&job, &snapshot, 0, &cause);
    assert_string_equal(cause.kind, "signal");
}

static void test_what_the_master_did(void **state)
{
    (void)state;
    job.status = KILLED(SIGKILL);
    job.end = END_STALLED;
    find();
    expect("stalled", "killed: it held a connection and did not go on", KILL_NOT_ITS_OWN);
    job.end = END_ROGUE;
    find();
    expect("rogue", "killed: its engine wrote to cohab's control socket", KILL_NOT_ITS_OWN);
    job.end = END_OOM;
    find();
    expect("oom_kill", "killed by the kernel for lack of memory (OOM) in f()", KILL_OWN);
}

static void test_elsewhere(void **state)
{
    (void)state;
    job.request = 0;
    job.phase = PHASE_IDLE;
    write_down(SNAPSHOT_SIGNAL, SIGSEGV, SEGV_MAPERR);
    snapshot.request = 0;
    find();
    expect("signal", "SIGSEGV between requests", KILL_NOT_ITS_OWN);
    snapshot.phase = SNAPSHOT_LEAVING;
    find();
    expect("signal", "SIGSEGV in stop()", KILL_NOT_ITS_OWN);
    job.phase = PHASE_LOAD;
    find();
    expect("signal", "SIGSEGV in load()", KILL_NOT_ITS_OWN);
    job.phase = PHASE_START;
    find();
    expect("signal", "SIGSEGV in start()", KILL_NOT_ITS_OWN);
}

static void test_a_call_that_goes_on(void **state)
{
    (void)state;
    job.kind = REPORTER_SLOW;
    job.status = 0;
    write_down(SNAPSHOT_LIVE, 0, 0);
    find();
    expect("slow", "f() runs long", KILL_NOT_ITS_OWN);
    assert_true(cause.has_snapshot);
    snapshot.request = 10;
    find();
    assert_false(cause.has_snapshot);
    assert_non_null(strstr(cause.no_stack, "did not react"));
}

static void test_names(void **state)
{
    char text[32];
    (void)state;
    assert_string_equal(crash_signal_name(SIGSEGV, text, sizeof(text)), "SIGSEGV");
    assert_string_equal(crash_signal_name(SIGRTMIN + 3, text, sizeof(text)), "SIGRTMIN+3");
    assert_string_equal(crash_signal_name(33, text, sizeof(text)), "signal 33");
}

static void test_random_bytes(void **state)
{
    struct random random = random_seeded(1);
    (void)state;
    for (int i = 0; i < 20000; i++) {
        random_fill(&random, &snapshot, offsetof(struct snapshot, maps));
        if (i % 2)
            snapshot.self_pid = PID, snapshot.request = 9, snapshot.phase %= SNAPSHOT_PHASE_COUNT;
        snapshot.kind %= SNAPSHOT_KIND_COUNT + 1;
        job.status = (int)(random_next(&random) & 0x7f);
        find();
        assert_true(strlen(cause.text) > 0 && strlen(cause.text) < sizeof(cause.text));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_fault, fresh),
        cmocka_unit_test_setup(test_sent_by_itself, fresh),
        cmocka_unit_test_setup(test_sent_by_another, fresh),
        cmocka_unit_test_setup(test_without_a_snapshot, fresh),
        cmocka_unit_test_setup(test_a_snapshot_that_does_not_fit, fresh),
        cmocka_unit_test_setup(test_exit, fresh),
        cmocka_unit_test_setup(test_deadline, fresh),
        cmocka_unit_test_setup(test_a_call_that_nobody_wants_any_more, fresh),
        cmocka_unit_test_setup(test_memory_limit, fresh),
        cmocka_unit_test_setup(test_what_the_master_did, fresh),
        cmocka_unit_test_setup(test_elsewhere, fresh),
        cmocka_unit_test_setup(test_a_call_that_goes_on, fresh),
        cmocka_unit_test(test_names),
        cmocka_unit_test_setup(test_random_bytes, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
