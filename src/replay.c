#include "replay.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "builtin.h"
#include "envelope.h"
#include "forkserver.h"
#include "frame.h"
#include "report_read.h"
#include "row.h"
#include "serve.h"
#include "text.h"
#include "worker.h"

/* Of a result as text. */
#define SHOWN 2000

_Noreturn static void fail(const struct options *options, const char *why)
{
    forkserver_forbid_exit(options, NULL);
    fprintf(stderr, "cohabd: --replay %s: %s\n", options->replay, why);
    exit(EXIT_FAILURE);
}

static void open_report(const struct options *options, struct report *report)
{
    struct stat status;
    int file = open(options->replay, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &status) < 0)
        fail(options, strerror(errno));
    size_t size = S_ISREG(status.st_mode) ? (size_t)status.st_size : 0;
    void *bytes = size > 0 ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, file, 0) : MAP_FAILED;
    close(file);
    enum report_result result = bytes != MAP_FAILED ? report_open(report, bytes, size) : REPORT_FOREIGN;
    if (result != REPORT_OK)
        fail(options, report_explain(result));
}

static void *map_memory(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory != MAP_FAILED ? memory : NULL;
}

/* As a worker has it, with a row and a buffer that nobody else reads. */
static void set_up(struct server *server, const struct options *options, struct engine *engine)
{
    struct row *row = map_memory(ROW_SIZE);
    unsigned char *buffer = map_memory(serve_buffer_size(options->max_frame));
    if (!row || !buffer || builtin_init() < 0 || serve_init(server, row, buffer, options, engine) < 0)
        fail(options, "out of memory");
    signal(SIGPIPE, SIG_IGN);
}

/* The same bytes but for the meta behind the parameters, whose deadline is long over: an array of four. */
static void copy_request(struct server *server, const struct report *report,
                         const struct envelope_request *request)
{
    const unsigned char *body = report->frame + FRAME_HEADER_SIZE;
    unsigned char *copy = server->buffer + FRAME_HEADER_SIZE;
    size_t size = (size_t)(request->params + request->params_size - body);
    size_t count = body[0] == 0xdc ? 2 : body[0] == 0xdd ? 4 : 0; /* where the array's header ends */
    memcpy(copy, body, size);
    copy[count] = count > 0 ? 4 : 0x94;
    frame_put_length(server->buffer, (uint32_t)size);
    server->received = FRAME_HEADER_SIZE + size;
}

/* --- the outcome --- */

static void put_line(const char *line)
{
    char shown[SHOWN];
    struct text text = text_open(shown, sizeof(shown));
    text_add(&text, "%s", line);
    text_close(&text);
    puts(shown);
}

static void print_error(const struct envelope_response *response)
{
    char line[SHOWN];
    snprintf(line, sizeof(line), "failed: %.*s (%.*s): %.*s", (int)response->code_length,
             response->code ? response->code : "", (int)response->reason_length,
             response->reason ? response->reason : "", (int)response->message_length,
             response->message ? response->message : "");
    put_line(line);
}

/* The result is the last of the response's four elements. */
static void print_result(const unsigned char *body, size_t size)
{
    static const char words[] = "returned: ";
    char line[SHOWN] = "";
    msgpack_unpacked tree;
    msgpack_unpacked_init(&tree);
    strcpy(line, words);
    if (msgpack_unpack_next(&tree, (const char *)body, size, NULL) == MSGPACK_UNPACK_SUCCESS)
        msgpack_object_print_buffer(line + strlen(words), sizeof(line) - strlen(words),
                                    tree.data.via.array.ptr[3]);
    else
        strcat(line, "a result that is too deep or too large to show");
    line[sizeof(line) - 1] = '\0';
    msgpack_unpacked_destroy(&tree);
    put_line(line);
}

static void print_outcome(const struct server *server)
{
    const unsigned char *body = server->response.bytes + FRAME_HEADER_SIZE;
    size_t size = server->response.size - FRAME_HEADER_SIZE;
    struct envelope_response response;
    if (envelope_read_response(body, size, &response) && response.failed)
        print_error(&response);
    else
        print_result(body, size);
}

static void run_request(const struct options *options, struct engine *engine, const struct report *report,
                        const struct envelope_request *request)
{
    static struct server server;
    struct options patient = *options;
    patient.default_timeout = options->max_timeout;
    set_up(&server, &patient, engine);
    copy_request(&server, report, request);
    serve_answer(&server);
    print_outcome(&server);
}

int replay_run(const struct options *options)
{
    static struct engine engine;
    struct report report;
    struct envelope_request request;
    const char *why;
    open_report(options, &report);
    bool has_request = report_read_request(&report, &request, &why);
    if (report.has_request && !has_request)
        fail(options, why);
    if (report.frame_size > FRAME_HEADER_SIZE + (size_t)options->max_frame)
        fail(options, "its request is larger than --max-frame");
    forkserver_forbid_exit(options, "load(), start(), the method or stop()");
    if (forkserver_load(&engine, options) < 0)
        fail(options, engine.setup.error);
    if (worker_limit_memory(options) < 0)
        fail(options, "cannot limit its memory");
    if (engine_run_start(&engine) < 0)
        fail(options, engine.setup.error);
    if (has_request)
        run_request(options, &engine, &report, &request);
    else
        puts("load() and start() have returned; the report holds no request");
    fflush(stdout); /* stop() may be what crashes */
    engine_run_stop(&engine);
    forkserver_forbid_exit(options, NULL);
    report_close(&report);
    return EXIT_SUCCESS;
}
