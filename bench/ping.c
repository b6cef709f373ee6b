/* A blocking client: the least that a C program can do to call cohabd, and the very same request to a server
 * that only echoes. Prints what it measured as one JSON object; all times are in seconds.
 *
 * One thread a connection. Without --schedule each thread calls, waits for the reply, and calls again. With
 * it, stdin has a line "TIME CONNECTION" for each call, in order of time: the call is sent at that time after
 * the start over that connection (from 0), or when the connection is free again, and its latency counts from
 * TIME. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <msgpack.h>

#include "clock.h"
#include "frame.h"
#include "stream.h"

static const char help_text[] =
    "Usage: ping [options] SOCKET\n"
    "\n"
    "  --connections N     that many, each in a thread of its own (1)\n"
    "  --calls N           calls of each connection; or\n"
    "  --duration S        how long to call (1)\n"
    "  --schedule          when to call what is on stdin: lines of TIME CONNECTION\n"
    "  --warmup N          calls of each connection before any that counts (10)\n"
    "  --payload BYTES     call echo() with that many bytes (64)\n"
    "  --sleep S           call sleep(S) instead\n"
    "  --spin S            call spin(S) instead\n"
    "  --raw               the server echoes frames: the reply is the request\n"
    "  --one-by-one        open each connection after the warm-up of the one before, not all at once\n"
    "  --connect-each      a new connection for each call\n"
    "  --latencies         print the latency of every call\n"
    "  --help\n";

enum option_id {
    OPTION_CONNECTIONS = 256,
    OPTION_CALLS,
    OPTION_DURATION,
    OPTION_SCHEDULE,
    OPTION_WARMUP,
    OPTION_PAYLOAD,
    OPTION_SLEEP,
    OPTION_SPIN,
    OPTION_RAW,
    OPTION_ONE_BY_ONE,
    OPTION_CONNECT_EACH,
    OPTION_LATENCIES,
    OPTION_HELP,
};

static const struct option long_options[] = {
    {"connections", required_argument, NULL, OPTION_CONNECTIONS},
    {"calls", required_argument, NULL, OPTION_CALLS},
    {"duration", required_argument, NULL, OPTION_DURATION},
    {"schedule", no_argument, NULL, OPTION_SCHEDULE},
    {"warmup", required_argument, NULL, OPTION_WARMUP},
    {"payload", required_argument, NULL, OPTION_PAYLOAD},
    {"sleep", required_argument, NULL, OPTION_SLEEP},
    {"spin", required_argument, NULL, OPTION_SPIN},
    {"raw", no_argument, NULL, OPTION_RAW},
    {"one-by-one", no_argument, NULL, OPTION_ONE_BY_ONE},
    {"connect-each", no_argument, NULL, OPTION_CONNECT_EACH},
    {"latencies", no_argument, NULL, OPTION_LATENCIES},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

enum {
    CONNECTIONS_MAX = 1000,
    PAYLOAD_MAX = 1 << 30,
    RESPONSE_PREFIX = 8, /* array of 4, type 1, msgid as uint 32, error nil */
    MSGID_AT = FRAME_HEADER_SIZE + 3,
    TIMEOUT_S = 60,
};

static struct {
    const char *socket, *method;
    size_t connections, calls, warmup, payload;
    double duration, seconds;
    bool schedule, raw, one_by_one, connect_each, latencies;
} options = {.method = "echo", .connections = 1, .warmup = 10, .payload = 64, .duration = 1};

/* Nanoseconds: the latencies of calls, or the times of a schedule. */
struct times {
    uint64_t *at;
    size_t count, room;
};

struct caller {
    pthread_t thread;
    int connection;
    uint32_t msgid;
    unsigned char *request; /* the frame, with a msgid and a deadline to be put in */
    size_t request_size, deadline_at;
    struct stream_buffer reply;
    struct times schedule, latencies;
    uint64_t errors;
};

static pthread_barrier_t ready;
static uint64_t start; /* set between two waits for `ready` */

static void times_add(struct times *times, uint64_t value)
{
    if (times->count == times->room) {
        times->room = times->room ? 2 * times->room : 1024;
        times->at = realloc(times->at, times->room * sizeof(*times->at));
        if (!times->at)
            stream_fail("latencies");
    }
    times->at[times->count++] = value;
}

static void put_big_endian(unsigned char *at, uint64_t value, unsigned size)
{
    while (size-- > 0) {
        at[size] = (unsigned char)value;
        value >>= 8;
    }
}

static void pack_parameter(msgpack_packer *packer)
{
    if (options.seconds >= 0) {
        msgpack_pack_double(packer, options.seconds);
        return;
    }
    char *payload = calloc(options.payload + 1, 1);
    if (!payload)
        stream_fail("payload");
    msgpack_pack_bin_with_body(packer, payload, options.payload);
    free(payload);
}

