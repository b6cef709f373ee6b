#include "report_write.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "pack.h"
#include "text.h"

#define TOP_KEYS 15
/* A C++ name can be longer than a stack of them ought to be. */
#define FRAME_TEXT_SIZE 1024

/* --- entries --- */

/* Whatever bytes it has, a reader gets UTF-8 without control characters. */
static void pack_clean(msgpack_packer *packer, const char *value)
{
    char clean[4096];
    struct text text = text_open(clean, sizeof(clean));
    text_add(&text, "%s", value);
    text_close(&text);
    pack_text(packer, clean);
}

static void text_entry(msgpack_packer *packer, const char *key, const char *value)
{
    pack_text(packer, key);
    if (value && *value)
        pack_clean(packer, value);
    else
        msgpack_pack_nil(packer);
}

static void number_entry(msgpack_packer *packer, const char *key, bool known, uint64_t value)
{
    pack_text(packer, key);
    if (known)
        msgpack_pack_uint64(packer, value);
    else
        msgpack_pack_nil(packer);
}

static void flag_entry(msgpack_packer *packer, const char *key, bool value)
{
    pack_text(packer, key);
    if (value)
        msgpack_pack_true(packer);
    else
        msgpack_pack_false(packer);
}

static void seconds_entry(msgpack_packer *packer, const char *key, bool known, uint64_t ns)
{
    pack_text(packer, key);
    if (known)
        msgpack_pack_double(packer, (double)ns / 1e9);
    else
        msgpack_pack_nil(packer);
}

static void pack_peer(msgpack_packer *packer, const char *key, bool known, int pid, unsigned uid)
{
    pack_text(packer, key);
    if (!known) {
        msgpack_pack_nil(packer);
        return;
    }
    msgpack_pack_map(packer, 2);
    pack_text(packer, "pid");
    msgpack_pack_int(packer, pid);
    number_entry(packer, "uid", true, uid);
}

/* --- parts --- */

static void pack_cause(msgpack_packer *packer, const struct crash_cause *cause)
{
    bool exited = cause->status >= 0 && strcmp(cause->kind, "deadline") != 0;
    pack_text(packer, "cause");
    msgpack_pack_map(packer, 10);
    text_entry(packer, "kind", cause->kind);
    text_entry(packer, "text", cause->text);
    text_entry(packer, "signal", cause->signal_name);
    number_entry(packer, "number", cause->signal > 0, (uint64_t)cause->signal);
    text_entry(packer, "code", cause->code);
    number_entry(packer, "address", cause->has_address, cause->address);
    pack_peer(packer, "sender", cause->sent, cause->sender_pid, cause->sender_uid);
    flag_entry(packer, "own", cause->kill == KILL_OWN || (cause->own && cause->phase != PHASE_CALL));
    number_entry(packer, "status", exited, (uint64_t)cause->status);
    flag_entry(packer, "core", cause->core);
}

static const char *phase_name(enum report_phase phase)
{
    static const char *const names[] = {[PHASE_LOAD] = "load",
                                        [PHASE_START] = "start",
                                        [PHASE_CALL] = "call",
                                        [PHASE_IDLE] = "idle",
                                        [PHASE_STOP] = "stop"};
    return (unsigned)phase < sizeof(names) / sizeof(*names) ? names[phase] : "idle";
}

/* The options that can decide whether the request crashes again. */
static void pack_options(msgpack_packer *packer, const struct options *options)
{
    char value[64];
    pack_text(packer, "options");
    msgpack_pack_array(packer, options->max_memory ? 6 : 4);
    pack_text(packer, "--max-frame");
    snprintf(value, sizeof(value), "%" PRIu32, options->max_frame);
    pack_text(packer, value);
    pack_text(packer, "--max-timeout");
    snprintf(value, sizeof(value), "%.9g", (double)options->max_timeout / 1e9);
    pack_text(packer, value);
    if (options->max_memory == 0)
        return;
    pack_text(packer, "--max-memory");
    snprintf(value, sizeof(value), "%" PRIu64, options->max_memory);
    pack_text(packer, value);
}

