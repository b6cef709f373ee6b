#include "signature.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "type.h"

/* Bytes of a signature that an error text shows. */
#define SHOWN_SIGNATURE 120

#define DIGITS  "0123456789"
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"

struct parameter {
    char *name;
    struct type *type;
};

struct signature {
    char *name;
    struct parameter *parameters;
    size_t count;
    size_t required; /* they come first */
};

/* --- Parsing --- */

struct parser {
    const char *start;
    const char *at;    /* at a token, or at the end */
    const char *token; /* the last one read, and its bytes */
    int token_size;
    char *error;
    size_t error_size;
};

/* Always false. */
__attribute__((format(printf, 2, 3))) static bool fail(const struct parser *parser, const char *format, ...)
{
    struct text text = text_open(parser->error, parser->error_size);
    bool whole = strlen(parser->start) <= SHOWN_SIGNATURE;
    text_add(&text, "signature \"%.*s%s\": ", SHOWN_SIGNATURE, parser->start, whole ? "" : "...");
    va_list arguments;
    va_start(arguments, format);
    text_add_list(&text, format, arguments);
    va_end(arguments);
    text_add(&text, " at column %zu", (size_t)(parser->at - parser->start) + 1);
    text_close(&text);
    return false;
}

static bool fail_memory(const struct parser *parser)
{
    return fail(parser, "out of memory");
}

static bool fail_expected(const struct parser *parser, const char *what)
{
    if (parser->token_size == 0)
        return fail(parser, "expected %s", what);
    return fail(parser, "expected %s after '%.*s'", what, parser->token_size, parser->token);
}

static void skip_space(struct parser *parser)
{
    parser->at += strspn(parser->at, " \t\r\n");
}

static void advance(struct parser *parser, size_t size)
{
    parser->token = parser->at;
    parser->token_size = (int)size;
    parser->at += size;
    skip_space(parser);
}

static bool take(struct parser *parser, const char *token)
{
    size_t size = strlen(token);
    if (strncmp(parser->at, token, size) != 0)
        return false;
    advance(parser, size);
    return true;
}

static bool expect(struct parser *parser, const char *token)
{
    char quoted[8];
    if (take(parser, token))
        return true;
    snprintf(quoted, sizeof(quoted), "'%s'", token);
    return fail_expected(parser, quoted);
}

static size_t identifier_size(const char *at)
{
    return strspn(at, DIGITS) > 0 ? 0 : strspn(at, LETTERS DIGITS);
}

static bool token_is(const char *token, size_t size, const char *word)
{
    return strlen(word) == size && memcmp(token, word, size) == 0;
}

/* Python could not pass such a parameter by name. */
static bool is_keyword(const char *token, size_t size)
{
    static const char keywords[] =
        "False None True and as assert async await break class continue def del elif else "
        "except finally for from global if import in is lambda nonlocal not or pass raise "
        "return try while with yield";
    for (const char *at = keywords; *at != '\0'; at += strspn(at, " ")) {
        size_t length = strcspn(at, " ");
        if (length == size && memcmp(at, token, size) == 0)
            return true;
        at += length;
    }
    return false;
}

static struct type *parse_union(struct parser *parser, unsigned depth);

static bool parse_items(struct parser *parser, struct type *type, unsigned depth)
{
    if (depth == TYPE_MAX_DEPTH)
        return fail(parser, "types are nested more than %d deep", TYPE_MAX_DEPTH);
    if (!expect(parser, "["))
        return false;
    struct parser before = *parser;
    type->item = parse_union(parser, depth + 1);
    if (type->item == NULL)
        return false;
    enum type_kind item = type->item->kind;
    if (type->kind == TYPE_ARRAY && (type->item->next != NULL || (item != TYPE_INT && item != TYPE_FLOAT)))
        return fail(&before, "an array holds float or int");
    if (type_traits[type->kind].items == 2) {
        if (!expect(parser, ","))
            return false;
        type->value = parse_union(parser, depth + 1);
        if (type->value == NULL)
            return false;
    }
    return expect(parser, "]");
}

static struct type *parse_primary(struct parser *parser, unsigned depth)
{
    size_t size = identifier_size(parser->at);
    unsigned kind = 0;
    while (kind < TYPE_KINDS && !token_is(parser->at, size, type_traits[kind].name))
        kind++;
    if (size == 0 || kind == TYPE_KINDS) {
        if (size == 0)
            fail_expected(parser, "a type");
        else
            fail(parser, "unknown type '%.*s'", (int)size, parser->at);
        return NULL;
    }
    struct type *type = calloc(1, sizeof(*type));
    if (type == NULL) {
        fail_memory(parser);
        return NULL;
    }
    type->kind = (enum type_kind)kind;
    advance(parser, size);
    if (type_traits[kind].items > 0 && !parse_items(parser, type, depth)) {
        type_free(type);
        return NULL;
    }
    return type;
}

