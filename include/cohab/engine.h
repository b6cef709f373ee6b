/* The contract between cohab and an engine: plain C, usable from C++, versioned.
 *
 * An engine is a shared library that exports one symbol, `cohab_engine`. It leaves the cohab_* functions
 * below undefined; `cohabd`, which loads it, provides them. Nothing but msgpack-c's headers is needed to
 * build it:
 *
 *     cc -shared -fPIC $(pkg-config --cflags msgpack) -o libsums.so sums.c
 *
 * Who calls what, and where:
 *   load      [forkserver, once]          before any worker exists; what it builds is shared copy-on-write
 *   start     [worker, after fork]        once in each worker, before its first call
 *   method    [worker, per request]       one at a time, always on the worker's main thread
 *   stop      [worker, when it leaves]    not after a crash, a kill, or the loss of the machine
 *   selftest  [`cohabd --check`; at a reload the first worker, after start]
 *                                             proves that the loaded engine works
 *
 * The version rule: COHAB_ENGINE_ABI rises when an engine built before would misbehave. Fields are added only
 * at the end of a struct, and the sizes that the engine states tell an old engine from a new one. */
#ifndef COHAB_ENGINE_H
#define COHAB_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <msgpack.h>

#ifdef __cplusplus
extern "C" {
#endif

#define COHAB_ENGINE_ABI 1u

#if defined(__GNUC__)
#define COHAB_PRINTF(text, first) __attribute__((format(printf, text, first)))
#define COHAB_EXPORT              __attribute__((visibility("default")))
#else
#define COHAB_PRINTF(text, first)
#define COHAB_EXPORT
#endif

/* One running call. Valid until the method returns; owned by cohab. */
struct cohab_call;
/* What load, start and selftest are given. Valid until the hook returns; owned by cohab. */
struct cohab_setup;

/* Error codes: the canonical codes of gRPC, with gRPC's numbers. They travel by name. */
enum cohab_code {
    COHAB_CANCELLED = 1,
    COHAB_UNKNOWN = 2,
    COHAB_INVALID_ARGUMENT = 3,
    COHAB_DEADLINE_EXCEEDED = 4,
    COHAB_NOT_FOUND = 5,
    COHAB_ALREADY_EXISTS = 6,
    COHAB_PERMISSION_DENIED = 7,
    COHAB_RESOURCE_EXHAUSTED = 8,
    COHAB_FAILED_PRECONDITION = 9,
    COHAB_ABORTED = 10,
    COHAB_OUT_OF_RANGE = 11,
    COHAB_UNIMPLEMENTED = 12,
    COHAB_INTERNAL = 13,
    COHAB_UNAVAILABLE = 14,
    COHAB_DATA_LOSS = 15,
    COHAB_UNAUTHENTICATED = 16
};

/* Method flags. */
enum {
    COHAB_IDEMPOTENT = 1u << 0 /* calling it twice is the same as once: errors say that a retry is safe */
};

/* One method. All pointers are borrowed from the engine and live as long as the library is loaded. */
struct cohab_method {
    const char *name; /* as callers write it; names that begin with "cohab." are cohab's own */
    /* Returns 0 when the call succeeded (a result that was never written is None), -1 after cohab_fail(),
     * cohab_parse() or cohab_return() reported an error. */
    int (*function)(struct cohab_call *call);
    /* In Python's annotation syntax, for example "suggest(word: str, limit: int = 10) -> list[str]". Checked
     * when the engine is loaded, and every call is checked against it before the method runs: a method sees
     * only parameters of the number and the types that it asked for. Types: None bool int float str bytes
     * list[T] dict[K, V] array[float] array[int] Any, and unions (T | None). */
    const char *signature;
    const char *doc; /* for people, one sentence first; NULL for none */
    uint32_t flags;  /* COHAB_IDEMPOTENT or 0 */
};

/* The engine's description. Hooks that are not needed are NULL. Hooks return 0, or -1 after
 * cohab_setup_fail(). */
struct cohab_engine {
    uint32_t abi;         /* COHAB_ENGINE_ABI */
    uint32_t size;        /* sizeof(struct cohab_engine) */
    uint32_t method_size; /* sizeof(struct cohab_method) */
    uint32_t method_count;
    const struct cohab_method *methods;
    const char *name;
    const char *version;
    /* *state is the engine's own pointer, handed to the other hooks and, by cohab_state(), to methods. No
     * thread may be left running when load returns: threads do not survive fork. start may create them. */
    int (*load)(struct cohab_setup *setup, void **state);
    int (*start)(struct cohab_setup *setup, void **state);
    void (*stop)(void *state);
    int (*selftest)(struct cohab_setup *setup, void *state);
};

/* The first fields of a struct cohab_engine; first in the initialiser, as it sets the fields in order. */
#define COHAB_ENGINE_HEADER(method_table)                                                                    \
    .abi = COHAB_ENGINE_ABI, .size = sizeof(struct cohab_engine),                                            \
    .method_size = sizeof(struct cohab_method),                                                              \
    .method_count = (uint32_t)(sizeof(method_table) / sizeof((method_table)[0])), .methods = (method_table)

/* The symbol that the engine defines. */
COHAB_EXPORT extern const struct cohab_engine cohab_engine;

/* Provided by cohabd: visible whatever -fvisibility either side is built with. */
#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

/* --- In load, start and selftest --- */

/* The engine's arguments: what follows `--` on cohabd's command line. No program name among them. */
int cohab_setup_argc(const struct cohab_setup *setup);
/* Argument `index`, or NULL outside 0 .. argc-1. Lives as long as the process. */
const char *cohab_setup_argv(const struct cohab_setup *setup, int index);
/* Says why the hook fails, for the operator: one line. Returns -1. */
int cohab_setup_fail(struct cohab_setup *setup, const char *format, ...) COHAB_PRINTF(2, 3);

/* --- In a method: the call --- */

/* The pointer that load (or start) set, or NULL. */
void *cohab_state(const struct cohab_call *call);
/* The parameters: a MSGPACK_OBJECT_ARRAY. Strings and blobs in it point into the request and are not
 * NUL-terminated; everything lives until the method returns. Optional parameters that the caller left out are
 * absent. */
const msgpack_object *cohab_params(const struct cohab_call *call);
/* True once nobody wants the result any more: the deadline has passed, an operator has ended the call, or its
 * caller has gone away. A worker that goes on regardless is ended; for its caller's sake alone only where
 * cohabd runs with --cancel-kill. Cheap enough for an inner loop (one load and, at most, one clock read
 * through the vDSO). */
bool cohab_cancelled(const struct cohab_call *call);
/* Seconds until the deadline; negative once it has passed. Every call has one. */
double cohab_deadline_left(const struct cohab_call *call);
/* Memory that lives until the method returns, aligned for any type; NULL when there is none. */
void *cohab_alloc(struct cohab_call *call, size_t size);

/* --- In a method: the outcome --- */

/* Where the result is packed: exactly one msgpack value, with msgpack_pack_*(). A result that grows beyond
 * the server's
 * --max-frame is answered with RESOURCE_EXHAUSTED, and packing functions return -1 from there on. */
msgpack_packer *cohab_result(struct cohab_call *call);
/* Reports an error, discards what was packed, and returns -1. The message is for the caller: one line, UTF-8.
 * The reason is ENGINE_ERROR; BAD_ARGUMENT where code is COHAB_INVALID_ARGUMENT. */
int cohab_fail(struct cohab_call *call, enum cohab_code code, const char *format, ...) COHAB_PRINTF(3, 4);
/* The same with a reason of the engine's own: a stable upper-case word that callers can test for. */
int cohab_fail_reason(struct cohab_call *call, enum cohab_code code, const char *reason, const char *format,
                      ...) COHAB_PRINTF(4, 5);

/* --- For those who come from PyArg_ParseTuple and Py_BuildValue --- */

/* Reads the positional parameters into C variables. Returns 0, or -1 after it reported INVALID_ARGUMENT with
 * the argument's name (from the signature), what was expected and what came. Parameters behind `|` are
 * optional: where the caller left them out, the variables keep their values.
 *
 *   p  bool *                          bool
 *   i  int *                           int in the range of int
 *   L  int64_t *                       int in the range of int64_t
 *   K  uint64_t *                      int in the range of uint64_t
 *   d  double *                        float or int
 *   s  const char **                   str, copied, NUL-terminated; refuses a NUL inside
 *   s# const char **, size_t *         str: not copied, not terminated
 *   z  z#                              as s and s#, or None: NULL
 *   y# const char **, size_t *         bytes: not copied
 *   D  const double **, size_t *       array of float or int, as contiguous doubles; length in elements
 *   Q  const int64_t **, size_t *      array of int, as contiguous integers; length in elements
 *   O  const msgpack_object **         anything
 *
 * What is copied lives until the method returns. Array data is aligned for its type. d and D round integers
 * beyond 2^53. */
int cohab_parse(struct cohab_call *call, const char *format, ...);

/* Writes the result and returns 0; or -1 after it reported an error (RESULT_TOO_LARGE, or INTERNAL for a
 * wrong format). An empty format is None; several items without brackets make a list.
 *
 *   n  (no argument)                   None
 *   p  int                             bool
 *   i  int    L  int64_t   K  uint64_t int
 *   d  double                          float
 *   s  const char *                    str; NULL is None
 *   s# const char *, size_t            str of that many bytes
 *   y# const char *, size_t            bytes
 *   D  const double *, size_t          list of float
 *   Q  const int64_t *, size_t         list of int
 *   O  const msgpack_object *          anything
 *   [items]  (items)                   list
 *   {key value ...}                    dict; colons, commas and spaces between items are ignored */
int cohab_return(struct cohab_call *call, const char *format, ...);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
