/* PURE. Every option of cohabd: one table, from which the command line, the environment, the configuration
 * file, `cohabd --help` and the words that the master hands to its children are made. To add an option is to
 * add a line to it, and a field to struct options. */
#ifndef OPTION_TABLE_H
#define OPTION_TABLE_H

#include <stddef.h>

#include "options.h"

enum option_kind {
    OPTION_TEXT,         /* const char * */
    OPTION_WORKERS,      /* "N" or "MIN:MAX": two unsigned */
    OPTION_NUMBER,       /* unsigned */
    OPTION_COUNT,        /* uint64_t */
    OPTION_DESCRIPTOR,   /* int */
    OPTION_SECONDS,      /* uint64_t, ns */
    OPTION_MICROSECONDS, /* uint64_t, ns */
    OPTION_SIZE,         /* uint64_t, bytes */
    OPTION_SIZE32,       /* uint32_t, bytes */
    OPTION_MODE,         /* mode_t, octal */
    OPTION_SWITCH,       /* bool: on or off */
    OPTION_FLAG,         /* bool: on the command line its name alone */
    OPTION_LEVEL,        /* enum log_level */
    OPTION_FORMAT,       /* enum log_format */
    OPTION_ACTION,       /* has no field: options.c knows what it does; with a value, or without */
};

struct option_rule {
    const char *name;
    enum option_kind kind;
    size_t offset; /* of its field in struct options */
    const char
        *standard;      /* its value where nobody gives one, as one would write it; NULL: computed, or none */
    uint64_t low, high; /* of numbers and sizes; high 0: as high as goes. Of times: ns */
    const char *value;  /* what stands for its value in the help; NULL: it takes none */
    const char *group;  /* heading in the help, of this and of those that follow it; NULL: as before */
    const char *help;   /* without the standard value */
    bool here_only;     /* on the command line, and nowhere else */
};

extern const struct option_rule option_rules[];
extern const size_t option_count;

/* By name; name need not be terminated. NULL: none. */
const struct option_rule *option_find(const char *name, size_t length);
/* Sets the field. -1, with nothing changed and "takes ..., not '...'" in error, where the value is none. text
 * is borrowed for good. */
int option_set(struct options *options, const struct option_rule *rule, const char *text, char *error,
               size_t size);

#endif
