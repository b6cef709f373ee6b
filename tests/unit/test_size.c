#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "size.h"

static void expect(const char *text, uint64_t wanted)
{
    uint64_t size = 0;
    assert_int_equal(size_parse(text, UINT64_C(1) << 40, &size), SIZE_OK);
    assert_int_equal(size, wanted);
}

static void refuse(const char *text, enum size_result result)
{
    uint64_t size = 77;
    assert_int_equal(size_parse(text, 4096, &size), result);
    assert_int_equal(size, 77);
}

static void test_sizes(void **state)
{
    (void)state;
    expect("0", 0);
    expect("4096", 4096);
    expect("64K", 65536);
    expect("2m", 2 << 20);
    expect("3G", UINT64_C(3) << 30);
    expect("64M+64K", 67174400);
}

static void test_what_is_no_size(void **state)
{
    static const char *const texts[] = {"", "x", "-1", "+1", "1+", "1+K", "1X", "1KK", "1K K", " 1", "0x10"};
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        refuse(texts[i], SIZE_NONE);
}

static void test_what_is_too_large(void **state)
{
    (void)state;
    expect("1024G", UINT64_C(1) << 40);
    refuse("4097", SIZE_TOO_LARGE);
    refuse("4K+1", SIZE_TOO_LARGE);
    refuse("1G", SIZE_TOO_LARGE);
    refuse("99999999999999999999999", SIZE_TOO_LARGE);
    refuse("17179869184G", SIZE_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_what_is_no_size),
        cmocka_unit_test(test_what_is_too_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
