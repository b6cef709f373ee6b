#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <ftw.h>
#include <sys/stat.h>

#include "oom.h"

#define SECOND UINT64_C(1000000000)
#define NOW    (1000 * SECOND)

static char directory[64];
static struct oom oom;

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status, (void)type, (void)ftw;
    return remove(path);
}

static int set_up(void **state)
{
    (void)state;
    strcpy(directory, "/tmp/cohab-oom-XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static const char *in_directory(const char *name)
{
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
    return path;
}

/* %s in the text is the directory. */
static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(in_directory(name), "w");
    assert_non_null(file);
    for (const char *at = text; *at; at++) {
        if (strncmp(at, "%s", 2) == 0) {
            fputs(directory, file);
            at++;
        } else {
            fputc(*at, file);
        }
    }
    fclose(file);
}

static void init(void)
{
    oom_init(&oom, in_directory("cgroup"), in_directory("mountinfo"));
}

static void use_v2(void)
{
    write_file("cgroup", "0::/system.slice/cohab.service\n");
    write_file("mountinfo", "22 1 0:20 / /proc rw - proc proc rw\n"
                            "30 23 0:26 / %s/fs rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
    mkdir(in_directory("fs"), 0700), mkdir(in_directory("fs/system.slice"), 0700);
    mkdir(in_directory("fs/system.slice/cohab.service"), 0700);
}

static void count_v2(int kills)
{
    char text[128];
    snprintf(text, sizeof(text), "low 0\nhigh 7\nmax 12\noom 9\noom_kill %d\noom_group_kill 5\n", kills);
    write_file("fs/system.slice/cohab.service/memory.events", text);
}

static void test_v2(void **state)
{
    (void)state;
    use_v2();
    count_v2(3);
    init();
    assert_non_null(strstr(oom.path, "/fs/system.slice/cohab.service/memory.events"));
    assert_false(oom_take(&oom, NOW)); /* from before */
    count_v2(4);
    assert_true(oom_take(&oom, NOW));
    assert_false(oom_take(&oom, NOW)); /* one kill, one death */
}

static void test_two_kills_two_deaths(void **state)
{
    (void)state;
    use_v2();
    count_v2(0);
    init();
    count_v2(2);
    assert_true(oom_take(&oom, NOW));
    assert_true(oom_take(&oom, NOW + SECOND));
    assert_false(oom_take(&oom, NOW + SECOND));
}

static void test_an_old_kill_is_nobody_s(void **state)
{
    (void)state;
    use_v2();
    count_v2(0);
    init();
    count_v2(2);
    assert_true(oom_take(&oom, NOW));
    assert_false(oom_take(&oom, NOW + 3 * SECOND));
}

static void test_v1(void **state)
{
    (void)state;
    write_file("cgroup", "5:cpu,cpuacct:/other\n4:memory:/box/one\n0::/x\n");
    write_file("mountinfo", "31 23 0:27 /box %s/v1 rw - cgroup cgroup rw,memory\n"
                            "32 23 0:28 / %s/cpu rw - cgroup cgroup rw,cpu,cpuacct\n");
    mkdir(in_directory("v1"), 0700), mkdir(in_directory("v1/one"), 0700);
    write_file("v1/one/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
    init();
    assert_non_null(strstr(oom.path, "/v1/one/memory.oom_control"));
    write_file("v1/one/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
    assert_true(oom_take(&oom, NOW));
}

/* In a container the mount may begin at the group itself. */
static void test_a_group_outside_of_the_mount(void **state)
{
    (void)state;
    write_file("cgroup", "0::/elsewhere\n");
    write_file("mountinfo", "30 23 0:26 /box %s/fs rw - cgroup2 cgroup2 rw\n");
    mkdir(in_directory("fs"), 0700);
    write_file("fs/memory.events", "oom_kill 0\n");
    init();
    assert_non_null(strstr(oom.path, "/fs/memory.events"));
}

static void test_no_counter(void **state)
{
    (void)state;
    init();
    assert_false(oom_take(&oom, NOW));
    write_file("cgroup", "nonsense\n0:\n:::\n0::/x\n");
    write_file("mountinfo",
               "1 2\n - cgroup2\n30 23 0:26 / - cgroup2 x\n30 23 0:26 / %s/none rw - cgroup2 x rw\n");
    init();
    assert_string_equal(oom.path, "");
    assert_false(oom_take(&oom, NOW));
}

static void test_a_counter_that_goes_away(void **state)
{
    (void)state;
    use_v2();
    count_v2(1);
    init();
    remove(in_directory("fs/system.slice/cohab.service/memory.events"));
    assert_false(oom_take(&oom, NOW));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_v2),
        TEST(test_two_kills_two_deaths),
        TEST(test_an_old_kill_is_nobody_s),
        TEST(test_v1),
        TEST(test_a_group_outside_of_the_mount),
        TEST(test_no_counter),
        TEST(test_a_counter_that_goes_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
