#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "halt.h"
#include "random.h"
#include "stall.h"

#define LIMIT UINT64_C(1000)
#define LATE  UINT64_C(500) /* a look may come so long after the last one: half the limit, 0.5 s at most */
#define TICK  UINT64_C(100)
#define START UINT64_C(70000)

/* --- one worker and its clock --- */

static struct row_view sitting(enum row_state state)
{
    return (struct row_view){.claim = row_claim_of(3, 9), .valid = true, .state = state, .calls = 40};
}

static void expect(struct stall *stall, const struct row_view *row, bool stopped, uint64_t now,
                   enum stall_step step)
{
    assert_int_equal(stall_look(stall, row, stopped, now, LIMIT), step);
}

/* Looks every tick from `from` on, and to no effect, for as long as the limit: the next look is due then. */
static uint64_t sit(struct stall *stall, const struct row_view *row, bool stopped, uint64_t from)
{
    for (uint64_t now = from; now < from + LIMIT; now += TICK)
        expect(stall, row, stopped, now, STALL_DO_NOTHING);
    return from + LIMIT;
}

/* Looks until the worker has been told to stop. Returns when that was. */
static uint64_t stop(struct stall *stall, const struct row_view *row)
{
    *stall = (struct stall){0};
    uint64_t now = sit(stall, row, false, START);
    expect(stall, row, false, now, STALL_DO_STOP);
    return now;
}

static void expect_never(const struct row_view *row, bool stopped)
{
    struct stall stall = {0};
    for (uint64_t now = START; now < START + 5 * LIMIT; now += TICK)
        expect(&stall, row, stopped, now, STALL_DO_NOTHING);
}

static const enum row_state brief[] = {ROW_WAITING, ROW_ANSWERED, ROW_CLOSING};
static const enum row_state patient[] = {ROW_RECEIVED, ROW_WRITING};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void test_stopped_looked_at_and_killed(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(brief); i++) {
        struct stall stall;
        struct row_view row = sitting(brief[i]);
        uint64_t now = stop(&stall, &row);
        expect(&stall, &row, false, now, STALL_DO_NOTHING);
        expect(&stall, &row, false, now + TICK, STALL_DO_NOTHING);
        expect(&stall, &row, false, now + 100 * LIMIT, STALL_DO_NOTHING);
        expect(&stall, &row, true, now + 100 * LIMIT + 1, STALL_DO_KILL);
    }
}

static void test_not_a_moment_before_the_limit(void **state)
{
    (void)state;
    struct stall stall = {0};
    struct row_view row = sitting(ROW_WAITING);
    sit(&stall, &row, false, START);
    expect(&stall, &row, false, START + LIMIT - 1, STALL_DO_NOTHING);
    expect(&stall, &row, false, START + LIMIT, STALL_DO_STOP);
}

static void test_a_stopped_one_is_killed_at_once(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ROW_STATE_COUNT; i++) {
        struct stall stall = {0};
        struct row_view row = sitting((enum row_state)i);
        if (i != ROW_RUNNING)
            expect(&stall, &row, true, sit(&stall, &row, true, START), STALL_DO_KILL);
    }
}

static void test_a_stop_by_others_does_not_start_the_count_anew(void **state)
{
    (void)state;
    struct stall stall = {0};
    struct row_view row = sitting(ROW_ANSWERED);
    for (uint64_t now = START; now < START + LIMIT; now += TICK)
        expect(&stall, &row, now % 3 == 0, now, STALL_DO_NOTHING);
    expect(&stall, &row, true, START + LIMIT, STALL_DO_KILL);
}

static void test_who_is_left_alone(void **state)
{
    (void)state;
    for (int stopped = 0; stopped < 2; stopped++) {
        struct row_view row = sitting(ROW_RUNNING);
        expect_never(&row, stopped);
        for (unsigned i = 0; i < ROW_STATE_COUNT; i++) {
            row = sitting((enum row_state)i);
            row.claim = ROW_NO_CLAIM;
            expect_never(&row, stopped);
        }
    }
}

static void test_a_row_that_stays_senseless(void **state)
{
    (void)state;
    struct stall stall = {0};
    struct row_view row = sitting(ROW_WAITING);
    row.valid = false;
    row.claim = ROW_NO_CLAIM;
    uint64_t now = sit(&stall, &row, false, START);
    expect(&stall, &row, false, now, STALL_DO_STOP);
    expect(&stall, &row, true, now, STALL_DO_KILL);
}

