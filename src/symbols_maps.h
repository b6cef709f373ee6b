/* PURE. The files that a process has mapped, read from the lines of its /proc/self/maps as a snapshot holds
 * them. Nothing in there is to be trusted. */
#ifndef SYMBOLS_MAPS_H
#define SYMBOLS_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SYMBOLS_PATH_SIZE 512u

/* One line. */
struct symbols_mapping {
    uint64_t start, end;
    uint64_t offset; /* in the file */
    uint64_t inode;
    unsigned major, minor;
    bool executable;
    bool deleted; /* the file that lies at the path now, if any, is another one */
    char path[SYMBOLS_PATH_SIZE];
};

/* Reads the line at *at and moves behind it. False: there is none any more; a line that makes no sense has a
 * path of no length. */
bool symbols_maps_next(const char *maps, size_t size, size_t *at, struct symbols_mapping *mapping);

/* Whether `next`, of a line further down, is of the file whose first mapping is `first`: a file's mappings
 * follow each other. */
bool symbols_maps_same_file(const struct symbols_mapping *first, const struct symbols_mapping *next);

/* "libspell.so" of "/opt/libspell.so". */
const char *symbols_maps_base(const char *path);

#endif