static struct type *parse_union(struct parser *parser, unsigned depth)
{
    struct type *first = NULL;
    struct type **end = &first;
    unsigned plain = 0;
    do {
        *end = parse_primary(parser, depth);
        if (*end == NULL) {
            type_free(first);
            return NULL;
        }
        plain |= type_traits[(*end)->kind].plain;
        end = &(*end)->next;
    } while (take(parser, "|"));
    first->plain = plain;
    return first;
}

static bool parse_number(struct parser *parser, msgpack_object *literal)
{
    const char *digits = parser->at + strspn(parser->at, "+-");
    size_t whole = strspn(digits, DIGITS);
    const char *end = digits + whole;
    size_t fraction = *end == '.' ? strspn(end + 1, DIGITS) : 0;
    literal->type = MSGPACK_OBJECT_POSITIVE_INTEGER;
    if (digits - parser->at > 1 || whole + fraction == 0)
        return fail_expected(parser, "a literal");
    if (*end == '.') {
        literal->type = MSGPACK_OBJECT_FLOAT64;
        end += 1 + fraction;
    }
    if (*end == 'e' || *end == 'E') {
        const char *exponent = end + 1 + (end[1] == '+' || end[1] == '-');
        literal->type = MSGPACK_OBJECT_FLOAT64;
        end = exponent + strspn(exponent, DIGITS);
        if (end == exponent)
            return fail(parser, "the exponent has no digits");
    }
    if (literal->type == MSGPACK_OBJECT_POSITIVE_INTEGER && whole > 1 && digits[0] == '0')
        return fail(parser, "an int does not begin with 0");
    advance(parser, (size_t)(end - parser->at));
    return true;
}

static bool parse_string(struct parser *parser, msgpack_object *literal)
{
    const char *end = parser->at + 1;
    for (; *end != *parser->at; end++) {
        if (*end == '\\' && end[1] != '\0')
            end++;
        if (*end == '\0' || *end == '\n')
            return fail(parser, "unfinished string");
    }
    literal->type = MSGPACK_OBJECT_STR;
    advance(parser, (size_t)(end + 1 - parser->at));
    return true;
}

/* Only as much of the object is filled in as its type needs. */
static bool parse_literal(struct parser *parser, msgpack_object *literal)
{
    size_t size = identifier_size(parser->at);
    memset(literal, 0, sizeof(*literal));
    if (token_is(parser->at, size, "None")) {
        literal->type = MSGPACK_OBJECT_NIL;
        advance(parser, size);
        return true;
    }
    if (token_is(parser->at, size, "True") || token_is(parser->at, size, "False")) {
        literal->type = MSGPACK_OBJECT_BOOLEAN;
        advance(parser, size);
        return true;
    }
    if (take(parser, "[")) {
        literal->type = MSGPACK_OBJECT_ARRAY;
        return expect(parser, "]");
    }
    if (take(parser, "{")) {
        literal->type = MSGPACK_OBJECT_MAP;
        return expect(parser, "}");
    }
    if (*parser->at == '\'' || *parser->at == '"')
        return parse_string(parser, literal);
    return parse_number(parser, literal);
}

static bool parse_default(struct parser *parser, const struct type *type)
{
    struct parser before = *parser;
    msgpack_object literal;
    if (!parse_literal(parser, &literal))
        return false;
    if (type_accepts(type, &literal))
        return true;
    char expected[100];
    struct text text = text_open(expected, sizeof(expected));
    type_write(&text, type);
    return fail(&before, "the default of type %s does not fit %s", type_name_of(&literal), expected);
}

static bool has_parameter(const struct signature *signature, const char *name, size_t size)
{
    for (size_t i = 0; i < signature->count; i++)
        if (token_is(name, size, signature->parameters[i].name))
            return true;
    return false;
}

/* The new parameter belongs to the signature at once, so that signature_free() finds all of it. */
static struct parameter *add_parameter(struct parser *parser, struct signature *signature)
{
    size_t size = identifier_size(parser->at);
    if (size == 0)
        fail_expected(parser, "a parameter's name");
    else if (is_keyword(parser->at, size))
        fail(parser, "'%.*s' is a keyword of Python", (int)size, parser->at);
    else if (has_parameter(signature, parser->at, size))
        fail(parser, "a second parameter '%.*s'", (int)size, parser->at);
    else {
        size_t bytes = (signature->count + 1) * sizeof(struct parameter);
        struct parameter *parameters = realloc(signature->parameters, bytes);
        if (parameters != NULL)
            signature->parameters = parameters;
        char *name = parameters != NULL ? strndup(parser->at, size) : NULL;
        if (name != NULL) {
            advance(parser, size);
            parameters[signature->count] = (struct parameter){.name = name};
            return &parameters[signature->count++];
        }
        fail_memory(parser);
    }
    return NULL;
}

