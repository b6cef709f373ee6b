#include "title.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "log.h"

static const char name[] = "cohab: ";
static char *room;
static size_t words_end;

void title_init(int argc, char **argv)
{
    char *end = argv[argc - 1] + strlen(argv[argc - 1]);
    for (int i = 1; i < argc; i++) {
        argv[i] = strdup(argv[i]);
        if (!argv[i])
            fatal("out of memory");
    }
    room = argv[0];
    memset(room, 0, (size_t)(end - room));
}

/* NULs up to the end of the room: ps shows the whole area. */
static void write_at(size_t offset, const char *words)
{
    size_t length = strnlen(words, TITLE_ROOM - 1 - offset);
    memcpy(room + offset, words, length);
    memset(room + offset + length, 0, TITLE_ROOM - offset - length);
}

void title_set(const char *words)
{
    if (!room)
        return;
    memcpy(room, name, sizeof(name) - 1);
    write_at(sizeof(name) - 1, words);
    words_end = strlen(room);
    prctl(PR_SET_NAME, room, 0, 0, 0);
}

void title_set_suffix(const char *suffix)
{
    if (room)
        write_at(words_end, suffix);
}
