#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "random.h"
#include "row.h"

#define KEY          0 /* that of a row of zeros */
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void put_claim(struct row *row, uint64_t claim)
{
    memcpy((char *)row + offsetof(struct row, claim.event.data), &claim, sizeof(claim));
    atomic_store(&row->seal, row_seal(claim, KEY));
}

static void put_method(struct row *row, const void *name, size_t size)
{
    memcpy(row->method, name, size < ROW_METHOD_SIZE ? size : ROW_METHOD_SIZE);
    atomic_store(&row->method_length, (uint32_t)size);
}

static void test_layout(void **state)
{
    (void)state;
    assert_in_range(sizeof(struct row), 1, ROW_SIZE);
    assert_int_equal(ROW_SIZE, 4096);
    assert_int_equal(offsetof(struct row, claim.event.data) % 8, 0);
    assert_int_equal(offsetof(struct row, cancel) % 64, 0);
    assert_true(offsetof(struct row, cancel) >= offsetof(struct row, method) + ROW_METHOD_SIZE);
    assert_true(offsetof(struct row, orders) > offsetof(struct row, cancel));
    assert_int_equal(offsetof(struct row, claim) + offsetof(struct row_claim, event) +
                         offsetof(struct epoll_event, data),
                     offsetof(struct row, claim.event.data));
}

static void test_claims(void **state)
{
    (void)state;
    assert_int_equal(row_claim_of(0, 1), UINT64_C(0x100000000));
    assert_int_equal(row_claim_of(5, 0xdeadbeef), UINT64_C(0xdeadbeef00000005));
    assert_int_equal(row_claim_slot(UINT64_C(0x1122334455667788)), 0x55667788);
    assert_int_equal(row_claim_generation(UINT64_C(0x1122334455667788)), 0x11223344);
    assert_int_equal(row_claim_of(UINT32_MAX, UINT32_MAX), ROW_NO_CLAIM);
    assert_int_equal(row_claim_of(UINT32_MAX, UINT32_MAX - 1), ROW_NO_CLAIM - (UINT64_C(1) << 32));
}

static void test_the_event_is_the_claim(void **state)
{
    (void)state;
    struct row row = {0};
    row.claim.event.events = EPOLLIN;
    row.claim.event.data.u64 = UINT64_C(0x0102030405060708);
    assert_int_equal(row_read_claim(&row), UINT64_C(0x0102030405060708));
    put_claim(&row, ROW_NO_CLAIM);
    assert_int_equal(row.claim.event.data.u64, ROW_NO_CLAIM);
    assert_int_equal(row.claim.event.events, EPOLLIN);
    assert_int_equal(atomic_load(&row.state), 0);
}

static void test_a_fresh_row_claims_nothing_usable(void **state)
{
    (void)state;
    static const struct row row;
    struct row_view view;
    memset(&view, 0xee, sizeof(view));
    row_read(&row, KEY, &view);
    assert_true(view.valid);
    assert_int_equal(view.state, ROW_WAITING);
    assert_int_equal(row_claim_generation(view.claim), 0);
    assert_int_equal(view.request, 0);
    assert_int_equal(view.msgid, 0);
    assert_int_equal(view.deadline, 0);
    assert_int_equal(view.started, 0);
    assert_int_equal(view.queued, 0);
    assert_int_equal(view.calls, 0);
    assert_int_equal(view.received, 0);
    assert_int_equal(view.sent, 0);
    assert_int_equal(view.response_size, 0);
    assert_false(view.idempotent);
    assert_string_equal(view.method, "");
    assert_int_equal(ROW_SERVE, 0);
}

static void test_state_names(void **state)
{
    (void)state;
    static const char *const names[] = {"waiting", "received", "running", "writing", "answered", "closing"};
    assert_int_equal(COUNT(names), ROW_STATE_COUNT);
    for (unsigned i = 0; i < COUNT(names); i++)
        assert_string_equal(row_state_name((enum row_state)i), names[i]);
    assert_string_equal(row_state_name(ROW_STATE_COUNT), "invalid");
    assert_string_equal(row_state_name((enum row_state) - 1), "invalid");
    assert_string_equal(row_state_name((enum row_state)1000), "invalid");
}

