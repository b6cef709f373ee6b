#include "cli.h"
#include "commands.h"

#define ID_HELP                                                                                              \
    "ID is that of cohab crash list, or the beginning of one alone; or the word latest, or last: the "       \
    "newest\n"                                                                                               \
    "report of a crash."

static const struct cli_command commands[] = {
    {.name = "crash list",
     .summary = "list the reports, newest first",
     .help = "Lists the reports, newest first: what died when, of what, in which method, and where.",
     .offline = true,
     .run = crash_list_run},
    {.name = "crash show",
     .arguments = "ID",
     .summary = "show one report",
     .help = "Shows a report: cause, request, native stack, what the engine last wrote to stderr.\n" ID_HELP,
     .offline = true,
     .run = crash_show_run},
    {.name = "crash replay",
     .arguments = "ID",
     .summary = "run the request of a report again, in a server of its own",
     .help =
         "Starts a private cohabd with the same engine and the same arguments, sends it the request of the\n"
         "report, and tells whether it crashes again, of the same cause and at the same place.\n" ID_HELP "\n"
         "\n"
         "With --gdb or --valgrind the request runs in one process under that program instead.\n"
         "Exit codes: 0 it was run, whatever came of it; 1 it could not be run; with --gdb and --valgrind\n"
         "theirs: 99 means that valgrind found errors; it dies of the signal that the engine dies of.",
     .offline = true,
     .run = crash_replay_run},
    {.name = "crash export",
     .arguments = "ID",
     .summary = "print all of a report as JSON, or save its request",
     .help =
         "Prints all of a report as one JSON document: with the parameters of the request, and the bytes of\n"
         "its frame. With --request alone it saves that frame and prints nothing.\n" ID_HELP,
     .offline = true,
     .run = crash_export_run},
};

int crash_run(struct cli *cli, int argc, char **argv)
{
    return commands_run(cli, commands, sizeof commands / sizeof commands[0], argc, argv);
}
