#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <ucontext.h>
#include <unistd.h>

#include "capture.h"
#include "random.h"
#include "symbols.h"

#if defined(__x86_64__)
#define COUNTER 16
#define POINTER 7
#else
#define COUNTER 32
#define POINTER 31
#endif

static struct snapshot snapshot;
static struct symbols *symbols;
static struct symbols_frame frames[SYMBOLS_FRAMES_MAX];

/* --- real stacks --- */

__attribute__((noinline, noclone)) static int innermost(void)
{
    ucontext_t context;
    getcontext(&context);
    capture_live(&context);
    return snapshot.stack_size > 0;
}

/* A C name that is a type in C++'s mangling. */
__attribute__((noinline, noclone)) static int f(void)
{
    volatile int below = innermost();
    return below;
}

/* volatile: else the compiler makes a loop of it */
__attribute__((noinline, noclone)) static int middle(volatile int depth)
{
    volatile int below = depth == 0 ? f() : middle(depth - 1);
    return below + 1;
}

static int set_up(void **state)
{
    (void)state;
    symbols = symbols_new();
    return symbols && capture_init(&snapshot, NULL, SNAPSHOT_SERVING) == 0 && middle(5) > 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    symbols_free(symbols);
    return 0;
}

static size_t unwind(const struct snapshot *from)
{
    const char *why;
    size_t count = symbols_unwind(symbols, from, frames, SYMBOLS_FRAMES_MAX, &why);
    return symbols_name(symbols, frames, count, SYMBOLS_FRAMES_MAX);
}

static size_t count_named(const char *name, size_t count)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++)
        found += strcmp(frames[i].symbol, name) == 0;
    return found;
}

static void test_a_stack(void **state)
{
    (void)state;
    size_t count = unwind(&snapshot);
    assert_int_equal(count_named("innermost", count), 1);
    assert_int_equal(count_named("f", count), 1);
    assert_int_equal(count_named("middle", count), 6);
    assert_int_equal(count_named("main", count), 1);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(frames[i].symbol, "middle") != 0)
            continue;
        assert_string_equal(frames[i].module, "test_symbols");
        assert_string_equal(symbols_maps_base(frames[i].file), "test_symbols.c");
        assert_true(frames[i].line > 40 && frames[i].line < 70);
        assert_true(frames[i].symbol_offset > 0 && frames[i].symbol_offset < 200);
    }
}

static void test_the_same_again(void **state)
{
    (void)state;
    size_t count = unwind(&snapshot);
    symbols_warm(symbols, &snapshot);
    assert_int_equal(unwind(&snapshot), count);
}

static struct snapshot *copy(void)
{
    struct snapshot *changed = aligned_alloc(_Alignof(struct snapshot), sizeof(*changed));
    assert_non_null(changed);
    memcpy(changed, &snapshot, sizeof(*changed));
    return changed;
}

#if defined(__x86_64__)
/* As after a call through a null pointer: the return address lies on top of the stack. */
static void call_null(struct snapshot *changed, uint64_t from)
{
    uint64_t top = changed->registers[POINTER] - sizeof(uint64_t);
    memcpy(changed->stack + (top - changed->stack_from), &from, sizeof(uint64_t));
    changed->registers[POINTER] = top;
    changed->registers[COUNTER] = 0;
}

static void test_a_wild_call(void **state)
{
    struct snapshot *changed = copy();
    (void)state;
    call_null(changed, snapshot.registers[COUNTER]);
    size_t count = unwind(changed);
    assert_int_equal(frames[0].address, 0);
    assert_string_equal(frames[0].module, "");
    assert_int_equal(frames[1].address, snapshot.registers[COUNTER]);
    assert_string_equal(frames[1].symbol, "innermost");
    assert_int_equal(count_named("middle", count), 6);
    assert_int_equal(symbols_top(frames, count), 1);
    free(changed);
}

/* A call that does not return can be the last instruction of its function: what it would return to is the
 * next one. */
