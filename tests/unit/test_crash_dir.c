#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <unistd.h>

#include "crash_dir.h"

static uid_t user;

uid_t __wrap_geteuid(void);
uid_t __wrap_geteuid(void)
{
    return user;
}

static void set(uid_t uid, const char *state_directory, const char *xdg, const char *home)
{
    user = uid;
    state_directory ? setenv("STATE_DIRECTORY", state_directory, 1) : unsetenv("STATE_DIRECTORY");
    xdg ? setenv("XDG_STATE_HOME", xdg, 1) : unsetenv("XDG_STATE_HOME");
    home ? setenv("HOME", home, 1) : unsetenv("HOME");
}

static void expect(const char *wanted)
{
    char path[100];
    assert_int_equal(crash_dir_default(path, sizeof(path)), 0);
    assert_string_equal(path, wanted);
}

static void test_places(void **state)
{
    (void)state;
    set(0, "/var/lib/spell", "/x", "/root");
    expect("/var/lib/spell/crash");
    set(1000, "/var/lib/a:/var/lib/b", NULL, NULL);
    expect("/var/lib/a/crash");
    set(0, NULL, "/x", "/root");
    expect("/var/lib/cohab/crash");
    set(1000, NULL, "/x", "/home/u");
    expect("/x/cohab/crash");
    set(1000, NULL, NULL, "/home/u");
    expect("/home/u/.local/state/cohab/crash");
}

static void test_relative_and_empty_paths_do_not_count(void **state)
{
    (void)state;
    set(1000, "", "state", "/home/u");
    expect("/home/u/.local/state/cohab/crash");
    char path[100];
    set(1000, NULL, NULL, "home");
    assert_int_equal(crash_dir_default(path, sizeof(path)), -1);
    assert_int_equal(errno, ENOENT);
}

static void test_too_long(void **state)
{
    (void)state;
    char path[20];
    set(0, NULL, NULL, NULL);
    assert_int_equal(crash_dir_default(path, sizeof(path)), -1);
    assert_int_equal(errno, ENAMETOOLONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_relative_and_empty_paths_do_not_count),
        cmocka_unit_test(test_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
