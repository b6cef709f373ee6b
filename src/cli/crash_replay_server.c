#include "crash_replay.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ask.h"
#include "client.h"
#include "clock.h"
#include "crash_judge.h"
#include "json.h"
#include "object.h"
#include "replay_command.h"
#include "replay_server.h"
#include "replay_tell.h"

/* Seconds that load() and start() have, stop(), and a report from the deadline on. */
#define START_PATIENCE  300.0
#define STOP_PATIENCE   60.0
#define ANSWER_PATIENCE 10.0
#define REPORT_PATIENCE 25
#define RESULT_SHOWN    300

/* Tells what came of it. The server is gone by then: whatever happens to standard output, nothing is left
 * behind. */
static int conclude(const struct replay *replay, const struct crash_outcome *outcome, const char *otherwise)
{
    struct crash_verdict verdict = crash_judge(replay->report, outcome);
    char *message = replay_tell_message(outcome, &verdict, otherwise);

    replay_server_end();
    if (!message)
        return crash_replay_refuse(replay, "", strerror(ENOMEM));
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

    if (!crash_replay_has_phase(replay, "load") && !crash_replay_has_phase(replay, "start")) {
        replay_server_end();
        exit_code = crash_replay_refuse(replay, "the server did not start", why ? why : "it gave no reason");
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

int crash_replay_in_server(const struct replay *replay, const struct envelope_request *request)
{
    struct replay_server server;

    if (replay_server_prepare(&server) < 0 || start(replay, &server) < 0)
        return crash_replay_refuse(replay, "cannot start a server", strerror(errno));
    switch (replay_server_wait(&server, START_PATIENCE)) {
    case REPLAY_SERVER_ENDED:
        return conclude_not_started(replay, &server);
    case REPLAY_SERVER_LATE:
        return crash_replay_refuse(replay, replay->engine, "it has not started within five minutes");
    case REPLAY_SERVER_UP:
        break;
    }
    if (request)
        return call(replay, &server, request);
    if (!crash_replay_has_phase(replay, "stop"))
        return conclude_without_call(replay, &server, "did not crash: the engine has loaded and started");
    replay_server_stop(STOP_PATIENCE);
    return conclude_without_call(replay, &server,
                                 "did not crash: the engine has loaded, started and stopped");
}
