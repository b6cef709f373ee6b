#include "engine_load.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meter.h"
#include "text.h"

#define METHODS_MAX 4096

static int fail(struct engine *engine, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int fail(struct engine *engine, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(engine->setup.error, sizeof(engine->setup.error), format, arguments);
    va_end(arguments);
    return -1;
}

int cohab_setup_argc(const struct cohab_setup *setup)
{
    return setup->argc;
}

const char *cohab_setup_argv(const struct cohab_setup *setup, int index)
{
    return index >= 0 && index < setup->argc ? setup->argv[index] : NULL;
}

int cohab_setup_fail(struct cohab_setup *setup, const char *format, ...)
{
    struct text text = text_open(setup->error, sizeof(setup->error));
    va_list arguments;
    va_start(arguments, format);
    text_add_list(&text, format, arguments);
    va_end(arguments);
    text_close(&text); /* it is one line of a log */
    return -1;
}

static int check_description(struct engine *engine)
{
    const struct cohab_engine *description = engine->description;
    if (description->abi != COHAB_ENGINE_ABI)
        return fail(engine, "the engine was built for ABI %u, this cohabd has %u: build it again",
                    description->abi, COHAB_ENGINE_ABI);
    if (description->size < sizeof(struct cohab_engine) ||
        description->method_size < sizeof(struct cohab_method))
        return fail(engine, "the engine's structures are smaller than ABI %u says: use COHAB_ENGINE_HEADER()",
                    COHAB_ENGINE_ABI);
    if (!description->name || !*description->name || !description->version)
        return fail(engine, "the engine has no name or no version");
    if (description->method_count > METHODS_MAX || (description->method_count && !description->methods))
        return fail(engine, "the engine's method table is missing, or longer than %d", METHODS_MAX);
    return 0;
}

static int check_method(struct engine *engine, const struct cohab_method *method,
                        struct engine_method *checked)
{
    char error[ENGINE_ERROR_SIZE / 2];
    if (!method->name || !*method->name)
        return fail(engine, "method %zu has no name", engine->method_count);
    if (strncmp(method->name, "cohab.", 6) == 0)
        return fail(engine, "method %s: names that begin with 'cohab.' are built in", method->name);
    if (engine_find(engine, method->name, strlen(method->name)))
        return fail(engine, "method %s stands twice in the table", method->name);
    if (!method->function || !method->signature)
        return fail(engine, "method %s has no %s", method->name, method->function ? "signature" : "function");
    if (method->flags & ~(uint32_t)COHAB_IDEMPOTENT)
        return fail(engine, "method %s has unknown flags 0x%x", method->name, method->flags);
    checked->signature = signature_parse(method->signature, method->name, error, sizeof(error));
    if (!checked->signature)
        return fail(engine, "%s", error);
    checked->method = method;
    checked->name_length = strlen(method->name);
    checked->meter = METER_METHODS + (unsigned)engine->method_count;
    return 0;
}

static int check_methods(struct engine *engine)
{
    const char *table = (const char *)engine->description->methods;
    size_t count = engine->description->method_count, stride = engine->description->method_size;
    engine->methods = calloc(count ? count : 1, sizeof(*engine->methods));
    if (!engine->methods)
        return fail(engine, "out of memory");
    for (size_t i = 0; i < count; i++) {
        const struct cohab_method *method = (const void *)(table + i * stride);
        if (check_method(engine, method, &engine->methods[i]) < 0)
            return -1;
        engine->method_count++;
    }
    return 0;
}

int engine_open(struct engine *engine, const char *path, int argc, char **argv)
{
    *engine = (struct engine){.setup = {.argc = argc, .argv = argv}};
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return fail(engine, "%s", dlerror());
    engine->description = dlsym(library, "cohab_engine");
    if (!engine->description)
        return fail(
            engine,
            "the library does not export cohab_engine: is it an engine, and is the symbol COHAB_EXPORT?");
    return check_description(engine) < 0 || check_methods(engine) < 0 ? -1 : 0;
}

/* A hook that fails without a word still gets a line. */
static int hook_result(struct engine *engine, const char *hook, int result)
{
    if (result == 0)
        return 0;
    return engine->setup.error[0] ? -1 : fail(engine, "%s() returned %d and gave no reason", hook, result);
}

int engine_run_load(struct engine *engine)
{
    const struct cohab_engine *description = engine->description;
    return description->load ? hook_result(engine, "load", description->load(&engine->setup, &engine->state))
                             : 0;
}

int engine_run_start(struct engine *engine)
{
    const struct cohab_engine *description = engine->description;
    return description->start
               ? hook_result(engine, "start", description->start(&engine->setup, &engine->state))
               : 0;
}

int engine_run_selftest(struct engine *engine)
{
    const struct cohab_engine *description = engine->description;
    return description->selftest
               ? hook_result(engine, "selftest", description->selftest(&engine->setup, engine->state))
               : 0;
}

void engine_run_stop(struct engine *engine)
{
    if (engine->description->stop)
        engine->description->stop(engine->state);
}

const struct engine_method *engine_find(const struct engine *engine, const char *name, size_t length)
{
    for (size_t i = 0; i < engine->method_count; i++) {
        const struct engine_method *method = &engine->methods[i];
        if (method->name_length == length && memcmp(method->method->name, name, length) == 0)
            return method;
    }
    return NULL;
}