/* They wait for the peer. */
static void test_receiving_and_writing_may_take_long(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(patient); i++) {
        struct stall stall = {0};
        struct row_view row = sitting(patient[i]);
        expect_never(&row, false);
        uint64_t now = sit(&stall, &row, true, START);
        expect(&stall, &row, false, now, STALL_DO_NOTHING);
        now = sit(&stall, &row, true, now + LATE + 1); /* what came before that does not count */
        expect(&stall, &row, true, now, STALL_DO_KILL);
    }
}

/* --- progress --- */

/* The rows that differ from one that sits there, and how many there are. */
enum { CHANGES = 5 };
static struct row_view changed(struct row_view row, unsigned how)
{
    switch (how) {
    case 0:
        row.calls++;
        break;
    case 1:
        row.claim = row_claim_of(3, 10);
        break;
    case 2:
        row.claim = row_claim_of(4, 9);
        break;
    case 3:
        row.state = row.state == ROW_CLOSING ? ROW_ANSWERED : ROW_CLOSING;
        break;
    default:
        row.calls = 0; /* any change, not only more */
        break;
    }
    return row;
}

static void test_progress_starts_the_count_anew(void **state)
{
    (void)state;
    for (unsigned how = 0; how < CHANGES; how++) {
        for (size_t i = 0; i < COUNT(brief); i++) {
            struct stall stall = {0};
            struct row_view row = sitting(brief[i]), next = changed(row, how);
            uint64_t now = sit(&stall, &row, false, START);
            now = sit(&stall, &next, false, now);
            expect(&stall, &next, false, now, STALL_DO_STOP);
        }
    }
}

static void test_an_idle_moment_starts_the_count_anew(void **state)
{
    (void)state;
    struct row_view row = sitting(ROW_WAITING), between[] = {row, row, row};
    between[0].claim = ROW_NO_CLAIM;
    between[1].state = ROW_RUNNING;
    between[2].valid = false;
    for (size_t i = 0; i < 2; i++) {
        struct stall stall = {0};
        uint64_t now = sit(&stall, &row, false, START);
        expect(&stall, &between[i], false, now, STALL_DO_NOTHING);
        now = sit(&stall, &row, false, now + TICK);
        expect(&stall, &row, false, now, STALL_DO_STOP);
    }
    struct stall stall;
    uint64_t now = stop(&stall, &row);
    expect(&stall, &between[2], true, now, STALL_DO_CONTINUE);
}

/* Whatever has changed by the time it is stopped: it goes on, and has the whole limit again. */
static void test_progress_before_the_stop_took_effect(void **state)
{
    (void)state;
    for (unsigned how = 0; how < CHANGES; how++) {
        for (size_t i = 0; i < COUNT(brief); i++) {
            struct stall stall;
            struct row_view row = sitting(brief[i]), next = changed(row, how);
            uint64_t now = stop(&stall, &row);
            expect(&stall, &next, false, now + TICK, STALL_DO_NOTHING);
            expect(&stall, &next, true, now + 2 * TICK, STALL_DO_CONTINUE);
            now = sit(&stall, &next, false, now + 3 * TICK);
            expect(&stall, &next, false, now, STALL_DO_STOP);
            expect(&stall, &next, true, now, STALL_DO_KILL);
        }
    }
}

static void test_in_another_state_by_the_time_it_is_stopped(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ROW_STATE_COUNT; i++) {
        struct stall stall;
        struct row_view row = sitting(ROW_WAITING);
        uint64_t now = stop(&stall, &row);
        row.state = (enum row_state)i;
        expect(&stall, &row, true, now + TICK, i == ROW_WAITING ? STALL_DO_KILL : STALL_DO_CONTINUE);
    }
    struct stall stall;
    struct row_view row = sitting(ROW_ANSWERED);
    uint64_t now = stop(&stall, &row);
    row.claim = ROW_NO_CLAIM;
    expect(&stall, &row, true, now + TICK, STALL_DO_CONTINUE);
}

/* --- a master that was held up --- */

