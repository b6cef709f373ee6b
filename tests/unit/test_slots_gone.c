/* Clients that go away, and what is unread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <poll.h>

#include "slots_fixture.h"

static bool is_woken(const struct fixture *fixture)
{
    struct pollfd hangups = {.fd = fixture->slots.hangups, .events = POLLIN};
    return poll(&hangups, 1, 0) == 1;
}

static void go_away(struct fixture *fixture, uint32_t slot)
{
    close(fixture->client[slot]);
    fixture->client[slot] = -1;
}

static void assert_gone(const struct fixture *fixture, uint32_t slot)
{
    assert_true(fixture->slots.slots[slot].open);
    assert_true(fixture->slots.slots[slot].gone);
    assert_true(is_open(FD_BASE + (int)slot));
}

static void take_one(struct fixture *fixture, uint32_t slot)
{
    assert_true(is_woken(fixture));
    assert_int_equal(slots_take_hangups(&fixture->slots), 1);
    assert_false(is_woken(fixture));
    assert_gone(fixture, slot);
}

static void test_what_is_left_behind_is_served_to_nobody(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot = connect_client(fixture);
    send_request(fixture, slot);
    go_away(fixture, slot);
    take_one(fixture, slot);
    assert_int_equal(fixture->slots.gone, 1);
    assert_idle(fixture);
    assert_int_equal(slots_take_hangups(&fixture->slots), 0);
}

static void test_a_claimed_connection_is_noticed_too(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot = connect_client(fixture), other = connect_client(fixture);
    send_request(fixture, slot);
    assert_claimable(fixture, slot);
    go_away(fixture, slot);
    take_one(fixture, slot);
    assert_false(fixture->slots.slots[other].gone);
    send_request(fixture, other);
    assert_claimable(fixture, other);
}

static void test_both_ends_shut_down_is_gone(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot = connect_client(fixture);
    assert_int_equal(shutdown(fixture->client[slot], SHUT_RDWR), 0);
    take_one(fixture, slot);
}

static void test_a_half_close_is_not_going_away(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot = connect_client(fixture);
    send_request(fixture, slot);
    assert_int_equal(shutdown(fixture->client[slot], SHUT_WR), 0);
    assert_int_equal(slots_take_hangups(&fixture->slots), 0);
    assert_claimable(fixture, slot);
    slots_rearm(&fixture->slots, slot);
    assert_claimable(fixture, slot);
    go_away(fixture, slot); /* and the end of it is not missed */
    take_one(fixture, slot);
}

static void test_requests_and_answers_do_not_wake_the_master(void **state)
{
    struct fixture *fixture = *state;
    char bytes[8];
    uint32_t slot = connect_client(fixture);
    for (int i = 0; i < 100; i++) {
        send_request(fixture, slot);
        assert_false(is_woken(fixture));
        assert_claimable(fixture, slot);
        assert_int_equal(recv(FD_BASE + (int)slot, bytes, sizeof(bytes), MSG_DONTWAIT), 1);
        assert_int_equal(send(FD_BASE + (int)slot, "a", 1, MSG_NOSIGNAL), 1);
        assert_int_equal(recv(fixture->client[slot], bytes, sizeof(bytes), MSG_DONTWAIT), 1);
        slots_rearm(&fixture->slots, slot);
        assert_false(is_woken(fixture));
    }
}

static void test_the_server_s_own_close_is_no_news(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot = connect_client(fixture);
    slots_close(&fixture->slots, slot);
    assert_false(is_woken(fixture));
    slot = connect_client(fixture);
    go_away(fixture, slot); /* not taken yet */
    slots_close(&fixture->slots, slot);
    assert_int_equal(connect_client(fixture), slot);
    assert_int_equal(slots_take_hangups(&fixture->slots), 0);
    assert_false(fixture->slots.slots[slot].gone);
}

static void test_a_copy_elsewhere_makes_no_difference(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot = connect_client(fixture);
    int copy = dup(FD_BASE + (int)slot);
    go_away(fixture, slot);
    take_one(fixture, slot);
    uint64_t claim = slots_claim(&fixture->slots, slot);
    slots_close(&fixture->slots, slot);
    assert_closed(fixture, slot, claim);
    assert_int_equal(connect_client(fixture), slot);
    assert_false(is_woken(fixture));
    close(copy);
    send_request(fixture, slot);
    assert_claimable(fixture, slot);
}

/* --- the ways in which a claim ends: none arms it again --- */

static uint64_t gone_claim(struct fixture *fixture, uint32_t *slot)
{
    *slot = connect_client(fixture);
    send_request(fixture, *slot);
    uint64_t claim = claim_now(fixture);
    go_away(fixture, *slot);
    take_one(fixture, *slot);
    return claim;
}

