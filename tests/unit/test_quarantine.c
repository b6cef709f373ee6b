#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "quarantine.h"
#include "siphash.h"

#define HOUR QUARANTINE_PERIOD
#define NOW  (10 * HOUR)

static struct quarantine book;
static struct quarantine_table table;

static int fresh(void **state)
{
    (void)state;
    table = (struct quarantine_table){.key = {1, 2}};
    quarantine_init(&book, &table, 2);
    return 0;
}

static struct quarantine_request request_of(const char *method, const char *params)
{
    return (struct quarantine_request){.method = method,
                                       .method_length = strlen(method),
                                       .params = (const unsigned char *)params,
                                       .params_size = strlen(params)};
}

static struct quarantine_kill kill_by(const char *method, const char *params, const char *report)
{
    struct quarantine_request request = request_of(method, params);
    return (struct quarantine_kill){.hash = quarantine_hash(table.key, &request),
                                    .size = strlen(params),
                                    .method = method,
                                    .report = report};
}

static bool note(const char *params, const char *report, uint64_t now)
{
    struct quarantine_kill kill = kill_by("m", params, report);
    return quarantine_note(&book, &kill, now);
}

static bool is_refused(const char *params, struct quarantine_refusal *refusal)
{
    struct quarantine_request request = request_of("m", params);
    struct quarantine_refusal ignored;
    return quarantine_find(&table, &request, refusal ? refusal : &ignored);
}

static void test_refused_after_so_many(void **state)
{
    struct quarantine_refusal refusal;
    (void)state;
    assert_false(is_refused("a", NULL));
    assert_false(note("a", "r1", NOW));
    assert_false(is_refused("a", NULL));
    assert_true(note("a", "r2", NOW + 1));
    assert_true(is_refused("a", &refusal));
    assert_int_equal(refusal.kills, 2);
    assert_string_equal(refusal.reports[0], "r1");
    assert_string_equal(refusal.reports[1], "r2");
    assert_string_equal(refusal.reports[2], "");
    assert_false(is_refused("b", NULL));
    assert_false(is_refused("ab", NULL));
}

static void test_the_method_counts(void **state)
{
    (void)state;
    note("a", "", NOW);
    note("a", "", NOW);
    struct quarantine_request other = request_of("n", "a");
    struct quarantine_refusal refusal;
    assert_false(quarantine_find(&table, &other, &refusal));
}

static void test_off(void **state)
{
    (void)state;
    quarantine_init(&book, &table, 0);
    for (int i = 0; i < 5; i++)
        assert_false(note("a", "", NOW));
    assert_false(is_refused("a", NULL));
}

static void test_what_is_unknown_counts_nowhere(void **state)
{
    (void)state;
    struct quarantine_kill kill = {.hash = 0, .method = "", .report = ""};
    quarantine_init(&book, &table, 1);
    assert_false(quarantine_note(&book, &kill, NOW));
    assert_int_equal(table.count, 0);
}

static void test_old_kills_are_forgotten(void **state)
{
    (void)state;
    note("a", "r1", NOW);
    assert_false(note("a", "r2", NOW + HOUR));
    assert_true(note("a", "r3", NOW + HOUR + 1));
    quarantine_expire(&book, NOW + 2 * HOUR);
    assert_true(is_refused("a", NULL)); /* an hour after the last one */
    quarantine_expire(&book, NOW + 2 * HOUR + 1);
    assert_false(is_refused("a", NULL));
    assert_int_equal(table.count, 0);
}

static void test_a_retry_counts_once(void **state)
{
    (void)state;
    struct quarantine_kill kill = kill_by("m", "a", "r");
    kill.deadline = 77;
    kill.peer = 5;
    for (int i = 0; i < 4; i++)
        assert_false(quarantine_note(&book, &kill, NOW));
    kill.peer = 6;
    assert_true(quarantine_note(&book, &kill, NOW));
}

static void test_without_a_deadline_each_counts(void **state)
{
    (void)state;
    struct quarantine_kill kill = kill_by("m", "a", "r");
    kill.peer = 5;
    assert_false(quarantine_note(&book, &kill, NOW));
    assert_true(quarantine_note(&book, &kill, NOW));
}

