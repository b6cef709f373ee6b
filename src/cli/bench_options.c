#include "bench_options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "object.h"
#include "params.h"
#include "size.h"
#include "spec.h"
#include "usage.h"

#define CONNECTIONS_MAX 1000000
#define RATE_MAX        1e9

/* A file of words that some template names. */
struct bench_file {
    struct bench_file *next;
    const char *path; /* behind the structure */
    char *text;
    struct words words;
};

/* Option values that are still text. */
struct texts {
    const char *connections, *rate, *arrivals, *seed, *payload;
    struct usage_list calls;
};

static uint64_t read_number(const struct cli *cli, const char *option, const char *text, uint64_t low,
                            uint64_t high)
{
    char *end;

    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end || errno || number < low || number > high)
        usage_fail(cli, "%s: '%s' is not a whole number from %llu to %llu", option, text,
                   (unsigned long long)low, (unsigned long long)high);
    return number;
}

static double read_rate(const struct cli *cli, const char *text)
{
    char *end;
    double rate = strtod(text, &end);

    if (end == text || *end || !isfinite(rate) || rate <= 0 || rate > RATE_MAX)
        usage_fail(cli, "--rate: '%s' is not a number of calls per second above 0", text);
    return rate;
}

static void read_texts(struct bench_options *options, const struct cli *cli, const struct texts *texts)
{
    if (texts->connections)
        options->connections =
            (unsigned)read_number(cli, "--connections", texts->connections, 1, CONNECTIONS_MAX);
    if (texts->seed)
        options->seed = read_number(cli, "--seed", texts->seed, 0, UINT64_MAX);
    if (texts->rate)
        options->rate = read_rate(cli, texts->rate);
    if (texts->arrivals && strcmp(texts->arrivals, "poisson") != 0 &&
        strcmp(texts->arrivals, "constant") != 0)
        usage_fail(cli, "--arrivals: '%s' is neither poisson nor constant", texts->arrivals);
    options->poisson = !texts->arrivals || strcmp(texts->arrivals, "poisson") == 0;
    if (texts->arrivals && !texts->rate)
        usage_fail(cli, "--arrivals belongs to an open loop; give --rate, too");
    if (options->think > 0 && texts->rate)
        usage_fail(cli, "--think belongs to a closed loop, and --rate to an open one; give one of them");
}

/* --- files of words --- */

static char *read_file(FILE *file, size_t *size)
{
    char *text = NULL;
    FILE *copy = open_memstream(&text, size);
    char part[65536];
    size_t got;

    while (copy && (got = fread(part, 1, sizeof part, file)) > 0)
        fwrite(part, 1, got, copy);
    bool failed = !copy || ferror(file) || ferror(copy);
    int error = errno;
    if (copy && fclose(copy) != 0)
        failed = true;
    if (!failed)
        return text;
    free(text);
    errno = error;
    return NULL;
}

static char *read_path(const char *path, size_t *size, char *why, size_t why_size)
{
    FILE *file = fopen(path, "re");
    char *text = file ? read_file(file, size) : NULL;

    if (!text)
        snprintf(why, why_size, "cannot read it: %s", strerror(errno));
    if (file)
        fclose(file);
    return text;
}

static struct bench_file *open_words(const char *path, char *why, size_t why_size)
{
    size_t size = 0;
    char *text = read_path(path, &size, why, why_size);
    struct bench_file *file = calloc(1, sizeof *file + strlen(path) + 1);

    if (!file)
        snprintf(why, why_size, "out of memory");
    if (text && file && words_split(&file->words, text, size, why, why_size) == 0) {
        file->path = strcpy((char *)(file + 1), path);
        file->text = text;
        return file;
    }
    free(text);
    free(file);
    return NULL;
}

/* Each file is read once. */
static const struct words *find_words(void *context, const char *path, char *why, size_t why_size)
{
    struct bench_options *options = context;
    struct bench_file *file = options->files;

    while (file && strcmp(file->path, path) != 0)
        file = file->next;
    if (!file) {
        file = open_words(path, why, why_size);
        if (!file)
            return NULL;
        file->next = options->files;
        options->files = file;
    }
    return &file->words;
}

/* --- the workload --- */

/* Appends the template of a blob to the packed parameters: an array of any size. */
static void unpack_params(const struct cli *cli, const msgpack_sbuffer *params, const char *payload,
                          msgpack_unpacked *tree)
{
    char blob[64];
    msgpack_object_array *array = &tree->data.via.array;

    msgpack_unpacked_init(tree);
    if (msgpack_unpack_next(tree, params->data, params->size, NULL) != MSGPACK_UNPACK_SUCCESS)
        usage_fail(cli, "the arguments are nested too deeply");
    if (!payload)
        return;
    msgpack_object *items = msgpack_zone_malloc(tree->zone, (array->size + 1) * sizeof *items);
    int length = snprintf(blob, sizeof blob, "{blob:%s}", payload);
    char *text = msgpack_zone_malloc(tree->zone, sizeof blob);
    if (!items || !text || length >= (int)sizeof blob)
        usage_fail(cli, "--payload: '%s' cannot be made", payload);
    memcpy(text, blob, sizeof blob);
    if (array->size > 0)
        memcpy(items, array->ptr, array->size * sizeof *items);
    items[array->size++] =
        (msgpack_object){.type = MSGPACK_OBJECT_STR, .via.str = {.ptr = text, .size = (uint32_t)length}};
    array->ptr = items;
}

