#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "check.h"
#include "cli/template.h"
#include "envelope.h"
#include "pack.h"

static const char file_text[] = "alpha\nbeta\ngamma ray\n";
static struct words words;

static const struct words *find_words(void *context, const char *path, char *why, size_t why_size)
{
    (void)context;
    if (strcmp(path, "words") == 0)
        return &words;
    snprintf(why, why_size, "no such file");
    return NULL;
}

static const struct template_files files = {.find = find_words};

/* A template of "echo" with the parameters of a msgpack array, and a frame for it. */
struct fixture {
    struct template template;
    struct template_values values;
    struct template_frame frame;
    char why[5000];
    unsigned char *body; /* of the frame that was filled last */
    size_t size;
    struct envelope_request request;
    msgpack_unpacked params;
};

static int build_array(struct fixture *fixture, const msgpack_object *items, uint32_t count)
{
    msgpack_object_array params = {.size = count, .ptr = (msgpack_object *)items};
    memset(fixture, 0, sizeof(*fixture));
    fixture->values.random = random_seeded(3);
    msgpack_unpacked_init(&fixture->params);
    return template_build(&fixture->template, "echo", &params, &files, fixture->why, sizeof(fixture->why));
}

static msgpack_object text_object(const char *text)
{
    return (msgpack_object){.type = MSGPACK_OBJECT_STR,
                            .via.str = {.ptr = text, .size = (uint32_t)strlen(text)}};
}

static int build(struct fixture *fixture, const char *text)
{
    const msgpack_object item = text_object(text);
    return build_array(fixture, &item, 1);
}

static void free_fixture(struct fixture *fixture)
{
    template_free(&fixture->template);
    free(fixture->frame.scratch);
    free(fixture->body);
    msgpack_unpacked_destroy(&fixture->params);
}

/* Fills the frame, which has no byte more than it needs, puts the pieces together and reads them as the
 * server does. Returns the parameters. */
static const msgpack_object_array *fill(struct fixture *fixture, uint32_t msgid, uint64_t deadline)
{
    const char *why;
    if (!fixture->frame.scratch)
        fixture->frame.scratch = malloc(fixture->template.scratch_size);
    assert_non_null(fixture->frame.scratch);
    template_fill(&fixture->template, &fixture->values, msgid, deadline, &fixture->frame);
    fixture->body = realloc(fixture->body, fixture->frame.size);
    assert_non_null(fixture->body);
    fixture->size = 0;
    assert_true(fixture->frame.count <= TEMPLATE_PIECES_MAX);
    for (size_t i = 0; i < fixture->frame.count; i++) {
        const struct iovec *piece = &fixture->frame.pieces[i];
        memcpy(fixture->body + fixture->size, piece->iov_base, piece->iov_len);
        fixture->size += piece->iov_len;
    }
    assert_int_equal(fixture->size, fixture->frame.size);
    assert_int_equal(frame_get_length(fixture->body), fixture->size - FRAME_HEADER_SIZE);
    assert_int_equal(envelope_read_request(fixture->body + FRAME_HEADER_SIZE,
                                           fixture->size - FRAME_HEADER_SIZE, &fixture->request, &why),
                     ENVELOPE_OK);
    assert_int_equal(fixture->request.msgid, msgid);
    assert_true(fixture->request.has_deadline);
    assert_int_equal(fixture->request.deadline, deadline);
    assert_memory_equal(fixture->request.method, "echo", 4);
    size_t offset = 0;
    assert_int_equal(msgpack_unpack_next(&fixture->params, (const char *)fixture->request.params,
                                         fixture->request.params_size, &offset),
                     MSGPACK_UNPACK_SUCCESS);
    return &fixture->params.data.via.array;
}

static void expect_text(struct fixture *fixture, const char *wanted)
{
    const msgpack_object *value = &fill(fixture, 1, 2)->ptr[0];
    assert_int_equal(value->type, MSGPACK_OBJECT_STR);
    assert_int_equal(value->via.str.size, strlen(wanted));
    assert_memory_equal(value->via.str.ptr, wanted, strlen(wanted));
}

static void expect_constant(const char *text, const char *wanted)
{
    struct fixture fixture;
    assert_int_equal(build(&fixture, text), 0);
    assert_false(fixture.template.changes);
    expect_text(&fixture, wanted);
    free_fixture(&fixture);
}

static void refuse(const char *text, const char *reason)
{
    struct fixture fixture;
    assert_int_equal(build(&fixture, text), -1);
    if (!strstr(fixture.why, reason))
        fail_msg("%s: %s", text, fixture.why);
    free_fixture(&fixture);
}

