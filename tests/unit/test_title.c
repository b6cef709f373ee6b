#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include <cmocka.h>

#include "title.h"

/* A command line as the kernel lays it out: the arguments one behind the other, argv[0] padded to TITLE_ROOM
 * bytes. In a block of exactly that size, so that the sanitizer sees a step beyond it. */
struct line {
    char *memory;
    size_t size;
    int argc;
    char *argv[4];
};

static void line_make(struct line *line, int argc, const char *first, const char *second)
{
    const char *const more[] = {first, second};
    *line = (struct line){.size = TITLE_ROOM, .argc = argc};
    for (int i = 1; i < argc; i++)
        line->size += strlen(more[i - 1]) + 1;
    line->memory = malloc(line->size);
    assert_non_null(line->memory);
    memset(line->memory, ' ', TITLE_ROOM - 1);
    line->memory[TITLE_ROOM - 1] = '\0';
    memcpy(line->memory, "cohabd", 6);
    line->argv[0] = line->memory;
    char *at = line->memory + TITLE_ROOM;
    for (int i = 1; i < argc; i++) {
        line->argv[i] = strcpy(at, more[i - 1]);
        at += strlen(at) + 1;
    }
}

/* The module forgets it with the next title_init(). */
static void line_free(struct line *line)
{
    for (int i = 1; i < line->argc; i++)
        free(line->argv[i]);
    free(line->memory);
}

/* The title, and NULs behind it to the end of the block. */
static void assert_title(const struct line *line, const char *title)
{
    assert_string_equal(line->memory, title);
    for (size_t i = strlen(title); i < line->size; i++)
        assert_int_equal(line->memory[i], 0);
}

static void assert_thread_name(const char *expected)
{
    char name[16] = "";
    assert_int_equal(prctl(PR_GET_NAME, name, 0, 0, 0), 0);
    assert_string_equal(name, expected);
}

/* Runs first. */
static void test_without_room_there_is_no_title(void **state)
{
    (void)state;
    char before[16], after[16];
    assert_int_equal(prctl(PR_GET_NAME, before, 0, 0, 0), 0);
    title_set("worker 1 ");
    title_set_suffix("idle");
    assert_int_equal(prctl(PR_GET_NAME, after, 0, 0, 0), 0);
    assert_string_equal(before, after);
}

static void test_arguments_survive_and_their_memory_is_cleared(void **state)
{
    (void)state;
    struct line line;
    line_make(&line, 3, "--forkserver", "libspell.so");
    title_init(line.argc, line.argv);
    for (size_t i = 0; i < line.size; i++)
        assert_int_equal(line.memory[i], 0);
    assert_string_equal(line.argv[1], "--forkserver");
    assert_string_equal(line.argv[2], "libspell.so");
    for (int i = 1; i < line.argc; i++)
        assert_false(line.argv[i] >= line.memory && line.argv[i] < line.memory + line.size);
    title_set("forkserver 1");
    assert_title(&line, "cohab: forkserver 1");
    assert_string_equal(line.argv[1], "--forkserver");
    line_free(&line);
}

static void test_titles_and_suffixes(void **state)
{
    (void)state;
    struct line line;
    line_make(&line, 1, NULL, NULL);
    title_init(line.argc, line.argv);
    title_set("worker 3 ");
    assert_title(&line, "cohab: worker 3 ");
    title_set_suffix("starting");
    assert_title(&line, "cohab: worker 3 starting");
    title_set_suffix("idle");
    assert_title(&line, "cohab: worker 3 idle");
    title_set_suffix("suggest");
    assert_title(&line, "cohab: worker 3 suggest");
    title_set_suffix("");
    assert_title(&line, "cohab: worker 3 ");
    title_set("x");
    assert_title(&line, "cohab: x");
    title_set_suffix("!");
    assert_title(&line, "cohab: x!");
    title_set("");
    assert_title(&line, "cohab: ");
    line_free(&line);
}

static void test_the_thread_name(void **state)
{
    (void)state;
    struct line line;
    line_make(&line, 1, NULL, NULL);
    title_init(line.argc, line.argv);
    title_set("w 1");
    assert_thread_name("cohab: w 1");
    title_set_suffix("idle");
    assert_thread_name("cohab: w 1");
    title_set("forkserver 12 of spell");
    assert_thread_name("cohab: forkserv");
    line_free(&line);
}

/* What a title of `wanted` bytes comes out as. */
static void expect_cut(char expected[TITLE_ROOM], const char *start, char fill, size_t wanted)
{
    memset(expected, 0, TITLE_ROOM);
    memset(expected, fill, wanted < TITLE_ROOM - 1 ? wanted : TITLE_ROOM - 1);
    memcpy(expected, start, strlen(start));
}

static void test_long_words_are_cut(void **state)
{
    (void)state;
    struct line line;
    char words[300], expected[TITLE_ROOM];
    line_make(&line, 2, "an argument behind the room", NULL);
    title_init(line.argc, line.argv);
    for (size_t length = 110; length < sizeof(words); length++) {
        memset(words, 'w', length);
        words[length] = '\0';
        title_set(words);
        expect_cut(expected, "cohab: ", 'w', 7 + length);
        assert_title(&line, expected);
        if (7 + length >= TITLE_ROOM - 1) {
            title_set_suffix("no room for this");
            assert_title(&line, expected);
        }
    }
    title_set("short ");
    assert_title(&line, "cohab: short ");
    line_free(&line);
}

static void test_long_suffixes_are_cut(void **state)
{
    (void)state;
    struct line line;
    char suffix[200], expected[TITLE_ROOM];
    line_make(&line, 2, "an argument behind the room", NULL);
    title_init(line.argc, line.argv);
    title_set("worker 1 ");
    for (size_t length = 100; length < sizeof(suffix); length++) {
        memset(suffix, 's', length);
        suffix[length] = '\0';
        title_set_suffix(suffix);
        expect_cut(expected, "cohab: worker 1 ", 's', 16 + length);
        assert_title(&line, expected);
    }
    title_set_suffix("idle");
    assert_title(&line, "cohab: worker 1 idle");
    line_free(&line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_room_there_is_no_title),
        cmocka_unit_test(test_arguments_survive_and_their_memory_is_cleared),
        cmocka_unit_test(test_titles_and_suffixes),
        cmocka_unit_test(test_the_thread_name),
        cmocka_unit_test(test_long_words_are_cut),
        cmocka_unit_test(test_long_suffixes_are_cut),
    };
    return cmocka_run_group_tests_name("title", tests, NULL, NULL);
}
