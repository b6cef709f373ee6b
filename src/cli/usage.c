#include "usage.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "client.h"

/* The path of the admin socket has to fit as well. */
#define LONGEST_SOCKET (sizeof((struct sockaddr_un *)NULL)->sun_path - sizeof CLIENT_ADMIN_SUFFIX)

noreturn void usage_fail(const struct cli *cli, const char *format, ...)
{
    va_list arguments;
    const char *command = cli->command ? cli->command->name : NULL;

    fprintf(stderr, "cohab: %s%s", command ? command : "", command ? ": " : "");
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, " (see cohab %s%s--help)\n", command ? command : "", command ? " " : "");
    exit(CLI_BAD_USAGE);
}

#define HELP_COLUMN          21
#define MAX_OPTIONS_IN_USAGE 4

/* "-c, --connections N". Returns how many characters that is. */
static int print_option(const struct usage_option *option)
{
    int width = option->letter ? printf("-%c, ", option->letter) : 0;

    return width +
           printf("%s%s%s", option->name, option->value ? " " : "", option->value ? option->value : "");
}

/* The help of an option that is too wide goes to a line of its own. */
void usage_print_options(const struct usage_option *options)
{
    for (const struct usage_option *option = options; option->name; option++) {
        fputs("  ", stdout);
        int width = print_option(option);
        if (width >= HELP_COLUMN)
            printf("\n  %*s%s\n", HELP_COLUMN, "", option->help);
        else
            printf("%*s%s\n", HELP_COLUMN - width, "", option->help);
    }
}

static noreturn void print_command_help(const struct cli_command *command, const struct usage_option *own,
                                        const struct usage_option *common)
{
    printf("usage: cohab %s%s%s", command->name, command->arguments ? " " : "",
           command->arguments ? command->arguments : "");
    size_t count = 0;
    while (own[count].name)
        count++;
    if (count > MAX_OPTIONS_IN_USAGE)
        fputs(" [options]", stdout);
    for (const struct usage_option *option = own; option->name && count <= MAX_OPTIONS_IN_USAGE; option++)
        printf(" [%s%s%s]", option->name, option->value ? " " : "", option->value ? option->value : "");
    printf("\n\n%s\n\noptions:\n", command->help);
    usage_print_options(own);
    usage_print_options(common);
    exit(CLI_OK);
}

static bool looks_like_option(const char *argument)
{
    if (argument[0] != '-' || argument[1] == '\0')
        return false;
    bool number =
        isdigit((unsigned char)argument[1]) || (argument[1] == '.' && isdigit((unsigned char)argument[2]));
    return !number;
}

static const struct usage_option *find_option(const struct usage_option *options, const char *argument)
{
    size_t length = strcspn(argument, "=");

    for (const struct usage_option *option = options; option->name; option++)
        if ((strlen(option->name) == length && memcmp(option->name, argument, length) == 0) ||
            (option->letter && argument[1] == option->letter))
            return option;
    return NULL;
}

static double read_seconds(const struct cli *cli, const struct usage_option *option, const char *value)
{
    char *end;
    double seconds = strtod(value, &end);

    if (end == value || *end != '\0' || !isfinite(seconds) || seconds < 0 || (seconds <= 0 && !option->zero))
        usage_fail(cli, "%s: '%s' is not a number of seconds%s", option->name, value,
                   option->zero ? "" : " above 0");
    return seconds;
}

static void add_to_list(const struct cli *cli, const struct usage_option *option, const char *value)
{
    struct usage_list *list = option->list;

    if (list->count == sizeof list->items / sizeof list->items[0])
        usage_fail(cli, "%s is given more than %zu times", option->name, list->count);
    list->items[list->count++] = value;
}

/* What is joined to an option: --name=VALUE, -cVALUE. NULL when there is nothing. */
static const char *joined_value(const char *argument)
{
    bool by_letter = argument[1] != '-';
    const char *equals = strchr(argument, '=');

    if (by_letter)
        return argument[2] ? argument + 2 : NULL;
    return equals ? equals + 1 : NULL;
}

/* Reads the option at argv[index]. Returns the index behind it and its value. */
static int read_option(const struct cli *cli, const struct usage_option *option, int argc, char **argv,
                       int index)
{
    const char *value = joined_value(argv[index++]);

    if (option->on) {
        if (value)
            usage_fail(cli, "%s takes no value", option->name);
        *option->on = true;
        return index;
    }
    if (!value && index == argc)
        usage_fail(cli, "%s needs a value: %s", option->name, option->value);
    if (!value)
        value = argv[index++];
    if (option->seconds)
        *option->seconds = read_seconds(cli, option, value);
    else if (option->list)
        add_to_list(cli, option, value);
    else
        *option->text = value;
    return index;
}

int usage_read_leading(struct cli *cli, const struct usage_option *options, int argc, char **argv)
{
    int index = 1;

    while (index < argc && argv[index][0] == '-') {
        const struct usage_option *option = find_option(options, argv[index]);
        if (!option)
            usage_fail(cli, "unknown option '%s'", argv[index]);
        index = read_option(cli, option, argc, argv, index);
    }
    return index;
}

static int read_all(const struct cli *cli, const struct usage_option *own, const struct usage_option *common,
                    int argc, char **argv)
{
    int kept = 0;
    int index = 0;

    while (index < argc && strcmp(argv[index], "--") != 0) {
        if (!looks_like_option(argv[index])) {
            argv[kept++] = argv[index++];
            continue;
        }
        const struct usage_option *option = find_option(own, argv[index]);
        if (!option)
            option = find_option(common, argv[index]);
        if (!option)
            usage_fail(cli, "unknown option '%s'%s", argv[index],
                       cli->command->arguments ? "; put -- before arguments that begin with a dash" : "");
        index = read_option(cli, option, argc, argv, index);
    }
    for (index++; index < argc; index++)
        argv[kept++] = argv[index];
    return kept;
}

int usage_read(struct cli *cli, const struct usage_option *options, int argc, char **argv)
{
    bool help_wanted = false;
    const struct usage_option common[] = {
        USAGE_SOCKET_OPTION(cli),
        {.name = "--help", .help = "this text", .on = &help_wanted},
        {0},
    };
    int count = read_all(cli, options, common, argc, argv);

    if (help_wanted)
        print_command_help(cli->command, options, common);
    if (!cli->command->arguments && count > 0)
        usage_fail(cli, "unexpected argument '%s'", argv[0]);
    if (cli->socket && !*cli->socket)
        cli->socket = NULL;
    if (!cli->socket && cli->command->offline)
        return count;
    if (!cli->socket)
        usage_fail(cli, "no socket is named; give --socket PATH or set COHAB_SOCKET");
    if (strlen(cli->socket) > LONGEST_SOCKET)
        usage_fail(cli, "the path of the socket is too long: %zu bytes, at most %zu are possible",
                   strlen(cli->socket), LONGEST_SOCKET);
    return count;
}
