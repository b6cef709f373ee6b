/* A row that changes while it is read: what says RUNNING belongs to one request. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
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

/* What a worker does from one running request to the next, in its order. */
enum { STEP_WRITING, STEP_REQUEST, STEP_MSGID, STEP_DEADLINE, STEP_STARTED, STEP_RUNNING, STEP_COUNT };

static void take_step(struct row *row, int step, uint64_t request)
{
    switch (step) {
    case STEP_WRITING:
        atomic_store_explicit(&row->state, ROW_WRITING, memory_order_release);
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
           (view->msgid == msgid_of(view->request) && view->deadline == deadline_of(view->request) &&
            view->started == started_of(view->request));
}

/* --- a change at a known point of the reading --- */

/* The row's second part lies in a page that cannot be read: the reader faults there, and the handler, as the
 * worker, goes on by so many steps before it lets the reader go on. */
static struct {
    struct row *row;
    char *pages;
    size_t page_size;
    int end_step;
    uint64_t request;
    volatile sig_atomic_t faults;
} trap;

static void on_fault(int signal)
{
    (void)signal;
    trap.faults++;
    mprotect(trap.pages, 2 * trap.page_size, PROT_READ | PROT_WRITE);
    take_steps(trap.row, 0, trap.end_step, trap.request);
}

/* A row of request 1, running, whose first `readable` bytes lie in the first page. */
static void set_trap(size_t readable, int end_step)
{
    trap.row = (struct row *)(void *)(trap.pages + trap.page_size - readable);
    memset(trap.pages, 0, 2 * trap.page_size);
    take_steps(trap.row, 0, STEP_COUNT, 1);
    trap.end_step = end_step;
    trap.request = 2;
    trap.faults = 0;
    assert_int_equal(mprotect(trap.pages + trap.page_size, trap.page_size, PROT_NONE), 0);
}

static void test_a_change_at_each_cache_line(void **state)
{
    (void)state;
    struct sigaction action = {.sa_handler = on_fault}, before;
    trap.page_size = (size_t)sysconf(_SC_PAGESIZE);
    trap.pages = mmap(NULL, 2 * trap.page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(trap.pages, MAP_FAILED);
    assert_int_equal(sigaction(SIGSEGV, &action, &before), 0);
    unsigned running = 0, faults = 0;
    for (size_t readable = 0; readable < offsetof(struct row, cancel); readable += _Alignof(struct row)) {
        for (int end_step = 0; end_step <= STEP_COUNT; end_step++) {
            struct row_view view;
            set_trap(readable, end_step);
            row_read(trap.row, &view);
            faults += (unsigned)trap.faults;
            running += view.state == ROW_RUNNING;
            assert_true(is_consistent(&view));
            if (trap.faults && end_step == 0) /* nothing changed: the reader must not be too timid either */
                assert_int_equal(view.state, ROW_RUNNING);
            assert_int_equal(mprotect(trap.pages, 2 * trap.page_size, PROT_READ | PROT_WRITE), 0);
        }
    }
    assert_int_equal(sigaction(SIGSEGV, &before, NULL), 0);
    munmap(trap.pages, 2 * trap.page_size);
    assert_in_range(faults, 2 * (STEP_COUNT + 1), 1000);
    assert_in_range(running, 2, 1000);
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
        row_read(&race.row, &view);
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
        cmocka_unit_test(test_a_change_at_each_cache_line),
        cmocka_unit_test(test_a_change_at_any_point),
    };
    return cmocka_run_group_tests_name("row_race", tests, NULL, NULL);
}
