/* Runs the request of a report again: in a private server with the same engine, or in one process under a
 * debugger or a memory checker. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ask.h"
#include "client.h"
#include "clock.h"
#include "crash_files.h"
#include "crash_judge.h"
#include "json.h"
#include "object.h"
#include "program.h"
#include "replay_command.h"
#include "replay_server.h"
#include "replay_tell.h"
#include "text.h"
#include "usage.h"

#define DEFAULT_TIMEOUT 30.0
/* Under a debugger somebody may look around for long before the call goes on. */
#define DEBUG_TIMEOUT 86400.0
/* Seconds that load() and start() have, stop(), and a report from the deadline on. */
#define START_PATIENCE  300.0
#define STOP_PATIENCE   60.0
#define ANSWER_PATIENCE 10.0
#define REPORT_PATIENCE 25
#define RESULT_SHOWN    300
#define VALGRIND_FOUND  "99"

struct replay {
    struct cli *cli;
    struct crash_file *file;
    const msgpack_object *report; /* the file's */
    double timeout;               /* of the call, seconds */
    bool json;
    char program[PATH_MAX]; /* cohabd */
    char engine[PATH_MAX];
};

/* Tells why nothing could be run. */
static int refuse(const struct replay *replay, const char *what, const char *why)
{
    fprintf(stderr, "cohab: %s: ", replay->cli->command->name);
    text_put_safe(stderr, what, strlen(what));
    fprintf(stderr, "%s%s\n", *what ? ": " : "", why);
    return CLI_CALL_FAILED;
}

static bool has_phase(const struct replay *replay, const char *phase)
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
        return refuse(replay, file->path,
                      "it belongs to another user, and a replay runs what it names; if you trust it, make a "
                      "copy of your own");
    if ((user ? initgroups(user->pw_name, user->pw_gid) : setgroups(0, NULL)) < 0 ||
        setgid(user ? user->pw_gid : file->group) < 0 || setuid(file->owner) < 0)
        return refuse(replay, "cannot become the user who owns the report", strerror(errno));
    return CLI_OK;
}

static int find_engine(struct replay *replay)
{
    const msgpack_object *path = object_find_text(object_find(replay->report, "engine"), "path");
    struct stat status;
    double time;

    if (!path || path->via.str.size >= sizeof replay->engine || path->via.str.size == 0 ||
        path->via.str.ptr[0] != '/')
        return refuse(replay, "", "the report does not name its engine's file");
    memcpy(replay->engine, path->via.str.ptr, path->via.str.size);
    if (stat(replay->engine, &status) < 0)
        return refuse(replay, replay->engine, strerror(errno));
    if (object_find_number(replay->report, "time", &time) && (double)status.st_mtim.tv_sec > time)
        refuse(replay, replay->engine, "the engine is newer than the report: it may be another one by now");
    return CLI_OK;
}

/* --- in one process --- */

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
    return refuse(replay, path, strerror(errno));
}

static int run_gdb(const struct replay *replay)
{
    static const char *const words[] = {"-q", "-ex", "run", "-ex", "bt", "--args", NULL};

    return run_under(replay, "gdb", words, true);
}

/* Without the limit: valgrind takes several times the engine's memory for itself. */
static int run_valgrind(const struct replay *replay)
{
    static const char *const words[] = {"--error-exitcode=" VALGRIND_FOUND, NULL};

    return run_under(replay, "valgrind", words, false);
}

/* --- in a server --- */

/* Tells what came of it. The server is gone by then: whatever happens to standard output, nothing is left
 * behind. */
static int conclude(const struct replay *replay, const struct crash_outcome *outcome, const char *otherwise)
{
    struct crash_verdict verdict = crash_judge(replay->report, outcome);
    char *message = replay_tell_message(outcome, &verdict, otherwise);

    replay_server_end();
    if (!message)
        return refuse(replay, "", strerror(ENOMEM));
    replay_tell(replay->file, &verdict, message, replay->json);
    free(message);
    return CLI_OK;
}

/* The newest report that the private server has written. */
static bool open_new_report(const struct replay *replay, const struct replay_server *server,
                            struct crash_file *file)
{
    struct crash_names names;
    bool found = false;

    if (crash_files_list(replay->cli, server->reports, &names) == CLI_OK && names.count > 0)
        found = crash_file_open(file, server->reports, &names.items[0]) == NULL;
    crash_files_free(&names);
    return found;
}

/* The last line of its log, which says why it did not start. To be freed; NULL: there is none. */
static char *read_last_words(const struct replay_server *server)
{
    FILE *log = fopen(server->log, "re");
    char *line = NULL, *last = NULL;
    size_t size = 0;

    while (log && getline(&line, &size, log) > 0) {
        line[strcspn(line, "\n")] = '\0';
        free(last);
        last = strdup(line);
    }
    free(line);
    if (log)
        fclose(log);
    return last;
}

static int conclude_without_call(const struct replay *replay, const struct replay_server *server,
                                 const char *otherwise)
{
    static struct crash_file file;
    bool found = open_new_report(replay, server, &file);
    const struct crash_outcome outcome = {.report = found ? &file.report.root : NULL};
    int exit_code = conclude(replay, &outcome, otherwise);

    if (found)
        crash_file_close(&file);
    return exit_code;
}