static void test_a_wild_call_from_the_end_of_a_function(void **state)
{
    struct snapshot *changed = copy();
    (void)state;
    call_null(changed, (uintptr_t)middle);
    unwind(changed);
    assert_int_equal(frames[1].address, (uintptr_t)middle);
    assert_string_not_equal(frames[1].symbol, "middle");
    free(changed);
}
#endif

static void test_a_stack_that_was_cut(void **state)
{
    struct snapshot *changed = copy();
    (void)state;
    size_t whole = unwind(&snapshot);
    changed->stack_size = 512;
    size_t cut = unwind(changed);
    assert_true(cut > 0 && cut < whole);
    changed->stack_size = 0;
    assert_true(unwind(changed) <= 2);
    free(changed);
}

static void test_no_mappings(void **state)
{
    const char *why = NULL;
    struct snapshot *changed = copy();
    (void)state;
    changed->maps_size = 0;
    assert_int_equal(symbols_unwind(symbols, changed, frames, SYMBOLS_FRAMES_MAX, &why), 0);
    assert_string_equal(why, "the process could not list its mappings");
    free(changed);
}

/* A file that lies there no more has modules and offsets yet. */
static void test_a_file_that_is_gone(void **state)
{
    struct snapshot *changed = copy();
    (void)state;
    char *at = memmem(changed->maps, changed->maps_size, "/test_symbols\n", 14);
    while (at) {
        memcpy(at, "/test_Symbols\n", 14);
        at = memmem(changed->maps, changed->maps_size, "/test_symbols\n", 14);
    }
    size_t count = unwind(changed);
    assert_true(count >= 1);
    assert_string_equal(frames[0].module, "test_Symbols");
    assert_string_equal(frames[0].symbol, "");
    assert_true(frames[0].offset > 0);
    free(changed);
}

/* --- files that change --- */

static char own_copy[] = "/tmp/test_symbols-XXXXXX";

/* Writes the test program to the file, which has no name yet, or anew into the same one. */
static void write_own_copy(void)
{
    char bytes[65536];
    size_t size;
    FILE *from = fopen("/proc/self/exe", "rb"), *to = fopen(own_copy, "wb");
    assert_true(from && to);
    while ((size = fread(bytes, 1, sizeof(bytes), from)) > 0)
        assert_int_equal(fwrite(bytes, 1, size, to), size);
    fclose(from);
    assert_int_equal(fclose(to), 0);
}

/* Has all mappings of the test program be of its copy. */
static struct snapshot *map_own_copy(void)
{
    struct snapshot *changed = copy();
    struct symbols_mapping mapping;
    struct stat status;
    char self[SYMBOLS_PATH_SIZE] = "";
    assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
    assert_int_equal(stat(own_copy, &status), 0);
    FILE *maps = fmemopen(changed->maps, SNAPSHOT_MAPS_SIZE, "w");
    for (size_t at = 0; symbols_maps_next(snapshot.maps, snapshot.maps_size, &at, &mapping);)
        fprintf(maps, "%lx-%lx r-xp %lx %x:%x %lu %s\n", mapping.start, mapping.end, mapping.offset,
                mapping.major, mapping.minor, strcmp(mapping.path, self) ? mapping.inode : status.st_ino,
                strcmp(mapping.path, self) ? mapping.path : own_copy);
    changed->maps_size = (uint32_t)ftell(maps);
    fclose(maps);
    return changed;
}

static struct snapshot *make_own_copy(void)
{
    strcpy(own_copy + strlen(own_copy) - 6, "XXXXXX");
    int file = mkstemp(own_copy);
    assert_true(file >= 0);
    close(file);
    write_own_copy();
    return map_own_copy();
}

/* Whoever replaces a file as one should: the old one goes on to be what it was for those that have it. */
static void test_a_file_that_was_replaced(void **state)
{
    struct snapshot *changed = make_own_copy();
    (void)state;
    size_t count = unwind(changed);
    assert_int_equal(count_named("middle", count), 6);
    assert_int_equal(rename(own_copy, "/tmp/test_symbols-old"), 0);
    write_own_copy();
    assert_int_equal(count_named("middle", unwind(changed)), 6);
    symbols_free(symbols);
    symbols = symbols_new();
    unwind(changed);
    assert_string_equal(frames[0].symbol, "");
    assert_true(frames[0].offset > 0);
    unlink("/tmp/test_symbols-old");
    unlink(own_copy);
    free(changed);
}

