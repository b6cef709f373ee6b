/* A loaded engine: the library, its description, its checked signatures. Used by the forkserver and, as a
 * copy-on-write inheritance, by workers; never by the master. */
#ifndef ENGINE_LOAD_H
#define ENGINE_LOAD_H

#include <cohab/engine.h>

#include "signature.h"

#define ENGINE_ERROR_SIZE 1000

struct engine_method {
    const struct cohab_method *method;
    size_t name_length;
    unsigned meter;              /* its index there (meter.h) */
    struct signature *signature; /* NULL: any parameters; only where cohab itself says so */
};

/* What hooks get. */
struct cohab_setup {
    int argc;
    char **argv;
    char error[ENGINE_ERROR_SIZE]; /* empty until cohab_setup_fail() */
};

struct engine {
    const struct cohab_engine *description;
    struct engine_method *methods;
    size_t method_count;
    void *state;
    struct cohab_setup setup;
};

/* Opens the library, checks its description and its signatures, and runs no hook. -1 with one line in
 * engine->setup.error. */
int engine_open(struct engine *engine, const char *path, int argc, char **argv);
/* The hooks. -1 with one line in engine->setup.error. */
int engine_run_load(struct engine *engine);
int engine_run_start(struct engine *engine);
int engine_run_selftest(struct engine *engine);
void engine_run_stop(struct engine *engine);
/* NULL where there is no such method. */
const struct engine_method *engine_find(const struct engine *engine, const char *name, size_t length);

#endif
