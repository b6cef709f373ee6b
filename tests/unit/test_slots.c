/* Who has which slot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/time.h>

#include "slots_fixture.h"

static void test_at_first(void **state)
{
    struct fixture *fixture = *state;
    static const struct row fresh;
    uint32_t found;
    assert_int_equal(fixture->slots.count, ROOM);
    assert_int_equal(fixture->slots.open, 0);
    assert_int_equal(fixture->slots.in_doubt, 0);
    assert_int_equal(fcntl(fixture->slots.set, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    for (uint32_t i = 0; i < ROOM; i++)
        assert_false(slots_find(&fixture->slots, slots_claim(&fixture->slots, i), &found));
    connect_client(fixture);
    assert_false(slots_find(&fixture->slots, row_read_claim(&fresh), &found));
}

static void assert_time_limit(int descriptor, int option)
{
    struct timeval limit;
    socklen_t size = sizeof(limit);
    assert_int_equal(getsockopt(descriptor, SOL_SOCKET, option, &limit, &size), 0);
    assert_int_equal(limit.tv_sec, 1);
    assert_in_range(limit.tv_usec, 500000, 510000); /* the kernel rounds up to its ticks */
}

static void test_a_connection_moves_in(void **state)
{
    struct fixture *fixture = *state;
    int pair[2];
    make_pair(pair);
    assert_int_equal(slots_add(&fixture->slots, pair[0], IO_TIMEOUT), 0);
    fixture->client[0] = pair[1];
    assert_false(is_open(pair[0]));
    assert_int_equal(fcntl(FD_BASE, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_time_limit(FD_BASE, SO_RCVTIMEO);
    assert_time_limit(FD_BASE, SO_SNDTIMEO);
    assert_true(fixture->slots.slots[0].open);
    assert_int_equal(fixture->slots.slots[0].peer_pid, getpid());
    assert_int_equal(fixture->slots.slots[0].peer_uid, getuid());
    assert_int_equal(fixture->slots.open, 1);
    assert_int_equal(slots_claim(&fixture->slots, 0), row_claim_of(0, 1));
}

/* For the kernel 0 means no limit. */
static void test_no_time_is_a_short_time(void **state)
{
    struct fixture *fixture = *state;
    int pair[2];
    struct timeval limit = {0};
    socklen_t size = sizeof(limit);
    make_pair(pair);
    assert_int_equal(slots_add(&fixture->slots, pair[0], 0), 0);
    fixture->client[0] = pair[1];
    assert_int_equal(getsockopt(FD_BASE, SOL_SOCKET, SO_RCVTIMEO, &limit, &size), 0);
    assert_int_equal(limit.tv_sec, 0);
    assert_in_range(limit.tv_usec, 1, 20000);
}

static void assert_not_added(struct fixture *fixture, int connection, int error)
{
    uint32_t open = fixture->slots.open;
    errno = 0;
    assert_int_equal(slots_add(&fixture->slots, connection, IO_TIMEOUT), -1);
    assert_int_equal(errno, error);
    assert_false(is_open(connection));
    assert_int_equal(fixture->slots.open, open);
}

static void test_no_slot_is_free(void **state)
{
    struct fixture *fixture = *state;
    int pair[2];
    for (uint32_t i = 0; i < ROOM; i++)
        connect_client(fixture);
    make_pair(pair);
    assert_not_added(fixture, pair[0], ENOSPC);
    assert_end_of_file(pair[1]);
    close(pair[1]);
    slots_close(&fixture->slots, 2);
    assert_int_equal(connect_client(fixture), 2);
}

static void test_what_cannot_be_added_leaves_no_trace(void **state)
{
    struct fixture *fixture = *state;
    int pair[2], pipes[2], set = fixture->slots.set;
    assert_int_equal(pipe(pipes), 0);
    assert_not_added(fixture, pipes[0], ENOTSOCK);
    close(pipes[1]);

    make_pair(pair);
    assert_int_equal(dup2(set, FD_BASE), FD_BASE);
    assert_not_added(fixture, pair[0], EBUSY);
    assert_true(is_open(FD_BASE));
    assert_end_of_file(pair[1]);
    close(FD_BASE);
    close(pair[1]);

    make_pair(pair);
    fixture->slots.set = -1;
    assert_not_added(fixture, pair[0], EBADF);
    assert_false(is_open(FD_BASE));
    assert_end_of_file(pair[1]);
    close(pair[1]);

    fixture->slots.set = set;
    assert_int_equal(connect_client(fixture), 0);
}

static void test_closing_is_for_all_copies(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot = connect_client(fixture);
    uint64_t claim = slots_claim(&fixture->slots, slot);
    int copy = dup(FD_BASE + (int)slot); /* as a worker holds one */
    send_request(fixture, slot);
    slots_close(&fixture->slots, slot);
    assert_closed(fixture, slot, claim);
    assert_int_equal(fixture->slots.open, 0);
    assert_end_of_file(fixture->client[slot]);
    assert_idle(fixture);
    close(copy);
}

static void test_users_are_counted(void **state)
{
    struct fixture *fixture = *state;
    uid_t me = getuid();
    assert_int_equal(slots_count_of(&fixture->slots, me), 0);
    for (uint32_t i = 1; i <= ROOM; i++) {
        connect_client(fixture);
        assert_int_equal(slots_count_of(&fixture->slots, me), i);
    }
    assert_int_equal(slots_count_of(&fixture->slots, me + 1), 0);
    assert_int_equal(fixture->slots.user_count, 1);
    for (uint32_t i = ROOM; i > 0; i--) {
        slots_close(&fixture->slots, i - 1);
        assert_int_equal(slots_count_of(&fixture->slots, me), i - 1);
    }
    assert_int_equal(fixture->slots.user_count, 0);
}

/* Only root can be several. */
static void test_several_users(void **state)
{
    struct fixture *fixture = *state;
    if (geteuid() != 0)
        skip();
    for (uid_t uid = 1; uid <= ROOM; uid++) {
        assert_int_equal(seteuid(uid), 0);
        connect_client(fixture);
        assert_int_equal(seteuid(0), 0);
    }
    slots_close(&fixture->slots, 1);
    slots_close(&fixture->slots, 2);
    for (uid_t uid = 1; uid <= ROOM; uid++)
        assert_int_equal(slots_count_of(&fixture->slots, uid), uid == 1 || uid == ROOM);
    assert_int_equal(fixture->slots.user_count, 2);
    connect_client(fixture);
    assert_int_equal(slots_count_of(&fixture->slots, 0), 1);
}

static void test_tenants_are_told_apart(void **state)
{
    struct fixture *fixture = *state;
    uint64_t before[20];
    uint32_t found;
    for (unsigned i = 0; i < 20; i++) {
        uint32_t slot = connect_client(fixture);
        assert_int_equal(slot, 0);
        before[i] = slots_claim(&fixture->slots, slot);
        assert_int_equal(before[i], row_claim_of(0, i + 1));
        assert_true(slots_find(&fixture->slots, before[i], &found));
        assert_int_equal(found, slot);
        for (unsigned j = 0; j < i; j++)
            assert_false(slots_find(&fixture->slots, before[j], &found));
        slots_close(&fixture->slots, slot);
        assert_closed(fixture, slot, before[i]);
    }
}

/* 0 is what a fresh row claims, and all ones with slot all ones is "no claim". */
static void test_generations_wrap_to_one(void **state)
{
    struct fixture *fixture = *state;
    fixture->slots.slots[0].generation = UINT32_MAX - 2;
    for (unsigned i = 0; i < 5; i++) {
        static const uint32_t expected[] = {UINT32_MAX - 2, UINT32_MAX - 1, 1, 2, 3};
        uint32_t slot = connect_client(fixture);
        assert_int_equal(row_claim_generation(slots_claim(&fixture->slots, slot)), expected[i]);
        slots_close(&fixture->slots, slot);
    }
}

static void test_claims_that_are_nobodys(void **state)
{
    struct fixture *fixture = *state;
    uint32_t found = 99, slot = connect_client(fixture);
    const uint64_t nobodys[] = {
        0,
        ROW_NO_CLAIM,
        row_claim_of(slot, 0),
        row_claim_of(slot, 2),
        row_claim_of(slot, UINT32_MAX),
        row_claim_of(slot + 1, 1), /* free */
        row_claim_of(ROOM, 1),
        row_claim_of(ROOM + 1, 0),
        row_claim_of(UINT32_MAX, 1),
        row_claim_of(0x80000000, 1),
    };
    for (size_t i = 0; i < sizeof(nobodys) / sizeof(*nobodys); i++)
        assert_false(slots_find(&fixture->slots, nobodys[i], &found));
    assert_int_equal(found, 99);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SLOTS_TEST(test_at_first),
        SLOTS_TEST(test_a_connection_moves_in),
        SLOTS_TEST(test_no_time_is_a_short_time),
        SLOTS_TEST(test_no_slot_is_free),
        SLOTS_TEST(test_what_cannot_be_added_leaves_no_trace),
        SLOTS_TEST(test_closing_is_for_all_copies),
        SLOTS_TEST(test_users_are_counted),
        SLOTS_TEST(test_several_users),
        SLOTS_TEST(test_tenants_are_told_apart),
        SLOTS_TEST(test_generations_wrap_to_one),
        SLOTS_TEST(test_claims_that_are_nobodys),
    };
    return cmocka_run_group_tests_name("slots", tests, raise_limit, NULL);
}
