/* What the slots do with the shared set and the bytes of connections. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "random.h"
#include "slots_fixture.h"

/* --- the shared set --- */

static void test_an_event_is_claimed_once(void **state)
{
    struct fixture *fixture = *state;
    connect_client(fixture);
    uint32_t slot = connect_client(fixture);
    assert_idle(fixture);
    send_request(fixture, slot);
    assert_claimable(fixture, slot);
    send_request(fixture, slot);
    assert_idle(fixture);
    slots_rearm(&fixture->slots, slot);
    assert_claimable(fixture, slot);
    assert_true(fixture->slots.slots[slot].open);
}

static void test_end_of_file_is_an_event(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot = connect_client(fixture);
    assert_int_equal(shutdown(fixture->client[slot], SHUT_WR), 0);
    assert_claimable(fixture, slot);
}

static void test_rearm_adds_what_was_deleted(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot = connect_client(fixture);
    assert_int_equal(epoll_ctl(fixture->slots.set, EPOLL_CTL_DEL, FD_BASE + (int)slot, NULL), 0);
    send_request(fixture, slot);
    assert_idle(fixture);
    slots_rearm(&fixture->slots, slot);
    assert_claimable(fixture, slot);
}

static void test_rearm_closes_what_cannot_be_watched(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot = connect_client(fixture);
    uint64_t claim = slots_claim(&fixture->slots, slot);
    int set = fixture->slots.set;
    fixture->slots.set = fixture->client[slot]; /* no epoll set: EINVAL */
    slots_rearm(&fixture->slots, slot);
    fixture->slots.set = set;
    assert_closed(fixture, slot, claim);
    assert_end_of_file(fixture->client[slot]);
}

static void test_doubt_ends_with_an_add(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot = connect_client(fixture);
    send_request(fixture, slot);
    slots_doubt(&fixture->slots, slot);
    slots_doubt(&fixture->slots, slot);
    assert_true(fixture->slots.slots[slot].in_doubt);
    assert_int_equal(fixture->slots.in_doubt, 1);
    assert_idle(fixture);
    slots_settle(&fixture->slots, slot);
    assert_false(fixture->slots.slots[slot].in_doubt);
    assert_int_equal(fixture->slots.in_doubt, 0);
    assert_claimable(fixture, slot);
}

static void add_as_worker(const struct fixture *fixture, uint32_t slot)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT,
                                .data.u64 = slots_claim(&fixture->slots, slot)};
    assert_int_equal(epoll_ctl(fixture->slots.set, EPOLL_CTL_ADD, FD_BASE + (int)slot, &event), 0);
}

/* A worker's ADD came first, and the event has been claimed: settling must not hand it out again. */
static void test_settling_what_a_worker_has_added(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot = connect_client(fixture);
    slots_doubt(&fixture->slots, slot);
    add_as_worker(fixture, slot);
    send_request(fixture, slot);
    assert_claimable(fixture, slot);
    slots_settle(&fixture->slots, slot);
    assert_true(fixture->slots.slots[slot].open);
    assert_int_equal(fixture->slots.in_doubt, 0);
    assert_idle(fixture);
}

static void test_doubt_after_a_delete(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot = connect_client(fixture);
    assert_int_equal(epoll_ctl(fixture->slots.set, EPOLL_CTL_DEL, FD_BASE + (int)slot, NULL), 0);
    slots_doubt(&fixture->slots, slot);
    send_request(fixture, slot);
    slots_settle(&fixture->slots, slot);
    assert_claimable(fixture, slot);
}

static void test_settle_closes_what_cannot_be_watched(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot = connect_client(fixture);
    uint64_t claim = slots_claim(&fixture->slots, slot);
    int set = fixture->slots.set;
    slots_doubt(&fixture->slots, slot);
    fixture->slots.set = fixture->client[slot];
    slots_settle(&fixture->slots, slot);
    fixture->slots.set = set;
    assert_closed(fixture, slot, claim);
    assert_int_equal(fixture->slots.in_doubt, 0);
}

static void test_closing_ends_the_doubt(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot = connect_client(fixture);
    slots_doubt(&fixture->slots, slot);
    slots_close(&fixture->slots, slot);
    assert_int_equal(fixture->slots.in_doubt, 0);
    assert_int_equal(connect_client(fixture), slot);
    assert_false(fixture->slots.slots[slot].in_doubt);
    send_request(fixture, slot);
    assert_claimable(fixture, slot);
}

