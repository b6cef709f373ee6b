#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "deadline.h"
#include "random.h"

#define GRACE    UINT64_C(100)
#define LONGEST  (UINT64_MAX / 2)
#define PATIENCE UINT64_C(200000000) /* with a stop that does not take effect */

/* --- one worker and its clock --- */

static struct row_view running(uint64_t request, uint64_t deadline)
{
    return (struct row_view){.claim = row_claim_of(1, 1),
                             .valid = true,
                             .state = ROW_RUNNING,
                             .request = request,
                             .deadline = deadline};
}

static enum deadline_step next_step(struct deadline *deadline, const struct row_view *row, bool stopped,
                                    uint64_t now, uint64_t grace, uint64_t longest)
{
    const struct deadline_facts facts = {.now = now, .stopped = stopped};
    const struct deadline_limits limits = {.grace = grace, .longest = longest};
    return deadline_next(deadline, row, &facts, &limits);
}

static void expect(struct deadline *deadline, const struct row_view *row, bool stopped, uint64_t now,
                   enum deadline_step step)
{
    assert_int_equal(next_step(deadline, row, stopped, now, GRACE, LONGEST), step);
}

/* The same of a worker whose client has gone. */
static void expect_gone(struct deadline *deadline, const struct row_view *row, bool stopped, uint64_t now,
                        uint64_t cancel_kill, enum deadline_step step)
{
    const struct deadline_facts facts = {.now = now, .stopped = stopped, .gone = true};
    const struct deadline_limits limits = {.grace = GRACE, .longest = LONGEST, .cancel_kill = cancel_kill};
    assert_int_equal(deadline_next(deadline, row, &facts, &limits), step);
}

#define STOPPED_AT (1000 + 2 * GRACE) /* when climb() has it sent SIGSTOP */

/* Request 5 with deadline 1000, looked at until it is `stage`; the next step is due at the time returned. */
static uint64_t climb(struct deadline *deadline, enum deadline_stage stage)
{
    struct row_view row = running(5, 1000);
    *deadline = (struct deadline){0};
    if (stage >= DEADLINE_FLAGGED)
        expect(deadline, &row, false, 1000, DEADLINE_DO_FLAG);
    if (stage >= DEADLINE_SIGNALLED)
        expect(deadline, &row, false, 1100, DEADLINE_DO_SIGNAL);
    if (stage >= DEADLINE_STOPPING)
        expect(deadline, &row, false, 1200, DEADLINE_DO_STOP);
    if (stage >= DEADLINE_KILLED)
        expect(deadline, &row, true, 1300, DEADLINE_DO_KILL);
    assert_int_equal(deadline->stage, stage);
    return 1000 + GRACE * (unsigned)stage;
}

static void test_the_whole_staircase(void **state)
{
    (void)state;
    struct deadline deadline = {0};
    struct row_view row = running(5, 1000);
    expect(&deadline, &row, false, 0, DEADLINE_DO_NOTHING);
    expect(&deadline, &row, false, 999, DEADLINE_DO_NOTHING);
    expect(&deadline, &row, false, 1000, DEADLINE_DO_FLAG);
    assert_int_equal(deadline.request, 5);
    expect(&deadline, &row, false, 1000, DEADLINE_DO_NOTHING);
    expect(&deadline, &row, false, 1099, DEADLINE_DO_NOTHING);
    expect(&deadline, &row, false, 1100, DEADLINE_DO_SIGNAL);
    expect(&deadline, &row, false, 1199, DEADLINE_DO_NOTHING);
    expect(&deadline, &row, false, 1200, DEADLINE_DO_STOP);
    expect(&deadline, &row, false, 1201, DEADLINE_DO_NOTHING);
    expect(&deadline, &row, false, 999999, DEADLINE_DO_NOTHING);
    expect(&deadline, &row, true, 999999, DEADLINE_DO_KILL);
    assert_int_equal(deadline.request, 5);
    expect(&deadline, &row, true, 1999999, DEADLINE_DO_NOTHING);
    expect(&deadline, &row, false, 2999999, DEADLINE_DO_NOTHING);
}