static void test_every_field_is_copied(void **state)
{
    (void)state;
    struct row row = {0};
    struct row_view view;
    put_claim(&row, row_claim_of(3, 9));
    atomic_store(&row.state, ROW_RUNNING);
    atomic_store(&row.msgid, 0xfedcba98);
    atomic_store(&row.request, UINT64_C(0x1111111111111111));
    atomic_store(&row.deadline, UINT64_C(0x2222222222222222));
    atomic_store(&row.started, UINT64_C(0x3333333333333333));
    atomic_store(&row.queued, UINT64_C(0x7777777777777777));
    atomic_store(&row.calls, UINT64_C(0x4444444444444444));
    atomic_store(&row.received, UINT64_C(0x5555555555555555));
    row.receive.msg_len = 3;
    row.send.msg_len = 0xabcdef01;
    atomic_store(&row.response_size, UINT64_C(0x6666666666666666));
    atomic_store(&row.writing_from, ROW_RUNNING);
    atomic_store(&row.idempotent, 2);
    put_method(&row, "suggest", 7);
    row_read(&row, KEY, &view);
    assert_true(view.valid);
    assert_int_equal(view.claim, row_claim_of(3, 9));
    assert_int_equal(view.state, ROW_RUNNING);
    assert_int_equal(view.msgid, 0xfedcba98);
    assert_int_equal(view.request, UINT64_C(0x1111111111111111));
    assert_int_equal(view.deadline, UINT64_C(0x2222222222222222));
    assert_int_equal(view.started, UINT64_C(0x3333333333333333));
    assert_int_equal(view.queued, UINT64_C(0x7777777777777777));
    assert_int_equal(view.calls, UINT64_C(0x4444444444444444));
    assert_int_equal(view.received, UINT64_C(0x5555555555555558));
    assert_int_equal(view.sent, 0xabcdef01);
    assert_int_equal(view.response_size, UINT64_C(0x6666666666666666));
    assert_int_equal(view.writing_from, ROW_RUNNING);
    assert_true(view.idempotent);
    assert_string_equal(view.method, "suggest");
}

static void test_states_that_are_none(void **state)
{
    (void)state;
    static const uint32_t none[] = {ROW_STATE_COUNT, ROW_STATE_COUNT + 1, 0x100, 0x80000000, UINT32_MAX};
    struct row row = {0};
    struct row_view view;
    for (uint32_t i = 0; i < ROW_STATE_COUNT; i++) {
        atomic_store(&row.state, i);
        row_read(&row, KEY, &view);
        assert_true(view.valid);
        assert_int_equal(view.state, i);
    }
    for (size_t i = 0; i < COUNT(none); i++) {
        atomic_store(&row.state, none[i]);
        row_read(&row, KEY, &view);
        assert_false(view.valid);
        assert_in_range(view.state, 0, ROW_STATE_COUNT - 1);
    }
}

static void test_received_saturates(void **state)
{
    (void)state;
    static const struct {
        uint64_t before;
        unsigned coming;
        uint64_t sum;
    } cases[] = {
        {0, 0, 0},
        {0, UINT32_MAX, UINT32_MAX},
        {UINT32_MAX, 1, UINT64_C(1) << 32},
        {UINT64_MAX - 7, 7, UINT64_MAX},
        {UINT64_MAX - 7, 8, UINT64_MAX},
        {UINT64_MAX, UINT32_MAX, UINT64_MAX},
        {UINT64_MAX, 0, UINT64_MAX},
    };
    struct row row = {0};
    struct row_view view;
    for (size_t i = 0; i < COUNT(cases); i++) {
        atomic_store(&row.received, cases[i].before);
        row.receive.msg_len = cases[i].coming;
        row_read(&row, KEY, &view);
        assert_int_equal(view.received, cases[i].sum);
    }
}

/* A response ends one of two states, whatever the word says. */
static void test_writing_from(void **state)
{
    (void)state;
    static const uint32_t words[] = {0, ROW_RECEIVED, ROW_RUNNING, ROW_WRITING, ROW_STATE_COUNT, UINT32_MAX};
    struct row row = {0};
    struct row_view view;
    for (size_t i = 0; i < COUNT(words); i++) {
        atomic_store(&row.writing_from, words[i]);
        row_read(&row, KEY, &view);
        assert_int_equal(view.writing_from, words[i] == ROW_RUNNING ? ROW_RUNNING : ROW_RECEIVED);
    }
}

static void test_method_lengths(void **state)
{
    (void)state;
    struct row row;
    struct row_view view;
    memset(&row, 'x', sizeof(row));
    for (uint32_t length = 0; length <= 2 * ROW_METHOD_SIZE; length++) {
        atomic_store(&row.method_length, length);
        memset(&view, 'y', sizeof(view));
        row_read(&row, KEY, &view);
        assert_int_equal(strlen(view.method), length < ROW_METHOD_SIZE ? length : ROW_METHOD_SIZE);
    }
    atomic_store(&row.method_length, UINT32_MAX);
    row_read(&row, KEY, &view);
    assert_int_equal(strlen(view.method), ROW_METHOD_SIZE);
}

