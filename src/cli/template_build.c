#include "template.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "pack.h"
#include "size.h"

struct builder {
    struct template *template;
    const struct template_files *files;
    size_t closed; /* parts that take no more bytes */
    bool out_of_memory;
    char *why;
    size_t why_size;
};

static int refuse(const struct builder *builder, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int refuse(const struct builder *builder, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(builder->why, builder->why_size, format, arguments);
    va_end(arguments);
    return -1;
}

static int add_part(struct builder *builder, struct template_part part)
{
    struct template *template = builder->template;

    if (template->count == TEMPLATE_PARTS_MAX)
        return refuse(builder, "there are too many templates in one call");
    template->parts[template->count++] = part;
    return 0;
}

static int add_changing(struct builder *builder, struct template_part part)
{
    if (add_part(builder, part) < 0)
        return -1;
    builder->template->changes = true;
    builder->closed = builder->template->count;
    return 0;
}

/* What has been packed since the last part ended becomes a constant, or the end of one. */
static int cover_bytes(struct builder *builder)
{
    struct template *template = builder->template;
    size_t covered = 0;

    for (size_t i = 0; i < template->count; i++)
        covered += template->parts[i].size;
    if (covered == template->bytes.size)
        return 0;
    if (template->count == builder->closed &&
        add_part(builder, (struct template_part){.kind = TEMPLATE_CONSTANT, .offset = covered}) < 0)
        return -1;
    struct template_part *last = &template->parts[template->count - 1];
    last->size = template->bytes.size - last->offset;
    return 0;
}

static int append(void *context, const char *bytes, size_t size)
{
    struct builder *builder = context;

    if (!builder->out_of_memory && msgpack_sbuffer_write(&builder->template->bytes, bytes, size) < 0)
        builder->out_of_memory = true;
    return builder->out_of_memory ? -1 : 0;
}

static void pack_blob(msgpack_packer *packer, uint64_t size)
{
    struct random random = random_seeded(size);
    char bytes[4096];

    msgpack_pack_bin(packer, size);
    while (size > 0) {
        size_t part = size < sizeof bytes ? (size_t)size : sizeof bytes;
        random_fill(&random, bytes, part);
        msgpack_pack_bin_body(packer, bytes, part);
        size -= part;
    }
}

/* A template in a text, as it is written. */
struct written {
    enum { WRITTEN_COUNTER, WRITTEN_INTEGER, WRITTEN_WORD, WRITTEN_BLOB, WRITTEN_KINDS } kind;
    size_t size;         /* of all of it, braces included */
    char argument[4096]; /* what stands behind the name */
};

static const struct {
    const char *name;
    const char *form;
} forms[] = {
    [WRITTEN_COUNTER] = {"counter", "{counter}"},
    [WRITTEN_INTEGER] = {"int", "{int:LOW:HIGH}"},
    [WRITTEN_WORD] = {"word", "{word:FILE}"},
    [WRITTEN_BLOB] = {"blob", "{blob:SIZE}"},
};

/* Reads the template at the start of text. Returns 1, 0 when there is none, or -1. */
static int read_written(const struct builder *builder, const char *text, size_t size, struct written *written)
{
    const char *end = size > 0 && *text == '{' ? memchr(text, '}', size) : NULL;

    written->size = 0;
    for (size_t kind = 0; end && kind < WRITTEN_KINDS; kind++) {
        size_t length = strlen(forms[kind].name);
        const char *argument = text + 1 + length;
        if (argument > end || memcmp(text + 1, forms[kind].name, length) != 0 ||
            (*argument != ':' && argument != end))
            continue;
        bool bare = argument == end;
        size_t argument_size = bare ? 0 : (size_t)(end - argument - 1);
        if (bare != (kind == WRITTEN_COUNTER) || argument_size >= sizeof written->argument)
            return refuse(builder, "the template is written %s", forms[kind].form);
        written->kind = (unsigned)kind;
        written->size = (size_t)(end - text) + 1;
        memcpy(written->argument, argument + !bare, argument_size);
        written->argument[argument_size] = '\0';
        return 1;
    }
    return 0;
}

static int add_integer(struct builder *builder, const char *argument)
{
    struct template_part part = {.kind = TEMPLATE_INTEGER};
    int end = 0;

    if (sscanf(argument, "%" SCNd64 ":%" SCNd64 "%n", &part.low, &part.high, &end) != 2 || argument[end])
        return refuse(builder, "{int:%s}: the template is written %s, with two integers", argument,
                      forms[WRITTEN_INTEGER].form);
    if (part.low > part.high)
        return refuse(builder, "{int:%s}: %" PRId64 " is above %" PRId64, argument, part.low, part.high);
    return add_changing(builder, part);
}

static int add_word(struct builder *builder, const char *path)
{
    char why[200] = "";
    const struct words *words = builder->files->find(builder->files->context, path, why, sizeof why);

    if (!words)
        return refuse(builder, "{word:%s}: %s", path, why);
    return add_changing(builder, (struct template_part){.kind = TEMPLATE_WORD, .words = words});
}

static int add_written(struct builder *builder, const struct written *written)
{
    switch (written->kind) {
    case WRITTEN_COUNTER:
        return add_changing(builder, (struct template_part){.kind = TEMPLATE_COUNTER});
    case WRITTEN_INTEGER:
        return add_integer(builder, written->argument);
    case WRITTEN_WORD:
        return add_word(builder, written->argument);
    default:
        return refuse(builder, "{blob:%s} stands alone; in the middle of text there is no room for bytes",
                      written->argument);
    }
}

static int add_blob(struct builder *builder, msgpack_packer *packer, const char *argument)
{
    uint64_t size = 0;

    if (size_parse(argument, FRAME_MAX_LIMIT, &size) != SIZE_OK)
        return refuse(builder, "{blob:%s}: not a size below 2G, such as 64, 4K or 1M", argument);
    pack_blob(packer, size);
    return 0;
}

/* What stands at some place of a text: a template, or bytes that are meant as they are. */
struct token {
    bool is_template;
    struct written written;
    const char *bytes;
    size_t size;
    size_t taken; /* of the text */
};

static int read_token(const struct builder *builder, const char *text, size_t size, struct token *token)
{
    bool doubled = size > 1 && text[0] == '{' && text[1] == '{';
    int found = read_written(builder, text + doubled, size - doubled, &token->written);

    if (found < 0)
        return -1;
    size_t end = token->written.size + doubled;
    token->is_template = found > 0 && !doubled;
    if (token->is_template) {
        token->taken = end;
    } else if (found > 0 && end < size && text[end] == '}') {
        token->bytes = text + 1;
        token->size = token->written.size;
        token->taken = end + 1;
    } else {
        const char *brace = memchr(text + 1, '{', size - 1);
        token->bytes = text;
        token->size = token->taken = brace ? (size_t)(brace - text) : size;
    }
    return 0;
}

/* The number of templates in a text, and the size of what stands around them. */
static int count_tokens(const struct builder *builder, const char *text, size_t size, size_t *templates,
                        size_t *plain)
{
    struct token token;

    for (*templates = *plain = 0; size > 0; text += token.taken, size -= token.taken) {
        if (read_token(builder, text, size, &token) < 0)
            return -1;
        *templates += token.is_template;
        *plain += token.is_template ? 0 : token.size;
    }
    return 0;
}

static int add_tokens(struct builder *builder, const char *text, size_t size)
{
    struct token token;

    for (; size > 0; text += token.taken, size -= token.taken) {
        if (read_token(builder, text, size, &token) < 0)
            return -1;
        if (!token.is_template)
            append(builder, token.bytes, token.size);
        else if (cover_bytes(builder) < 0 || add_written(builder, &token.written) < 0)
            return -1;
    }
    return 0;
}

/* A string that is not one template alone: none, or some in the middle of text. */
static int add_text(struct builder *builder, msgpack_packer *packer, const char *text, size_t size)
{
    struct template *template = builder->template;
    size_t templates, plain;

    if (count_tokens(builder, text, size, &templates, &plain) < 0)
        return -1;
    if (templates == 0) {
        msgpack_pack_str(packer, plain);
        return add_tokens(builder, text, size);
    }
    if (cover_bytes(builder) < 0 || add_changing(builder, (struct template_part){.kind = TEMPLATE_TEXT}) < 0)
        return -1;
    size_t start = template->count;
    if (add_tokens(builder, text, size) < 0 || cover_bytes(builder) < 0)
        return -1;
    template->parts[start - 1].inner = template->count - start;
    builder->closed = template->count;
    return 0;
}

static int add_string(struct builder *builder, msgpack_packer *packer, const msgpack_object_str *string)
{
    struct written written;
    int found = read_written(builder, string->ptr, string->size, &written);

    if (found < 0)
        return -1;
    if (found == 0 || written.size < string->size)
        return add_text(builder, packer, string->ptr, string->size);
    if (written.kind == WRITTEN_BLOB)
        return add_blob(builder, packer, written.argument);
    return cover_bytes(builder) < 0 ? -1 : add_written(builder, &written);
}

/* Recursion is bounded: the parser that made the value stops at 32 levels. */
static int add_value(struct builder *builder, msgpack_packer *packer, const msgpack_object *value)
{
    switch (value->type) {
    case MSGPACK_OBJECT_STR:
        return add_string(builder, packer, &value->via.str);
    case MSGPACK_OBJECT_ARRAY:
        msgpack_pack_array(packer, value->via.array.size);
        for (uint32_t i = 0; i < value->via.array.size; i++)
            if (add_value(builder, packer, &value->via.array.ptr[i]) < 0)
                return -1;
        return 0;
    case MSGPACK_OBJECT_MAP:
        msgpack_pack_map(packer, value->via.map.size);
        for (uint32_t i = 0; i < value->via.map.size; i++)
            if (add_value(builder, packer, &value->via.map.ptr[i].key) < 0 ||
                add_value(builder, packer, &value->via.map.ptr[i].val) < 0)
                return -1;
        return 0;
    default:
        msgpack_pack_object(packer, *value);
        return 0;
    }
}

static int build(struct builder *builder, const char *method, const msgpack_object_array *params)
{
    struct template *template = builder->template;
    msgpack_packer packer;

    msgpack_packer_init(&packer, builder, append);
    pack_text(&packer, method);
    msgpack_pack_array(&packer, params->size);
    for (uint32_t i = 0; i < params->size; i++)
        if (add_value(builder, &packer, &params->ptr[i]) < 0)
            return -1;
    msgpack_pack_map(&packer, 1);
    pack_text(&packer, "deadline");
    append(builder, "\xcf", 1); /* uint 64: the deadline's bytes follow in every frame */
    if (builder->out_of_memory)
        return refuse(builder, "out of memory for a request of more than %zu bytes", template->bytes.size);
    if (cover_bytes(builder) < 0)
        return -1;
    template->scratch_size = template_measure(template);
    if (template->bytes.size + template->scratch_size >= FRAME_MAX_LIMIT)
        return refuse(builder, "the request is larger than a frame can be");
    return 0;
}

int template_build(struct template *template, const char *method, const msgpack_object_array *params,
                   const struct template_files *files, char *why, size_t why_size)
{
    struct builder builder = {.template = template, .files = files, .why = why, .why_size = why_size};

    *template = (struct template){0};
    msgpack_sbuffer_init(&template->bytes);
    return build(&builder, method, params);
}

void template_free(struct template *template)
{
    msgpack_sbuffer_destroy(&template->bytes);
}