/* A master that was away for long takes one step a look all the same: each step gets its grace. */
static void test_late_looks_skip_no_step(void **state)
{
    (void)state;
    struct deadline deadline = {0};
    struct row_view row = running(5, 1000);
    expect(&deadline, &row, false, 50000, DEADLINE_DO_FLAG);
    expect(&deadline, &row, false, 50099, DEADLINE_DO_NOTHING);
    expect(&deadline, &row, false, 90000, DEADLINE_DO_SIGNAL);
    expect(&deadline, &row, false, 90099, DEADLINE_DO_NOTHING);
    expect(&deadline, &row, false, 90100, DEADLINE_DO_STOP);
}

static void test_without_grace_every_look_is_a_step(void **state)
{
    (void)state;
    struct deadline deadline = {0};
    struct row_view row = running(1, 0);
    assert_int_equal(next_step(&deadline, &row, false, 0, 0, LONGEST), DEADLINE_DO_FLAG);
    assert_int_equal(next_step(&deadline, &row, false, 0, 0, LONGEST), DEADLINE_DO_SIGNAL);
    assert_int_equal(next_step(&deadline, &row, false, 0, 0, LONGEST), DEADLINE_DO_STOP);
    assert_int_equal(next_step(&deadline, &row, false, 0, 0, LONGEST), DEADLINE_DO_NOTHING);
    assert_int_equal(next_step(&deadline, &row, true, 0, 0, LONGEST), DEADLINE_DO_KILL);
}

static void test_only_running_requests_are_ended(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ROW_STATE_COUNT; i++) {
        struct deadline deadline = {0};
        struct row_view row = running(5, 1000);
        row.state = (enum row_state)i;
        expect(&deadline, &row, false, 5000, i == ROW_RUNNING ? DEADLINE_DO_FLAG : DEADLINE_DO_NOTHING);
        row.state = ROW_RUNNING;
        row.valid = false;
        deadline = (struct deadline){0};
        expect(&deadline, &row, false, 5000, DEADLINE_DO_NOTHING);
    }
}

/* --- the request is over by the next look --- */

static void test_the_next_request_starts_from_the_bottom(void **state)
{
    (void)state;
    for (unsigned stage = DEADLINE_NONE; stage <= DEADLINE_SIGNALLED; stage++) {
        struct deadline deadline;
        uint64_t now = climb(&deadline, (enum deadline_stage)stage) + 10 * GRACE;
        struct row_view next = running(6, now + 1);
        expect(&deadline, &next, false, now, DEADLINE_DO_NOTHING);
        expect(&deadline, &next, false, now + 1, DEADLINE_DO_FLAG);
        assert_int_equal(deadline.request, 6);
        expect(&deadline, &next, false, now + GRACE, DEADLINE_DO_NOTHING);
        expect(&deadline, &next, false, now + 1 + GRACE, DEADLINE_DO_SIGNAL);
    }
}

/* Past its own deadline already: flagged, and nothing more at this look. */
static void test_the_next_request_is_late_too(void **state)
{
    (void)state;
    for (unsigned stage = DEADLINE_NONE; stage <= DEADLINE_SIGNALLED; stage++) {
        struct deadline deadline;
        uint64_t now = climb(&deadline, (enum deadline_stage)stage) + 10 * GRACE;
        struct row_view next = running(6, 1);
        expect(&deadline, &next, false, now, DEADLINE_DO_FLAG);
        assert_int_equal(deadline.request, 6);
    }
}

static void test_a_request_that_is_over_is_left_alone(void **state)
{
    (void)state;
    for (unsigned stage = DEADLINE_FLAGGED; stage <= DEADLINE_SIGNALLED; stage++) {
        for (unsigned i = 0; i <= ROW_STATE_COUNT; i++) {
            struct deadline deadline;
            uint64_t now = climb(&deadline, (enum deadline_stage)stage) + 10 * GRACE;
            struct row_view row = running(5, 1000);
            row.valid = i < ROW_STATE_COUNT;
            row.state = row.valid ? (enum row_state)i : ROW_WAITING;
            if (row.state == ROW_RUNNING)
                continue;
            expect(&deadline, &row, false, now, DEADLINE_DO_NOTHING);
            expect(&deadline, &row, true, now + GRACE, DEADLINE_DO_NOTHING);
        }
    }
}

