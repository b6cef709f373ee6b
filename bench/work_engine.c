/* work: the engine of the comparisons that kill workers. It uses CPU, waits, and crashes on demand, with as
 * many bytes loaded as its only argument says (0). */
#include <cohab/engine.h>

#include <stdlib.h>
#include <string.h>

#include "work.h"

static int work_method_sleep(struct cohab_call *call)
{
    double seconds;
    if (cohab_parse(call, "d", &seconds) != 0)
        return -1;
    work_sleep(seconds);
    return 0;
}

static int work_method_spin(struct cohab_call *call)
{
    double seconds;
    if (cohab_parse(call, "d", &seconds) != 0)
        return -1;
    work_spin(seconds);
    return 0;
}

static int work_method_crash(struct cohab_call *call)
{
    (void)call;
    work_crash();
    return 0;
}

static int work_load(struct cohab_setup *setup, void **state)
{
    size_t size = cohab_setup_argc(setup) > 0 ? strtoull(cohab_setup_argv(setup, 0), NULL, 10) : 0;
    *state = NULL;
    if (size == 0)
        return 0;
    *state = malloc(size);
    if (!*state)
        return cohab_setup_fail(setup, "no memory for %zu bytes", size);
    memset(*state, 0x5a, size);
    return 0;
}

static const struct cohab_method methods[] = {
    {.name = "sleep", .function = work_method_sleep, .signature = "sleep(seconds: float) -> None"},
    {.name = "spin", .function = work_method_spin, .signature = "spin(seconds: float) -> None"},
    {.name = "crash",
     .function = work_method_crash,
     .signature = "crash(number: int) -> None",
     .doc = "Dies of SIGSEGV. The number makes each request another one."},
};

const struct cohab_engine cohab_engine = {COHAB_ENGINE_HEADER(methods), .name = "work",
                                          .version = COHAB_VERSION, .load = work_load};
