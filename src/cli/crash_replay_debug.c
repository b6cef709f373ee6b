#include "crash_replay.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "object.h"
#include "program.h"
#include "replay_command.h"

#define VALGRIND_FOUND "99"

static int run_under(const struct replay *replay, const char *program, const char *const *its_words,
                     bool memory)
{
    char path[PATH_MAX];
    struct replay_command command = replay_command_begin(replay->report);

    if (!program_find(program, path)) {
        fprintf(stderr, "cohab: %s: there is no %s in $PATH: install the package %s\n",
                replay->cli->command->name, program, program);
        return CLI_CALL_FAILED;
    }
    replay_command_add(&command, path);
    while (*its_words)
        replay_command_add(&command, *its_words++);
    replay_command_add(&command, replay->program);
    replay_command_add(&command, "--replay");
    replay_command_add(&command, replay->file->path);
    replay_command_add_timeout(&command, replay->timeout);
    replay_command_add_options(&command, replay->report, memory);
    replay_command_add_engine(&command, replay->report, replay->engine);
    execv(path, command.words);
    return crash_replay_refuse(replay, path, strerror(errno));
}

static bool has_cause(const struct replay *replay, const char *kind)
{
    return object_is_text(object_find(object_find(replay->report, "cause"), "kind"), kind);
}

/* An exit() is no crash to a debugger: it has to be caught. */
int crash_replay_in_gdb(const struct replay *replay)
{
    static const char *const crash[] = {"-q", "-ex", "run", "-ex", "bt", "--args", NULL};
    static const char *const end[] = {"-q",     "-ex", "catch syscall exit_group", "-ex", "run", "-ex", "bt",
                                      "--args", NULL};

    if (has_cause(replay, "deadline") || has_cause(replay, "cancelled") || has_cause(replay, "killed") ||
        has_cause(replay, "slow"))
        fputs("cohab: crash replay: the call ran for long; Ctrl-C stops it, and bt shows where\n", stderr);
    return run_under(replay, "gdb", has_cause(replay, "exit") ? end : crash, true);
}

/* Without the limit: valgrind takes several times the engine's memory for itself. */
int crash_replay_in_valgrind(const struct replay *replay)
{
    static const char *const words[] = {"--error-exitcode=" VALGRIND_FOUND, NULL};

    return run_under(replay, "valgrind", words, false);
}