static void build_request(struct caller *caller)
{
    msgpack_sbuffer body;
    msgpack_sbuffer_init(&body);
    msgpack_packer *packer = msgpack_packer_new(&body, msgpack_sbuffer_write);
    if (!packer)
        stream_fail("request");
    msgpack_pack_array(packer, 5);
    msgpack_pack_int(packer, 0);
    msgpack_pack_fix_uint32(packer, 0);
    msgpack_pack_str_with_body(packer, options.method, strlen(options.method));
    msgpack_pack_array(packer, 1);
    pack_parameter(packer);
    msgpack_pack_map(packer, 1);
    msgpack_pack_str_with_body(packer, "deadline", strlen("deadline"));
    msgpack_pack_fix_uint64(packer, 0);
    msgpack_packer_free(packer);
    caller->request_size = FRAME_HEADER_SIZE + body.size;
    caller->deadline_at = caller->request_size - sizeof(uint64_t);
    caller->request = malloc(caller->request_size);
    if (!caller->request)
        stream_fail("request");
    frame_put_length(caller->request, (uint32_t)body.size);
    memcpy(caller->request + FRAME_HEADER_SIZE, body.data, body.size);
    msgpack_sbuffer_destroy(&body);
}

static bool is_answer(const struct caller *caller, size_t size)
{
    const unsigned char *body = caller->reply.bytes + FRAME_HEADER_SIZE;
    unsigned char expected[RESPONSE_PREFIX] = {0x94, 0x01, 0xce, 0, 0, 0, 0, 0xc0};
    put_big_endian(expected + 3, caller->msgid, 4);
    if (options.raw)
        return size == caller->request_size && memcmp(body + 3, expected + 3, 4) == 0;
    return size >= FRAME_HEADER_SIZE + RESPONSE_PREFIX + (options.seconds < 0 ? options.payload : 0) &&
           memcmp(body, expected, RESPONSE_PREFIX) == 0;
}

/* Begins at `now`, which is when the deadline counts from. */
static void call(struct caller *caller, uint64_t now)
{
    caller->msgid++;
    put_big_endian(caller->request + MSGID_AT, caller->msgid, 4);
    put_big_endian(caller->request + caller->deadline_at, now + TIMEOUT_S * CLOCK_NS_PER_S, 8);
    if (options.connect_each)
        caller->connection = stream_connect(options.socket);
    size_t size = 0;
    if (stream_send(caller->connection, caller->request, caller->request_size))
        size = stream_receive(caller->connection, &caller->reply);
    if (size == 0) {
        errno = ECONNRESET;
        stream_fail("the server closed the connection");
    }
    if (!is_answer(caller, size))
        caller->errors++;
    if (options.connect_each)
        close(caller->connection);
}

static void call_in_turn(struct caller *caller)
{
    uint64_t end = options.calls ? UINT64_MAX : start + clock_from_seconds(options.duration);
    size_t calls = options.calls ? options.calls : SIZE_MAX;
    for (uint64_t now = clock_now(), after; calls > 0 && now < end; now = after, calls--) {
        call(caller, now);
        after = clock_now();
        times_add(&caller->latencies, after - now);
    }
}

static void call_on_schedule(struct caller *caller)
{
    for (size_t i = 0; i < caller->schedule.count; i++) {
        uint64_t at = start + caller->schedule.at[i];
        struct timespec when = {.tv_sec = (time_t)(at / CLOCK_NS_PER_S),
                                .tv_nsec = (long)(at % CLOCK_NS_PER_S)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR)
            continue;
        call(caller, clock_now());
        times_add(&caller->latencies, clock_now() - at);
    }
}

static void prepare(struct caller *caller)
{
    if (!options.connect_each)
        caller->connection = stream_connect(options.socket);
    build_request(caller);
    for (size_t i = 0; i < options.warmup; i++)
        call(caller, clock_now());
}

static void *run(void *argument)
{
    struct caller *caller = argument;
    prctl(PR_SET_TIMERSLACK, 1UL);
    if (!options.one_by_one)
        prepare(caller);
    pthread_barrier_wait(&ready);
    pthread_barrier_wait(&ready);
    if (options.schedule)
        call_on_schedule(caller);
    else
        call_in_turn(caller);
    return NULL;
}

static void read_schedule(struct caller *callers)
{
    double time;
    size_t connection;
    int fields;
    while ((fields = scanf("%lf %zu", &time, &connection)) == 2) {
        if (connection >= options.connections) {
            errno = EINVAL;
            stream_fail("a connection of the schedule");
        }
        times_add(&callers[connection].schedule, clock_from_seconds(time));
    }
    if (fields != EOF) {
        errno = EINVAL;
        stream_fail("a line of the schedule");
    }
}

static int compare_times(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return (a > b) - (a < b);
}

