#include "slots.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "clock.h"
#include "descriptors.h"
#include "log.h"
#include "row.h"

/* Taken at one go, so that a flood of them does not keep the master from its other work. */
#define HANGUPS_AT_ONCE 64

static int descriptor(uint32_t slot)
{
    return FD_BASE + (int)slot;
}

int slots_init(struct slots *slots, uint32_t count)
{
    *slots = (struct slots){
        .count = count, .set = epoll_create1(EPOLL_CLOEXEC), .hangups = epoll_create1(EPOLL_CLOEXEC)};
    slots->slots = calloc(count, sizeof(*slots->slots));
    slots->free = calloc(count, sizeof(*slots->free));
    slots->users = calloc(count, sizeof(*slots->users));
    if (slots->set < 0 || slots->hangups < 0 || !slots->slots || !slots->free || !slots->users)
        return -1;
    for (uint32_t i = 0; i < count; i++) {
        slots->slots[i].generation = 1;
        slots->free[i] = count - 1 - i;
    }
    return 0;
}

static int register_slot(const struct slots *slots, uint32_t slot, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = slots_claim(slots, slot)};
    return epoll_ctl(slots->set, operation, descriptor(slot), &event);
}

static int watch_hangup(const struct slots *slots, uint32_t slot)
{
    struct epoll_event event = {.events = EPOLLET, .data.u64 = slots_claim(slots, slot)};
    return epoll_ctl(slots->hangups, EPOLL_CTL_ADD, descriptor(slot), &event);
}

/* The descriptor's number must be free: nothing else of the master lies at FD_BASE or above. */
static int move_to(uint32_t slot, int connection)
{
    int moved = fcntl(connection, F_DUPFD_CLOEXEC, descriptor(slot));
    if (moved < 0 || moved == descriptor(slot))
        return moved;
    close(moved);
    errno = EBUSY;
    return -1;
}

/* Blocking reads and writes of whichever worker holds the connection end after this long without a byte; the
 * options belong to the connection, not to the descriptor. */
static int limit_waits(int connection, uint64_t io_timeout)
{
    struct timeval limit = {.tv_sec = (time_t)(io_timeout / CLOCK_NS_PER_S),
                            .tv_usec = (suseconds_t)(io_timeout % CLOCK_NS_PER_S / 1000)};
    if (limit.tv_sec == 0 && limit.tv_usec == 0)
        limit.tv_usec = 1;
    if (setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0)
        return -1;
    return setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

static int prepare(struct slot *slot, int connection, uint64_t io_timeout)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);
    if (getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return -1;
    slot->peer_pid = peer.pid;
    slot->peer_uid = peer.uid;
    return limit_waits(connection, io_timeout);
}

/* --- users --- */

/* Its place, or the one behind all. */
static uint32_t find_user(const struct slots *slots, uid_t uid)
{
    uint32_t i = 0;
    while (i < slots->user_count && slots->users[i].uid != uid)
        i++;
    return i;
}

uint32_t slots_count_of(const struct slots *slots, uid_t uid)
{
    uint32_t user = find_user(slots, uid);
    return user < slots->user_count ? slots->users[user].open : 0;
}

/* There is room: no more users than connections. */
static void count_in(struct slots *slots, uid_t uid)
{
    uint32_t user = find_user(slots, uid);
    if (user == slots->user_count)
        slots->users[slots->user_count++] = (struct slots_user){.uid = uid};
    slots->users[user].open++;
}

static void count_out(struct slots *slots, uid_t uid)
{
    uint32_t user = find_user(slots, uid);
    if (--slots->users[user].open == 0)
        slots->users[user] = slots->users[--slots->user_count];
}

int slots_count_users(struct slots *slots)
{
    slots->users = calloc(slots->count, sizeof(*slots->users));
    slots->user_count = 0;
    for (uint32_t i = 0; slots->users && i < slots->count; i++)
        if (slots->slots[i].open)
            count_in(slots, slots->slots[i].peer_uid);
    return slots->users ? 0 : -1;
}