/* A file that was written anew while it was mapped: what is in it now says nothing about what was run, and
 * what is mapped of it may be gone. */
static void test_a_file_that_was_overwritten(void **state)
{
    struct snapshot *changed = make_own_copy();
    (void)state;
    assert_int_equal(count_named("middle", unwind(changed)), 6);
    assert_int_equal(truncate(own_copy, 100), 0);
    for (int i = 0; i < 2; i++) {
        assert_true(unwind(changed) >= 1);
        assert_string_equal(frames[0].symbol, "");
        assert_true(frames[0].offset > 0);
        write_own_copy();
    }
    unlink(own_copy);
    free(changed);
}

/* Not so much as opened: a device may do things then. */
static void test_a_pipe_in_place_of_a_file(void **state)
{
    struct snapshot *changed = make_own_copy();
    (void)state;
    unlink(own_copy);
    assert_int_equal(mkfifo(own_copy, 0600), 0);
    int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    assert_true(inotify_add_watch(watch, own_copy, IN_OPEN) >= 0);
    unwind(changed);
    struct inotify_event event;
    assert_true(read(watch, &event, sizeof(event)) < 0);
    assert_string_equal(frames[0].symbol, "");
    close(watch);
    unlink(own_copy);
    free(changed);
}

/* Files without code do not crowd out those with it. */
static void test_many_data_files(void **state)
{
    struct snapshot *changed = copy();
    size_t used = 0;
    (void)state;
    for (unsigned i = 0; i < 1000; i++)
        used += (size_t)sprintf(changed->maps + used, "%x000-%x000 r--p 0 8:1 %u /d\n", 2 * i + 1, 2 * i + 2,
                                i + 1);
    assert_true(used + snapshot.maps_size <= SNAPSHOT_MAPS_SIZE);
    memcpy(changed->maps + used, snapshot.maps, snapshot.maps_size);
    changed->maps_size = (uint32_t)used + snapshot.maps_size;
    assert_int_equal(count_named("middle", unwind(changed)), 6);
    free(changed);
}

/* --- lies --- */

static void test_sizes_that_lie(void **state)
{
    struct snapshot *changed = copy();
    (void)state;
    changed->stack_from = 0;
    changed->stack_size = UINT64_MAX;
    unwind(changed);
    changed->registers[POINTER] = SNAPSHOT_STACK_SIZE + (64u << 20);
    changed->registers[COUNTER] = 0;
    assert_int_equal(unwind(changed), 1);
    changed->maps_size = UINT32_MAX;
    assert_true(unwind(changed) <= SYMBOLS_FRAMES_MAX);
    free(changed);
}

static void test_random_registers_and_stacks(void **state)
{
    struct random random = random_seeded(1);
    struct snapshot *changed = copy();
    (void)state;
    for (int i = 0; i < 300; i++) {
        size_t size = snapshot.stack_size;
        memcpy(changed->stack, snapshot.stack, size);
        memcpy(changed->registers, snapshot.registers, sizeof(changed->registers));
        for (int word = 0; word < 20; word++)
            random_fill(&random, changed->stack + (random_below(&random, (uint32_t)size) & ~7u) % (size - 8),
                        8);
        if (i % 3 == 0)
            random_fill(&random, changed->registers, sizeof(changed->registers));
        assert_true(unwind(changed) <= SYMBOLS_FRAMES_MAX);
    }
    free(changed);
}

/* Addresses of code, in an endless row: 256 frames, and then it is enough. */
static void test_a_stack_that_leads_in_circles(void **state)
{
    struct snapshot *changed = copy();
    (void)state;
    for (size_t at = 0; at + 8 <= changed->stack_size; at += 8)
        memcpy(changed->stack + at, &snapshot.registers[COUNTER], 8);
    assert_true(unwind(changed) <= SYMBOLS_FRAMES_MAX);
    free(changed);
}

