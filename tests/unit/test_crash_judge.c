#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/crash_judge.h"
#include "cli/crash_place.h"
#include "pack.h"

static msgpack_unpacked trees[4];
static size_t tree_count;

static int tear_down(void **state)
{
    (void)state;
    while (tree_count > 0)
        msgpack_unpacked_destroy(&trees[--tree_count]);
    return 0;
}

static const msgpack_object *finish(msgpack_sbuffer *buffer)
{
    msgpack_unpacked *tree = &trees[tree_count++];
    static msgpack_sbuffer kept[4];
    msgpack_sbuffer_destroy(&kept[tree_count - 1]);
    kept[tree_count - 1] = *buffer; /* the tree leads into it */
    msgpack_unpacked_init(tree);
    assert_int_equal(msgpack_unpack_next(tree, buffer->data, buffer->size, NULL), MSGPACK_UNPACK_SUCCESS);
    return &tree->data;
}

static void pack_pair(msgpack_packer *packer, const char *key, const char *value)
{
    pack_text(packer, key);
    if (value)
        pack_text(packer, value);
    else
        msgpack_pack_nil(packer);
}

static void pack_frames(msgpack_packer *packer, const char *key, const char *frame, bool maps)
{
    pack_text(packer, key);
    msgpack_pack_array(packer, frame ? 1 : 0);
    if (frame && maps) {
        msgpack_pack_map(packer, 1);
        pack_pair(packer, "text", frame);
    } else if (frame) {
        pack_text(packer, frame);
    }
}

static const msgpack_object *make_report(const char *kind, const char *signal, int status, const char *frame)
{
    msgpack_sbuffer buffer;
    msgpack_packer packer;
    msgpack_sbuffer_init(&buffer);
    msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
    msgpack_pack_map(&packer, 2);
    pack_text(&packer, "cause");
    msgpack_pack_map(&packer, 3);
    pack_pair(&packer, "kind", kind);
    pack_pair(&packer, "signal", signal);
    pack_text(&packer, "status");
    msgpack_pack_int(&packer, status);
    pack_frames(&packer, "stack", frame, true);
    return finish(&buffer);
}

static const msgpack_object *make_error(const char *reason, const char *signal, const char *frame)
{
    msgpack_sbuffer buffer;
    msgpack_packer packer;
    msgpack_sbuffer_init(&buffer);
    msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
    msgpack_pack_map(&packer, 2);
    pack_pair(&packer, "reason", reason);
    pack_text(&packer, "details");
    msgpack_pack_map(&packer, 2);
    pack_pair(&packer, "signal", signal);
    pack_frames(&packer, "frames", frame, false);
    return finish(&buffer);
}

#define HERE  "libx.so!here+0x4 (x.c:1)"
#define HERE2 "libx.so!here+0x8 (x.c:2)"
#define THERE "libx.so!there+0x4 (x.c:1)"

static void expect(const msgpack_object *report, const struct crash_outcome *outcome, bool crashed,
                   bool same_cause, bool same_place)
{
    struct crash_verdict verdict = crash_judge(report, outcome);
    assert_int_equal(verdict.crashed, crashed);
    assert_int_equal(verdict.same_cause, same_cause);
    assert_int_equal(verdict.same_place, same_place);
}

static void expect_error(const msgpack_object *report, const char *reason, const char *signal,
                         const char *frame, bool crashed, bool same_cause, bool same_place)
{
    struct crash_outcome outcome = {.error = make_error(reason, signal, frame)};
    expect(report, &outcome, crashed, same_cause, same_place);
    msgpack_unpacked_destroy(&trees[--tree_count]);
}

static void test_by_the_error(void **state)
{
    (void)state;
    const msgpack_object *report = make_report("signal", "SIGSEGV", 0, HERE);
    expect_error(report, "ENGINE_CRASHED", "SIGSEGV", HERE, true, true, true);
    expect_error(report, "ENGINE_CRASHED", "SIGSEGV", HERE2, true, true, true);
    expect_error(report, "ENGINE_CRASHED", "SIGSEGV", THERE, true, true, false);
    expect_error(report, "ENGINE_CRASHED", "SIGSEGV", NULL, true, true, false);
    expect_error(report, "ENGINE_CRASHED", "SIGBUS", HERE, true, false, true);
    expect_error(report, "ENGINE_CRASHED", NULL, HERE, true, false, true);
    expect_error(report, "DEADLINE", NULL, HERE, false, false, false);
    expect_error(report, "ENGINE_ERROR", NULL, NULL, false, false, false);
}

static void test_without_an_old_stack(void **state)
{
    (void)state;
    expect_error(make_report("signal", "SIGKILL", 0, NULL), "ENGINE_CRASHED", "SIGKILL", HERE, true, true,
                 false);
}

