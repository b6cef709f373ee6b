/* PURE. Quarantine: requests that have killed several workers, and are refused before they reach another one.
 * A request is known by the keyed hash of its method and the raw bytes of its parameters.
 *
 * Two parts. The book is the master's: who was killed by what, and when. The table is what workers see of it,
 * in memory that the master alone can write to: the hashes that are refused. */
#ifndef QUARANTINE_H
#define QUARANTINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define QUARANTINE_ENTRIES     256u
#define QUARANTINE_AFTER_MAX   16u
#define QUARANTINE_REPORT_SIZE 32u /* a report's id, terminated */
#define QUARANTINE_METHOD_SIZE 65u
#define QUARANTINE_REPORTS     4u /* the last ones are told */
/* Kills count for so long: an hour, in ns. */
#define QUARANTINE_PERIOD UINT64_C(3600000000000)

/* --- what workers see --- */

struct quarantine_refusal {
    _Atomic uint64_t hash;    /* 0: free */
    _Atomic uint32_t version; /* odd while the words below change */
    uint32_t kills;
    char reports[QUARANTINE_REPORTS][QUARANTINE_REPORT_SIZE]; /* oldest first; empty ones are none */
};

struct quarantine_table {
    uint64_t key[2];
    _Atomic uint32_t count;     /* of entries in use: 0 spares everybody the hash */
    _Atomic uint64_t sizes[32]; /* bit (size % 2048): there may be one of that size; never cleared but all at
                                   once */
    struct quarantine_refusal refusals[QUARANTINE_ENTRIES];
};

/* A request, as far as quarantine knows it. */
struct quarantine_request {
    const char *method; /* not terminated */
    size_t method_length;
    const unsigned char *params;
    size_t params_size;
};

uint64_t quarantine_hash(const uint64_t key[2], const struct quarantine_request *request);

/* Copies what is known of a request that is to be refused; false for every other one, at the price of one
 * load while nothing is in quarantine. */
bool quarantine_find(const struct quarantine_table *table, const struct quarantine_request *request,
                     struct quarantine_refusal *refusal);

/* --- the master's book --- */

struct quarantine_record {
    uint64_t hash; /* 0: free */
    size_t size;   /* of the parameters */
    char method[QUARANTINE_METHOD_SIZE];
    uint64_t kills_at[QUARANTINE_AFTER_MAX]; /* oldest first; CLOCK_MONOTONIC, ns */
    char reports[QUARANTINE_AFTER_MAX][QUARANTINE_REPORT_SIZE];
    unsigned kills;
    uint64_t deadline; /* of the last kill: with its peer, that which a retry has in common with it */
    pid_t peer;
    bool refused;
};

struct quarantine {
    struct quarantine_table *table;
    unsigned after; /* kills; 0: off */
    struct quarantine_record records[QUARANTINE_ENTRIES];
};

/* A worker that a request has killed. */
struct quarantine_kill {
    uint64_t hash;
    size_t size;        /* of the parameters */
    const char *method; /* cut where long */
    const char *report; /* id; "" where there is none */
    uint64_t deadline;  /* as the request brought it: CLOCK_MONOTONIC, ns; 0: none */
    pid_t peer;
};

/* The table is the caller's, all zeros but for the key, and must outlive the book. */
void quarantine_init(struct quarantine *book, struct quarantine_table *table, unsigned after);
/* Returns whether the request is refused from now on, and was not before. */
bool quarantine_note(struct quarantine *book, const struct quarantine_kill *kill, uint64_t now);
/* Forgets kills that are older than QUARANTINE_PERIOD, and what they refused. */
void quarantine_expire(struct quarantine *book, uint64_t now);
/* Forgets the request of that hash (16 hex digits) or report; all of them where word is NULL. Returns how
 * many requests that were. */
unsigned quarantine_clear(struct quarantine *book, const char *word);

#endif
