/* Reads command lines: options and positional arguments in any order, `--` ends the options, a negative
 * number is no option. What is wrong with a command line ends the process in here, with one line, a hint
 * and CLI_BAD_USAGE; --help ends it with CLI_OK. */
#ifndef USAGE_H
#define USAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdnoreturn.h>

#include "cli.h"

/* The values of an option that may be given more than once, in their order. */
struct usage_list {
    const char *items[64];
    size_t count;
};

/* One option; arrays of them end with an empty one. Where its value goes: exactly one pointer is set. */
struct usage_option {
    const char *name;  /* "--timeout" */
    char letter;       /* 'c': -c is the same; 0: there is none */
    const char *value; /* what stands for its value in the help, "S"; NULL for a switch */
    const char *help;
    bool *on;
    const char **text;
    struct usage_list *list;
    double *seconds; /* finite and above 0, or with `zero` 0 */
    bool zero;
};

#define USAGE_SOCKET_OPTION(cli)                                                                             \
    {                                                                                                        \
        .name = "--socket", .value = "PATH", .help = "the server's socket (default: $COHAB_SOCKET)",         \
        .text = &(cli)->socket                                                                               \
    }

/* Reads a command's options and --socket and --help, and moves the positional arguments to the front of
 * argv. Returns their number. When it returns, cli->socket is set, or the command can do without. */
int usage_read(struct cli *cli, const struct usage_option *options, int argc, char **argv);

/* Reads the options in front of the command's name. Returns the index of that name, or argc. */
int usage_read_leading(struct cli *cli, const struct usage_option *options, int argc, char **argv);

void usage_print_options(const struct usage_option *options);

noreturn void usage_fail(const struct cli *cli, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
