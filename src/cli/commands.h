/* Tables of commands: that of the tool, and those of commands that have commands of their own. The name of
 * such a one is both words, "crash list". */
#ifndef COMMANDS_H
#define COMMANDS_H

#include <stddef.h>

#include "cli.h"

/* One line for each. */
void commands_print(const struct cli_command *commands, size_t count);
/* By the last word of its name. Ends the process where there is none. */
const struct cli_command *commands_find(const struct cli *cli, const struct cli_command *commands,
                                        size_t count, const char *word);
/* Runs the command that argv begins with, one of those that cli->command has. */
int commands_run(struct cli *cli, const struct cli_command *commands, size_t count, int argc, char **argv);

#endif