static bool parse_parameter(struct parser *parser, struct signature *signature)
{
    struct parameter *parameter = add_parameter(parser, signature);
    if (parameter == NULL || !expect(parser, ":"))
        return false;
    parameter->type = parse_union(parser, 0);
    if (parameter->type == NULL)
        return false;
    if (take(parser, "="))
        return parse_default(parser, parameter->type);
    if (signature->required + 1 < signature->count)
        return fail(parser, "'%s' needs a default, because '%s' has one", parameter->name,
                    signature->parameters[signature->required].name);
    signature->required++;
    return true;
}

static bool parse_parameters(struct parser *parser, struct signature *signature)
{
    if (!expect(parser, "("))
        return false;
    if (take(parser, ")"))
        return true;
    do {
        if (!parse_parameter(parser, signature))
            return false;
    } while (take(parser, ","));
    return expect(parser, ")");
}

/* Identifiers joined by dots. */
static bool parse_name(struct parser *parser, const char *name)
{
    size_t size = identifier_size(parser->at);
    if (size == 0)
        return fail_expected(parser, "the method's name");
    for (size_t part; parser->at[size] == '.' && (part = identifier_size(parser->at + size + 1)) > 0;)
        size += 1 + part;
    if (!token_is(parser->at, size, name))
        return fail(parser, "the method's name is '%s', not '%.*s'", name, (int)size, parser->at);
    advance(parser, size);
    return true;
}

static bool parse_signature(struct parser *parser, struct signature *signature)
{
    skip_space(parser);
    if (!parse_name(parser, signature->name) || !parse_parameters(parser, signature) || !expect(parser, "->"))
        return false;
    struct type *result = parse_union(parser, 0);
    if (result == NULL)
        return false;
    type_free(result);
    return *parser->at == '\0' || fail_expected(parser, "the end");
}

struct signature *signature_parse(const char *text, const char *name, char *error, size_t error_size)
{
    struct parser parser = {.start = text, .at = text, .error = error, .error_size = error_size};
    struct signature *signature = calloc(1, sizeof(*signature));
    if (signature != NULL)
        signature->name = strdup(name);
    if (signature == NULL || signature->name == NULL)
        fail_memory(&parser);
    else if (parse_signature(&parser, signature))
        return signature;
    signature_free(signature);
    return NULL;
}

void signature_free(struct signature *signature)
{
    if (signature == NULL)
        return;
    for (size_t i = 0; i < signature->count; i++) {
        free(signature->parameters[i].name);
        type_free(signature->parameters[i].type);
    }
    free(signature->parameters);
    free(signature->name);
    free(signature);
}

/* --- Checking --- */

size_t signature_max_params(const struct signature *signature)
{
    return signature->count;
}

size_t signature_min_params(const struct signature *signature)
{
    return signature->required;
}

const char *signature_param_name(const struct signature *signature, size_t index)
{
    return index < signature->count ? signature->parameters[index].name : "?";
}

const char *signature_type_name(const msgpack_object *object)
{
    return type_name_of(object);
}

static void explain_count(struct text *text, const struct signature *signature, size_t given)
{
    text_add(text, "%s() takes ", signature->name);
    bool one = signature->count == 1 && signature->required == 1;
    if (signature->count == 0)
        text_add(text, "no");
    else if (signature->count == signature->required)
        text_add(text, "%zu", signature->count);
    else
        text_add(text, "%zu to %zu", signature->required, signature->count);
    text_add(text, " argument%s, %zu %s given", one ? "" : "s", given, given == 1 ? "was" : "were");
}

bool signature_check_count(const struct signature *signature, size_t count, char *error, size_t error_size)
{
    if (count >= signature->required && count <= signature->count)
        return true;
    struct text text = text_open(error, error_size);
    explain_count(&text, signature, count);
    text_close(&text);
    return false;
}

bool signature_check(const struct signature *signature, const msgpack_object_array *params, char *error,
                     size_t error_size)
{
    if (!signature_check_count(signature, params->size, error, error_size))
        return false;
    struct text text = text_open(error, error_size);
    for (size_t i = 0; i < params->size; i++) {
        const struct parameter *parameter = &signature->parameters[i];
        if (type_accepts(parameter->type, &params->ptr[i]))
            continue;
        text_add(&text, "%s(): argument %zu '%s'", signature->name, i + 1, parameter->name);
        type_explain(&text, parameter->type, &params->ptr[i]);
        text_close(&text);
        return false;
    }
    return true;
}
