/* The `cohab` tool: what main.c and the commands share. A command is one file, or several, with one
 * function, NAME_run(), whose value is the exit code of the process. Results go to standard output,
 * everything else to standard error. */
#ifndef CLI_H
#define CLI_H

#include <stdbool.h>

enum cli_exit {
    CLI_OK = 0,
    CLI_CALL_FAILED = 1,
    CLI_BAD_USAGE = 2,
    CLI_NO_CONNECTION = 3,
};

struct cli;

struct cli_command {
    const char *name;
    const char *arguments; /* as in the usage line, "METHOD [ARG ...]"; NULL: it takes none */
    const char *summary;   /* one line of `cohab --help` */
    const char *help;      /* what `cohab NAME --help` says besides the options */
    bool offline;          /* needs no server: no socket need be named */
    int (*run)(struct cli *cli, int argc, char **argv); /* argv begins behind the command's name */
};

/* One invocation of the tool. */
struct cli {
    const struct cli_command *command; /* NULL until it is known */
    const char *socket;                /* from --socket or COHAB_SOCKET; NULL when neither is given */
};

int bench_run(struct cli *cli, int argc, char **argv);
int call_run(struct cli *cli, int argc, char **argv);
int crash_run(struct cli *cli, int argc, char **argv);
int crash_export_run(struct cli *cli, int argc, char **argv);
int crash_list_run(struct cli *cli, int argc, char **argv);
int crash_replay_run(struct cli *cli, int argc, char **argv);
int crash_show_run(struct cli *cli, int argc, char **argv);
int methods_run(struct cli *cli, int argc, char **argv);
int metrics_run(struct cli *cli, int argc, char **argv);
int ping_run(struct cli *cli, int argc, char **argv);
int quarantine_run(struct cli *cli, int argc, char **argv);
int reload_run(struct cli *cli, int argc, char **argv);
int upgrade_run(struct cli *cli, int argc, char **argv);
int scale_run(struct cli *cli, int argc, char **argv);
int ps_run(struct cli *cli, int argc, char **argv);
int kill_run(struct cli *cli, int argc, char **argv);
int stack_run(struct cli *cli, int argc, char **argv);
int status_run(struct cli *cli, int argc, char **argv);
int stop_run(struct cli *cli, int argc, char **argv);

#endif