static void test_exit_and_deadline_by_the_error(void **state)
{
    (void)state;
    expect_error(make_report("exit", NULL, 3, HERE), "ENGINE_CRASHED", NULL, HERE, true, true, true);
    expect_error(make_report("deadline", NULL, 0, HERE), "DEADLINE", NULL, HERE, true, true, true);
    expect_error(make_report("slow", NULL, 0, HERE), "DEADLINE", NULL, NULL, true, true, false);
}

/* They would have run past a shorter deadline. */
static void test_calls_that_nobody_wanted_any_more(void **state)
{
    (void)state;
    expect_error(make_report("cancelled", NULL, 0, HERE), "DEADLINE", NULL, HERE, true, true, true);
    expect_error(make_report("killed", NULL, 0, HERE), "DEADLINE", NULL, THERE, true, true, false);
}

static void test_by_the_new_report(void **state)
{
    (void)state;
    const msgpack_object *report = make_report("exit", NULL, 3, HERE);
    struct crash_outcome same = {.report = make_report("exit", NULL, 3, HERE2)};
    struct crash_outcome other = {.report = make_report("exit", NULL, 4, THERE)};
    expect(report, &same, true, true, true);
    expect(report, &other, true, false, false);
}

static void test_nothing(void **state)
{
    (void)state;
    struct crash_outcome outcome = {0};
    struct msgpack_object nil = {.type = MSGPACK_OBJECT_NIL};
    expect(make_report("signal", "SIGSEGV", 0, HERE), &outcome, false, false, false);
    expect(&nil, &outcome, false, false, false);
    expect(make_report("nonsense", NULL, 0, NULL), &outcome, false, false, false);
}

static bool are_equal(const char *a, const char *b)
{
    msgpack_object x = {.type = MSGPACK_OBJECT_STR, .via.str = {.ptr = a, .size = (uint32_t)strlen(a)}};
    msgpack_object y = {.type = MSGPACK_OBJECT_STR, .via.str = {.ptr = b, .size = (uint32_t)strlen(b)}};
    return crash_place_equal(&x, &y) && crash_place_equal(&y, &x);
}

static void test_places(void **state)
{
    (void)state;
    assert_true(are_equal("a.so!f+0x1 (f.c:1)", "a.so!f+0xff (f.c:9)"));
    assert_true(are_equal("a.so!f+0x1", "a.so!f"));
    assert_true(are_equal("a.so!f (f.c:1)", "a.so!f+0x2"));
    assert_true(
        are_equal("a.so!(anonymous namespace)::f(int)+0x1", "a.so!(anonymous namespace)::f(int)+0x2"));
    assert_false(are_equal("a.so!f+0x1", "a.so!g+0x1"));
    assert_false(are_equal("a.so!f+0x1", "b.so!f+0x1"));
    assert_false(are_equal("a.so!f+0x1", "a.so!ff+0x1"));
    assert_true(are_equal("a.so+0x1234", "a.so+0x1234"));
    assert_false(are_equal("a.so+0x1234", "a.so+0x1238"));
    assert_false(are_equal("", "a.so!f"));
    assert_true(are_equal("", ""));
}

static void expect_place(const char *wanted, const char *const *frames, size_t count, uint64_t at)
{
    msgpack_object items[8];
    for (size_t i = 0; i < count; i++)
        items[i] = (msgpack_object){.type = MSGPACK_OBJECT_STR,
                                    .via.str = {.ptr = frames[i], .size = (uint32_t)strlen(frames[i])}};
    msgpack_object stack = {.type = MSGPACK_OBJECT_ARRAY,
                            .via.array = {.size = (uint32_t)count, .ptr = items}};
    msgpack_object top = {.type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = at};
    const msgpack_object *place = crash_place_find(&stack, &top);
    if (wanted)
        assert_memory_equal(place->via.str.ptr, wanted, place->via.str.size);
    else
        assert_null(place);
}

static void test_the_frame_to_blame(void **state)
{
    (void)state;
    static const char *const aborted[] = {"libc.so.6!pthread_kill+0x1", "libc.so.6!abort+0x1",
                                          "libstdc++.so.6!std::terminate()+0x1", "libx.so!f+0x1"};
    expect_place("libx.so!f+0x1", aborted, 4, 3);
    expect_place("libc.so.6!pthread_kill+0x1", aborted, 4, 4);
    expect_place("libc.so.6!pthread_kill+0x1", aborted, 4, UINT64_MAX);
    expect_place(NULL, aborted, 0, 0);
    assert_null(crash_place_find(NULL, NULL));
}

#define TEST(name) cmocka_unit_test_teardown(name, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_by_the_error),
        TEST(test_without_an_old_stack),
        TEST(test_exit_and_deadline_by_the_error),
        TEST(test_calls_that_nobody_wanted_any_more),
        TEST(test_by_the_new_report),
        TEST(test_nothing),
        TEST(test_places),
        TEST(test_the_frame_to_blame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
