#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "commands.h"
#include "usage.h"

static const struct cli_command commands[] = {
    {.name = "call",
     .arguments = "METHOD [ARG ...]",
     .summary = "call a method of the engine and print its result as JSON",
     .help =
         "Calls METHOD and prints its result as JSON. An ARG is read as JSON and, where it is not JSON, as "
         "a\n"
         "string. A single - reads the parameters from standard input, as one JSON array. Bytes are written "
         "as\n"
         "{\"$base64\": \"...\"}, both ways. Put -- before an ARG that begins with a dash and is no number.",
     .run = call_run},
    {.name = "ping",
     .summary = "ask whether the server answers",
     .help = "Asks whether the server answers, and how long that took.",
     .run = ping_run},
    {.name = "methods",
     .summary = "list the methods of the engine",
     .help = "Lists the methods of the engine: signature, flags and description.",
     .run = methods_run},
    {.name = "status",
     .summary = "show the server, its workers and their last deaths",
     .help = "Shows the server, its workers and their last deaths.",
     .run = status_run},
    {.name = "metrics",
     .summary = "print counters and histograms, for Prometheus",
     .help = "Prints counters, and histograms per method, in the text format of Prometheus (version 0.0.4).",
     .run = metrics_run},
    {.name = "bench",
     .arguments = "METHOD [ARG ...]",
     .summary = "measure calls under load: throughput and latencies",
     .help =
         "Calls METHOD again and again, over several connections at once, and prints throughput and "
         "latencies.\n"
         "ARGs are those of cohab call; a text in them, wherever it stands, can be or contain\n"
         "\n"
         "  {counter}       1, 2, 3, ...\n"
         "  {int:LOW:HIGH}  a random integer, both included\n"
         "  {word:FILE}     a random line of a file\n"
         "  {blob:SIZE}     that many bytes (alone only), such as 64, 4K or 64M\n"
         "\n"
         "and is itself in a second pair of braces. Ctrl-C ends the run early, with its report. "
         "docs/bench.md tells\n"
         "what the figures mean. Exit codes: 0 measured, 1 every call failed, 2 bad usage, 3 cannot connect.",
     .run = bench_run},
    {.name = "stack",
     .arguments = "[WORKER]",
     .summary = "show what busy workers are doing right now",
     .help = "Shows the native stack of every busy worker, or of one. The calls go on: they are held up for\n"
             "milliseconds.",
     .run = stack_run},
    {.name = "reload",
     .arguments = "[-- ARG ...]",
     .summary = "load the engine afresh, and replace the workers",
     .help = "Loads the engine and its data afresh while the server goes on, runs its self-test, and then "
             "replaces the\n"
             "workers one by one. Where that fails, the workers that serve go on, what the engine had to say "
             "is printed,\n"
             "and the exit code is 1. With --engine another engine takes over; the ARGs are its arguments.",
     .run = reload_run},
    {.name = "upgrade",
     .summary = "go on as the new version of cohabd, in place",
     .help =
         "Has the server go on as the version of cohabd that is installed now, with the same process id, "
         "workers and\n"
         "connections; no call fails or waits for long. Before that the new version checks itself and the "
         "engine; where\n"
         "it cannot take over nothing happens, the reason is printed, and the exit code is 1.",
     .run = upgrade_run},
    {.name = "scale",
     .arguments = "N|MIN:MAX",
     .summary = "set the number of workers",
     .help = "Sets the number of workers: N, or from MIN to MAX, as the load needs. Until the next start.",
     .run = scale_run},
    {.name = "ps",
     .summary = "list the calls that run and the requests that wait",
     .help =
         "Lists the calls that run, with their workers, and the requests that wait for one. Of what waits "
         "the\n"
         "first bytes are read: where a request is large, some columns stay empty.",
     .run = ps_run},
    {.name = "kill",
     .arguments = "WORKER | CALL | --peer PID",
     .summary = "end running calls",
     .help =
         "Ends the call that WORKER runs, the CALL of that name in cohab ps, or with --peer all running "
         "calls of\n"
         "a client process. No other call is hit, also where these end just then. Their callers get "
         "CANCELLED,\n"
         "reason KILLED. An engine that looks at cohab_cancelled() ends by itself; else its worker is "
         "killed\n"
         "after --kill-grace, as at a deadline. What waits is not touched. Exit code 1: there was no such "
         "call.",
     .run = kill_run},
    {.name = "crash",
     .arguments = "COMMAND ...",
     .summary = "list, show, export and repeat crashes",
     .help = "Works with the reports that cohabd writes when a worker crashes, or is ended. Neither a server "
             "nor\n"
             "its socket is needed.",
     .run = crash_run},
    {.name = "quarantine",
     .arguments = "COMMAND ...",
     .summary = "list and clear requests that are refused as they kill workers",
     .help = "After --quarantine-after deaths cohabd refuses the requests that have caused them.",
     .run = quarantine_run},
    {.name = "stop",
     .summary = "stop the server",
     .help = "Stops the server and waits until it is gone. Running calls are allowed to finish.",
     .run = stop_run},
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static void print_overview(const struct usage_option *options)
{
    printf("usage: cohab [--socket PATH] COMMAND ...\n\nTalks to a running cohabd, and tells how its workers "
           "died.\n\ncommands:\n");
    commands_print(commands, COMMAND_COUNT);
    printf("\noptions:\n");
    usage_print_options(options);
    printf("\ncohab COMMAND --help tells more about a command.\n"
           "Exit codes: 0 ok, 1 the call failed, 2 bad usage, 3 cannot connect.\n");
}

/* Whatever was closed is open from here on, so that no connection comes to lie there: for reading alone, so
 * that a result that nobody gets is still an error. */
static void open_standard_descriptors(void)
{
    int null = open("/dev/null", O_RDONLY);

    while (null >= 0 && null <= STDERR_FILENO)
        null = open("/dev/null", O_RDONLY);
    if (null >= 0)
        close(null);
}

/* A result that did not reach its file must not look like success. */
static void close_output(int exit_code, void *unused)
{
    int failed = ferror(stdout);

    (void)unused;
    if (fclose(stdout) == 0 && !failed)
        return;
    perror("cohab: cannot write to standard output");
    _exit(exit_code ? exit_code : CLI_CALL_FAILED);
}

int main(int argc, char **argv)
{
    struct cli cli = {.socket = getenv("COHAB_SOCKET")};
    bool help = false;
    bool version = false;
    const struct usage_option options[] = {
        USAGE_SOCKET_OPTION(&cli),
        {.name = "--help", .help = "this text", .on = &help},
        {.name = "--version", .help = "the version of this tool", .on = &version},
        {0},
    };

    open_standard_descriptors();
    on_exit(close_output, NULL);
    int index = usage_read_leading(&cli, options, argc, argv);
    if (help) {
        print_overview(options);
        return CLI_OK;
    }
    if (version) {
        puts("cohab " COHAB_VERSION);
        return CLI_OK;
    }
    if (index == argc)
        usage_fail(&cli, "no command is given");
    cli.command = commands_find(&cli, commands, COMMAND_COUNT, argv[index]);
    return cli.command->run(&cli, argc - index - 1, argv + index + 1);
}
