/* A row that changes while it is read: what says RUNNING belongs to one request. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "row.h"

/* --- requests whose words tell which request they belong to --- */

static uint32_t msgid_of(uint64_t request)
{
    return (uint32_t)(request * 2654435761u);
}

static uint64_t deadline_of(uint64_t request)
{
    return request * UINT64_C(0x9e3779b97f4a7c15);
}

static uint64_t started_of(uint64_t request)
{
    return ~deadline_of(request);
}

static uint64_t claim_of(uint64_t request)
{
    return row_claim_of((uint32_t)request, 1);
}

/* What a worker does from one running request to the next, in its order. */
enum {
    STEP_WRITING,
    STEP_CLAIM,
    STEP_REQUEST,
    STEP_MSGID,
    STEP_DEADLINE,
    STEP_STARTED,
    STEP_RUNNING,
    STEP_COUNT
};

static void take_step(struct row *row, int step, uint64_t request)
{
    switch (step) {
    case STEP_WRITING:
        atomic_store_explicit(&row->state, ROW_WRITING, memory_order_release);
        break;
    case STEP_CLAIM:
        atomic_store_explicit(&row->seal, claim_of(request), memory_order_relaxed);
        __atomic_store_n((uint64_t *)(void *)((char *)row + offsetof(struct row, claim.event.data)),
                         claim_of(request), __ATOMIC_RELEASE);
        break;
    case STEP_REQUEST:
        atomic_store_explicit(&row->request, request, memory_order_release);
        atomic_thread_fence(memory_order_release);
        break;
    case STEP_MSGID:
        atomic_store_explicit(&row->msgid, msgid_of(request), memory_order_relaxed);
        break;
    case STEP_DEADLINE:
        atomic_store_explicit(&row->deadline, deadline_of(request), memory_order_relaxed);
        break;
    case STEP_STARTED:
        atomic_store_explicit(&row->started, started_of(request), memory_order_relaxed);
        break;
    case STEP_RUNNING:
        atomic_store_explicit(&row->state, ROW_RUNNING, memory_order_release);
        break;
    }
}

static void take_steps(struct row *row, int first, int end, uint64_t request)
{
    for (int step = first; step < end; step++)
        take_step(row, step, request);
}

/* Without cmocka's messages, as the threaded test calls it very often. */
static bool is_consistent(const struct row_view *view)
{
    return view->state != ROW_RUNNING ||
           (view->claim == claim_of(view->request) && view->msgid == msgid_of(view->request) &&
            view->deadline == deadline_of(view->request) && view->started == started_of(view->request));
}

/* --- a change at each instruction: the reader is a process that is stepped through --- */

struct shared {
    struct row row;
    struct row_view view;
};

_Noreturn static void read_for_ever(struct shared *shared)
{
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
        _exit(EXIT_FAILURE);
    for (;;) {
        raise(SIGSTOP);
        row_read(&shared->row, 0, &shared->view);
    }
}

/* The signal that the reader stopped with; 0 where it has ended. */
static int wait_for_stop(pid_t reader)
{
    int status;
    assert_int_equal(waitpid(reader, &status, 0), reader);
    return WIFSTOPPED(status) ? WSTOPSIG(status) : 0;
}

/* Returns whether the reader is still reading after so many instructions. */
static bool step_through(pid_t reader, unsigned instructions)
{
    for (unsigned i = 0; i < instructions; i++) {
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, reader, NULL, NULL), 0);
        int signal = wait_for_stop(reader);
        if (signal == SIGSTOP)
            return false;
        assert_int_equal(signal, SIGTRAP);
    }
    return true;
}

/* The row changes from request 1 towards request 2 after so many instructions of the reader. Returns whether
 * it was still reading. */
static bool change_after(struct shared *shared, pid_t reader, unsigned instructions, int end_step)
{
    take_steps(&shared->row, 0, STEP_COUNT, 1);
    if (!step_through(reader, instructions))
        return false;
    take_steps(&shared->row, 0, end_step, 2);
    assert_int_equal(ptrace(PTRACE_CONT, reader, NULL, NULL), 0);
    assert_int_equal(wait_for_stop(reader), SIGSTOP);
    return true;
}

/* Of one round of the reader. */
static unsigned count_instructions(struct shared *shared, pid_t reader)
{
    unsigned count = 1;
    take_steps(&shared->row, 0, STEP_COUNT, 1);
    while (step_through(reader, 1))
        count++;
    return count;
}

/* A sanitizer makes the reader so long that not every instruction of it can be tried. */
#define POINTS_MOST 150u

static void test_a_change_at_each_instruction(void **state)
{
    (void)state;
    static const int changes[] = {STEP_CLAIM + 1, STEP_MSGID + 1, STEP_RUNNING, STEP_COUNT};
    struct shared *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(shared, MAP_FAILED);
    pid_t reader = fork();
    assert_true(reader >= 0);
    if (reader == 0)
        read_for_ever(shared);
    if (wait_for_stop(reader) != SIGSTOP)
        skip(); /* no ptrace(2) here */
    assert_int_equal(ptrace(PTRACE_SETOPTIONS, reader, NULL, PTRACE_O_EXITKILL), 0);
    unsigned length = count_instructions(shared, reader);
    unsigned seen[3] = {0}; /* not running, request 1, request 2 */
    for (size_t i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
        for (unsigned after = 0; change_after(shared, reader, after, changes[i]);
             after += 1 + length / POINTS_MOST) {
            assert_true(is_consistent(&shared->view));
            seen[shared->view.state == ROW_RUNNING ? shared->view.request : 0]++;
        }
    }
    assert_int_equal(kill(reader, SIGKILL), 0);
    assert_int_equal(wait_for_stop(reader), 0);
    munmap(shared, sizeof(*shared));
    for (int i = 0; i < 3; i++)
        assert_in_range(seen[i], 1, UINT32_MAX);
}

/* --- a change at any point --- */

#define VIEWS_WANTED 20000u
#define VIEWS_MOST   20000000u

struct race {
    struct row row;
    _Atomic int over;
};

static void *write_requests(void *context)
{
    struct race *race = context;
    for (uint64_t request = 1; !atomic_load_explicit(&race->over, memory_order_relaxed); request++)
        take_steps(&race->row, 0, STEP_COUNT, request);
    return NULL;
}

static void test_a_change_at_any_point(void **state)
{
    (void)state;
    static struct race race;
    pthread_t writer;
    unsigned running = 0, torn = 0;
    uint64_t last = 0, went_back = 0;
    assert_int_equal(pthread_create(&writer, NULL, write_requests, &race), 0);
    for (unsigned i = 0; i < VIEWS_MOST && running < VIEWS_WANTED; i++) {
        struct row_view view;
        row_read(&race.row, 0, &view);
        running += view.state == ROW_RUNNING;
        torn += !is_consistent(&view);
        went_back += view.request < last;
        last = view.request;
    }
    atomic_store(&race.over, 1);
    pthread_join(writer, NULL);
    assert_int_equal(torn, 0);
    assert_int_equal(went_back, 0);
    assert_in_range(running, 1, VIEWS_WANTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_change_at_each_instruction),
        cmocka_unit_test(test_a_change_at_any_point),
    };
    return cmocka_run_group_tests_name("row_race", tests, NULL, NULL);
}