static void test_a_late_look_starts_anew(void **state)
{
    (void)state;
    struct row_view row = sitting(ROW_WAITING);
    for (int stopped = 0; stopped < 2; stopped++) {
        struct stall stall = {0};
        uint64_t now = sit(&stall, &row, stopped, START) - TICK;
        now = sit(&stall, &row, stopped, now + LATE + 1);
        now = sit(&stall, &row, stopped, now + 1000 * LIMIT);
        expect(&stall, &row, stopped, now, stopped ? STALL_DO_KILL : STALL_DO_STOP);
    }
}

static void test_the_latest_look_that_counts(void **state)
{
    (void)state;
    struct stall stall = {0};
    struct row_view row = sitting(ROW_WAITING);
    expect(&stall, &row, false, START, STALL_DO_NOTHING);
    expect(&stall, &row, false, START + LATE, STALL_DO_NOTHING);
    expect(&stall, &row, false, START + 2 * LATE, STALL_DO_STOP);
}

static void test_half_a_second_is_late_whatever_the_limit(void **state)
{
    (void)state;
    const uint64_t ms = 1000000, limit = 60000 * ms;
    for (uint64_t beyond = 0; beyond < 2; beyond++) {
        struct stall stall = {0};
        struct row_view row = sitting(ROW_WAITING);
        unsigned stops = 0;
        for (uint64_t look = 0; look <= 120; look++)
            stops +=
                stall_look(&stall, &row, false, START + look * (500 * ms + beyond), limit) == STALL_DO_STOP;
        assert_int_equal(stops, beyond ? 0 : 1);
    }
}

/* --- random walks --- */

/* A worker, as it is. */
struct world {
    struct row_view row;
    bool stuck;
    bool stopped;
    uint64_t now;
};

/* Every look, from which follows what is to be done: no count, only a history. */
enum { LOOKS = 1500 };
struct history {
    struct world looks[LOOKS];
    unsigned count;
    unsigned first; /* the first look that counts: after the last verdict */
    bool stop_is_out;
    unsigned stopper; /* the look at which the stop was sent */
};

static bool same_row(const struct row_view *a, const struct row_view *b)
{
    return a->claim == b->claim && a->calls == b->calls && a->state == b->state && a->valid == b->valid;
}

static bool is_suspect(const struct world *look)
{
    static const bool always[ROW_STATE_COUNT] = {
        [ROW_WAITING] = true, [ROW_ANSWERED] = true, [ROW_CLOSING] = true};
    static const bool never[ROW_STATE_COUNT] = {[ROW_RUNNING] = true};
    if (!look->row.valid)
        return true;
    if (look->row.claim == ROW_NO_CLAIM || never[look->row.state])
        return false;
    return always[look->row.state] || look->stopped;
}

/* For how long the last looks have shown the same suspect; the later of two speaks for the time between. */
static uint64_t suspect_for(const struct history *history, uint64_t late)
{
    unsigned last = history->count - 1, i = last;
    const struct world *looks = history->looks;
    while (i > history->first && is_suspect(&looks[i]) && same_row(&looks[i].row, &looks[i - 1].row) &&
           looks[i].now - looks[i - 1].now <= late)
        i--;
    return looks[last].now - looks[i].now;
}

static enum stall_step demanded(const struct history *history, uint64_t limit, uint64_t late)
{
    const struct world *look = &history->looks[history->count - 1];
    if (history->stop_is_out && !look->stopped &&
        look->now - history->looks[history->stopper].now < HALT_PATIENCE)
        return STALL_DO_NOTHING;
    if (history->stop_is_out)
        return is_suspect(look) && same_row(&look->row, &history->looks[history->stopper].row)
                   ? STALL_DO_KILL
                   : STALL_DO_CONTINUE;
    if (suspect_for(history, late) < limit)
        return STALL_DO_NOTHING;
    return look->stopped ? STALL_DO_KILL : STALL_DO_STOP;
}

/* A killed worker has a successor, whose row is a new one. */
static void carry_out(struct world *world, struct history *history, struct stall *stall, enum stall_step step)
{
    if (step == STALL_DO_NOTHING)
        return;
    history->stop_is_out = step == STALL_DO_STOP;
    if (step == STALL_DO_STOP) {
        history->stopper = history->count - 1;
        return;
    }
    history->first = history->count;
    world->stopped = false;
    if (step == STALL_DO_KILL) {
        world->row = (struct row_view){.valid = true, .claim = ROW_NO_CLAIM};
        *stall = (struct stall){0};
    }
}

