#include "symbols_maps.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "symbols.h"

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

bool symbols_maps_same_file(const struct symbols_mapping *first, const struct symbols_mapping *next)
{
    return first->inode == next->inode && next->offset >= first->offset &&
           strcmp(first->path, next->path) == 0;
}

bool symbols_locate(const char *maps, size_t size, uint64_t address, struct symbols_frame *frame)
{
    struct symbols_mapping mapping, first = {0};
    for (size_t at = 0; symbols_maps_next(maps, size, &at, &mapping);) {
        if (!symbols_maps_same_file(&first, &mapping))
            first = mapping;
        if (!mapping.path[0] || address < mapping.start || address >= mapping.end)
            continue;
        *frame = (struct symbols_frame){.address = address, .offset = address - first.start + first.offset};
        snprintf(frame->module, sizeof(frame->module), "%.63s", symbols_maps_base(mapping.path));
        memcpy(frame->path, mapping.path, sizeof(frame->path));
        return true;
    }
    return false;
}
