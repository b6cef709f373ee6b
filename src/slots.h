/* The master's side of the connections: slots, the shared epoll set, and who owns which descriptor.
 *
 * Slot s holds at most one connection, always at descriptor FD_BASE + s, which the master owns until
 * slots_close(). Workers hold copies at the same number; a slot's generation, which rises with each tenant
 * from 1 on, tells them (and their claims) apart from those of earlier tenants. A connection is registered in
 * the shared set from slots_add() to slots_close(), except while it is settling or its client has gone. A set
 * of the master's own, `hangups`, has every connection, and tells of the latter alone: it is registered for
 * EPOLLHUP, edge-triggered, and for nothing else, so that neither requests nor a half-close wake the master.
 * Called by the master alone; nothing here blocks. */
#ifndef SLOTS_H
#define SLOTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Polled in one step. */
#define SLOTS_POLLED 256u

struct slot {
    uint32_t generation;
    bool open;
    bool in_doubt; /* out of the set until no row claims it any more */
    bool gone;     /* its client has gone away: out of the set, to be closed once no row claims it any more */
    bool suspect;  /* slots_suspect(): disarmed at every look so far */
    pid_t peer_pid;
    uid_t peer_uid;
};

/* How many connections one user has. */
struct slots_user {
    uid_t uid;
    uint32_t open;
};

struct slots {
    struct slot *slots;
    uint32_t *free;           /* stack of free slot numbers */
    struct slots_user *users; /* those that have any, in no order */
    uint32_t user_count;
    uint32_t count; /* capacity */
    uint32_t open;
    uint32_t in_doubt;
    uint32_t gone;
    int set;     /* the shared epoll set */
    int hangups; /* the master's own */
};

/* Room for count connections, and the two sets. -1 with errno. */
int slots_init(struct slots *slots, uint32_t count);
/* Takes a connection over (always: it is closed on failure), moves it to its number and registers it. Returns
 * the slot, or -1 with errno: ENOSPC where no slot is free. io_timeout in ns bounds blocking reads and writes
 * of workers. */
int slots_add(struct slots *slots, int connection, uint64_t io_timeout);
/* The claim that a worker makes when it takes a request from this slot's present tenant. */
uint64_t slots_claim(const struct slots *slots, uint32_t slot);
/* Whether claim names a slot and the generation of its present tenant; then *slot is its number. */
bool slots_find(const struct slots *slots, uint64_t claim, uint32_t *slot);
/* DEL, shutdown, close, and a new generation: the slot is free. */
void slots_close(struct slots *slots, uint32_t slot);
/* Lets a worker take the next request: MOD, or ADD where the connection is out of the set. Closes it where
 * that fails, and where its client has gone. */
void slots_rearm(struct slots *slots, uint32_t slot);
/* DEL: nobody new can claim it from here on. It is in doubt until slots_settle(). */
void slots_doubt(struct slots *slots, uint32_t slot);
/* Ends the doubt: ADD (EEXIST is fine: a worker's re-arm came first). Closes it where that fails, and where
 * its client has gone. */
void slots_settle(struct slots *slots, uint32_t slot);
/* Some of those whose clients have gone away since: they become `gone` and leave the shared set, so that
 * nobody new can claim them. Returns how many; while there are more, `hangups` stays readable. */
unsigned slots_take_hangups(struct slots *slots);
/* Copies the beginning of what is unread, which stays where it is. */
size_t slots_peek(uint32_t slot, void *bytes, size_t size);
/* Looks which connections are disarmed (claimed, or lost) at this moment, in the kernel's own list: slow, for
 * the rare case that a row cannot be trusted. The first look makes every such slot a suspect; a further one
 * acquits those that are armed. */
void slots_suspect(struct slots *slots, bool first);
/* Sends a whole frame or nothing that counts: anything but a full send closes the connection and returns
 * -1. */
int slots_send(struct slots *slots, uint32_t slot, const void *frame, size_t size);
/* Counts the connections of each user, as another program has opened them (handover.h). -1 without memory. */
int slots_count_users(struct slots *slots);
/* The connections that a user has. */
uint32_t slots_count_of(const struct slots *slots, uid_t uid);
/* Finds the next connections with unread bytes, from slot *next on, which becomes the one to go on with: at
 * the end slots->count. Returns how many there are in found. They may be claimed. */
unsigned slots_find_unread(const struct slots *slots, uint32_t *next, uint32_t found[SLOTS_POLLED]);
/* Bytes that wait unread in the connection. */
int slots_unread(uint32_t slot);
/* Has the kernel wake a worker for whatever is ready: after each reap, and again from time to time, as it
 * drops a wake-up that it gave to a process with a fatal signal pending. Returns whether anything is ready.
 */
bool slots_poll(const struct slots *slots);

#endif