static void expect_continue(const struct row_view *row)
{
    struct deadline deadline;
    uint64_t now = climb(&deadline, DEADLINE_STOPPING);
    expect(&deadline, row, false, now + 10 * GRACE, DEADLINE_DO_NOTHING);
    expect(&deadline, row, true, now + 11 * GRACE, DEADLINE_DO_CONTINUE);
    expect(&deadline, row, false, now + 11 * GRACE,
           row->valid && row->state == ROW_RUNNING && now + 11 * GRACE >= row->deadline
               ? DEADLINE_DO_FLAG
               : DEADLINE_DO_NOTHING);
    climb(&deadline, DEADLINE_STOPPING);
    expect(&deadline, row, false, STOPPED_AT + PATIENCE - 1, DEADLINE_DO_NOTHING);
    expect(&deadline, row, false, STOPPED_AT + PATIENCE, DEADLINE_DO_CONTINUE);
    assert_int_equal(deadline.stage, DEADLINE_NONE);
}

static void test_over_by_the_time_it_is_stopped(void **state)
{
    (void)state;
    struct row_view row = running(6, UINT64_MAX);
    expect_continue(&row);
    row = running(6, 1); /* the next one, late as well: it has had no warning */
    expect_continue(&row);
    row = running(4, 1);
    expect_continue(&row);
    for (unsigned i = 0; i < ROW_STATE_COUNT; i++) {
        row = running(5, 1000);
        row.state = (enum row_state)i;
        if (i != ROW_RUNNING)
            expect_continue(&row);
    }
    row = running(5, 1000);
    row.valid = false;
    expect_continue(&row);
}

/* --- a call that takes no stop: it sleeps in the kernel, or is being traced --- */

static void test_a_stop_without_effect_is_waited_for(void **state)
{
    (void)state;
    struct deadline deadline;
    struct row_view row = running(5, 1000);
    climb(&deadline, DEADLINE_STOPPING);
    for (uint64_t waited = 0; waited < PATIENCE; waited += PATIENCE / 10)
        expect(&deadline, &row, false, STOPPED_AT + waited, DEADLINE_DO_NOTHING);
    expect(&deadline, &row, false, STOPPED_AT + PATIENCE - 1, DEADLINE_DO_NOTHING);
    expect(&deadline, &row, false, STOPPED_AT + PATIENCE, DEADLINE_DO_KILL);
    expect(&deadline, &row, false, STOPPED_AT + 2 * PATIENCE, DEADLINE_DO_NOTHING);
}

static void test_a_stop_takes_effect_at_the_last_moment(void **state)
{
    (void)state;
    struct deadline deadline;
    struct row_view row = running(5, 1000), next = running(6, UINT64_MAX);
    climb(&deadline, DEADLINE_STOPPING);
    expect(&deadline, &row, true, STOPPED_AT + PATIENCE - 1, DEADLINE_DO_KILL);
    climb(&deadline, DEADLINE_STOPPING);
    expect(&deadline, &next, true, STOPPED_AT + PATIENCE - 1, DEADLINE_DO_CONTINUE);
}

/* The patience counts from the stop, however long the stages before it took; the grace has no part in it. */
static void test_patience_counts_from_the_stop(void **state)
{
    (void)state;
    struct deadline deadline = {0};
    struct row_view row = running(5, 1000);
    expect(&deadline, &row, false, 10 * PATIENCE, DEADLINE_DO_FLAG);
    expect(&deadline, &row, false, 20 * PATIENCE, DEADLINE_DO_SIGNAL);
    expect(&deadline, &row, false, 30 * PATIENCE, DEADLINE_DO_STOP);
    expect(&deadline, &row, false, 30 * PATIENCE + GRACE, DEADLINE_DO_NOTHING);
    expect(&deadline, &row, false, 31 * PATIENCE - 1, DEADLINE_DO_NOTHING);
    expect(&deadline, &row, false, 31 * PATIENCE, DEADLINE_DO_KILL);
}

/* --- stopped by others --- */

static void test_a_stop_by_others_changes_nothing_before_the_stop(void **state)
{
    (void)state;
    struct deadline deadline = {0};
    struct row_view row = running(5, 1000);
    expect(&deadline, &row, true, 999, DEADLINE_DO_NOTHING);
    expect(&deadline, &row, true, 1000, DEADLINE_DO_FLAG);
    expect(&deadline, &row, true, 1099, DEADLINE_DO_NOTHING);
    expect(&deadline, &row, true, 1100, DEADLINE_DO_SIGNAL);
    expect(&deadline, &row, true, 1200, DEADLINE_DO_STOP);
    expect(&deadline, &row, true, 1200, DEADLINE_DO_KILL);
}