static void assert_next_tenant_is_served(struct fixture *fixture, uint32_t slot)
{
    assert_int_equal(fixture->slots.gone, 0);
    assert_int_equal(connect_client(fixture), slot);
    assert_false(fixture->slots.slots[slot].gone);
    send_request(fixture, slot);
    assert_claimable(fixture, slot);
}

static void test_rearming_one_that_is_gone_closes_it(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot;
    uint64_t claim = gone_claim(fixture, &slot);
    slots_rearm(&fixture->slots, slot);
    assert_closed(fixture, slot, claim);
    assert_next_tenant_is_served(fixture, slot);
}

static void test_settling_one_that_is_gone_closes_it(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot;
    uint64_t claim = gone_claim(fixture, &slot);
    slots_doubt(&fixture->slots, slot);
    assert_gone(fixture, slot);
    slots_settle(&fixture->slots, slot);
    assert_closed(fixture, slot, claim);
    assert_int_equal(fixture->slots.in_doubt, 0);
    assert_next_tenant_is_served(fixture, slot);
}

static void test_gone_while_it_is_in_doubt(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot = connect_client(fixture);
    uint64_t claim = slots_claim(&fixture->slots, slot);
    slots_doubt(&fixture->slots, slot);
    go_away(fixture, slot);
    take_one(fixture, slot);
    assert_int_equal(fixture->slots.in_doubt, 1);
    slots_settle(&fixture->slots, slot);
    assert_closed(fixture, slot, claim);
    assert_next_tenant_is_served(fixture, slot);
}

/* The worker's own re-arm comes after the master's DEL. */
static void test_a_worker_cannot_rearm_one_that_is_gone(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot;
    uint64_t claim = gone_claim(fixture, &slot);
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = claim};
    assert_int_equal(epoll_ctl(fixture->slots.set, EPOLL_CTL_MOD, FD_BASE + (int)slot, &event), -1);
    assert_int_equal(errno, ENOENT);
    assert_idle(fixture);
}

static void test_many_at_once_are_taken_in_the_end(void **state)
{
    struct fixture *fixture = *state;
    unsigned taken = 0;
    for (uint32_t i = 0; i < ROOM; i++)
        connect_client(fixture);
    for (uint32_t i = 0; i < ROOM; i++)
        go_away(fixture, i);
    while (is_woken(fixture))
        taken += slots_take_hangups(&fixture->slots);
    assert_int_equal(taken, ROOM);
    assert_int_equal(fixture->slots.gone, ROOM);
    for (uint32_t i = 0; i < ROOM; i++)
        slots_close(&fixture->slots, i);
    assert_int_equal(fixture->slots.gone, 0);
    assert_int_equal(fixture->slots.open, 0);
}

/* --- what is unread --- */

static void test_a_look_leaves_the_bytes(void **state)
{
    struct fixture *fixture = *state;
    char bytes[8] = "";
    uint32_t slot = connect_client(fixture);
    assert_int_equal(slots_peek(slot, bytes, sizeof(bytes)), 0);
    assert_int_equal(send(fixture->client[slot], "0123456789", 10, 0), 10);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(slots_peek(slot, bytes, sizeof(bytes)), sizeof(bytes));
        assert_memory_equal(bytes, "01234567", 8);
        assert_int_equal(slots_unread(slot), 10);
    }
    assert_claimable(fixture, slot);
    assert_int_equal(shutdown(fixture->client[slot], SHUT_WR), 0);
    assert_int_equal(recv(FD_BASE + (int)slot, bytes, sizeof(bytes), MSG_DONTWAIT), 8);
    assert_int_equal(slots_peek(slot, bytes, sizeof(bytes)), 2);
    slots_close(&fixture->slots, slot);
    assert_int_equal(slots_peek(slot, bytes, sizeof(bytes)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SLOTS_TEST(test_what_is_left_behind_is_served_to_nobody),
        SLOTS_TEST(test_a_claimed_connection_is_noticed_too),
        SLOTS_TEST(test_both_ends_shut_down_is_gone),
        SLOTS_TEST(test_a_half_close_is_not_going_away),
        SLOTS_TEST(test_requests_and_answers_do_not_wake_the_master),
        SLOTS_TEST(test_the_server_s_own_close_is_no_news),
        SLOTS_TEST(test_a_copy_elsewhere_makes_no_difference),
        SLOTS_TEST(test_rearming_one_that_is_gone_closes_it),
        SLOTS_TEST(test_settling_one_that_is_gone_closes_it),
        SLOTS_TEST(test_gone_while_it_is_in_doubt),
        SLOTS_TEST(test_a_worker_cannot_rearm_one_that_is_gone),
        SLOTS_TEST(test_many_at_once_are_taken_in_the_end),
        SLOTS_TEST(test_a_look_leaves_the_bytes),
    };
    return cmocka_run_group_tests_name("slots_gone", tests, raise_limit, NULL);
}