static void pack_server(msgpack_packer *packer, const struct options *options)
{
    char link[64], program[4096];
    snprintf(link, sizeof(link), "/proc/%d/exe", (int)getppid());
    ssize_t length = readlink(link, program, sizeof(program) - 1);
    program[length > 0 ? length : 0] = '\0';
    pack_text(packer, "server");
    msgpack_pack_map(packer, 5);
    text_entry(packer, "version", COHAB_VERSION);
    number_entry(packer, "pid", true, (uint64_t)getppid());
    text_entry(packer, "socket", options->socket);
    text_entry(packer, "program", program);
    pack_options(packer, options);
}

static void pack_engine(msgpack_packer *packer, const struct report_facts *facts)
{
    const struct reporter_job *job = facts->job;
    const char *part = job->engine;
    pack_text(packer, "engine");
    msgpack_pack_map(packer, 6);
    text_entry(packer, "name", facts->job->engine_name);
    text_entry(packer, "version", facts->job->engine_version);
    text_entry(packer, "path", part);
    pack_text(packer, "args");
    msgpack_pack_array(packer, job->engine_args);
    for (uint32_t i = 0; i < job->engine_args; i++)
        pack_text(packer, part += strlen(part) + 1);
    text_entry(packer, "build_id", facts->job->build_id);
    number_entry(packer, "generation", true, facts->job->generation);
}

static void pack_worker(msgpack_packer *packer, const struct reporter_job *job)
{
    pack_text(packer, "worker");
    msgpack_pack_map(packer, 4);
    number_entry(packer, "number", true, job->worker);
    number_entry(packer, "pid", true, (uint64_t)job->pid);
    seconds_entry(packer, "age", true, job->at > job->born_at ? job->at - job->born_at : 0);
    number_entry(packer, "served", true, job->served);
}

static void pack_hash(msgpack_packer *packer, uint64_t hash)
{
    char text[17] = "";
    if (hash)
        snprintf(text, sizeof(text), "%016" PRIx64, hash);
    text_entry(packer, "hash", text);
}

static void pack_request(msgpack_packer *packer, const struct report_facts *facts)
{
    const struct reporter_job *job = facts->job;
    pack_text(packer, "request");
    if (job->request == 0) {
        msgpack_pack_nil(packer);
        return;
    }
    msgpack_pack_map(packer, 9);
    text_entry(packer, "method", job->method);
    number_entry(packer, "msgid", true, job->msgid);
    pack_peer(packer, "peer", job->peer_pid > 0, job->peer_pid, job->peer_uid);
    seconds_entry(packer, "ran", true, job->at > job->started ? job->at - job->started : 0);
    seconds_entry(packer, "queued", facts->queued != UINT64_MAX, facts->queued);
    number_entry(packer, "size", facts->frame != NULL, facts->frame_size);
    pack_text(packer, "frame");
    if (facts->frame && facts->options->crash_params)
        msgpack_pack_bin_with_body(packer, facts->frame, facts->frame_size);
    else
        msgpack_pack_nil(packer);
    pack_hash(packer, facts->hash);
    flag_entry(packer, "idempotent", job->idempotent != 0);
}

static void pack_memory(msgpack_packer *packer, const struct report_facts *facts)
{
    pack_text(packer, "memory");
    msgpack_pack_map(packer, 2);
    number_entry(packer, "peak", facts->job->peak > 0, facts->job->peak);
    number_entry(packer, "limit", facts->options->max_memory > 0, facts->options->max_memory);
}

