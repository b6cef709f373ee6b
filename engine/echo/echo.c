/* echo: the engine for tests and benchmarks. It gives back what it is given, waits, burns CPU, and makes
 * large results. */
#include <cohab/engine.h>

#include <math.h>
#include <time.h>

enum {
    SLEEP_STEP_NS = 10 * 1000 * 1000, /* how long a cancelled sleep may go on */
    SPIN_STEP = 1000,                 /* additions between two looks at the clock: about a microsecond */
};

static double clock_seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Reads the only argument, seconds. NaN is refused; infinity is fine, as every call has a deadline. */
static int parse_seconds(struct cohab_call *call, double *seconds)
{
    if (cohab_parse(call, "d", seconds) != 0)
        return -1;
    if (isnan(*seconds) || *seconds < 0)
        return cohab_fail(call, COHAB_INVALID_ARGUMENT, "argument 1 'seconds': expected 0 or more, got %g",
                          *seconds);
    return 0;
}

static int fail_cancelled(struct cohab_call *call, const char *what, double done)
{
    return cohab_fail(call, COHAB_CANCELLED, "%s ended after %.3f s: nobody waits for it any more", what,
                      done);
}

static int echo_echo(struct cohab_call *call)
{
    const msgpack_object *value;
    if (cohab_parse(call, "O", &value) != 0)
        return -1;
    return cohab_return(call, "O", value);
}

static int echo_sleep(struct cohab_call *call)
{
    double seconds;
    if (parse_seconds(call, &seconds) != 0)
        return -1;
    double start = clock_seconds(CLOCK_MONOTONIC);
    for (double left = seconds; left > 0; left = start + seconds - clock_seconds(CLOCK_MONOTONIC)) {
        if (cohab_cancelled(call))
            return fail_cancelled(call, "sleep", clock_seconds(CLOCK_MONOTONIC) - start);
        struct timespec step = {.tv_nsec = left * 1e9 < SLEEP_STEP_NS ? (long)(left * 1e9) : SLEEP_STEP_NS};
        nanosleep(&step, NULL);
    }
    return 0;
}

/* Counts the thread's CPU time, not the wall clock: one millisecond is one millisecond of work, however many
 * processes share the core. So N busy workers on too few cores take longer, as real engines do. */
static int echo_spin(struct cohab_call *call)
{
    double seconds;
    if (parse_seconds(call, &seconds) != 0)
        return -1;
    double start = clock_seconds(CLOCK_THREAD_CPUTIME_ID);
    double done = 0;
    volatile unsigned sum = 0;
    while ((done = clock_seconds(CLOCK_THREAD_CPUTIME_ID) - start) < seconds) {
        if (cohab_cancelled(call))
            return fail_cancelled(call, "spin", done);
        for (unsigned i = 0; i < SPIN_STEP; i++)
            sum = sum + i;
    }
    return 0;
}

/* Byte i is i modulo 251, a prime: a piece that is lost, doubled or moved shows. */
static int echo_blob(struct cohab_call *call)
{
    enum { PERIOD = 251, BLOCK = 260 * PERIOD };
    static unsigned char block[BLOCK];
    int64_t size;
    if (cohab_parse(call, "L", &size) != 0)
        return -1;
    if (size < 0 || size > UINT32_MAX)
        return cohab_fail(call, COHAB_INVALID_ARGUMENT, "argument 1 'n': expected 0 to %u, got %lld",
                          UINT32_MAX, (long long)size);
    if (block[1] == 0) {
        for (size_t i = 0; i < BLOCK; i++)
            block[i] = (unsigned char)(i % PERIOD);
    }
    msgpack_packer *result = cohab_result(call);
    if (msgpack_pack_bin(result, (size_t)size) != 0)
        return -1;
    for (size_t left = (size_t)size, piece; left > 0; left -= piece) {
        piece = left < BLOCK ? left : BLOCK;
        if (msgpack_pack_bin_body(result, block, piece) != 0)
            return -1;
    }
    return 0;
}

static const struct cohab_method methods[] = {
    {.name = "echo",
     .function = echo_echo,
     .signature = "echo(x: Any) -> Any",
     .doc = "Returns its argument.",
     .flags = COHAB_IDEMPOTENT},
    {.name = "sleep",
     .function = echo_sleep,
     .signature = "sleep(seconds: float) -> None",
     .doc = "Waits that long without using the CPU; ends within 10 ms of being cancelled.",
     .flags = COHAB_IDEMPOTENT},
    {.name = "spin",
     .function = echo_spin,
     .signature = "spin(seconds: float) -> None",
     .doc = "Uses that much CPU time of its own thread; ends at once when it is cancelled.",
     .flags = COHAB_IDEMPOTENT},
    {.name = "blob",
     .function = echo_blob,
     .signature = "blob(n: int) -> bytes",
     .doc = "Returns n bytes; byte i is i modulo 251.",
     .flags = COHAB_IDEMPOTENT},
};

const struct cohab_engine cohab_engine = {
    COHAB_ENGINE_HEADER(methods),
    .name = "echo",
    .version = COHAB_VERSION,
};
