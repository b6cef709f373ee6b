#include "commands.h"

#include <stdio.h>
#include <string.h>

#include "usage.h"

#define SUMMARY_COLUMN 26

void commands_print(const struct cli_command *commands, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *arguments = commands[i].arguments ? commands[i].arguments : "";
        int width = printf("  %s %s", commands[i].name, arguments);
        printf("%*s%s\n", width < SUMMARY_COLUMN ? SUMMARY_COLUMN - width : 1, "", commands[i].summary);
    }
}

static const char *last_word(const char *name)
{
    const char *space = strrchr(name, ' ');

    return space ? space + 1 : name;
}

const struct cli_command *commands_find(const struct cli *cli, const struct cli_command *commands,
                                        size_t count, const char *word)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(last_word(commands[i].name), word) == 0)
            return &commands[i];
    usage_fail(cli, "unknown command '%s'", word);
}

static int print_help(const struct cli_command *group, const struct cli_command *commands, size_t count)
{
    printf("usage: cohab %s %s\n\n%s\n\ncommands:\n", group->name, group->arguments, group->help);
    commands_print(commands, count);
    printf("\ncohab %s COMMAND --help tells more about a command.\n", group->name);
    return CLI_OK;
}

int commands_run(struct cli *cli, const struct cli_command *commands, size_t count, int argc, char **argv)
{
    if (argc == 0)
        usage_fail(cli, "no command is given");
    if (strcmp(argv[0], "--help") == 0)
        return print_help(cli->command, commands, count);
    cli->command = commands_find(cli, commands, count, argv[0]);
    return cli->command->run(cli, argc - 1, argv + 1);
}