/* What does not start cannot be called; where that is what the report is about, it is what is wanted. */
static int conclude_not_started(const struct replay *replay, const struct replay_server *server)
{
    char *why = read_last_words(server), *message = NULL;
    int exit_code;

    if (!has_phase(replay, "load") && !has_phase(replay, "start")) {
        replay_server_end();
        exit_code = refuse(replay, "the server did not start", why ? why : "it gave no reason");
    } else {
        if (asprintf(&message, "did not crash: the server did not start: %s", why ? why : "no reason") < 0)
            message = NULL;
        exit_code = conclude_without_call(replay, server, message ? message : "did not crash");
    }
    free(why);
    free(message);
    return exit_code;
}

/* "did not crash: it returned 5". To be freed. */
static char *format_result(const msgpack_object *result)
{
    char *message = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&message, &size);

    if (!out)
        return NULL;
    fputs("did not crash: it returned ", out);
    json_print_cut(out, result, RESULT_SHOWN);
    fclose(out);
    message[strcspn(message, "\n")] = '\0';
    return message;
}

static bool may_be_reported(const msgpack_object *error)
{
    const msgpack_object *reason = object_find(error, "reason");

    return object_is_text(reason, "ENGINE_CRASHED") || object_is_text(reason, "DEADLINE");
}

/* The answer may come before the report: a caller does not wait for long. */
static bool wait_for_report(const struct replay *replay, const struct replay_server *server,
                            struct crash_file *file)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    uint64_t end = clock_now() + (uint64_t)REPORT_PATIENCE * CLOCK_NS_PER_S;

    while (clock_now() < end) {
        if (open_new_report(replay, server, file))
            return true;
        nanosleep(&pause, NULL);
    }
    return false;
}

static int conclude_call(const struct replay *replay, const struct replay_server *server,
                         const struct client_reply *reply)
{
    static struct crash_file file;
    bool found = may_be_reported(reply->error) && wait_for_report(replay, server, &file);
    const struct crash_outcome outcome = {.report = found ? &file.report.root : NULL, .error = reply->error};
    char *otherwise = reply->error ? NULL : format_result(reply->result);
    int exit_code = conclude(replay, &outcome, otherwise ? otherwise : "did not crash");

    free(otherwise);
    if (found)
        crash_file_close(&file);
    return exit_code;
}

static int call(const struct replay *replay, const struct replay_server *server,
                const struct envelope_request *asked)
{
    struct client client;
    struct client_reply reply = {0};
    uint64_t deadline = client_after(replay->timeout);
    char *method = strndup(asked->method, asked->method_length);
    const msgpack_sbuffer params = {.size = asked->params_size, .data = (char *)asked->params};
    const struct client_request request = {.method = method ? method : "",
                                           .params = &params,
                                           .deadline = deadline,
                                           .give_up = deadline + (uint64_t)ANSWER_PATIENCE * CLIENT_SECOND};
    int exit_code;

    if (client_connect(&client, server->socket, false, deadline) == 0 &&
        client_call(&client, &request, &reply) == 0) {
        exit_code = conclude_call(replay, server, &reply);
    } else {
        replay_server_end();
        exit_code = ask_tell_trouble(&client, request.method) == CLI_OK ? CLI_OK : CLI_CALL_FAILED;
    }
    client_close(&client);
    client_free_reply(&reply);
    free(method);
    return exit_code;
}

static int start(const struct replay *replay, const struct replay_server *server)
{
    struct replay_command command = replay_command_begin(replay->report);
    const char *const words[] = {replay->program,
                                 "--socket",
                                 server->socket,
                                 "--workers",
                                 "1",
                                 "--crash-dir",
                                 server->reports,
                                 "--crash-keep",
                                 "10",
                                 "--quarantine-after",
                                 "0",
                                 "--lifeline-fd",
                                 "3"};
    _Static_assert(REPLAY_SERVER_LIFELINE == 3, "as the words say");

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        replay_command_add(&command, words[i]);
    replay_command_add_timeout(&command, replay->timeout > 300 ? replay->timeout : 300);
    replay_command_add_options(&command, replay->report, true);
    replay_command_add_engine(&command, replay->report, replay->engine);
    return replay_server_start(server, command.words);
}

/* request: NULL where the report is of another phase than a call. */
static int run_server(const struct replay *replay, const struct envelope_request *request)
{
    struct replay_server server;

    if (replay_server_prepare(&server) < 0 || start(replay, &server) < 0)
        return refuse(replay, "cannot start a server", strerror(errno));
    switch (replay_server_wait(&server, START_PATIENCE)) {
    case REPLAY_SERVER_ENDED:
        return conclude_not_started(replay, &server);
    case REPLAY_SERVER_LATE:
        return refuse(replay, replay->engine, "it has not started within five minutes");
    case REPLAY_SERVER_UP:
        break;
    }
    if (request)
        return call(replay, &server, request);
    if (!has_phase(replay, "stop"))
        return conclude_without_call(replay, &server, "did not crash: the engine has loaded and started");
    replay_server_stop(STOP_PATIENCE);
    return conclude_without_call(replay, &server,
                                 "did not crash: the engine has loaded, started and stopped");
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
    bool needs_none = has_phase(replay, "load") || has_phase(replay, "start") || has_phase(replay, "stop");

    if (!has_request && !needs_none)
        return refuse(replay, replay->file->name.id, why);
    if (!program_find_sibling("cohabd", replay->program))
        return refuse(replay, "", "there is no cohabd, neither beside this tool nor in $PATH");
    int exit_code = become_owner(replay);
    if (exit_code == CLI_OK)
        exit_code = find_engine(replay);
    if (exit_code != CLI_OK)
        return exit_code;
    if (gdb)
        return run_gdb(replay);
    return valgrind ? run_valgrind(replay) : run_server(replay, has_request ? &request : NULL);
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