/* --- connections that are disarmed --- */

static void assert_suspects(const struct fixture *fixture, bool zero, bool one, bool two)
{
    assert_int_equal(fixture->slots.slots[0].suspect, zero);
    assert_int_equal(fixture->slots.slots[1].suspect, one);
    assert_int_equal(fixture->slots.slots[2].suspect, two);
    assert_false(fixture->slots.slots[3].suspect);
}

static void connect_three(struct fixture *fixture)
{
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(connect_client(fixture), i);
}

static void claim(struct fixture *fixture, uint32_t slot)
{
    send_request(fixture, slot);
    assert_int_equal(claim_now(fixture), slots_claim(&fixture->slots, slot));
}

static void test_claimed_connections_are_suspects(void **state)
{
    struct fixture *fixture = *state;
    slots_suspect(&fixture->slots, true);
    assert_suspects(fixture, false, false, false);
    connect_three(fixture);
    send_request(fixture, 0); /* ready, and armed */
    slots_suspect(&fixture->slots, true);
    assert_suspects(fixture, false, false, false);
    assert_claimable(fixture, 0);
    claim(fixture, 2);
    slots_suspect(&fixture->slots, true);
    assert_suspects(fixture, true, false, true);
    slots_suspect(&fixture->slots, false);
    assert_suspects(fixture, true, false, true);
}

static void test_further_looks_only_acquit(void **state)
{
    struct fixture *fixture = *state;
    connect_three(fixture);
    claim(fixture, 0);
    claim(fixture, 1);
    slots_suspect(&fixture->slots, true);
    char request;
    assert_int_equal(recv(FD_BASE, &request, 1, MSG_DONTWAIT), 1);
    slots_rearm(&fixture->slots, 0);
    claim(fixture, 2);
    slots_suspect(&fixture->slots, false);
    assert_suspects(fixture, false, true, false);
    claim(fixture, 0);
    slots_suspect(&fixture->slots, false);
    assert_suspects(fixture, false, true, false);
    slots_suspect(&fixture->slots, true);
    assert_suspects(fixture, true, true, true);
}

static void test_no_suspects_out_of_the_set(void **state)
{
    struct fixture *fixture = *state;
    connect_three(fixture);
    claim(fixture, 1);
    claim(fixture, 2);
    slots_doubt(&fixture->slots, 0);
    add_as_worker(fixture, 0); /* and claimed, so that the doubt is older than the claim */
    claim(fixture, 0);
    slots_close(&fixture->slots, 1);
    slots_suspect(&fixture->slots, true);
    assert_suspects(fixture, false, false, true);
    slots_settle(&fixture->slots, 0);
    assert_int_equal(connect_client(fixture), 1);
    slots_suspect(&fixture->slots, false);
    assert_suspects(fixture, false, false, true);
}

/* An engine's descriptors, and whatever else is in the set by mistake. */
static void test_strangers_in_the_set_are_ignored(void **state)
{
    struct fixture *fixture = *state;
    struct epoll_event event = {.events = 0};
    int pair[2];
    connect_three(fixture);
    make_pair(pair);
    int beyond = fcntl(pair[0], F_DUPFD_CLOEXEC, FD_BASE + (int)ROOM);
    assert_int_equal(epoll_ctl(fixture->slots.set, EPOLL_CTL_ADD, pair[0], &event), 0);
    assert_int_equal(epoll_ctl(fixture->slots.set, EPOLL_CTL_ADD, beyond, &event), 0);
    int vacant = fcntl(pair[1], F_DUPFD_CLOEXEC, FD_BASE + 3);
    assert_int_equal(epoll_ctl(fixture->slots.set, EPOLL_CTL_ADD, vacant, &event), 0);
    slots_suspect(&fixture->slots, true);
    assert_suspects(fixture, false, false, false);
    close(pair[0]);
    close(pair[1]);
    close(beyond);
    close(vacant);
}

static void test_nobody_is_suspect_where_nothing_can_be_seen(void **state)
{
    struct fixture *fixture = *state;
    connect_three(fixture);
    claim(fixture, 0);
    slots_suspect(&fixture->slots, true);
    assert_suspects(fixture, true, false, false);
    int set = fixture->slots.set;
    fixture->slots.set = -1;
    slots_suspect(&fixture->slots, false);
    fixture->slots.set = set;
    assert_suspects(fixture, false, false, false);
}