static void test_an_idle_worker_stopped_by_others_is_left_alone(void **state)
{
    (void)state;
    struct deadline deadline = {0};
    struct row_view row = running(5, 1000);
    row.state = ROW_WAITING;
    for (uint64_t now = 0; now < 5000; now += 50)
        expect(&deadline, &row, true, now, DEADLINE_DO_NOTHING);
}

/* --- the client has gone --- */

#define CANCEL_KILL UINT64_C(700)

static void test_a_client_that_is_gone_has_its_request_flagged_at_once(void **state)
{
    (void)state;
    struct deadline deadline = {0};
    struct row_view row = running(5, UINT64_MAX);
    expect(&deadline, &row, false, 10, DEADLINE_DO_NOTHING);
    expect_gone(&deadline, &row, false, 11, 0, DEADLINE_DO_FLAG);
    assert_int_equal(deadline.request, 5);
    assert_int_equal(deadline.why, DEADLINE_CLIENT_GONE);
}

static void test_by_default_the_engine_may_ignore_that(void **state)
{
    (void)state;
    struct deadline deadline = {0};
    struct row_view row = running(5, UINT64_MAX);
    expect_gone(&deadline, &row, false, 11, 0, DEADLINE_DO_FLAG);
    for (uint64_t now = 11; now < 1000000; now += 1000)
        expect_gone(&deadline, &row, false, now, 0, DEADLINE_DO_NOTHING);
    row.state = ROW_WRITING;
    expect_gone(&deadline, &row, false, 1000000, 0, DEADLINE_DO_NOTHING);
    assert_int_equal(deadline.stage, DEADLINE_NONE);
}

static void test_cancel_kill_ends_it_in_the_way_of_a_deadline(void **state)
{
    (void)state;
    struct deadline deadline = {0};
    struct row_view row = running(5, UINT64_MAX);
    expect_gone(&deadline, &row, false, 10, CANCEL_KILL, DEADLINE_DO_FLAG);
    expect_gone(&deadline, &row, false, 10 + GRACE, CANCEL_KILL, DEADLINE_DO_NOTHING);
    expect_gone(&deadline, &row, false, 9 + CANCEL_KILL, CANCEL_KILL, DEADLINE_DO_NOTHING);
    expect_gone(&deadline, &row, false, 10 + CANCEL_KILL, CANCEL_KILL, DEADLINE_DO_SIGNAL);
    expect_gone(&deadline, &row, false, 9 + CANCEL_KILL + GRACE, CANCEL_KILL, DEADLINE_DO_NOTHING);
    expect_gone(&deadline, &row, false, 10 + CANCEL_KILL + GRACE, CANCEL_KILL, DEADLINE_DO_STOP);
    expect_gone(&deadline, &row, true, 11 + CANCEL_KILL + GRACE, CANCEL_KILL, DEADLINE_DO_KILL);
    assert_int_equal(deadline.why, DEADLINE_CLIENT_GONE);
}

/* The next request on that worker is of another client. */
static void test_only_the_request_of_that_client_is_ended(void **state)
{
    (void)state;
    struct deadline deadline = {0};
    struct row_view row = running(5, UINT64_MAX), next = running(6, UINT64_MAX);
    expect_gone(&deadline, &row, false, 10, CANCEL_KILL, DEADLINE_DO_FLAG);
    expect(&deadline, &next, false, 10 + CANCEL_KILL, DEADLINE_DO_NOTHING);
    expect(&deadline, &next, false, 10 + 9 * CANCEL_KILL, DEADLINE_DO_NOTHING);
    deadline = (struct deadline){0};
    expect_gone(&deadline, &row, false, 10, CANCEL_KILL, DEADLINE_DO_FLAG);
    expect_gone(&deadline, &row, false, 10 + CANCEL_KILL, CANCEL_KILL, DEADLINE_DO_SIGNAL);
    expect_gone(&deadline, &row, false, 10 + CANCEL_KILL + GRACE, CANCEL_KILL, DEADLINE_DO_STOP);
    expect(&deadline, &next, true, 11 + CANCEL_KILL + GRACE, DEADLINE_DO_CONTINUE);
    expect(&deadline, &next, false, 12 + CANCEL_KILL + GRACE, DEADLINE_DO_NOTHING);
}

