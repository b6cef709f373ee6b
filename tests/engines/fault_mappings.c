/* Part of the engine `fault`: wild writes into the memory that a worker shares with the server. */
#include "fault.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAPPINGS_MAX 64

struct piece {
    unsigned char *start;
    size_t size;
};

/* Where to write, and what becomes of the process then. */
struct scribbling {
    struct piece pieces[MAPPINGS_MAX];
    size_t count;
    const char *outcome;
};

/* Whether a mapping is that part of the worker's workspace (src/workspace.h): the request buffer, with the
 * snapshot, begins it; the row is a page of its own, which the kernel joins with no neighbour, as it is
 * locked; the rest is the meter. */
static bool is_part(const char *name, unsigned long offset, unsigned long size)
{
    if (strcmp(name, "cohab-request") == 0)
        return offset == 0;
    if (strcmp(name, "cohab-row") == 0)
        return offset > 0 && size == 4096;
    return strcmp(name, "cohab-meter") == 0 && offset > 0 && size != 4096;
}

/* The mappings are found first, so that reading /proc is over when the harm is done. */
static size_t find_shared_mappings(const char *name, struct piece *pieces)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    size_t count = 0;
    char line[4096];
    while (maps != NULL && count < MAPPINGS_MAX && fgets(line, sizeof(line), maps) != NULL) {
        unsigned long start, end, offset;
        char permissions[8];
        if (sscanf(line, "%lx-%lx %7s %lx", &start, &end, permissions, &offset) == 4 &&
            strcmp(permissions, "rw-s") == 0 && strstr(line, "cohab-workspace") != NULL &&
            is_part(name, offset, end - start))
            pieces[count++] = (struct piece){.start = (unsigned char *)start, .size = end - start};
    }
    if (maps != NULL)
        fclose(maps);
    return count;
}

/* Of each mapping the part from `offset` on, `size` bytes at most. */
static void find_pieces(struct scribbling *scribbling, const char *name, int64_t offset, int64_t size)
{
    scribbling->count = find_shared_mappings(name, scribbling->pieces);
    for (size_t i = 0; i < scribbling->count; i++) {
        struct piece *piece = &scribbling->pieces[i];
        size_t skipped = (size_t)offset < piece->size ? (size_t)offset : piece->size;
        piece->start += skipped;
        piece->size -= skipped;
        if ((size_t)size < piece->size)
            piece->size = (size_t)size;
    }
}

static void crash(void)
{
    volatile int *volatile pointer = (volatile int *)8;
    *pointer = 1;
}

static int finish(struct cohab_call *call, const struct scribbling *scribbling)
{
    if (strcmp(scribbling->outcome, "crash") == 0)
        crash();
    if (strcmp(scribbling->outcome, "exit") == 0)
        _exit(0);
    if (strcmp(scribbling->outcome, "kill") == 0)
        raise(SIGKILL);
    while (strcmp(scribbling->outcome, "spin") == 0)
        (void)getppid();
    int64_t bytes = 0;
    for (size_t i = 0; i < scribbling->count; i++)
        bytes += (int64_t)scribbling->pieces[i].size;
    return cohab_return(call, "L", bytes);
}

int fault_scribble(struct cohab_call *call)
{
    struct scribbling scribbling = {.outcome = "return"};
    const char *name;
    int value;
    int64_t offset = 0, size = INT64_MAX;
    if (cohab_parse(call, "si|sLL", &name, &value, &scribbling.outcome, &offset, &size) != 0)
        return -1;
    find_pieces(&scribbling, name, offset, size);
    for (size_t i = 0; i < scribbling.count; i++)
        memset(scribbling.pieces[i].start, value, scribbling.pieces[i].size);
    return finish(call, &scribbling);
}

/* Sebastiano Vigna's generator splitmix64. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void fill_randomly(struct piece piece, uint64_t *state)
{
    for (size_t done = 0; done < piece.size; done += sizeof(uint64_t)) {
        uint64_t bytes = next_random(state);
        size_t left = piece.size - done;
        memcpy(piece.start + done, &bytes, left < sizeof(bytes) ? left : sizeof(bytes));
    }
}

int fault_scribble_random(struct cohab_call *call)
{
    struct scribbling scribbling = {.outcome = "return"};
    const char *name;
    int64_t seed, offset = 0, size = INT64_MAX;
    if (cohab_parse(call, "sL|sLL", &name, &seed, &scribbling.outcome, &offset, &size) != 0)
        return -1;
    uint64_t state = (uint64_t)seed;
    find_pieces(&scribbling, name, offset, size);
    for (size_t i = 0; i < scribbling.count; i++)
        fill_randomly(scribbling.pieces[i], &state);
    return finish(call, &scribbling);
}
