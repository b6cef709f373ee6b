#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pool.h"

#define PLACES 24
#define S      UINT64_C(1000000000)

static unsigned serving(const struct pool_member *members)
{
    unsigned count = 0;
    for (unsigned i = 0; i < PLACES; i++)
        count += members[i].state == CHILD_READY && !members[i].parked;
    return count;
}

static unsigned present(const struct pool_member *members)
{
    unsigned count = 0;
    for (unsigned i = 0; i < PLACES; i++)
        count += members[i].state == CHILD_READY || members[i].state == CHILD_STARTING;
    return count;
}

/* Carries steps out until there is none left, births excepted: those stay under way. Returns how many. */
static unsigned settle(const struct pool *pool, struct pool_member *members, bool may_bear)
{
    unsigned steps = 0, before = serving(members);
    for (struct pool_step step; (step = pool_next(pool, members, PLACES, may_bear)).action != POOL_NOTHING;
         steps++) {
        struct pool_member *member = &members[step.member];
        assert_true(steps < 1000);
        switch (step.action) {
        case POOL_BIRTH:
            assert_int_equal(member->state, CHILD_NONE);
            *member = (struct pool_member){.state = CHILD_STARTING, .parked = pool->spare > 0};
            break;
        case POOL_SERVE:
            assert_true(member->state == CHILD_READY && member->parked && !member->old);
            member->parked = false;
            break;
        case POOL_LEAVE:
            assert_int_equal(member->state, CHILD_READY);
            if (!member->parked)
                assert_true(serving(members) > pool->target);
            member->state = CHILD_LEAVING;
            break;
        case POOL_NOTHING:
            break;
        }
    }
    assert_true(serving(members) >= (before < pool->target ? before : pool->target));
    return steps;
}

static void all_become_ready(struct pool_member *members)
{
    for (unsigned i = 0; i < PLACES; i++)
        if (members[i].state == CHILD_STARTING)
            members[i].state = CHILD_READY;
}

static void those_that_leave_are_gone(struct pool_member *members)
{
    for (unsigned i = 0; i < PLACES; i++)
        if (members[i].state == CHILD_LEAVING)
            members[i] = (struct pool_member){0};
}

static void start(const struct pool *pool, struct pool_member *members)
{
    settle(pool, members, true);
    all_become_ready(members);
    settle(pool, members, true);
    all_become_ready(members);
}

static void test_a_start_asks_for_all_at_once(void **state)
{
    (void)state;
    struct pool pool = {.min = 4, .max = 4, .target = 4};
    struct pool_member members[PLACES] = {0};
    assert_int_equal(settle(&pool, members, true), 4);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(members[i].state, CHILD_STARTING);
    all_become_ready(members);
    assert_int_equal(settle(&pool, members, true), 0);
}

static void test_no_birth_where_none_may_be(void **state)
{
    (void)state;
    struct pool pool = {.min = 2, .max = 2, .target = 2};
    struct pool_member members[PLACES] = {0};
    assert_int_equal(settle(&pool, members, false), 0);
    for (unsigned i = 0; i < PLACES; i++)
        members[i].state = CHILD_LEAVING;
    assert_int_equal(settle(&pool, members, true), 0); /* no place */
}

static void test_replaced_one_by_one_and_never_fewer(void **state)
{
    (void)state;
    for (unsigned spare = 0; spare < 3; spare++)
        for (unsigned workers = 1; workers <= 8; workers++) {
            struct pool pool = {.min = workers, .max = workers, .target = workers, .spare = spare};
            struct pool_member members[PLACES] = {0};
            unsigned rounds = 0, old;
            start(&pool, members);
            for (unsigned i = 0; i < PLACES; i++)
                members[i].old = members[i].state == CHILD_READY;
            do {
                settle(&pool, members, true);
                assert_true(serving(members) >= workers);
                assert_true(present(members) <= workers + spare + POOL_SURGE);
                all_become_ready(members);
                settle(&pool, members, true);
                those_that_leave_are_gone(members);
                old = 0;
                for (unsigned i = 0; i < PLACES; i++)
                    old += members[i].old && members[i].state != CHILD_NONE;
                assert_true(++rounds < 100);
            } while (old > 0);
            assert_int_equal(serving(members), workers);
        }
}

static void test_an_old_one_stays_while_births_fail(void **state)
{
    (void)state;
    struct pool pool = {.min = 1, .max = 1, .target = 1};
    struct pool_member members[PLACES] = {{.state = CHILD_READY, .old = true}};
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(settle(&pool, members, true), 1);
        assert_int_equal(members[1].state, CHILD_STARTING);
        members[1].state = CHILD_NONE; /* it came to nothing */
        assert_int_equal(members[0].state, CHILD_READY);
    }
}

static void test_a_spare_takes_a_dead_ones_place(void **state)
{
    (void)state;
    struct pool pool = {.min = 2, .max = 2, .target = 2, .spare = 1};
    struct pool_member members[PLACES] = {0};
    start(&pool, members);
    assert_int_equal(serving(members), 2);
    assert_int_equal(present(members), 3);
    members[0] = (struct pool_member){0};
    assert_int_equal(pool_next(&pool, members, PLACES, false).action, POOL_SERVE);
    settle(&pool, members, true);
    assert_int_equal(serving(members), 2);
    assert_int_equal(members[0].state, CHILD_STARTING);
}