static void test_the_deadline_of_a_request_without_client_still_holds(void **state)
{
    (void)state;
    struct deadline deadline = {0};
    struct row_view row = running(5, 1000);
    expect_gone(&deadline, &row, false, 10, 0, DEADLINE_DO_FLAG);
    expect_gone(&deadline, &row, false, 999, 0, DEADLINE_DO_NOTHING);
    expect_gone(&deadline, &row, false, 1000, 0, DEADLINE_DO_FLAG);
    assert_int_equal(deadline.why, DEADLINE_PASSED);
    expect_gone(&deadline, &row, false, 1099, 0, DEADLINE_DO_NOTHING);
    expect_gone(&deadline, &row, false, 1100, 0, DEADLINE_DO_SIGNAL);
    expect_gone(&deadline, &row, false, 1200, 0, DEADLINE_DO_STOP);
    expect_gone(&deadline, &row, true, 1201, 0, DEADLINE_DO_KILL);
}

/* Its way out has begun, and is no longer than any other's. */
static void test_a_client_that_goes_later_changes_nothing(void **state)
{
    (void)state;
    struct deadline deadline = {0};
    struct row_view row = running(5, 1000);
    expect(&deadline, &row, false, 1000, DEADLINE_DO_FLAG);
    expect_gone(&deadline, &row, false, 1050, 0, DEADLINE_DO_NOTHING);
    expect_gone(&deadline, &row, false, 1100, 0, DEADLINE_DO_SIGNAL);
    assert_int_equal(deadline.why, DEADLINE_PASSED);
}

/* --- an operator --- */

static void test_an_order_ends_the_request_that_it_names(void **state)
{
    (void)state;
    struct deadline deadline = {.ordered = 5};
    struct row_view row = running(5, UINT64_MAX);
    expect(&deadline, &row, false, 10, DEADLINE_DO_FLAG);
    assert_int_equal(deadline.why, DEADLINE_KILL_ORDERED);
    expect(&deadline, &row, false, 10 + GRACE, DEADLINE_DO_SIGNAL);
    expect(&deadline, &row, false, 10 + 2 * GRACE, DEADLINE_DO_STOP);
    expect(&deadline, &row, true, 11 + 2 * GRACE, DEADLINE_DO_KILL);
}

static void test_an_order_is_for_no_other_request(void **state)
{
    (void)state;
    struct deadline deadline = {.ordered = 5};
    for (uint64_t request = 0; request < 10; request++) {
        struct row_view row = running(request, UINT64_MAX);
        if (request == 5)
            row.state = ROW_WRITING; /* it has just ended */
        expect(&deadline, &row, false, 10 * GRACE * request, DEADLINE_DO_NOTHING);
    }
    struct row_view nothing = running(0, UINT64_MAX);
    deadline = (struct deadline){.ordered = 0};
    expect(&deadline, &nothing, false, 10000, DEADLINE_DO_NOTHING);
}

static void test_an_order_hastens_what_only_its_client_has_left(void **state)
{
    (void)state;
    struct deadline deadline = {0};
    struct row_view row = running(5, UINT64_MAX);
    expect_gone(&deadline, &row, false, 10, 0, DEADLINE_DO_FLAG);
    deadline.ordered = 5;
    expect_gone(&deadline, &row, false, 20, 0, DEADLINE_DO_FLAG);
    assert_int_equal(deadline.why, DEADLINE_KILL_ORDERED);
    expect_gone(&deadline, &row, false, 20 + GRACE, 0, DEADLINE_DO_SIGNAL);
}

/* The caller is told what ended it first. */
static void test_an_order_after_the_deadline_changes_nothing(void **state)
{
    (void)state;
    struct deadline deadline = {0};
    struct row_view row = running(5, 1000);
    expect(&deadline, &row, false, 1000, DEADLINE_DO_FLAG);
    deadline.ordered = 5;
    expect(&deadline, &row, false, 1001, DEADLINE_DO_NOTHING);
    assert_int_equal(deadline.why, DEADLINE_PASSED);
}

/* --- random walks --- */

/* A worker, as it is. */
struct world {
    struct row_view row;
    bool stopped;
    bool killed;
    bool gone;            /* the client of the present request */
    bool ordered;         /* an operator wants that one ended */
    uint64_t cancel_kill; /* as the server is set up */
    uint64_t now;
};