static void test_method_bytes(void **state)
{
    (void)state;
    struct row row = {0};
    struct row_view view;
    for (unsigned byte = 1; byte < 256; byte++) {
        char name[3] = {'a', (char)byte, 'z'};
        char expected[4] = {'a', byte >= 0x20 && byte <= 0x7e ? (char)byte : '?', 'z', '\0'};
        put_method(&row, name, sizeof(name));
        row_read(&row, KEY, &view);
        assert_string_equal(view.method, expected);
    }
    put_method(&row, "a\0b", 3);
    row_read(&row, KEY, &view);
    assert_string_equal(view.method, "a");
}

static void test_the_row_is_only_read(void **state)
{
    (void)state;
    struct random random = {11};
    struct row row, before;
    struct row_view view;
    for (unsigned round = 0; round < 1000; round++) {
        random_fill(&random, &row, sizeof(row));
        memcpy(&before, &row, sizeof(row));
        row_read(&row, KEY, &view);
        assert_memory_equal(&before, &row, sizeof(row));
    }
}

/* Whatever an engine scribbles over its row, the copy is one that can be logged and looked up. */
static void test_random_rows(void **state)
{
    (void)state;
    struct random random = {12};
    struct row row;
    struct row_view view;
    for (unsigned round = 0; round < 20000; round++) {
        random_fill(&random, &row, sizeof(row));
        if (round % 2)
            atomic_store(&row.state, random_below(&random, ROW_STATE_COUNT + 1));
        memset(&view, 0xee, sizeof(view));
        if (round % 3) {
            row_set_key(&row, KEY);
            put_claim(&row, row.claim.event.data.u64);
        }
        row_read(&row, KEY, &view);
        assert_int_equal(view.valid, round % 3 && atomic_load(&row.state) < ROW_STATE_COUNT);
        assert_in_range(view.state, 0, ROW_STATE_COUNT - 1);
        assert_int_equal(view.claim, row.claim.event.data.u64);
        assert_true(view.received >= atomic_load(&row.received));
        assert_int_equal(view.sent, row.send.msg_len);
        assert_in_range(view.writing_from, ROW_RECEIVED, ROW_RUNNING);
        size_t length = strnlen(view.method, sizeof(view.method));
        assert_in_range(length, 0, ROW_METHOD_SIZE);
        for (size_t i = 0; i < length; i++)
            assert_in_range(view.method[i], 0x20, 0x7e);
    }
}

static bool is_valid(const struct row *row, uint64_t key)
{
    struct row_view view;
    row_read(row, key, &view);
    return view.valid;
}

/* What an engine's wild write can do to a row that says what its worker does. */
static void test_rows_that_were_written_over(void **state)
{
    (void)state;
    const uint64_t key = UINT64_C(0x0123456789abcdef), claim = row_claim_of(7, 3);
    for (uint32_t now = 0; now < ROW_STATE_COUNT; now++) {
        bool acts = now == ROW_RECEIVED || now == ROW_RUNNING || now == ROW_WRITING;
        struct row row = {0};
        row_set_key(&row, key);
        put_claim(&row, claim);
        atomic_store(&row.seal, row_seal(claim, key));
        atomic_store(&row.state, now);
        assert_true(is_valid(&row, key));
        assert_false(is_valid(&row, key + 1));
        row.claim.event.data.u64 =
            row_claim_of(6, 3); /* another's connection; of one that waits the kernel's word */
        assert_int_equal(is_valid(&row, key), now == ROW_WAITING);
        row.claim.event.data.u64 = ROW_NO_CLAIM;
        assert_int_equal(is_valid(&row, key), !acts);
        row.claim.event.data.u64 = claim;
        row.key_before ^= 1; /* run over from below */
        assert_false(is_valid(&row, key));
        row_set_key(&row, key);
        row.key_after ^= 1; /* and from above */
        assert_false(is_valid(&row, key));
        memset(&row, 1, offsetof(struct row, cancel)); /* slot 0x01010101, a state, a seal like a claim */
        assert_false(is_valid(&row, key));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_the_event_is_the_claim),
        cmocka_unit_test(test_a_fresh_row_claims_nothing_usable),
        cmocka_unit_test(test_state_names),
        cmocka_unit_test(test_every_field_is_copied),
        cmocka_unit_test(test_states_that_are_none),
        cmocka_unit_test(test_received_saturates),
        cmocka_unit_test(test_writing_from),
        cmocka_unit_test(test_method_lengths),
        cmocka_unit_test(test_method_bytes),
        cmocka_unit_test(test_the_row_is_only_read),
        cmocka_unit_test(test_random_rows),
        cmocka_unit_test(test_rows_that_were_written_over),
    };
    return cmocka_run_group_tests_name("row", tests, NULL, NULL);
}
