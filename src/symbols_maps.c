#include "symbols_maps.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LINE_SIZE_MAX (SYMBOLS_PATH_SIZE + 128u)

const char *symbols_maps_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static bool cut_suffix(char *text, const char *suffix)
{
    size_t length = strlen(text), cut = strlen(suffix);
    if (length < cut || strcmp(text + length - cut, suffix) != 0)
        return false;
    text[length - cut] = '\0';
    return true;
}

/* "7f12a000-7f12b000 r-xp 00001000 08:01 4711   /lib/x.so" */
static bool parse(const char *line, struct symbols_mapping *mapping)
{
    char permissions[5];
    int path = 0;
    int count = sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64 " %n", &mapping->start,
                       &mapping->end, permissions, &mapping->offset, &mapping->major, &mapping->minor,
                       &mapping->inode, &path);
    if (count != 7 || path == 0 || mapping->end <= mapping->start || strlen(line + path) >= SYMBOLS_PATH_SIZE)
        return false;
    mapping->executable = strchr(permissions, 'x') != NULL;
    strcpy(mapping->path, line + path);
    mapping->deleted = cut_suffix(mapping->path, " (deleted)");
    return true;
}

bool symbols_maps_next(const char *maps, size_t size, size_t *at, struct symbols_mapping *mapping)
{
    char line[LINE_SIZE_MAX];
    if (*at >= size)
        return false;
    const char *start = maps + *at, *end = memchr(start, '\n', size - *at);
    size_t length = end ? (size_t)(end - start) : size - *at;
    *at += length + 1;
    *mapping = (struct symbols_mapping){0};
    if (length >= sizeof(line))
        return true;
    memcpy(line, start, length);
    line[length] = '\0';
    if (!parse(line, mapping))
        *mapping = (struct symbols_mapping){0};
    return true;
}
