#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ini.h>

struct reading {
    FILE *file;
    int line;
    int told; /* the last line that was complained about */
    config_listener *listener;
    config_complaint *complaint;
    void *context;
};

static void complain(struct reading *reading, const char *why)
{
    reading->told = reading->line;
    reading->complaint(reading->context, reading->line, why);
}

/* Whether the line can be what inih takes for a section or a name with a value: it says of the first error
 * alone where it is. */
static bool is_sound(const char *line)
{
    size_t blank = strspn(line, " \t\r\n");
    if (line[blank] == '\0' || line[blank] == '#' || line[blank] == ';')
        return true;
    if (line[blank] == '[')
        return strchr(line, ']') != NULL;
    return line[blank] != '=' && line[blank] != ':' && strpbrk(line, "=:") != NULL;
}

/* Where a line comes from: without what would make it go on with the one before, and counted. What is too
 * long for inih, which would cut it in two, or makes no sense, becomes an empty line. */
static char *read_line(char *buffer, int size, void *stream)
{
    struct reading *reading = stream;
    char *line = NULL;
    size_t room = 0;
    if (getline(&line, &room, reading->file) < 0) {
        free(line);
        return NULL;
    }
    reading->line++;
    const char *begin = line;
    if (reading->line == 1 && strncmp(begin, "\xef\xbb\xbf", 3) == 0)
        begin += 3;
    begin += strspn(begin, " \t");
    if (strlen(begin) >= (size_t)size) {
        complain(reading, "the line is too long");
        begin = "\n";
    } else if (!is_sound(begin)) {
        complain(reading, "this is no 'name = value'");
        begin = "\n";
    }
    memcpy(buffer, begin, strlen(begin) + 1);
    free(line);
    return buffer;
}

static int on_value(void *context, const char *section, const char *name, const char *value)
{
    struct reading *reading = context;
    reading->listener(reading->context, reading->line, section, name, value);
    return 1;
}

int config_read(const char *path, config_listener *listener, config_complaint *complaint, void *context)
{
    struct reading reading = {
        .file = fopen(path, "re"), .listener = listener, .complaint = complaint, .context = context};
    if (!reading.file)
        return -1;
    errno = 0;
    int result = ini_parse_stream(read_line, &reading, on_value, &reading);
    bool failed = ferror(reading.file);
    int saved = errno;
    fclose(reading.file);
    errno = result == -2 ? ENOMEM : saved;
    return failed || result == -2 ? -1 : 0;
}