/* --- coming and going --- */

static int discard(int connection)
{
    int saved = errno;
    close(connection);
    errno = saved;
    return -1;
}

int slots_add(struct slots *slots, int connection, uint64_t io_timeout)
{
    errno = ENOSPC;
    if (slots->open == slots->count)
        return discard(connection);
    uint32_t slot = slots->free[slots->count - slots->open - 1];
    if (prepare(&slots->slots[slot], connection, io_timeout) < 0 || move_to(slot, connection) < 0)
        return discard(connection);
    close(connection);
    /* No other process has it yet: a close takes it out of the sets. */
    if (watch_hangup(slots, slot) < 0 || register_slot(slots, slot, EPOLL_CTL_ADD) < 0)
        return discard(descriptor(slot));
    slots->slots[slot].open = true;
    slots->open++;
    count_in(slots, slots->slots[slot].peer_uid);
    return (int)slot;
}

uint64_t slots_claim(const struct slots *slots, uint32_t slot)
{
    return row_claim_of(slot, slots->slots[slot].generation);
}

bool slots_find(const struct slots *slots, uint64_t claim, uint32_t *slot)
{
    uint32_t number = row_claim_slot(claim);
    if (number >= slots->count || !slots->slots[number].open ||
        slots->slots[number].generation != row_claim_generation(claim))
        return false;
    *slot = number;
    return true;
}

static void end_doubt(struct slots *slots, struct slot *slot)
{
    if (slot->in_doubt)
        slots->in_doubt--;
    slot->in_doubt = false;
}

void slots_close(struct slots *slots, uint32_t number)
{
    struct slot *slot = &slots->slots[number];
    (void)epoll_ctl(slots->set, EPOLL_CTL_DEL, descriptor(number), NULL); /* ENOENT: a worker has done it */
    (void)epoll_ctl(slots->hangups, EPOLL_CTL_DEL, descriptor(number), NULL); /* is there: cannot fail */
    (void)shutdown(descriptor(number), SHUT_RDWR);                            /* ENOTCONN: the peer is gone */
    close(descriptor(number));
    end_doubt(slots, slot);
    slots->gone -= slot->gone;
    slot->gone = false;
    slot->open = false;
    slot->suspect = false;
    slot->generation = slot->generation >= UINT32_MAX - 1 ? 1 : slot->generation + 1;
    slots->open--;
    count_out(slots, slot->peer_uid);
    slots->free[slots->count - slots->open - 1] = number;
}

static void close_unusable(struct slots *slots, uint32_t slot)
{
    log_event(LOG_WARN, "connection_lost", NULL,
              "connection of pid %d closed: cannot watch it: %m (fs.epoll.max_user_watches, memory)",
              (int)slots->slots[slot].peer_pid);
    slots_close(slots, slot);
}

void slots_rearm(struct slots *slots, uint32_t slot)
{
    if (slots->slots[slot].gone) {
        slots_close(slots, slot);
        return;
    }
    if (register_slot(slots, slot, EPOLL_CTL_MOD) == 0)
        return;
    if (errno != ENOENT || register_slot(slots, slot, EPOLL_CTL_ADD) < 0)
        close_unusable(slots, slot);
}

void slots_doubt(struct slots *slots, uint32_t number)
{
    struct slot *slot = &slots->slots[number];
    (void)epoll_ctl(slots->set, EPOLL_CTL_DEL, descriptor(number), NULL); /* ENOENT: already out */
    if (!slot->in_doubt)
        slots->in_doubt++;
    slot->in_doubt = true;
}

void slots_settle(struct slots *slots, uint32_t number)
{
    end_doubt(slots, &slots->slots[number]);
    if (slots->slots[number].gone) {
        slots_close(slots, number);
        return;
    }
    if (register_slot(slots, number, EPOLL_CTL_ADD) < 0 && errno != EEXIST)
        close_unusable(slots, number);
}

