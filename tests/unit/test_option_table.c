#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "option_table.h"

static const struct option_rule *rule_of(const char *name)
{
    const struct option_rule *rule = option_find(name, strlen(name));
    assert_non_null(rule);
    return rule;
}

static void test_every_rule_is_sound(void **state)
{
    (void)state;
    assert_non_null(option_rules[0].group);
    for (size_t i = 0; i < option_count; i++) {
        const struct option_rule *rule = &option_rules[i];
        assert_ptr_equal(rule_of(rule->name), rule); /* each name once */
        assert_int_equal(strspn(rule->name, "abcdefghijklmnopqrstuvwxyz-"), strlen(rule->name));
        if (rule->kind == OPTION_FLAG)
            assert_null(rule->value);
    }
}

static void test_every_standard_value_is_one(void **state)
{
    (void)state;
    struct options options = {0};
    char error[256] = "";
    for (size_t i = 0; i < option_count; i++)
        if (option_rules[i].standard)
            assert_int_equal(
                option_set(&options, &option_rules[i], option_rules[i].standard, error, sizeof(error)), 0);
    assert_int_equal(options.max_frame, (64 << 20) + (64 << 10));
    assert_int_equal(options.socket_mode, 0660);
    assert_int_equal(options.stop_timeout, UINT64_C(30000000000));
    assert_true(options.crash_params);
    assert_int_equal(options.log_level, LOG_INFO);
}

static void test_names_are_written_out(void **state)
{
    (void)state;
    assert_null(option_find("work", 4));
    assert_null(option_find("workers ", 8));
    assert_null(option_find("", 0));
    assert_non_null(option_find("workers=4", 7));
}

static void test_values_and_what_is_none(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *error; /* NULL: it is one */
    } cases[] = {
        {"workers", "4", NULL},
        {"workers", "2:8", NULL},
        {"workers", "8:2", "takes a number from 1 to 256, or two such as 2:8, not '8:2'"},
        {"workers", "2:", "takes a number from 1 to 256, or two such as 2:8, not '2:'"},
        {"workers", "0", "takes a number from 1 to 256, or two such as 2:8, not '0'"},
        {"max-connections", "65536", NULL},
        {"max-connections", "65537", "takes a number from 1 to 65536, not '65537'"},
        {"max-connections", "", "takes a number from 1 to 65536, not ''"},
        {"max-connections", "-1", "takes a number from 1 to 65536, not '-1'"},
        {"spin-us", "10001", "takes a number from 0 to 10000, not '10001'"},
        {"kill-grace", "0", NULL},
        {"io-timeout", "0", "takes a number of seconds above 0, not '0'"},
        {"io-timeout", "nan", "takes a number of seconds above 0, not 'nan'"},
        {"io-timeout", "1e10", "takes a number of seconds above 0, not '1e10'"},
        {"stall-timeout", "0.2", "takes at least 0.25 seconds, not '0.2'"},
        {"max-memory", "1M", "takes at least 16M, not '1M'"},
        {"max-frame", "2G", "takes a size up to "},
        {"max-frame", "63", "takes a size from 64 to "},
        {"max-frame", "x", "takes a size such as 4096, 64K or 64M+64K, not 'x'"},
        {"socket-mode", "0999", "takes an octal mode such as 0660, not '0999'"},
        {"crash-params", "yes", "takes on or off, not 'yes'"},
        {"log-level", "loud", "takes error, warn, info or debug, not 'loud'"},
        {"log-format", "xml", "takes text or json, not 'xml'"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct options options = {0}, before = options;
        char error[256] = "";
        int result = option_set(&options, rule_of(cases[i].name), cases[i].text, error, sizeof(error));
        assert_int_equal(result, cases[i].error ? -1 : 0);
        if (!cases[i].error)
            continue;
        assert_memory_equal(error, cases[i].error, strlen(cases[i].error));
        assert_memory_equal(&options, &before, sizeof(options));
    }
}

static void test_fields(void **state)
{
    (void)state;
    struct options options = {0};
    char error[256];
    assert_int_equal(option_set(&options, rule_of("workers"), "2:8", error, sizeof(error)), 0);
    assert_int_equal(options.workers_min, 2);
    assert_int_equal(options.workers_max, 8);
    assert_int_equal(option_set(&options, rule_of("spin-us"), "50", error, sizeof(error)), 0);
    assert_int_equal(options.spin, 50000);
    assert_int_equal(option_set(&options, rule_of("lifeline-fd"), "7", error, sizeof(error)), 0);
    assert_int_equal(options.lifeline, 7);
    assert_int_equal(option_set(&options, rule_of("core"), "on", error, sizeof(error)), 0);
    assert_true(options.core);
    const char *path = "/x";
    assert_int_equal(option_set(&options, rule_of("socket"), path, error, sizeof(error)), 0);
    assert_ptr_equal(options.socket, path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_rule_is_sound),
        cmocka_unit_test(test_every_standard_value_is_one),
        cmocka_unit_test(test_names_are_written_out),
        cmocka_unit_test(test_values_and_what_is_none),
        cmocka_unit_test(test_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