static void test_constants(void **state)
{
    struct fixture fixture;
    (void)state;
    assert_int_equal(build_array(&fixture, NULL, 0), 0);
    assert_false(fixture.template.changes);
    assert_int_equal(fill(&fixture, 0, 0)->size, 0);
    assert_int_equal(fill(&fixture, UINT32_MAX, UINT64_MAX)->size, 0);
    free_fixture(&fixture);
    expect_constant("", "");
    expect_constant("plain", "plain");
    expect_constant("{", "{");
    expect_constant("{}{other} {counted} {integer:1:2} {\"int\": 1}",
                    "{}{other} {counted} {integer:1:2} {\"int\": 1}");
}

static void test_a_second_pair_of_braces(void **state)
{
    struct fixture fixture;
    (void)state;
    expect_constant("{{counter}}", "{counter}");
    expect_constant("a {{word:nothing}} b", "a {word:nothing} b");
    expect_constant("{{other}}", "{{other}}");
    assert_int_equal(build(&fixture, "{{{counter}"), 0);
    expect_text(&fixture, "{{1");
    free_fixture(&fixture);
}

static void test_counter(void **state)
{
    struct fixture fixture;
    (void)state;
    assert_int_equal(build(&fixture, "{counter}"), 0);
    assert_true(fixture.template.changes);
    for (uint32_t i = 1; i < 5; i++) {
        const msgpack_object *value = &fill(&fixture, i, i)->ptr[0];
        assert_int_equal(value->type, MSGPACK_OBJECT_POSITIVE_INTEGER);
        assert_int_equal(value->via.u64, i);
    }
    free_fixture(&fixture);
}

static void expect_integers(const char *text, int64_t low, int64_t high)
{
    struct fixture fixture;
    bool low_seen = false, high_seen = false;
    assert_int_equal(build(&fixture, text), 0);
    for (uint32_t i = 1; i < 500; i++) {
        const msgpack_object *value = &fill(&fixture, i, i)->ptr[0];
        assert_true(value->type == MSGPACK_OBJECT_POSITIVE_INTEGER ||
                    value->type == MSGPACK_OBJECT_NEGATIVE_INTEGER);
        assert_true(value->via.i64 >= low && value->via.i64 <= high);
        low_seen |= value->via.i64 == low;
        high_seen |= value->via.i64 == high;
    }
    assert_true((uint64_t)high - (uint64_t)low > 10 || (low_seen && high_seen));
    free_fixture(&fixture);
}

static void test_integers(void **state)
{
    (void)state;
    expect_integers("{int:1:6}", 1, 6);
    expect_integers("{int:-2:2}", -2, 2);
    expect_integers("{int:7:7}", 7, 7);
    expect_integers("{int:-9223372036854775808:9223372036854775807}", INT64_MIN, INT64_MAX);
}

static void test_words_of_a_file(void **state)
{
    struct fixture fixture;
    size_t seen[3] = {0};
    (void)state;
    assert_int_equal(build(&fixture, "{word:words}"), 0);
    for (uint32_t i = 0; i < 300; i++) {
        const msgpack_object *value = &fill(&fixture, i, i)->ptr[0];
        assert_int_equal(value->type, MSGPACK_OBJECT_STR);
        for (size_t word = 0; word < 3; word++)
            seen[word] += value->via.str.size == words.items[word].size &&
                          memcmp(value->via.str.ptr, words.items[word].text, value->via.str.size) == 0;
    }
    assert_int_equal(seen[0] + seen[1] + seen[2], 300);
    assert_true(seen[0] > 50 && seen[1] > 50 && seen[2] > 50);
    free_fixture(&fixture);
}

static void test_templates_within_text(void **state)
{
    struct fixture fixture;
    (void)state;
    assert_int_equal(build(&fixture, "user-{counter}/{int:5:5}/{{int:1:2}}"), 0);
    expect_text(&fixture, "user-1/5/{int:1:2}");
    expect_text(&fixture, "user-2/5/{int:1:2}");
    free_fixture(&fixture);
    assert_int_equal(build(&fixture, "{int:-9223372036854775808:-9223372036854775808}{counter}"), 0);
    expect_text(&fixture, "-92233720368547758081");
    free_fixture(&fixture);
    assert_int_equal(build(&fixture, "{word:words}s"), 0);
    for (int i = 0; i < 20; i++)
        assert_in_range(fill(&fixture, 1, 2)->ptr[0].via.str.size, 5, 10);
    free_fixture(&fixture);
}

/* Two texts that change, with a constant between them, in a list in a map: nothing runs into its neighbour.
 */