/* The worker goes on to its next state. No connection comes back without an answer in between. */
static void let_work(struct world *world, struct random *random)
{
    struct row_view *row = &world->row;
    if (row->claim == ROW_NO_CLAIM) {
        row->claim = row_claim_of(random_below(random, 2), 1 + (uint32_t)row->request);
    } else if (row->state >= ROW_ANSWERED) {
        row->request += row->state == ROW_CLOSING;
        row->state = ROW_WAITING;
        row->claim = ROW_NO_CLAIM;
    } else if (random_below(random, 6) == 0) {
        row->state = ROW_CLOSING;
    } else {
        row->state = (enum row_state)(row->state + 1);
        row->calls += row->state == ROW_ANSWERED;
    }
}

static void let_happen(struct world *world, bool stop_is_out, uint64_t late, struct random *random)
{
    const uint64_t pauses[] = {late, late + 1, late / 3, random_below(random, (uint32_t)late)};
    world->now += random_below(random, 16) ? pauses[2 + random_below(random, 2)]
                                           : pauses[random_below(random, COUNT(pauses))];
    world->stuck = random_below(random, world->stuck ? 24 : 4) != 0;
    for (unsigned i = random_below(random, 8); i > 0 && !world->stuck && !world->stopped; i--)
        let_work(world, random);
    if (random_below(random, stop_is_out ? 2 : 64) == 0)
        world->stopped = true;
    else if (!stop_is_out && random_below(random, 24) == 0)
        world->stopped = false;
}

static void walk(uint64_t seed, uint64_t limit, uint64_t late, unsigned seen[2][STALL_DO_CONTINUE + 1])
{
    static struct history history;
    struct random random = {seed};
    struct stall stall = {0};
    struct world world = {.row = {.valid = true, .claim = ROW_NO_CLAIM}, .now = START};
    history = (struct history){.count = 0};
    while (history.count < LOOKS) {
        let_happen(&world, history.stop_is_out, late, &random);
        history.looks[history.count++] = world;
        bool verdict = history.stop_is_out;
        enum stall_step step = stall_look(&stall, &world.row, world.stopped, world.now, limit);
        assert_int_equal(step, demanded(&history, limit, late));
        seen[verdict][step]++;
        carry_out(&world, &history, &stall, step);
    }
}

static void test_random_walks(void **state)
{
    (void)state;
    unsigned seen[2][STALL_DO_CONTINUE + 1] = {{0}};
    for (uint64_t seed = 1; seed <= 200; seed++) {
        walk(seed, LIMIT, LATE, seen);
        walk(seed, UINT64_C(2000000000), UINT64_C(500000000), seen);
    }
    assert_in_range(seen[0][STALL_DO_STOP], 200, 1000000);
    assert_in_range(seen[0][STALL_DO_KILL], 200, 1000000);
    assert_int_equal(seen[0][STALL_DO_CONTINUE], 0);
    assert_int_equal(seen[1][STALL_DO_STOP], 0);
    for (int step = STALL_DO_KILL; step <= STALL_DO_CONTINUE; step++)
        assert_in_range(seen[1][step], 200, 1000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stopped_looked_at_and_killed),
        cmocka_unit_test(test_not_a_moment_before_the_limit),
        cmocka_unit_test(test_a_stopped_one_is_killed_at_once),
        cmocka_unit_test(test_a_stop_by_others_does_not_start_the_count_anew),
        cmocka_unit_test(test_who_is_left_alone),
        cmocka_unit_test(test_a_row_that_stays_senseless),
        cmocka_unit_test(test_receiving_and_writing_may_take_long),
        cmocka_unit_test(test_progress_starts_the_count_anew),
        cmocka_unit_test(test_an_idle_moment_starts_the_count_anew),
        cmocka_unit_test(test_progress_before_the_stop_took_effect),
        cmocka_unit_test(test_in_another_state_by_the_time_it_is_stopped),
        cmocka_unit_test(test_a_late_look_starts_anew),
        cmocka_unit_test(test_the_latest_look_that_counts),
        cmocka_unit_test(test_half_a_second_is_late_whatever_the_limit),
        cmocka_unit_test(test_random_walks),
    };
    return cmocka_run_group_tests_name("stall", tests, NULL, NULL);
}