/* Lines stay lines; what is neither UTF-8 nor printable is replaced. */
static void pack_stderr(msgpack_packer *packer, const struct reporter_job *job)
{
    static char clean[REPORT_STDERR_SIZE * 2];
    size_t used = 0;
    for (size_t at = 0; at < job->stderr_size && used < sizeof(clean) - 1;) {
        const char *line = job->stderr_tail + at;
        const char *end = memchr(line, '\n', job->stderr_size - at);
        size_t length = end ? (size_t)(end - line) : job->stderr_size - at;
        struct text text = text_open(clean + used, sizeof(clean) - used);
        text_add(&text, "%.*s", (int)length, line);
        text_close(&text);
        used += strlen(clean + used);
        if (end && used < sizeof(clean) - 1)
            clean[used++] = '\n';
        at += length + 1;
    }
    clean[used] = '\0';
    pack_text(packer, "stderr");
    msgpack_pack_str_with_body(packer, clean, used);
}

/* --- the stack --- */

static void pack_frame(msgpack_packer *packer, const struct symbols_frame *frame)
{
    char text[FRAME_TEXT_SIZE];
    bool has_module = frame->module[0] != '\0', has_symbol = frame->symbol[0] != '\0';
    symbols_describe(frame, text, sizeof(text));
    msgpack_pack_map(packer, 10);
    number_entry(packer, "address", true, frame->address);
    text_entry(packer, "module", frame->module);
    text_entry(packer, "path", frame->path);
    number_entry(packer, "offset", has_module, frame->offset);
    text_entry(packer, "symbol", frame->symbol);
    number_entry(packer, "symbol_offset", has_symbol, frame->symbol_offset);
    text_entry(packer, "file", frame->file);
    number_entry(packer, "line", frame->line > 0, (uint64_t)frame->line);
    flag_entry(packer, "inlined", frame->inlined);
    text_entry(packer, "text", text);
}

void report_pack_stack(msgpack_packer *packer, const struct symbols_frame *frames, size_t count)
{
    msgpack_pack_array(packer, count);
    for (size_t i = 0; i < count; i++)
        pack_frame(packer, &frames[i]);
}

/* --- the whole --- */

static int write_bytes(void *context, const char *bytes, size_t size)
{
    return size == 0 || fwrite(bytes, size, 1, context) == 1 ? 0 : -1;
}

static void pack_end(msgpack_packer *packer, const struct symbols_frame *frames, size_t count,
                     const char *no_stack)
{
    pack_text(packer, "stack");
    report_pack_stack(packer, frames, count);
    number_entry(packer, "top", count > 0, symbols_top(frames, count));
    text_entry(packer, "no_stack", no_stack);
}

long report_write_facts(FILE *stream, const struct report_facts *facts)
{
    msgpack_packer packer;
    msgpack_packer_init(&packer, stream, write_bytes);
    msgpack_pack_map(&packer, TOP_KEYS);
    number_entry(&packer, "version", true, 1);
    text_entry(&packer, "id", facts->id);
    text_entry(&packer, "kind", facts->job->kind == REPORTER_SLOW ? "slow" : "crash");
    pack_text(&packer, "time");
    msgpack_pack_double(&packer, facts->job->time);
    pack_cause(&packer, facts->cause);
    text_entry(&packer, "phase", phase_name(facts->cause->phase));
    pack_server(&packer, facts->options);
    pack_engine(&packer, facts);
    pack_worker(&packer, facts->job);
    pack_request(&packer, facts);
    pack_memory(&packer, facts);
    pack_stderr(&packer, facts->job);
    long offset = ftell(stream);
    pack_end(&packer, NULL, 0, "the look-up of its symbols did not end");
    return fflush(stream) == EOF || ferror(stream) ? -1 : offset;
}

int report_write_stack(FILE *stream, long offset, const struct symbols_frame *frames, size_t count,
                       const char *no_stack)
{
    msgpack_packer packer;
    if (fseek(stream, offset, SEEK_SET) < 0 || ftruncate(fileno(stream), offset) < 0)
        return -1;
    msgpack_packer_init(&packer, stream, write_bytes);
    pack_end(&packer, frames, count, no_stack);
    return fflush(stream) == EOF || ferror(stream) ? -1 : 0;
}
