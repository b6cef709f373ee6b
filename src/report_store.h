/* The directory of reports: ids, files that appear whole or not at all, and how many of them are kept. For
 * the reporter alone; several of them, of several servers, may share a directory. */
#ifndef REPORT_STORE_H
#define REPORT_STORE_H

#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <time.h>

#include "reporter.h"

struct report_store {
    const char *directory;
    unsigned keep;      /* reports of each kind */
    uint64_t keep_size; /* bytes of all */
    time_t second;      /* of the last id */
    int number;         /* and its number: none is given twice, even if its report is gone */
};

/* A report in the making: a hidden file, locked by its writer (flock) for as long as that lives. */
struct report_file {
    char id[REPORT_ID_SIZE];
    const char *suffix; /* "crash" or "slow" */
    FILE *stream;       /* NULL: there is none */
};

/* Takes the next id, "20261122-101502-3", and makes its file, mode 0600. -1 with errno. */
int report_store_begin(struct report_store *store, time_t now, const char *suffix, struct report_file *file);
/* Closes it, and gives it its name. On failure there is no such report: -1 with errno. */
int report_store_commit(const struct report_store *store, struct report_file *file);
/* As if it had not been begun. */
void report_store_abort(const struct report_store *store, struct report_file *file);
/* Gives what a reporter that died has left without a stack its name, and removes what is not even that.
 * Returns how many reports that gave. */
unsigned report_store_adopt(const struct report_store *store);
/* Removes the oldest reports until no more than `keep` of each kind and `keep_size` bytes are left. */
void report_store_prune(const struct report_store *store);

#endif