unsigned slots_take_hangups(struct slots *slots)
{
    struct epoll_event events[HANGUPS_AT_ONCE];
    int count = epoll_wait(slots->hangups, events, HANGUPS_AT_ONCE, 0);
    unsigned taken = 0;
    for (int i = 0; i < count; i++) {
        uint32_t number;
        if (!slots_find(slots, events[i].data.u64, &number) || slots->slots[number].gone)
            continue;
        (void)epoll_ctl(slots->set, EPOLL_CTL_DEL, descriptor(number), NULL); /* ENOENT: already out */
        slots->slots[number].gone = true;
        slots->gone++;
        taken++;
    }
    return taken;
}

/* A line of fdinfo: "tfd: 1040 events: 40000019 data: 100000000 ...". Returns whether it is of a disarmed
 * slot: a registration that ONESHOT has fired for keeps its flags and loses its events. */
static bool parse_disarmed(const struct slots *slots, const char *line, uint32_t *slot)
{
    int number;
    unsigned events;
    if (sscanf(line, "tfd: %d events: %x", &number, &events) != 2 || number < FD_BASE ||
        (uint32_t)(number - FD_BASE) >= slots->count)
        return false;
    *slot = (uint32_t)(number - FD_BASE);
    return slots->slots[*slot].open && !slots->slots[*slot].in_doubt && !(events & EPOLLIN);
}

void slots_suspect(struct slots *slots, bool first)
{
    char path[64], line[256];
    bool *disarmed = calloc(slots->count, sizeof(*disarmed));
    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", slots->set);
    FILE *file = disarmed ? fopen(path, "re") : NULL;
    uint32_t slot;
    while (file && fgets(line, sizeof(line), file))
        if (parse_disarmed(slots, line, &slot))
            disarmed[slot] = true;
    for (uint32_t i = 0; i < slots->count; i++)
        slots->slots[i].suspect = file && disarmed[i] && (first || slots->slots[i].suspect);
    if (file)
        fclose(file);
    else
        log_event(LOG_WARN, "sweep_failed", NULL, "cannot look for connections that a worker lost: %m");
    free(disarmed);
}

int slots_send(struct slots *slots, uint32_t slot, const void *frame, size_t size)
{
    ssize_t sent;
    do
        sent = send(descriptor(slot), frame, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent == (ssize_t)size)
        return 0;
    slots_close(slots, slot);
    return -1;
}

/* One system call for all that have nothing. */
unsigned slots_find_unread(const struct slots *slots, uint32_t *next, uint32_t found[SLOTS_POLLED])
{
    struct pollfd watched[SLOTS_POLLED];
    nfds_t count = 0;
    unsigned unread = 0;
    for (; *next < slots->count && count < SLOTS_POLLED; ++*next)
        if (slots->slots[*next].open)
            watched[count++] = (struct pollfd){.fd = descriptor(*next), .events = POLLIN};
    if (count == 0 || poll(watched, count, 0) <= 0)
        return 0;
    for (nfds_t i = 0; i < count; i++) {
        uint32_t slot = (uint32_t)(watched[i].fd - FD_BASE);
        if (watched[i].revents & POLLIN && slots_unread(slot) > 0)
            found[unread++] = slot;
    }
    return unread;
}

int slots_unread(uint32_t slot)
{
    int bytes = 0;
    return ioctl(descriptor(slot), FIONREAD, &bytes) < 0 ? 0 : bytes;
}

size_t slots_peek(uint32_t slot, void *bytes, size_t size)
{
    ssize_t count = recv(descriptor(slot), bytes, size, MSG_PEEK | MSG_DONTWAIT);
    return count < 0 ? 0 : (size_t)count;
}

bool slots_poll(const struct slots *slots)
{
    struct pollfd set = {.fd = slots->set, .events = POLLIN};
    return poll(&set, 1, 0) == 1;
}