static void test_those_that_are_too_many_leave(void **state)
{
    (void)state;
    struct pool pool = {.min = 1, .max = 8, .target = 6};
    struct pool_member members[PLACES] = {0};
    start(&pool, members);
    for (unsigned i = 0; i < 6; i++)
        members[i].busy = i != 1 && i != 2;
    pool_set_bounds(&pool, 1, 4);
    assert_int_equal(pool.target, 4);
    settle(&pool, members, true);
    assert_int_equal(serving(members), 4);
    assert_int_equal(members[1].state, CHILD_LEAVING); /* the idle ones */
    assert_int_equal(members[2].state, CHILD_LEAVING);
}

static void test_old_ones_leave_before_others(void **state)
{
    (void)state;
    struct pool pool = {.min = 1, .max = 8, .target = 1};
    struct pool_member members[PLACES] = {{.state = CHILD_READY, .old = true, .busy = true},
                                          {.state = CHILD_READY}};
    settle(&pool, members, true);
    assert_int_equal(members[0].state, CHILD_LEAVING);
    assert_int_equal(members[1].state, CHILD_READY);
}

static void test_growing(void **state)
{
    (void)state;
    struct pool pool = {.min = 2, .max = 12, .target = 2};
    struct pool_sight crowd = {.serving = 2, .busy = 2, .waiting = true};
    assert_false(pool_look(&pool, &crowd, S, 10 * S)); /* one look is none */
    assert_true(pool_look(&pool, &crowd, S, 10 * S));
    assert_int_equal(pool.target, 3);
    for (unsigned i = 0; i < 5; i++)
        assert_false(pool_look(&pool, &crowd, S, 10 * S)); /* those that were asked for are not there yet */
    static const struct pool_sight calm[] = {{.serving = 3, .busy = 3},
                                             {.serving = 3, .busy = 2, .waiting = true},
                                             {.serving = 3, .busy = 3, .waiting = true, .starting = 1}};
    for (unsigned i = 0; i < 3; i++)
        for (unsigned j = 0; j < 5; j++)
            assert_false(pool_look(&pool, &calm[i], S, 10 * S));
    unsigned looks = 0;
    while (pool.target < 12 && looks++ < 100) {
        struct pool_sight sight = {.serving = pool.target, .busy = pool.target, .waiting = true};
        (void)pool_look(&pool, &sight, S, 10 * S);
    }
    assert_true(looks <= 20);
    struct pool_sight full = {.serving = 12, .busy = 12, .waiting = true};
    for (unsigned i = 0; i < 5; i++)
        assert_false(pool_look(&pool, &full, S, 10 * S));
    assert_int_equal(pool.target, 12);
}

static void test_shrinking(void **state)
{
    (void)state;
    struct pool pool = {.min = 2, .max = 12, .target = 12};
    struct pool_sight idle = {.serving = 12};
    uint64_t now = S;
    assert_false(pool_look(&pool, &idle, now, 10 * S));
    assert_false(pool_look(&pool, &idle, now + 10 * S - 1, 10 * S));
    assert_true(pool_look(&pool, &idle, now += 10 * S, 10 * S));
    assert_int_equal(pool.target, 6);
    /* One moment at which all are needed keeps them for as long again. */
    struct pool_sight busy = {.serving = 6, .busy = 6};
    idle.serving = 6;
    assert_false(pool_look(&pool, &busy, now + S, 10 * S));
    assert_false(pool_look(&pool, &idle, now += 10 * S, 10 * S));
    assert_false(pool_look(&pool, &idle, now + 9 * S, 10 * S));
    assert_true(pool_look(&pool, &idle, now += 10 * S, 10 * S));
    assert_int_equal(pool.target, 3);
    idle.serving = 3;
    for (unsigned i = 0; i < 5; i++)
        (void)pool_look(&pool, &idle, now += 10 * S, 10 * S);
    assert_int_equal(pool.target, 2);
}

static void test_bounds_that_are_one_number_do_not_move(void **state)
{
    (void)state;
    struct pool pool = {.min = 3, .max = 3, .target = 3};
    struct pool_sight crowd = {.serving = 3, .busy = 3, .waiting = true}, idle = {.serving = 3};
    for (unsigned i = 0; i < 20; i++) {
        assert_false(pool_look(&pool, &crowd, i * S, S));
        assert_false(pool_look(&pool, &idle, i * S + 1, S));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_start_asks_for_all_at_once),
        cmocka_unit_test(test_no_birth_where_none_may_be),
        cmocka_unit_test(test_replaced_one_by_one_and_never_fewer),
        cmocka_unit_test(test_an_old_one_stays_while_births_fail),
        cmocka_unit_test(test_a_spare_takes_a_dead_ones_place),
        cmocka_unit_test(test_those_that_are_too_many_leave),
        cmocka_unit_test(test_old_ones_leave_before_others),
        cmocka_unit_test(test_growing),
        cmocka_unit_test(test_shrinking),
        cmocka_unit_test(test_bounds_that_are_one_number_do_not_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