/* What has been done to it, from which follows what is to be done next: no stages, only a history. */
struct history {
    uint64_t flagged, flagged_at; /* the last request that was flagged, and when */
    bool lenient;                 /* ... only because of its client */
    uint64_t signalled, signalled_at;
    uint64_t stop_for, stop_at; /* the request for which a stop is out; 0: none */
};

static enum deadline_step demanded(const struct world *world, const struct history *history)
{
    bool runs = world->row.valid && world->row.state == ROW_RUNNING;
    uint64_t request = world->row.request;
    if (world->killed)
        return DEADLINE_DO_NOTHING;
    if (history->stop_for && !world->stopped && world->now < history->stop_at + PATIENCE)
        return DEADLINE_DO_NOTHING;
    if (history->stop_for)
        return runs && request == history->stop_for ? DEADLINE_DO_KILL : DEADLINE_DO_CONTINUE;
    bool must_end = world->now >= world->row.deadline || world->ordered;
    if (!runs || !(must_end || world->gone))
        return DEADLINE_DO_NOTHING;
    if (history->flagged != request)
        return DEADLINE_DO_FLAG;
    if (history->signalled != request && history->lenient && must_end)
        return DEADLINE_DO_FLAG;
    if (history->signalled != request && history->lenient && world->cancel_kill == 0)
        return DEADLINE_DO_NOTHING;
    if (history->signalled != request)
        return world->now >= history->flagged_at + (history->lenient ? world->cancel_kill : GRACE)
                   ? DEADLINE_DO_SIGNAL
                   : DEADLINE_DO_NOTHING;
    return world->now >= history->signalled_at + GRACE ? DEADLINE_DO_STOP : DEADLINE_DO_NOTHING;
}

/* The step is carried out; a stop may take effect only later. */
static void carry_out(struct world *world, struct history *history, enum deadline_step step)
{
    uint64_t request = world->row.request;
    switch (step) {
    case DEADLINE_DO_NOTHING:
        break;
    case DEADLINE_DO_FLAG:
        history->flagged = request;
        history->flagged_at = world->now;
        history->lenient = world->now < world->row.deadline && !world->ordered;
        break;
    case DEADLINE_DO_SIGNAL:
        history->signalled = request;
        history->signalled_at = world->now;
        break;
    case DEADLINE_DO_STOP:
        history->stop_for = request;
        history->stop_at = world->now;
        break;
    case DEADLINE_DO_KILL:
        world->killed = true;
        break;
    case DEADLINE_DO_CONTINUE:
        history->stop_for = 0;
        world->stopped = false;
        break;
    }
}

/* The worker goes on to its next state; a new request gets the next number and a deadline in the past or the
 * near future. */
static void let_work(struct world *world, struct random *random)
{
    struct row_view *row = &world->row;
    row->state = (enum row_state)((row->state + 1) % ROW_CLOSING);
    if (row->state == ROW_RUNNING) {
        row->request++;
        uint64_t room = random_below(random, 3) ? random_below(random, 300) : 0;
        row->deadline = world->now + room;
        world->gone = world->ordered = false;
    }
}

/* A while, or just to one side or the other of where patience ends. */
static void let_pass(struct world *world, const struct history *history, struct random *random)
{
    uint64_t verdict = history->stop_at + PATIENCE;
    world->now += random_below(random, 60);
    if (history->stop_for && world->now < verdict - 1 && random_below(random, 4) == 0)
        world->now = verdict - random_below(random, 2);
}

static void let_happen(struct world *world, const struct history *history, struct random *random)
{
    bool takes_no_stop = history->stop_for % 2;
    let_pass(world, history, random);
    bool stuck = world->row.state == ROW_RUNNING && random_below(random, 16);
    world->gone |= random_below(random, 16) == 0;
    for (unsigned i = random_below(random, 8); i > 0 && !stuck && !world->stopped; i--)
        let_work(world, random);
    if (history->stop_for && !takes_no_stop && random_below(random, 2))
        world->stopped = true;
    if (random_below(random, 64) == 0)
        world->stopped = true;
    else if (!history->stop_for && random_below(random, 8) == 0)
        world->stopped = false;
}