/* --- bytes --- */

static void test_a_frame_is_sent_whole(void **state)
{
    struct fixture *fixture = *state;
    char got[16];
    uint32_t slot = connect_client(fixture);
    assert_int_equal(slots_send(&fixture->slots, slot, "0123456789", 10), 0);
    assert_int_equal(recv(fixture->client[slot], got, sizeof(got), MSG_DONTWAIT), 10);
    assert_memory_equal(got, "0123456789", 10);
    assert_true(fixture->slots.slots[slot].open);
}

static void assert_send_closes(struct fixture *fixture, uint32_t slot, const void *frame, size_t size)
{
    uint64_t claim = slots_claim(&fixture->slots, slot);
    assert_int_equal(slots_send(&fixture->slots, slot, frame, size), -1);
    assert_closed(fixture, slot, claim);
}

static void test_a_send_that_is_not_full_closes(void **state)
{
    struct fixture *fixture = *state;
    const size_t size = 16 << 20; /* more than the kernel keeps of a socket */
    char *frame = calloc(1, size), some[4096];
    assert_non_null(frame);
    uint32_t slot = connect_client(fixture);
    assert_send_closes(fixture, slot, frame, size);
    while (recv(fixture->client[slot], some, sizeof(some), MSG_DONTWAIT) > 0)
        ;
    assert_end_of_file(fixture->client[slot]);

    slot = connect_client(fixture);
    while (send(FD_BASE + (int)slot, frame, 4096, MSG_DONTWAIT) > 0)
        ;
    assert_send_closes(fixture, slot, "x", 1);
    free(frame);
}

static void test_a_send_to_nobody_closes(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot = connect_client(fixture);
    close(fixture->client[slot]);
    fixture->client[slot] = -1;
    assert_send_closes(fixture, slot, "x", 1);
}

static void test_unread_bytes_are_counted(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot = connect_client(fixture);
    assert_int_equal(slots_unread(slot), 0);
    for (int i = 1; i <= 10; i++) {
        send_request(fixture, slot);
        assert_int_equal(slots_unread(slot), i);
    }
    slots_close(&fixture->slots, slot);
    assert_int_equal(slots_unread(slot), 0);
}

static void test_poll_sees_what_is_ready(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot = connect_client(fixture);
    assert_false(slots_poll(&fixture->slots));
    send_request(fixture, slot);
    assert_true(slots_poll(&fixture->slots));
    assert_true(slots_poll(&fixture->slots));
    assert_claimable(fixture, slot);
    assert_false(slots_poll(&fixture->slots));
    slots_rearm(&fixture->slots, slot);
    assert_true(slots_poll(&fixture->slots));
    slots_doubt(&fixture->slots, slot);
    assert_false(slots_poll(&fixture->slots));
}

/* --- all of it --- */

static unsigned find_all(const struct fixture *fixture, uint32_t *found)
{
    uint32_t next = 0, part[SLOTS_POLLED];
    unsigned count = 0;
    while (next < fixture->slots.count) {
        unsigned more = slots_find_unread(&fixture->slots, &next, part);
        memcpy(found + count, part, more * sizeof(*found));
        count += more;
    }
    return count;
}

static void test_unread_connections_are_found(void **state)
{
    struct fixture *fixture = *state;
    uint32_t found[ROOM];
    assert_int_equal(find_all(fixture, found), 0);
    for (unsigned i = 0; i < ROOM; i++)
        connect_client(fixture);
    assert_int_equal(find_all(fixture, found), 0);
    send_request(fixture, 1);
    send_request(fixture, 3);
    close(fixture->client[0]); /* an end of file is no request */
    fixture->client[0] = -1;
    assert_int_equal(find_all(fixture, found), 2);
    assert_int_equal(found[0], 1);
    assert_int_equal(found[1], 3);
    slots_close(&fixture->slots, 1);
    assert_int_equal(find_all(fixture, found), 1);
    assert_int_equal(found[0], 3);
}

/* What the test knows of a slot: whether it is open, in the set and armed, and its unread bytes. */
struct expected {
    bool open, registered, armed, in_doubt, unread;
    uint32_t generation;
};