static void test_random_mappings(void **state)
{
    struct random random = random_seeded(2);
    struct snapshot *changed = copy();
    (void)state;
    for (int i = 0; i < 200; i++) {
        memcpy(changed->maps, snapshot.maps, snapshot.maps_size);
        for (int bytes = 0; bytes < 10; bytes++)
            changed->maps[random_below(&random, snapshot.maps_size)] = (char)random_next(&random);
        if (i % 4 == 0)
            random_fill(&random, changed->maps, snapshot.maps_size);
        assert_true(unwind(changed) <= SYMBOLS_FRAMES_MAX);
    }
    free(changed);
}

/* --- PURE parts --- */

static void test_locate(void **state)
{
    static const char maps[] = "1000-2000 r--p 00000000 08:01 5 /lib/x.so\n"
                               "2000-3000 r-xp 00001000 08:01 5 /lib/x.so\n"
                               "nonsense\n"
                               "5000-6000 r-xp 00000000 08:01 7 /tmp/with space.so (deleted)\n";
    /* as lld lays files out: code lies further on in memory than in the file */
    static const char shifted[] = "1000-2000 r--p 00000000 08:01 5 /lib/x.so\n"
                                  "2000-3000 r-xp 00000000 08:01 5 /lib/x.so\n"
                                  "3000-4000 r-xp 00000000 08:01 6 /lib/y.so\n";
    struct symbols_frame frame;
    (void)state;
    assert_true(symbols_locate(shifted, sizeof(shifted) - 1, 0x2010, &frame));
    assert_int_equal(frame.offset, 0x1010);
    assert_true(symbols_locate(shifted, sizeof(shifted) - 1, 0x3010, &frame));
    assert_int_equal(frame.offset, 0x10);
    assert_true(symbols_locate(maps, sizeof(maps) - 1, 0x2010, &frame));
    assert_string_equal(frame.module, "x.so");
    assert_int_equal(frame.offset, 0x1010);
    assert_true(symbols_locate(maps, sizeof(maps) - 1, 0x5008, &frame));
    assert_string_equal(frame.path, "/tmp/with space.so");
    assert_false(symbols_locate(maps, sizeof(maps) - 1, 0x3000, &frame));
    assert_false(symbols_locate(maps, 10, 0x2010, &frame));
    assert_false(symbols_locate("", 0, 0x2010, &frame));
}

static void expect_short(const char *name, const char *expected)
{
    char text[256];
    snprintf(text, sizeof(text), "%s", name);
    symbols_shorten(text);
    assert_string_equal(text, expected);
}

static void test_shorten(void **state)
{
    (void)state;
    expect_short("main", "main");
    expect_short("Affix::lookup(char const*, int) const", "Affix::lookup");
    expect_short("void A::f<int>(std::vector<int, std::allocator<int> > const&)", "A::f<int>");
    expect_short("fault::Destroyed::~Destroyed()", "fault::Destroyed::~Destroyed");
    expect_short("operator new(unsigned long)", "operator new");
    expect_short("A::operator()(int)", "A::operator()");
    expect_short("(anonymous namespace)::f(int)", "(anonymous namespace)::f");
    expect_short("f(void (*)(int))", "f");
    expect_short("g(int) [clone .cold]", "g");
    expect_short("std::function<int (int)>::operator()(int) const", "std::function<int (int)>::operator()");
    expect_short("int call<g()::{lambda(int)#1}>(g()::{lambda(int)#1})", "call<g()::{lambda(int)#1}>");
    expect_short("f(int)::{lambda(int)#1}::operator()(int) const", "f(int)::{lambda(int)#1}::operator()");
    expect_short("f(int)::{lambda(int)#1}", "f(int)::{lambda(int)#1}");
    expect_short("A::text[abi:cxx11](int) const &", "A::text[abi:cxx11]");
    expect_short("A::operator bool() const", "A::operator bool");
    expect_short("bool operator< <int>(X<int> const&, X<int> const&)", "operator< <int>");
    expect_short("", "");
    expect_short(")", ")");
    expect_short("(", "(");
}

static void expect_described(struct symbols_frame frame, const char *expected)
{
    char text[512];
    symbols_describe(&frame, text, sizeof(text));
    assert_string_equal(text, expected);
}

