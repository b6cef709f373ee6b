#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "meter.h"

#define SECOND UINT64_C(1000000000)

static struct meter *meter;
static struct meter_figures last, total;

static int set_up(void **state)
{
    (void)state;
    meter = calloc(1, meter_size(METER_METHODS + 1));
    last = total = (struct meter_figures){{0}};
    return meter ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    free(meter);
    return 0;
}

static void count(uint64_t duration, uint64_t queued, unsigned code)
{
    meter_count(meter, &(struct meter_record){.duration = duration,
                                              .queued = queued,
                                              .request_bytes = 10,
                                              .response_bytes = 20,
                                              .method = METER_METHODS,
                                              .code = code});
}

static bool fold(void)
{
    return meter_fold(&meter->methods[METER_METHODS], &last, &total, SECOND);
}

static void set(unsigned word, uint64_t value)
{
    atomic_store(&meter->methods[METER_METHODS].words[word], value);
}

static void test_buckets(void **state)
{
    (void)state;
    assert_int_equal(meter_bucket(0), 0);
    assert_int_equal(meter_bucket(1), 0);
    assert_int_equal(meter_bucket(16000), 0);
    assert_int_equal(meter_bucket(16001), 1);
    assert_int_equal(meter_bucket(UINT64_MAX), METER_BUCKETS - 1);
    for (unsigned i = 0; i + 1 < METER_BUCKETS; i++) {
        assert_int_equal(meter_bucket(meter_bucket_bound(i)), i);
        assert_int_equal(meter_bucket(meter_bucket_bound(i) + 1), i + 1);
    }
    assert_true(meter_bucket_bound(METER_BUCKETS - 2) > 200 * SECOND);
}

static void test_codes(void **state)
{
    (void)state;
    assert_int_equal(meter_code("OK"), 0);
    assert_int_equal(meter_code("INTERNAL"), 13);
    assert_int_equal(meter_code("UNAUTHENTICATED"), 16);
    assert_int_equal(meter_code("what"), 2);
    assert_string_equal(meter_code_name(4), "DEADLINE_EXCEEDED");
    assert_string_equal(meter_code_name(17), "UNKNOWN");
    assert_string_equal(meter_code_name(UINT32_MAX), "UNKNOWN");
}

static void test_calls_are_counted(void **state)
{
    (void)state;
    count(20000, 0, 0);
    count(20000, 5, 13);
    assert_true(fold());
    assert_true(fold());
    count(SECOND / 2, 16001, 0);
    assert_true(fold());
    assert_int_equal(total.words[METER_CALLS], 3);
    assert_int_equal(total.words[METER_CODE], 2);
    assert_int_equal(total.words[METER_CODE + 13], 1);
    assert_int_equal(total.words[METER_DURATION + 1], 2);
    assert_int_equal(total.words[METER_DURATION + 15], 1);
    assert_int_equal(total.words[METER_DURATION_SUM], SECOND / 2 + 40000);
    assert_int_equal(total.words[METER_QUEUED], 1);
    assert_int_equal(total.words[METER_QUEUED + 1], 1);
    assert_int_equal(total.words[METER_QUEUED_SUM], 16006);
    assert_int_equal(total.words[METER_REQUEST_BYTES], 30);
    assert_int_equal(total.words[METER_RESPONSE_BYTES], 60);
}

/* Caught in the middle of a call. */
static void test_a_call_that_is_being_counted(void **state)
{
    (void)state;
    set(METER_CALLS, 1);
    assert_true(fold());
    set(METER_CODE, 1);
    set(METER_DURATION, 1);
    assert_true(fold());
    count(1, 0, 0);
    assert_true(fold());
    assert_int_equal(total.words[METER_CALLS], 2);
    assert_int_equal(total.words[METER_CODE], 2);
    assert_int_equal(total.words[METER_DURATION], 2);
}