static void assert_as_expected(const struct fixture *fixture, const struct expected expected[ROOM])
{
    uint32_t open = 0, in_doubt = 0, found;
    bool ready = false;
    for (uint32_t i = 0; i < ROOM; i++) {
        const struct expected *slot = &expected[i];
        open += slot->open;
        in_doubt += slot->in_doubt;
        ready |= slot->registered && slot->armed && slot->unread;
        assert_int_equal(slots_claim(&fixture->slots, i), row_claim_of(i, slot->generation));
        assert_int_equal(slots_find(&fixture->slots, row_claim_of(i, slot->generation), &found), slot->open);
        assert_int_equal(is_open(FD_BASE + (int)i), slot->open);
        assert_int_equal(fixture->slots.slots[i].in_doubt, slot->in_doubt);
    }
    assert_int_equal(fixture->slots.open, open);
    assert_int_equal(fixture->slots.in_doubt, in_doubt);
    assert_int_equal(slots_poll(&fixture->slots), ready);
}

static void do_claim(struct fixture *fixture, struct expected expected[ROOM])
{
    uint64_t claim = claim_now(fixture);
    if (claim == ROW_NO_CLAIM)
        return;
    struct expected *slot = &expected[row_claim_slot(claim)];
    assert_true(slot->open && slot->registered && slot->armed && slot->unread);
    assert_int_equal(row_claim_generation(claim), slot->generation);
    slot->armed = false;
}

static void do_on_open(struct fixture *fixture, struct expected *slot, uint32_t number, unsigned operation)
{
    switch (operation) {
    case 0:
        slots_close(&fixture->slots, number);
        *slot = (struct expected){.generation = slot->generation + 1};
        break;
    case 1:
        slots_rearm(&fixture->slots, number);
        slot->registered = slot->armed = true;
        break;
    case 2:
        slots_doubt(&fixture->slots, number);
        slot->registered = false;
        slot->in_doubt = true;
        break;
    case 3:
        slots_settle(&fixture->slots, number);
        slot->armed |= !slot->registered;
        slot->registered = true;
        slot->in_doubt = false;
        break;
    default:
        send_request(fixture, number);
        slot->unread = true;
    }
}

static void test_random_operations(void **state)
{
    struct fixture *fixture = *state;
    struct random random = {41};
    struct expected expected[ROOM] = {
        {.generation = 1}, {.generation = 1}, {.generation = 1}, {.generation = 1}};
    for (unsigned round = 0; round < 20000; round++) {
        uint32_t number = random_below(&random, ROOM);
        unsigned operation = random_below(&random, 8);
        if (operation == 7) {
            do_claim(fixture, expected);
        } else if (expected[number].open) {
            do_on_open(fixture, &expected[number], number, operation);
        } else {
            struct expected *slot = &expected[connect_client(fixture)];
            assert_false(slot->open);
            slot->open = slot->registered = slot->armed = true;
        }
        assert_as_expected(fixture, expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SLOTS_TEST(test_an_event_is_claimed_once),
        SLOTS_TEST(test_end_of_file_is_an_event),
        SLOTS_TEST(test_rearm_adds_what_was_deleted),
        SLOTS_TEST(test_rearm_closes_what_cannot_be_watched),
        SLOTS_TEST(test_doubt_ends_with_an_add),
        SLOTS_TEST(test_settling_what_a_worker_has_added),
        SLOTS_TEST(test_doubt_after_a_delete),
        SLOTS_TEST(test_settle_closes_what_cannot_be_watched),
        SLOTS_TEST(test_closing_ends_the_doubt),
        SLOTS_TEST(test_claimed_connections_are_suspects),
        SLOTS_TEST(test_further_looks_only_acquit),
        SLOTS_TEST(test_no_suspects_out_of_the_set),
        SLOTS_TEST(test_strangers_in_the_set_are_ignored),
        SLOTS_TEST(test_nobody_is_suspect_where_nothing_can_be_seen),
        SLOTS_TEST(test_a_frame_is_sent_whole),
        SLOTS_TEST(test_a_send_that_is_not_full_closes),
        SLOTS_TEST(test_a_send_to_nobody_closes),
        SLOTS_TEST(test_unread_bytes_are_counted),
        SLOTS_TEST(test_unread_connections_are_found),
        SLOTS_TEST(test_poll_sees_what_is_ready),
        SLOTS_TEST(test_random_operations),
    };
    return cmocka_run_group_tests_name("slots_set", tests, raise_limit, NULL);
}
