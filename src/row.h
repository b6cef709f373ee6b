/* PURE. A row is one worker's page of shared memory: what the worker is doing now, on record in the very step
 * in which it begins to do it, so that the master can finish its work for it when it dies
 * (docs/architecture.md).
 *
 * Every word has one writer. The kernel writes `claim` (epoll_pwait) and `receive.msg_len` (recvmmsg) on the
 * worker's behalf, the worker writes the rest of its part, the master writes `orders` and `cancel`. A fresh
 * row is all zeros: state WAITING and a claim of generation 0, which no slot ever has. The master reads rows
 * through row_read() alone: an engine can scribble over its own row, so that what comes out is a claim about
 * the worker and never an index to trust. */
#ifndef ROW_H
#define ROW_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* Rises when workers and a master of different versions would not mean the same by the memory that they
 * share: row, meter and snapshot (workspace.h), the table of quarantine, the numbers in descriptors.h. */
#define ROW_VERSION 1u

#define ROW_SIZE         4096u
#define ROW_METHOD_SIZE  64u
#define ROW_REFUSAL_SIZE 512u
#define ROW_NO_CLAIM     UINT64_MAX
/* A response_size that no sent can equal. */
#define ROW_SIZE_UNKNOWN UINT64_MAX

enum row_state {
    ROW_WAITING =
        0, /* in epoll_pwait, or ready for it; with a claim: nothing has been read from the connection yet */
    ROW_RECEIVED, /* the first byte of a frame has come */
    ROW_RUNNING,  /* the frame is complete and understood: request, msgid, deadline and method are valid */
    ROW_WRITING,  /* from before the first byte of the response */
    ROW_ANSWERED, /* the response is out (or there was nothing to read), the connection not yet re-armed */
    ROW_CLOSING,  /* end of file or an error was seen: the connection is being closed */
    ROW_STATE_COUNT
};

/* What the master wants of a worker. */
enum row_orders {
    ROW_SERVE = 0,
    ROW_REFUSE,    /* the server is stopping: answer requests with UNAVAILABLE, reason STOPPING */
    ROW_NO_WORKER, /* of the stand-in: answer them with UNAVAILABLE, reason NO_WORKER, and the refusal */
};

/* The kernel writes a struct epoll_event, packed on x86-64 only; the padding puts its data word on an 8-byte
 * boundary everywhere, so that it is written and read in one piece. */
#define ROW_CLAIM_PADDING (8 - offsetof(struct epoll_event, data))

struct row_claim {
    unsigned char padding[ROW_CLAIM_PADDING == 0 ? 8 : ROW_CLAIM_PADDING];
    struct epoll_event event; /* data.u64 = slot generation << 32 | slot */
};

struct row {
    /* Written by the master before the worker exists: its key, a random number. Whatever runs over the row's
     * beginning or end destroys it, and without it nothing can pass for a seal. */
    uint64_t key_before;
    /* The worker's part. */
    _Alignas(64) struct row_claim claim;
    _Atomic uint64_t seal;  /* row_seal() of the claim, from before the row says RECEIVED */
    _Atomic uint32_t state; /* enum row_state */
    _Atomic uint32_t msgid; /* of the running request */
    _Atomic uint64_t
        request; /* number of the request in this worker's life, from 1; written before the words below */
    _Atomic uint64_t deadline; /* CLOCK_MONOTONIC, ns */
    _Atomic uint64_t started;  /* when the engine was called: CLOCK_MONOTONIC, ns */
    _Atomic uint64_t queued;   /* how long the request had waited by then, as far as its client tells, ns; 0:
                                  unknown */
    _Atomic uint64_t calls;    /* requests answered */
    _Atomic uint64_t received; /* bytes in the request buffer before the receive under way */
    _Atomic uint32_t idempotent;
    _Atomic uint32_t method_length;
    _Atomic uint64_t
        response_size; /* bytes of the response being written; ROW_SIZE_UNKNOWN: a part is out, or more */
    _Atomic uint32_t writing_from;       /* the state that the response ends: ROW_RECEIVED or ROW_RUNNING */
    _Atomic uint64_t private_memory;     /* that --max-private counts, as last measured, bytes */
    _Atomic uint32_t looks;              /* times that WORKER_SIGNAL_STACK was answered */
    _Alignas(64) struct mmsghdr receive; /* msg_len: bytes that the receive under way has brought */
    _Alignas(64) struct mmsghdr send;    /* msg_len: bytes that the send under way has taken */
    char method[ROW_METHOD_SIZE];        /* for people: cut where long, not terminated */
    uint64_t key_after;
    /* The master's part. */
    _Alignas(64) _Atomic uint64_t cancel; /* number of the request that nobody waits for any more; 0: none */
    _Atomic uint32_t orders;              /* enum row_orders */
    _Atomic uint32_t refusal;             /* which of these is valid; the other is written next */
    char refusals[2][ROW_REFUSAL_SIZE];   /* terminated */
};

_Static_assert(sizeof(struct row) <= ROW_SIZE, "a row is one page");
_Static_assert(offsetof(struct row, claim.event.data) % 8 == 0, "the claim is written in one piece");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2,
               "no lock may be left in shared memory");

/* A checked copy of the worker's part. */
struct row_view {
    uint64_t claim; /* ROW_NO_CLAIM, or generation << 32 | slot: unchecked against the slots */
    enum row_state state;
    bool valid; /* false: an engine has written over the row, as far as that can be seen */
    uint32_t msgid;
    uint64_t request;
    uint64_t deadline;
    uint64_t started;
    uint64_t queued;
    uint64_t calls;
    uint64_t received; /* bytes in the request buffer; saturates */
    uint64_t sent;     /* bytes of the response that are out; of its last part, where the size is unknown */
    uint64_t response_size;
    enum row_state writing_from;
    bool idempotent;
    uint64_t private_memory; /* bytes */
    uint32_t looks;
    char method[ROW_METHOD_SIZE + 1]; /* printable ASCII, terminated */
};

/* Gives a fresh row its key. */
void row_set_key(struct row *row, uint64_t key);
/* What a worker with that key writes beside the claim that it acts on. */
static inline uint64_t row_seal(uint64_t claim, uint64_t key)
{
    return claim ^ key;
}

/* Copies a row that was given that key. Of a living worker the copy is consistent where it says RUNNING:
 * claim, request, msgid and deadline (and started and queued) then belong together; it says WAITING where
 * they changed under the reader. It may be not valid for a moment, when the worker goes on while it is read.
 */
void row_read(const struct row *row, uint64_t key, struct row_view *view);
/* The master: what ROW_NO_WORKER has callers told from now on; cut where long. */
void row_publish_refusal(struct row *row, const char *words);
/* The claim alone, in one load. */
uint64_t row_read_claim(const struct row *row);

static inline uint64_t row_claim_of(uint32_t slot, uint32_t generation)
{
    return (uint64_t)generation << 32 | slot;
}

static inline uint32_t row_claim_slot(uint64_t claim)
{
    return (uint32_t)claim;
}

static inline uint32_t row_claim_generation(uint64_t claim)
{
    return (uint32_t)(claim >> 32);
}

/* "waiting", "received", ... for logs and models. */
const char *row_state_name(enum row_state state);

#endif
