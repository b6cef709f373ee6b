#include "crash_replay.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "object.h"
#include "program.h"
#include "text.h"
#include "usage.h"

#define DEFAULT_TIMEOUT 30.0
/* Under a debugger somebody may look around for long before the call goes on. */
#define DEBUG_TIMEOUT 86400.0

int crash_replay_refuse(const struct replay *replay, const char *what, const char *why)
{
    fprintf(stderr, "cohab: %s: ", replay->cli->command->name);
    text_put_safe(stderr, what, strlen(what));
    fprintf(stderr, "%s%s\n", *what ? ": " : "", why);
    return CLI_CALL_FAILED;
}

bool crash_replay_has_phase(const struct replay *replay, const char *phase)
{
    return object_is_text(object_find(replay->report, "phase"), phase);
}

/* --- who runs what --- */

/* Who could write the report decides what is run: with that user's rights, and no more. */
static int become_owner(const struct replay *replay)
{
    const struct crash_file *file = replay->file;
    const struct passwd *user = getpwuid(file->owner);

    if (file->owner == geteuid())
        return CLI_OK;
    if (geteuid() != 0)
        return crash_replay_refuse(
            replay, file->path,
            "it belongs to another user, and a replay runs what it names; if you trust it, make a "
            "copy of your own");
    if ((user ? initgroups(user->pw_name, user->pw_gid) : setgroups(0, NULL)) < 0 ||
        setgid(user ? user->pw_gid : file->group) < 0 || setuid(file->owner) < 0)
        return crash_replay_refuse(replay, "cannot become the user who owns the report", strerror(errno));
    return CLI_OK;
}

static int find_engine(struct replay *replay)
{
    const msgpack_object *path = object_find_text(object_find(replay->report, "engine"), "path");
    struct stat status;
    double time;

    if (!path || path->via.str.size >= sizeof replay->engine || path->via.str.size == 0 ||
        path->via.str.ptr[0] != '/')
        return crash_replay_refuse(replay, "", "the report does not name its engine's file");
    memcpy(replay->engine, path->via.str.ptr, path->via.str.size);
    if (stat(replay->engine, &status) < 0)
        return crash_replay_refuse(replay, replay->engine, strerror(errno));
    if (object_find_number(replay->report, "time", &time) && (double)status.st_mtim.tv_sec > time)
        crash_replay_refuse(replay, replay->engine,
                            "the engine is newer than the report: it may be another one by now");
    return CLI_OK;
}

/* --- the command --- */

static double choose_timeout(const struct replay *replay, double given, bool debugged)
{
    double ran = 0;

    if (given > 0)
        return given;
    if (debugged)
        return DEBUG_TIMEOUT;
    if (object_is_text(object_find(object_find(replay->report, "cause"), "kind"), "deadline"))
        object_find_number(object_find(replay->report, "request"), "ran", &ran);
    return ran > 0 && ran < 1e6 ? ran : DEFAULT_TIMEOUT;
}

static int replay_report(struct replay *replay, bool gdb, bool valgrind)
{
    struct envelope_request request;
    const char *why;
    bool has_request = report_read_request(&replay->file->report, &request, &why);
    bool needs_none = crash_replay_has_phase(replay, "load") || crash_replay_has_phase(replay, "start") ||
                      crash_replay_has_phase(replay, "stop");

    if (!has_request && !needs_none)
        return crash_replay_refuse(replay, replay->file->name.id, why);
    if (!program_find_sibling("cohabd", replay->program))
        return crash_replay_refuse(replay, "", "there is no cohabd, neither beside this tool nor in $PATH");
    int exit_code = become_owner(replay);
    if (exit_code == CLI_OK)
        exit_code = find_engine(replay);
    if (exit_code != CLI_OK)
        return exit_code;
    if (gdb)
        return crash_replay_in_gdb(replay);
    return valgrind ? crash_replay_in_valgrind(replay)
                    : crash_replay_in_server(replay, has_request ? &request : NULL);
}

int crash_replay_run(struct cli *cli, int argc, char **argv)
{
    bool gdb = false, valgrind = false;
    double timeout = 0;
    const char *option = NULL;
    static struct crash_file file;
    struct replay replay = {.cli = cli, .file = &file, .report = &file.report.root};
    const struct usage_option options[] = {
        {.name = "--gdb", .help = "run it in gdb, which stops where it crashes", .on = &gdb},
        {.name = "--valgrind", .help = "run it in valgrind", .on = &valgrind},
        {.name = "--timeout",
         .value = "S",
         .help = "seconds until the call is given up (default: 30, or what the call had)",
         .seconds = &timeout},
        {.name = "--json", .help = "print what came of it as JSON", .on = &replay.json},
        CRASH_DIR_OPTIONS(&option),
        {0},
    };
    char directory[PATH_MAX];

    if (usage_read(cli, options, argc, argv) != 1)
        usage_fail(cli, "it takes one ID");
    if (gdb + valgrind + replay.json > 1)
        usage_fail(cli, "--gdb, --valgrind and --json exclude one another");
    crash_files_choose(cli, option, directory);
    int exit_code = crash_file_find(cli, &file, directory, argv[0]);
    if (exit_code != CLI_OK)
        return exit_code;
    replay.timeout = choose_timeout(&replay, timeout, gdb || valgrind);
    exit_code = replay_report(&replay, gdb, valgrind);
    crash_file_close(&file);
    return exit_code;
}
