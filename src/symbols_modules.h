/* Part of symbols.c: the files that a process has mapped to run code of, found again and opened, if they are
 * still the same ones. */
#ifndef SYMBOLS_MODULES_H
#define SYMBOLS_MODULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "symbols_maps.h"

#define MODULES_MAX 512u

/* Of a file when it was opened: one that is written anew has another. */
struct module_identity {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec written;
};

/* A mapped file with code in it. */
struct module {
    uint64_t start, end;
    uint64_t offset; /* in the file, at start */
    uint64_t bias;   /* addresses in memory are so much higher than in the file */
    uint64_t inode;
    unsigned major, minor;
    bool known; /* the file can be read, and is the same */
    struct module_identity identity;
    char path[SYMBOLS_PATH_SIZE];
};

/* Lists the files of which a part is executable, MODULES_MAX at most; of `known` it knows no more than that a
 * file has not been deleted. */
size_t modules_list(const char *maps, size_t size, struct module *modules);
bool modules_are_same(const struct module *a, size_t a_count, const struct module *b, size_t b_count);

/* Opens one that is `known`, and notes its identity. -1 where it cannot be opened, or is another file now. */
int modules_open(struct module *module);
/* Those that were written anew since they were opened are no longer `known`: what is in them now says nothing
 * about what was run, and a mapping of them may reach past their end (SIGBUS). Returns whether there were
 * any. */
bool modules_drop_overwritten(struct module *modules, size_t count);
/* From the file's own headers; false where they do not fit the mapping. */
bool modules_find_bias(int file, struct module *module);

#endif
