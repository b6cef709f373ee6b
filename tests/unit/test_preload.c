#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "preload.h"

#define TUNABLES "GLIBC_TUNABLES"
#define REQUEST  "glibc.malloc.hugetlb=1"

static void check_tunables(const char *expected)
{
    const char *tunables = getenv(TUNABLES);
    if (expected)
        assert_string_equal(tunables ? tunables : "(none)", expected);
    else
        assert_null(tunables);
}

static void test_the_request_is_made_and_forgotten(void **state)
{
    (void)state;
    unsetenv(TUNABLES);
    preload_request();
    check_tunables(REQUEST);
    preload_forget_request();
    check_tunables(NULL);
}

static void test_other_tunables_stay(void **state)
{
    (void)state;
    setenv(TUNABLES, "glibc.malloc.check=0:glibc.malloc.arena_max=1", 1);
    preload_request();
    check_tunables("glibc.malloc.check=0:glibc.malloc.arena_max=1:" REQUEST);
    preload_forget_request();
    check_tunables("glibc.malloc.check=0:glibc.malloc.arena_max=1");
}

static void test_the_operators_decision_stands(void **state)
{
    (void)state;
    static const char *const decisions[] = {"glibc.malloc.hugetlb=0",
                                            "glibc.malloc.hugetlb=2:glibc.malloc.check=0"};
    for (size_t i = 0; i < sizeof(decisions) / sizeof(*decisions); i++) {
        setenv(TUNABLES, decisions[i], 1);
        preload_request();
        check_tunables(decisions[i]);
        preload_forget_request();
        check_tunables(decisions[i]);
    }
}

static void test_nothing_is_forgotten_that_was_not_asked(void **state)
{
    (void)state;
    unsetenv(TUNABLES);
    preload_forget_request();
    check_tunables(NULL);
    setenv(TUNABLES, "glibc.malloc.check=0", 1);
    preload_forget_request();
    check_tunables("glibc.malloc.check=0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_request_is_made_and_forgotten),
        cmocka_unit_test(test_other_tunables_stay),
        cmocka_unit_test(test_the_operators_decision_stands),
        cmocka_unit_test(test_nothing_is_forgotten_that_was_not_asked),
    };
    return cmocka_run_group_tests_name("preload", tests, NULL, NULL);
}
