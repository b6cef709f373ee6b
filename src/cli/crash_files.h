/* The directory of crash reports, and the files in it. All of them are somebody else's: what cannot be read
 * is told as such. */
#ifndef CRASH_FILES_H
#define CRASH_FILES_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "cli.h"
#include "report_read.h"

/* Two options: the server's name for it, and a short one. */
#define CRASH_DIR_OPTIONS(directory)                                                                         \
    {.name = "--crash-dir",                                                                                  \
     .value = "DIR",                                                                                         \
     .help = "where the reports lie (default: as the server says, or its default)",                          \
     .text = (directory)},                                                                                   \
    {                                                                                                        \
        .name = "--dir", .value = "DIR", .help = "the same", .text = (directory)                             \
    }

/* Fills in the directory: the option, if it is not NULL; else where the server that cli->socket names keeps
 * its reports; else the default. Ends the process where there is none. */
void crash_files_choose(const struct cli *cli, const char *option, char directory[PATH_MAX]);

struct crash_name {
    char id[REPORT_ID_SIZE];
    bool slow; /* of a call that ran for long; not of a death */
};

struct crash_names {
    struct crash_name *items; /* owned; newest first */
    size_t count;
};

/* Returns CLI_OK, also where there is no such directory, or the exit code after telling what went wrong. */
int crash_files_list(const struct cli *cli, const char *directory, struct crash_names *names);
void crash_files_free(struct crash_names *names);

/* An open report. */
struct crash_file {
    struct crash_name name;
    struct report report;
    unsigned char *bytes; /* mapped */
    size_t size;
    uid_t owner;
    gid_t group;
    char path[PATH_MAX];
};

/* Returns NULL, or why it cannot be read: one clause, valid until the next call. */
const char *crash_file_open(struct crash_file *file, const char *directory, const struct crash_name *name);
/* The same by what stands on the command line: an id, the beginning of one alone, or "latest". Returns
 * CLI_OK, or the exit code after telling what went wrong. */
int crash_file_find(const struct cli *cli, struct crash_file *file, const char *directory, const char *word);
void crash_file_close(struct crash_file *file);

#endif