static void test_describe(void **state)
{
    (void)state;
    struct symbols_frame frame = {.address = 0x7f0012345678};
    expect_described(frame, "0x7f0012345678");
    strcpy(frame.module, "libspell.so");
    frame.offset = 0x1234;
    expect_described(frame, "libspell.so+0x1234");
    strcpy(frame.symbol, "Affix::lookup");
    frame.symbol_offset = 0x4f;
    expect_described(frame, "libspell.so!Affix::lookup+0x4f");
    strcpy(frame.file, "/build/src/affix.cxx");
    frame.line = 120;
    expect_described(frame, "libspell.so!Affix::lookup+0x4f (affix.cxx:120)");
    frame.inlined = true;
    expect_described(frame, "libspell.so!Affix::lookup (affix.cxx:120)");
}

static void test_top_and_bottom(void **state)
{
    static const char *const modules[] = {"libc.so.6", "libstdc++.so.6", "libspell.so", "cohabd",
                                          "libc.so.6"};
    struct symbols_frame stack[5] = {0};
    (void)state;
    for (size_t i = 0; i < 5; i++)
        strcpy(stack[i].module, modules[i]);
    assert_int_equal(symbols_top(stack, 5), 2);
    assert_int_equal(symbols_bottom(stack, 5), 3);
    assert_int_equal(symbols_top(stack, 2), 0);
    assert_int_equal(symbols_bottom(stack, 2), 2);
    assert_int_equal(symbols_top(stack, 0), 0);
    strcpy(stack[2].symbol, "std::string::_M_data");
    assert_int_equal(symbols_top(stack, 5), 2);
    strcpy(stack[3].module, "libspell.so");
    strcpy(stack[3].symbol, "Affix::lookup");
    assert_int_equal(symbols_top(stack, 5), 3);
}

static size_t top_above(const char *module)
{
    struct symbols_frame stack[2] = {{.module = ""}, {.module = "libspell.so"}};
    snprintf(stack[0].module, sizeof(stack[0].module), "%s", module);
    return symbols_top(stack, 2);
}

static void test_which_modules_are_to_blame(void **state)
{
    static const char *const never[] = {
        "libc.so.6",       "libc-2.31.so",         "libm.so.6",     "libdl.so.2",
        "libpthread.so.0", "librt-2.31.so",        "[vdso]",        "libasan.so.8",
        "libc++abi.so.1",  "ld-linux-x86-64.so.2", "libgcc_s.so.1", "cohabd"};
    static const char *const engines[] = {"libdlib.so.19",     "libc-client.so.2007e", "libm-engine.so",
                                          "libpthreadpool.so", "libunwinder.so",       "libcohabd.so"};
    (void)state;
    for (size_t i = 0; i < sizeof(never) / sizeof(*never); i++)
        assert_int_equal(top_above(never[i]), 1);
    for (size_t i = 0; i < sizeof(engines) / sizeof(*engines); i++)
        assert_int_equal(top_above(engines[i]), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stack),
        cmocka_unit_test(test_the_same_again),
#if defined(__x86_64__)
        cmocka_unit_test(test_a_wild_call),
        cmocka_unit_test(test_a_wild_call_from_the_end_of_a_function),
#endif
        cmocka_unit_test(test_a_stack_that_was_cut),
        cmocka_unit_test(test_no_mappings),
        cmocka_unit_test(test_a_file_that_is_gone),
        cmocka_unit_test(test_a_file_that_was_replaced),
        cmocka_unit_test(test_a_file_that_was_overwritten),
        cmocka_unit_test(test_a_pipe_in_place_of_a_file),
        cmocka_unit_test(test_many_data_files),
        cmocka_unit_test(test_sizes_that_lie),
        cmocka_unit_test(test_random_registers_and_stacks),
        cmocka_unit_test(test_a_stack_that_leads_in_circles),
        cmocka_unit_test(test_random_mappings),
        cmocka_unit_test(test_locate),
        cmocka_unit_test(test_shorten),
        cmocka_unit_test(test_describe),
        cmocka_unit_test(test_top_and_bottom),
        cmocka_unit_test(test_which_modules_are_to_blame),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
