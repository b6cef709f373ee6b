/* Slots with real sockets in a real epoll set; the "workers" are epoll_wait() calls into rows that never
 * wait. To be included behind cmocka.h. */
#ifndef TEST_SLOTS_FIXTURE_H
#define TEST_SLOTS_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "descriptors.h"
#include "log.h"
#include "row.h"
#include "slots.h"

#define ROOM       4u
#define LIMIT      (FD_BASE + 4 * ROOM) /* of descriptor numbers */
#define IO_TIMEOUT UINT64_C(1500000000)

/* The server's slots, and the clients' ends of the connections in them. */
struct fixture {
    struct slots slots;
    int client[ROOM];
};

static inline int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    if (!fixture || slots_init(&fixture->slots, ROOM) < 0)
        return -1;
    for (unsigned i = 0; i < ROOM; i++)
        fixture->client[i] = -1;
    *state = fixture;
    return 0;
}

static inline int tear_down(void **state)
{
    struct fixture *fixture = *state;
    for (uint32_t i = 0; i < ROOM; i++) {
        if (fixture->slots.slots[i].open)
            slots_close(&fixture->slots, i);
        if (fixture->client[i] >= 0)
            close(fixture->client[i]);
    }
    close(fixture->slots.set);
    close(fixture->slots.hangups);
    free(fixture->slots.slots);
    free(fixture->slots.free);
    free(fixture->slots.users);
    free(fixture);
    return 0;
}

static inline bool is_open(int descriptor)
{
    return fcntl(descriptor, F_GETFD) >= 0;
}

static inline void make_pair(int pair[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
}

static inline uint32_t connect_client(struct fixture *fixture)
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

static inline void send_request(const struct fixture *fixture, uint32_t slot)
{
    assert_int_equal(send(fixture->client[slot], "q", 1, MSG_NOSIGNAL), 1);
}

/* An idle worker looks for work. Returns what its row then claims. */
static inline uint64_t claim_now(const struct fixture *fixture)
{
    struct row row = {0};
    row.claim.event.data.u64 = ROW_NO_CLAIM;
    int count = epoll_wait(fixture->slots.set, &row.claim.event, 1, 0);
    assert_in_range(count + 1, 1, 2);
    assert_int_equal(row_read_claim(&row) == ROW_NO_CLAIM, count == 0);
    return row_read_claim(&row);
}

static inline void assert_claimable(const struct fixture *fixture, uint32_t slot)
{
    assert_int_equal(claim_now(fixture), slots_claim(&fixture->slots, slot));
    assert_int_equal(claim_now(fixture), ROW_NO_CLAIM);
}

static inline void assert_idle(const struct fixture *fixture)
{
    assert_int_equal(claim_now(fixture), ROW_NO_CLAIM);
}

static inline void assert_end_of_file(int descriptor)
{
    char byte;
    assert_int_equal(recv(descriptor, &byte, 1, MSG_DONTWAIT), 0);
}

static inline void assert_closed(const struct fixture *fixture, uint32_t slot, uint64_t claim)
{
    uint32_t found;
    assert_false(fixture->slots.slots[slot].open);
    assert_false(slots_find(&fixture->slots, claim, &found));
    assert_false(is_open(FD_BASE + (int)slot));
}

/* Slots lie above the usual limit. */
static inline int raise_limit(void **state)
{
    (void)state;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return -1;
    if (limit.rlim_cur < LIMIT)
        limit.rlim_cur = LIMIT;
    log_set_level(LOG_ERROR);
    return setrlimit(RLIMIT_NOFILE, &limit);
}

#define SLOTS_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

#endif