static void test_clear(void **state)
{
    char hash[17];
    (void)state;
    note("a", "r1", NOW), note("a", "r2", NOW);
    note("b", "r3", NOW), note("b", "r4", NOW);
    note("c", "r5", NOW);
    struct quarantine_kill c = kill_by("m", "c", "");
    snprintf(hash, sizeof(hash), "%016llx", (unsigned long long)c.hash);
    assert_int_equal(quarantine_clear(&book, "nothing"), 0);
    assert_int_equal(quarantine_clear(&book, ""), 0);
    assert_int_equal(quarantine_clear(&book, "r2"), 1);
    assert_false(is_refused("a", NULL));
    assert_true(is_refused("b", NULL));
    assert_int_equal(quarantine_clear(&book, hash), 1);
    assert_int_equal(quarantine_clear(&book, NULL), 1);
    assert_false(is_refused("b", NULL));
    assert_int_equal(table.count, 0);
    for (size_t i = 0; i < sizeof(table.sizes) / sizeof(*table.sizes); i++)
        assert_int_equal(table.sizes[i], 0);
}

/* Those that refuse something stay as long as there are others to forget. */
static void test_it_is_bounded(void **state)
{
    char params[16];
    (void)state;
    note("kept", "r1", NOW), note("kept", "r2", NOW);
    for (unsigned i = 0; i < 3 * QUARANTINE_ENTRIES; i++) {
        snprintf(params, sizeof(params), "%u", i);
        note(params, "r", NOW + 1 + i);
    }
    assert_true(is_refused("kept", NULL));
    snprintf(params, sizeof(params), "%u", 3 * QUARANTINE_ENTRIES - 1);
    assert_true(note(params, "r", NOW + HOUR / 2));  /* the newest was kept */
    assert_false(note(params, "r", NOW + HOUR / 2)); /* and is refused already */
    for (unsigned i = 0; i < 2 * QUARANTINE_ENTRIES; i++) {
        snprintf(params, sizeof(params), "x%u", i);
        note(params, "r", NOW + HOUR / 2 + i), note(params, "r", NOW + HOUR / 2 + i);
    }
    assert_int_equal(table.count, QUARANTINE_ENTRIES);
    assert_false(is_refused("kept", NULL));
    assert_true(is_refused(params, NULL));
}

static void test_more_kills_than_are_kept(void **state)
{
    struct quarantine_refusal refusal;
    char report[16];
    (void)state;
    for (unsigned i = 0; i < 3 * QUARANTINE_AFTER_MAX; i++) {
        snprintf(report, sizeof(report), "r%u", i);
        note("a", report, NOW + i);
    }
    assert_true(is_refused("a", &refusal));
    assert_string_equal(refusal.reports[QUARANTINE_REPORTS - 1], report);
}

static void test_siphash(void **state)
{
    /* The vectors of the reference implementation: key 00 01 .. 0f, message 00 01 .. */
    static const uint64_t expected[] = {UINT64_C(0x726fdb47dd0e0e31), UINT64_C(0x74f839c593dc67fd),
                                        UINT64_C(0x0d6c8009d9a94f5a), UINT64_C(0x85676696d7fb7e2d)};
    const uint64_t key[2] = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
    unsigned char message[64];
    (void)state;
    for (size_t i = 0; i < sizeof(message); i++)
        message[i] = (unsigned char)i;
    for (size_t size = 0; size < 4; size++)
        assert_int_equal(siphash(key, message, size, NULL, 0), expected[size]);
    assert_int_equal(siphash(key, message, 15, NULL, 0), UINT64_C(0xa129ca6149be45e5));
    for (size_t size = 0; size < sizeof(message); size++)
        for (size_t first = 0; first <= size; first++)
            assert_int_equal(siphash(key, message, first, message + first, size - first),
                             siphash(key, message, size, NULL, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_refused_after_so_many, fresh),
        cmocka_unit_test_setup(test_the_method_counts, fresh),
        cmocka_unit_test_setup(test_off, fresh),
        cmocka_unit_test_setup(test_what_is_unknown_counts_nowhere, fresh),
        cmocka_unit_test_setup(test_old_kills_are_forgotten, fresh),
        cmocka_unit_test_setup(test_a_retry_counts_once, fresh),
        cmocka_unit_test_setup(test_without_a_deadline_each_counts, fresh),
        cmocka_unit_test_setup(test_clear, fresh),
        cmocka_unit_test_setup(test_it_is_bounded, fresh),
        cmocka_unit_test_setup(test_more_kills_than_are_kept, fresh),
        cmocka_unit_test(test_siphash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