static void add_call(struct bench_options *options, const struct cli *cli, double weight, int count,
                     char **words, const char *payload)
{
    struct bench_call *call = &options->calls[options->call_count++];
    const struct template_files files = {.find = find_words, .context = options};
    msgpack_sbuffer params;
    msgpack_unpacked tree;
    char why[5000];

    msgpack_sbuffer_init(&params);
    params_read(cli, &params, count - 1, words + 1);
    unpack_params(cli, &params, payload, &tree);
    call->method = strdup(words[0]);
    call->weight = weight;
    options->weights += weight;
    if (!call->method ||
        template_build(&call->template, words[0], &tree.data.via.array, &files, why, sizeof why) < 0)
        usage_fail(cli, "%s", call->method ? why : "out of memory");
    if (call->template.scratch_size > options->scratch_size)
        options->scratch_size = call->template.scratch_size;
    msgpack_unpacked_destroy(&tree);
    msgpack_sbuffer_destroy(&params);
}

static void add_spec(struct bench_options *options, const struct cli *cli, const char *text,
                     const char *payload)
{
    struct spec spec;
    char why[200];

    if (spec_parse(&spec, text, why, sizeof why) < 0)
        usage_fail(cli, "--call '%s': %s", text, why);
    add_call(options, cli, spec.weight, spec.count, spec.words, payload);
    spec_free(&spec);
}

static void read_workload(struct bench_options *options, const struct cli *cli, const struct texts *texts,
                          int count, char **arguments)
{
    uint64_t ignored;

    if (count == 0 && texts->calls.count == 0)
        usage_fail(cli, "no method is named");
    if (count > 0 && texts->calls.count > 0)
        usage_fail(cli, "give either METHOD or --call, not both");
    if (texts->payload && size_parse(texts->payload, FRAME_MAX_LIMIT, &ignored) != SIZE_OK)
        usage_fail(cli, "--payload: '%s' is not a size below 2G, such as 64, 4K or 1M", texts->payload);
    options->calls = calloc(texts->calls.count + 1, sizeof *options->calls);
    if (!options->calls)
        usage_fail(cli, "out of memory");
    if (count > 0)
        add_call(options, cli, 1, count, arguments, texts->payload);
    for (size_t i = 0; i < texts->calls.count; i++)
        add_spec(options, cli, texts->calls.items[i], texts->payload);
}

void bench_options_read(struct bench_options *options, struct cli *cli, int argc, char **argv)
{
    struct texts texts = {0};
    *options = (struct bench_options){
        .connections = 1, .duration = 10, .warmup = 1, .timeout = 30, .seed = 1, .poisson = true};
    const struct usage_option known[] = {
        {.name = "--connections",
         .letter = 'c',
         .value = "N",
         .text = &texts.connections,
         .help = "connections; without --rate each calls again as soon as it has its answer (1)"},
        {.name = "--rate",
         .value = "R",
         .text = &texts.rate,
         .help = "open loop: start R calls per second, whatever the server does"},
        {.name = "--arrivals",
         .value = "HOW",
         .text = &texts.arrivals,
         .help = "of an open loop: poisson, as of independent callers, or constant (poisson)"},
        {.name = "--duration",
         .value = "S",
         .seconds = &options->duration,
         .help = "seconds to measure (10)"},
        {.name = "--warmup",
         .value = "S",
         .seconds = &options->warmup,
         .zero = true,
         .help = "seconds before that, which do not count (1)"},
        {.name = "--think",
         .value = "S",
         .seconds = &options->think,
         .zero = true,
         .help = "pause between an answer and the next call of a connection (0)"},
        {.name = "--timeout",
         .value = "S",
         .seconds = &options->timeout,
         .help = "time limit of a call; in an open loop from when it was meant to start (30)"},
        {.name = "--payload",
         .value = "SIZE",
         .text = &texts.payload,
         .help = "append a blob of that size to the arguments, such as 64, 4K or 64M"},
        {.name = "--call",
         .value = "SPEC",
         .list = &texts.calls,
         .help = "instead of METHOD, once or more often: '[WEIGHT:]METHOD [ARG ...]'"},
        {.name = "--seed",
         .value = "N",
         .text = &texts.seed,
         .help = "of everything random; the same seed gives the same calls (1)"},
        {.name = "--json", .on = &options->json, .help = "print the report as JSON, for programs"},
        {.name = "--echo",
         .on = &options->echo,
         .help = "a baseline: the server at the socket sends every frame back, as bench/raw_echo does"},
        {0},
    };

    int count = usage_read(cli, known, argc, argv);
    options->socket = cli->socket;
    read_texts(options, cli, &texts);
    read_workload(options, cli, &texts, count, argv);
}

static void free_file(struct bench_file *file)
{
    words_free(&file->words);
    free(file->text);
    free(file);
}

void bench_options_free(struct bench_options *options)
{
    for (size_t i = 0; i < options->call_count; i++) {
        template_free(&options->calls[i].template);
        free(options->calls[i].method);
    }
    free(options->calls);
    while (options->files) {
        struct bench_file *next = options->files->next;
        free_file(options->files);
        options->files = next;
    }
}
