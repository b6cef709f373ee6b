/* PURE. What one master process leaves to the next when it executes a newer program over itself (upgrade.h):
 * all that it knows and could not find out again, as one msgpack document. The descriptors that it names are
 * open in both.
 *
 * Version rule: HANDOVER_VERSION rises when a document can no longer be read as it was meant; a field that is
 * added later is `optional` (fields.h), and then it does not. Nothing but what is written here survives an
 * upgrade: who adds to struct master, or to a part of it, adds to the tables in handover.c. */
#ifndef HANDOVER_H
#define HANDOVER_H

#include <msgpack.h>

#include "master.h"

#define HANDOVER_VERSION     1u
#define HANDOVER_ADMIN_MAX   16u
#define HANDOVER_REQUEST_MAX 4100u

/* What a document, the memory that workers share with the master, and the messages of its children look like:
 * only where all are the same can a program take over. */
struct handover_versions {
    uint64_t handover, row, ipc;
    uint64_t memory;    /* size of a workspace, as a fingerprint */
    uint64_t max_frame; /* --max-frame: it must stay */
};

/* A connection to the admin socket. */
struct handover_admin {
    int descriptor;
    bool asked;
    bool waits;     /* for the outcome of the upgrade */
    uint32_t msgid; /* of that request */
    size_t received;
    char request[HANDOVER_REQUEST_MAX]; /* what has come of the next one */
};

struct handover {
    struct master *master;
    char program[64];   /* version of the program that hands over */
    uint64_t began_at;  /* the upgrade: CLOCK_MONOTONIC, ns */
    uint32_t max_frame; /* of the rows; not negotiable */
    unsigned max_connections;
    bool given; /* the listening socket was (activation.h) */
    int listener, admin_listener, lifeline;
    int table, table_view; /* of quarantine */
    uint64_t log_dropped, output_skipped;
    bool sweeps;  /* lost connections are looked for */
    bool reload;  /* one is to follow */
    char **words; /* the options of the start; when read, the reader's */
    int word_count;
    struct handover_admin admin[HANDOVER_ADMIN_MAX];
    unsigned admin_count;
};

struct handover_versions handover_versions(uint32_t max_frame);
/* As one word, "1.1.1.2183168.67174400". Returns text. */
const char *handover_write_versions(const struct handover_versions *versions, char *text, size_t size);
/* NULL; or, in why, why a program that needs `ours` cannot take over from one that has those of text. */
const char *handover_compare(const char *text, const struct handover_versions *ours, char *why, size_t size);

/* -1 without memory. */
int handover_write(const struct handover *handover, msgpack_sbuffer *document);
/* The first part: all but what belongs to the master. -1, with the reason in why, where the document is none
 * or of another version. It must stay until the second part is read. */
int handover_read(struct handover *handover, const msgpack_object *document, char *why, size_t size);
/* The second part, into a master whose metrics, crashes and seats are there and as empty as at the start. Of
 * watchers descriptors are filled in, of memory nothing is mapped. -1 with the reason in why; the master is
 * of no use then. */
int handover_read_master(const struct handover *handover, const msgpack_object *document, char *why,
                         size_t size);
/* All descriptors that it names, connections included. */
void handover_visit(const struct handover *handover, void (*visit)(void *context, int descriptor),
                    void *context);

#endif