static void expect_refused(void)
{
    struct meter_figures before = total, seen = last;
    assert_false(fold());
    assert_memory_equal(&before, &total, sizeof(total));
    assert_memory_equal(&seen, &last, sizeof(last));
}

static void test_overwritten_meters(void **state)
{
    static const unsigned words[] = {METER_CODE + 3,   METER_DURATION + 25, METER_DURATION_SUM,  METER_QUEUED,
                                     METER_QUEUED_SUM, METER_REQUEST_BYTES, METER_RESPONSE_BYTES};
    (void)state;
    count(1000, 1000, 0);
    assert_true(fold());
    set(METER_CALLS, 0);
    expect_refused();
    set(METER_CALLS, UINT64_MAX);
    expect_refused();
    set(METER_CALLS, 5000000); /* more than a second has room for */
    expect_refused();
    set(METER_CALLS, 1);
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        uint64_t was = atomic_load(&meter->methods[METER_METHODS].words[words[i]]);
        set(METER_CALLS, 2);
        set(words[i], UINT64_MAX);
        expect_refused();
        set(words[i], was);
    }
    set(METER_RESPONSE_BYTES, 0); /* it shrinks */
    expect_refused();
}

/* Whatever a random meter adds, totals never go down and the parts stay below the whole. */
static void test_random_meters(void **state)
{
    (void)state;
    srandom(1);
    for (int round = 0; round < 2000; round++) {
        struct meter_figures before = total;
        for (unsigned i = 0; i < METER_WORDS; i++)
            set(i, (uint64_t)random() >> (random() % 31) | (random() % 50 == 0 ? UINT64_C(1) << 63 : 0));
        (void)fold();
        for (unsigned i = 0; i < METER_WORDS; i++)
            assert_true(total.words[i] >= before.words[i]);
    }
}

static void test_totals_saturate(void **state)
{
    (void)state;
    total.words[METER_CALLS] = UINT64_MAX;
    count(1, 0, 0);
    assert_true(fold());
    assert_true(total.words[METER_CALLS] == UINT64_MAX);
}

static void test_words(void **state)
{
    (void)state;
    uint64_t seen = 0, sum = 5;
    meter_add(&meter->refused, 3);
    assert_true(meter_fold_word(&meter->refused, &seen, &sum, SECOND));
    assert_int_equal(sum, 8);
    atomic_store(&meter->refused, 1);
    assert_false(meter_fold_word(&meter->refused, &seen, &sum, SECOND));
    atomic_store(&meter->refused, UINT64_MAX);
    assert_false(meter_fold_word(&meter->refused, &seen, &sum, SECOND));
    assert_int_equal(sum, 8);
}

static void test_records(void **state)
{
    (void)state;
    uint64_t read = 0;
    struct meter_record record = {.duration = 7};
    assert_false(meter_take(meter, &read, &record));
    for (unsigned i = 0; i < METER_RECORDS + 3; i++)
        meter_log(meter, &(struct meter_record){.duration = i});
    assert_int_equal(meter->lost, 3);
    for (unsigned i = 0; i < METER_RECORDS; i++) {
        assert_true(meter_take(meter, &read, &record));
        assert_int_equal(record.duration, i);
    }
    assert_false(meter_take(meter, &read, &record));
    meter_log(meter, &(struct meter_record){.duration = 99});
    assert_true(meter_take(meter, &read, &record));
    assert_int_equal(record.duration, 99);
    atomic_store(&meter->written, UINT64_MAX);
    assert_false(meter_take(meter, &read, &record));
    atomic_store(&meter->written, 1);
    assert_false(meter_take(meter, &read, &record));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_buckets),
        TEST(test_codes),
        TEST(test_calls_are_counted),
        TEST(test_a_call_that_is_being_counted),
        TEST(test_overwritten_meters),
        TEST(test_random_meters),
        TEST(test_totals_saturate),
        TEST(test_words),
        TEST(test_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