/* Nearest rank: the smallest latency that at least this share of all do not exceed. */
static double percentile(const struct times *sorted, double share)
{
    size_t rank = (size_t)ceil(share * (double)sorted->count);
    return (double)sorted->at[rank > 0 ? rank - 1 : 0] * 1e-9;
}

static void print_latency(const struct times *sorted)
{
    double sum = 0;
    for (size_t i = 0; i < sorted->count; i++)
        sum += (double)sorted->at[i] * 1e-9;
    printf("{\"min\": %.9f, \"mean\": %.9f, \"p50\": %.9f, \"p90\": %.9f, \"p99\": %.9f, \"p99.9\": %.9f, "
           "\"max\": %.9f}",
           (double)sorted->at[0] * 1e-9, sum / (double)sorted->count, percentile(sorted, 0.5),
           percentile(sorted, 0.9), percentile(sorted, 0.99), percentile(sorted, 0.999),
           percentile(sorted, 1));
}

static void print_result(const struct caller *callers, double seconds)
{
    struct times all = {0};
    uint64_t errors = 0;
    for (size_t i = 0; i < options.connections; i++) {
        errors += callers[i].errors;
        for (size_t k = 0; k < callers[i].latencies.count; k++)
            times_add(&all, callers[i].latencies.at[k]);
    }
    if (all.count == 0) {
        errno = ENODATA;
        stream_fail("no call was made");
    }
    qsort(all.at, all.count, sizeof(*all.at), compare_times);
    printf("{\"calls\": %zu, \"seconds\": %.9f, \"calls_per_second\": %.3f, \"errors\": %" PRIu64
           ", \"latency\": ",
           all.count, seconds, (double)all.count / seconds, errors);
    print_latency(&all);
    for (size_t i = 0; options.latencies && i < all.count; i++)
        printf("%s%.9f", i ? ", " : ", \"latencies\": [", (double)all.at[i] * 1e-9);
    puts(options.latencies ? "]}" : "}");
    free(all.at);
}

_Noreturn static void usage_error(const char *what)
{
    fprintf(stderr, "ping: %s; see ping --help\n", what);
    exit(2);
}

static double parse_number(const char *text, double low, double high)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= low && value <= high))
        usage_error("a number is missing, wrong or out of range");
    return value;
}

static void set_work(const char *method, const char *seconds)
{
    options.method = method;
    options.seconds = parse_number(seconds, 0, 1e6);
}

static void set_option(int id, const char *value)
{
    switch (id) {
    case OPTION_CONNECTIONS:
        options.connections = (size_t)parse_number(value, 1, CONNECTIONS_MAX);
        break;
    case OPTION_CALLS:
        options.calls = (size_t)parse_number(value, 1, 1e9);
        break;
    case OPTION_DURATION:
        options.duration = parse_number(value, 0, 1e6);
        break;
    case OPTION_SCHEDULE:
        options.schedule = true;
        break;
    case OPTION_WARMUP:
        options.warmup = (size_t)parse_number(value, 0, 1e9);
        break;
    case OPTION_PAYLOAD:
        options.payload = (size_t)parse_number(value, 0, PAYLOAD_MAX);
        break;
    case OPTION_SLEEP:
        set_work("sleep", value);
        break;
    case OPTION_SPIN:
        set_work("spin", value);
        break;
    case OPTION_RAW:
        options.raw = true;
        break;
    case OPTION_ONE_BY_ONE:
        options.one_by_one = true;
        break;
    case OPTION_CONNECT_EACH:
        options.connect_each = true;
        break;
    case OPTION_LATENCIES:
        options.latencies = true;
        break;
    case OPTION_HELP:
        fputs(help_text, stdout);
        exit(EXIT_SUCCESS);
    default:
        usage_error("an option is wrong or lacks its value");
    }
}

int main(int argc, char **argv)
{
    options.seconds = -1; /* echo() takes none */
    int id;
    while ((id = getopt_long(argc, argv, "", long_options, NULL)) != -1)
        set_option(id, optarg);
    if (optind + 1 != argc)
        usage_error("one SOCKET is needed");
    options.socket = argv[optind];
    struct caller *callers = calloc(options.connections, sizeof(*callers));
    if (!callers)
        stream_fail("connections");
    if (options.schedule)
        read_schedule(callers);
    pthread_barrier_init(&ready, NULL, (unsigned)options.connections + 1);
    for (size_t i = 0; i < options.connections; i++) {
        if (options.one_by_one)
            prepare(&callers[i]);
        errno = pthread_create(&callers[i].thread, NULL, run, &callers[i]);
        if (errno)
            stream_fail("a thread");
    }
    pthread_barrier_wait(&ready);
    start = clock_now();
    pthread_barrier_wait(&ready);
    for (size_t i = 0; i < options.connections; i++)
        pthread_join(callers[i].thread, NULL);
    print_result(callers, (double)(clock_now() - start) * 1e-9);
}