static void walk(uint64_t seed, unsigned seen[2][DEADLINE_DO_CONTINUE + 1])
{
    struct random random = {seed};
    struct deadline deadline = {0};
    struct history history = {0};
    struct world world = {.row = {.valid = true, .state = ROW_WAITING}, .cancel_kill = seed % 3 * 130};
    const struct deadline_limits limits = {
        .grace = GRACE, .longest = LONGEST, .cancel_kill = world.cancel_kill};
    for (unsigned look = 0; look < 2000; look++) {
        let_happen(&world, &history, &random);
        if (world.row.state == ROW_RUNNING && random_below(&random, 16) == 0) {
            world.ordered = true;
            deadline.ordered = world.row.request;
        }
        const struct deadline_facts facts = {.now = world.now, .stopped = world.stopped, .gone = world.gone};
        enum deadline_step step = deadline_next(&deadline, &world.row, &facts, &limits);
        assert_int_equal(step, demanded(&world, &history));
        if (step != DEADLINE_DO_NOTHING && step != DEADLINE_DO_CONTINUE)
            assert_int_equal(deadline.request, world.row.request);
        seen[world.stopped][step]++;
        carry_out(&world, &history, step);
    }
}

static void test_random_walks(void **state)
{
    (void)state;
    unsigned seen[2][DEADLINE_DO_CONTINUE + 1] = {{0}};
    for (uint64_t seed = 1; seed <= 1000; seed++)
        walk(seed, seen);
    for (int step = DEADLINE_DO_NOTHING; step <= DEADLINE_DO_CONTINUE; step++)
        for (int stopped = 0; stopped < 2; stopped++)
            assert_in_range(seen[stopped][step], 30, 10000000);
}

/* The deadline in a row is the worker's word, and an engine may have written over it. */
static void test_no_request_runs_longer_than_the_longest(void **state)
{
    (void)state;
    const uint64_t longest = 50;
    struct deadline deadline = {0};
    struct row_view row = running(5, UINT64_MAX);
    assert_int_equal(next_step(&deadline, &row, false, 1000, GRACE, longest), DEADLINE_DO_NOTHING);
    assert_int_equal(next_step(&deadline, &row, false, 1049, GRACE, longest), DEADLINE_DO_NOTHING);
    row.request = 6;
    assert_int_equal(next_step(&deadline, &row, false, 1050, GRACE, longest), DEADLINE_DO_NOTHING);
    assert_int_equal(next_step(&deadline, &row, false, 1099, GRACE, longest), DEADLINE_DO_NOTHING);
    assert_int_equal(next_step(&deadline, &row, false, 1100, GRACE, longest), DEADLINE_DO_FLAG);
    assert_int_equal(deadline.request, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_whole_staircase),
        cmocka_unit_test(test_late_looks_skip_no_step),
        cmocka_unit_test(test_without_grace_every_look_is_a_step),
        cmocka_unit_test(test_only_running_requests_are_ended),
        cmocka_unit_test(test_the_next_request_starts_from_the_bottom),
        cmocka_unit_test(test_the_next_request_is_late_too),
        cmocka_unit_test(test_a_request_that_is_over_is_left_alone),
        cmocka_unit_test(test_over_by_the_time_it_is_stopped),
        cmocka_unit_test(test_a_stop_without_effect_is_waited_for),
        cmocka_unit_test(test_a_stop_takes_effect_at_the_last_moment),
        cmocka_unit_test(test_patience_counts_from_the_stop),
        cmocka_unit_test(test_a_stop_by_others_changes_nothing_before_the_stop),
        cmocka_unit_test(test_an_idle_worker_stopped_by_others_is_left_alone),
        cmocka_unit_test(test_a_client_that_is_gone_has_its_request_flagged_at_once),
        cmocka_unit_test(test_by_default_the_engine_may_ignore_that),
        cmocka_unit_test(test_cancel_kill_ends_it_in_the_way_of_a_deadline),
        cmocka_unit_test(test_only_the_request_of_that_client_is_ended),
        cmocka_unit_test(test_the_deadline_of_a_request_without_client_still_holds),
        cmocka_unit_test(test_a_client_that_goes_later_changes_nothing),
        cmocka_unit_test(test_an_order_ends_the_request_that_it_names),
        cmocka_unit_test(test_an_order_is_for_no_other_request),
        cmocka_unit_test(test_an_order_hastens_what_only_its_client_has_left),
        cmocka_unit_test(test_an_order_after_the_deadline_changes_nothing),
        cmocka_unit_test(test_random_walks),
        cmocka_unit_test(test_no_request_runs_longer_than_the_longest),
    };
    return cmocka_run_group_tests_name("deadline", tests, NULL, NULL);
}