static void test_templates_within_values(void **state)
{
    struct fixture fixture;
    msgpack_object items[] = {text_object("a{counter}"), text_object("b"), text_object("{counter}"),
                              text_object("c{counter}d")};
    msgpack_object_kv pair = {.key = text_object("k{counter}"),
                              .val = {.type = MSGPACK_OBJECT_ARRAY, .via.array = {.size = 4, .ptr = items}}};
    msgpack_object params[] = {{.type = MSGPACK_OBJECT_NIL},
                               {.type = MSGPACK_OBJECT_MAP, .via.map = {.size = 1, .ptr = &pair}},
                               {.type = MSGPACK_OBJECT_BOOLEAN, .via.boolean = true}};
    char text[100];
    (void)state;
    assert_int_equal(build_array(&fixture, params, 3), 0);
    fill(&fixture, 1, 2);
    msgpack_object_print_buffer(text, sizeof(text), fixture.params.data);
    assert_string_equal(text, "[nil, {\"k1\"=>[\"a2\", \"b\", 3, \"c4d\"]}, true]");
    free_fixture(&fixture);
}

/* Large constants are not copied; what stands around them is right all the same. */
static void test_blobs(void **state)
{
    struct fixture fixture;
    msgpack_object params[] = {text_object("{counter}"), text_object("{blob:1M}"), text_object("x{counter}"),
                               text_object("{blob:3}"), text_object("{blob:64K}")};
    (void)state;
    assert_int_equal(build_array(&fixture, params, 5), 0);
    assert_true(fixture.template.scratch_size < 4096);
    for (uint32_t i = 1; i < 4; i++) {
        const msgpack_object_array *filled = fill(&fixture, i, i);
        assert_int_equal(filled->ptr[1].type, MSGPACK_OBJECT_BIN);
        assert_int_equal(filled->ptr[1].via.bin.size, 1 << 20);
        assert_int_equal(filled->ptr[2].via.str.size, 2);
        assert_int_equal(filled->ptr[3].via.bin.size, 3);
        assert_int_equal(filled->ptr[4].via.bin.size, 65536);
    }
    free_fixture(&fixture);
    assert_int_equal(build(&fixture, "{blob:0}"), 0);
    assert_int_equal(fill(&fixture, 1, 1)->ptr[0].via.bin.size, 0);
    free_fixture(&fixture);
    assert_int_equal(build(&fixture, "{blob:1M}"), 0);
    assert_false(fixture.template.changes);
    fill(&fixture, 1, 1);
    fill(&fixture, 2, 2);
    free_fixture(&fixture);
}

static void test_two_templates_take_turns(void **state)
{
    struct fixture one, two;
    (void)state;
    assert_int_equal(build(&one, "first"), 0);
    assert_int_equal(build(&two, "second one"), 0);
    expect_text(&two, "second one");
    two.frame.scratch = realloc(two.frame.scratch, 200);
    struct template own = two.template;
    for (int i = 0; i < 4; i++) {
        bool first = i % 2 == 0;
        two.template = first ? one.template : own;
        template_fill(first ? &one.template : &own, &two.values, 1, 2, &two.frame);
        assert_int_equal(two.frame.size, frame_get_length(two.frame.scratch) + FRAME_HEADER_SIZE);
        assert_non_null(
            memmem(two.frame.scratch, two.frame.size, first ? "first" : "second one", first ? 5 : 10));
    }
    free_fixture(&two);
    free_fixture(&one);
}

static void test_what_is_refused(void **state)
{
    (void)state;
    refuse("{int}", "{int:LOW:HIGH}");
    refuse("{int:1}", "two integers");
    refuse("{int:a:b}", "two integers");
    refuse("{int:1:2:3}", "two integers");
    refuse("{int:2:1}", "above");
    refuse("{counter:3}", "written {counter}");
    refuse("{word}", "{word:FILE}");
    refuse("{word:elsewhere}", "{word:elsewhere}: no such file");
    refuse("{blob:many}", "not a size");
    refuse("{blob:2G}", "not a size");
    refuse("x{blob:4}", "stands alone");
}

static void test_too_many(void **state)
{
    char text[TEMPLATE_PARTS_MAX * 10 + 1] = "";
    (void)state;
    for (int i = 0; i < TEMPLATE_PARTS_MAX; i++)
        strcat(text, "{counter}");
    refuse(text, "too many");
}

int main(void)
{
    char why[100];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_constants),
        cmocka_unit_test(test_a_second_pair_of_braces),
        cmocka_unit_test(test_counter),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_words_of_a_file),
        cmocka_unit_test(test_templates_within_text),
        cmocka_unit_test(test_templates_within_values),
        cmocka_unit_test(test_blobs),
        cmocka_unit_test(test_two_templates_take_turns),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_too_many),
    };
    if (words_split(&words, file_text, sizeof(file_text) - 1, why, sizeof(why)) < 0)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    words_free(&words);
    return failed;
}
