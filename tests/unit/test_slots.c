/* Real sockets in a real epoll set; the "workers" are epoll_wait() calls into rows, with no time-out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "descriptors.h"
#include "log.h"
#include "random.h"
#include "row.h"
#include "slots.h"

#define ROOM       4u
#define IO_TIMEOUT UINT64_C(1500000000)

/* The server's slots, and the clients' ends of the connections in them. */
struct fixture {
    struct slots slots;
    int client[ROOM];
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    if (!fixture || slots_init(&fixture->slots, ROOM) < 0)
        return -1;
    for (unsigned i = 0; i < ROOM; i++)
        fixture->client[i] = -1;
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    for (uint32_t i = 0; i < ROOM; i++) {
        if (fixture->slots.slots[i].open)
            slots_close(&fixture->slots, i);
        if (fixture->client[i] >= 0)
            close(fixture->client[i]);
    }
    close(fixture->slots.set);
    free(fixture->slots.slots);
    free(fixture->slots.free);
    free(fixture);
    return 0;
}

static bool is_open(int descriptor)
{
    return fcntl(descriptor, F_GETFD) >= 0;
}

static void make_pair(int pair[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
}

static uint32_t connect_client(struct fixture *fixture)
{
    int pair[2];
    make_pair(pair);
    int slot = slots_add(&fixture->slots, pair[0], IO_TIMEOUT);
    assert_in_range(slot, 0, ROOM - 1);
    if (fixture->client[slot] >= 0)
        close(fixture->client[slot]);
    fixture->client[slot] = pair[1];
    return (uint32_t)slot;
}

static void send_request(const struct fixture *fixture, uint32_t slot)
{
    assert_int_equal(send(fixture->client[slot], "q", 1, MSG_NOSIGNAL), 1);
}

/* An idle worker looks for work. Returns what its row then claims. */
static uint64_t claim_now(const struct fixture *fixture)
{
    struct row row = {0};
    row.claim.event.data.u64 = ROW_NO_CLAIM;
    int count = epoll_wait(fixture->slots.set, &row.claim.event, 1, 0);
    assert_in_range(count + 1, 1, 2);
    assert_int_equal(row_read_claim(&row) == ROW_NO_CLAIM, count == 0);
    return row_read_claim(&row);
}

static void assert_claimable(const struct fixture *fixture, uint32_t slot)
{
    assert_int_equal(claim_now(fixture), slots_claim(&fixture->slots, slot));
    assert_int_equal(claim_now(fixture), ROW_NO_CLAIM);
}

static void assert_idle(const struct fixture *fixture)
{
    assert_int_equal(claim_now(fixture), ROW_NO_CLAIM);
}

static void assert_end_of_file(int descriptor)
{
    char byte;
    assert_int_equal(recv(descriptor, &byte, 1, MSG_DONTWAIT), 0);
}

static void assert_closed(const struct fixture *fixture, uint32_t slot, uint64_t claim)
{
    uint32_t found;
    assert_false(fixture->slots.slots[slot].open);
    assert_false(slots_find(&fixture->slots, claim, &found));
    assert_false(is_open(FD_BASE + (int)slot));
}

/* --- adding and closing --- */

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
    assert_int_equal(dup2(pair[1], FD_BASE), FD_BASE);
    assert_not_added(fixture, pair[0], EBUSY);
    assert_true(is_open(FD_BASE));
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

/* A worker's ADD came first, and the event has been claimed: settling must not hand it out again. */
static void test_settling_what_a_worker_has_added(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot = connect_client(fixture);
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT,
                                .data.u64 = slots_claim(&fixture->slots, slot)};
    slots_doubt(&fixture->slots, slot);
    assert_int_equal(epoll_ctl(fixture->slots.set, EPOLL_CTL_ADD, FD_BASE + (int)slot, &event), 0);
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

/* Slots lie above the usual limit. */
static int raise_limit(void **state)
{
    (void)state;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return -1;
    if (limit.rlim_cur < FD_BASE + ROOM)
        limit.rlim_cur = FD_BASE + ROOM;
    log_set_level(LOG_ERROR);
    return setrlimit(RLIMIT_NOFILE, &limit);
}

#define SLOTS_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SLOTS_TEST(test_at_first),
        SLOTS_TEST(test_a_connection_moves_in),
        SLOTS_TEST(test_no_time_is_a_short_time),
        SLOTS_TEST(test_no_slot_is_free),
        SLOTS_TEST(test_what_cannot_be_added_leaves_no_trace),
        SLOTS_TEST(test_closing_is_for_all_copies),
        SLOTS_TEST(test_tenants_are_told_apart),
        SLOTS_TEST(test_generations_wrap_to_one),
        SLOTS_TEST(test_claims_that_are_nobodys),
        SLOTS_TEST(test_an_event_is_claimed_once),
        SLOTS_TEST(test_end_of_file_is_an_event),
        SLOTS_TEST(test_rearm_adds_what_was_deleted),
        SLOTS_TEST(test_rearm_closes_what_cannot_be_watched),
        SLOTS_TEST(test_doubt_ends_with_an_add),
        SLOTS_TEST(test_settling_what_a_worker_has_added),
        SLOTS_TEST(test_doubt_after_a_delete),
        SLOTS_TEST(test_settle_closes_what_cannot_be_watched),
        SLOTS_TEST(test_closing_ends_the_doubt),
        SLOTS_TEST(test_a_frame_is_sent_whole),
        SLOTS_TEST(test_a_send_that_is_not_full_closes),
        SLOTS_TEST(test_a_send_to_nobody_closes),
        SLOTS_TEST(test_unread_bytes_are_counted),
        SLOTS_TEST(test_poll_sees_what_is_ready),
        SLOTS_TEST(test_random_operations),
    };
    return cmocka_run_group_tests_name("slots", tests, raise_limit, NULL);
}
