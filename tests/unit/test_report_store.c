#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report_store.h"

#define NOW 1795000000

static char directory[64];
static struct report_store store;

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status, (void)type, (void)ftw;
    return remove(path);
}

static int set_up(void **state)
{
    (void)state;
    setenv("TZ", "UTC", 1);
    strcpy(directory, "/tmp/cohab-store-XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    store = (struct report_store){.directory = directory, .keep = 100, .keep_size = 1 << 20};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static bool exists(const char *name)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return access(path, F_OK) == 0;
}

/* Writes one whole msgpack value, a str of that many bytes, and names it. */
static void write_report(const char *suffix, time_t now, size_t size, char *id)
{
    struct report_file file;
    assert_int_equal(report_store_begin(&store, now, suffix, &file), 0);
    fprintf(file.stream, "%c%c", 0xd9, (int)size);
    for (size_t i = 0; i < size; i++)
        fputc('x', file.stream);
    assert_int_equal(report_store_commit(&store, &file), 0);
    if (id)
        strcpy(id, file.id);
}

static void test_ids_and_modes(void **state)
{
    char first[REPORT_ID_SIZE], second[REPORT_ID_SIZE], other[REPORT_ID_SIZE], path[512];
    struct stat status;
    (void)state;
    umask(0);
    write_report("crash", NOW, 10, first);
    write_report("slow", NOW, 10, second);
    write_report("crash", NOW + 1, 10, other);
    assert_string_equal(first, "20261118-110640-1");
    assert_string_equal(second, "20261118-110640-2");
    assert_string_equal(other, "20261118-110641-1");
    snprintf(path, sizeof(path), "%s/%s.crash", directory, first);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_equal(status.st_nlink, 1);
}

/* Another server has the directory, too. */
static void test_a_number_that_is_taken(void **state)
{
    struct report_file one, two;
    struct report_store other = store;
    (void)state;
    assert_int_equal(report_store_begin(&store, NOW, "crash", &one), 0);
    assert_int_equal(report_store_begin(&other, NOW, "crash", &two), 0);
    assert_string_equal(two.id, "20261118-110640-2");
    fputc(0xc0, one.stream), fputc(0xc0, two.stream);
    assert_int_equal(report_store_commit(&store, &one), 0);
    assert_int_equal(report_store_commit(&other, &two), 0);
    assert_true(exists("20261118-110640-1.crash") && exists("20261118-110640-2.crash"));
}

static void test_a_number_is_not_given_twice(void **state)
{
    char first[REPORT_ID_SIZE], second[REPORT_ID_SIZE];
    (void)state;
    store.keep = 0;
    write_report("crash", NOW, 10, first);
    report_store_prune(&store);
    write_report("crash", NOW, 10, second);
    assert_string_not_equal(first, second);
}

static void test_nothing_is_seen_before_its_end(void **state)
{
    struct report_file file;
    (void)state;
    assert_int_equal(report_store_begin(&store, NOW, "crash", &file), 0);
    assert_false(exists("20261118-110640-1.crash"));
    report_store_abort(&store, &file);
    assert_false(exists(".20261118-110640-1.crash.tmp"));
    assert_int_equal(rmdir(directory), 0);
    assert_int_equal(report_store_begin(&store, NOW, "crash", &file), -1);
    assert_int_equal(errno, ENOENT);
    assert_string_equal(file.id, "");
    assert_int_equal(mkdir(directory, 0700), 0);
}

static void test_prune_by_number(void **state)
{
    char id[REPORT_ID_SIZE];
    (void)state;
    store.keep = 3;
    for (int i = 0; i < 12; i++)
        write_report("crash", NOW, 10, id);
    for (int i = 0; i < 5; i++)
        write_report("slow", NOW + 1, 10, NULL);
    report_store_prune(&store);
    assert_false(exists("20261118-110640-9.crash"));
    assert_true(exists("20261118-110640-10.crash") && exists("20261118-110640-12.crash"));
    assert_false(exists("20261118-110641-2.slow"));
    assert_true(exists("20261118-110641-3.slow"));
}

static void test_prune_by_size(void **state)
{
    (void)state;
    store.keep_size = 250;
    for (int i = 0; i < 5; i++)
        write_report("crash", NOW + i, 98, NULL);
    report_store_prune(&store);
    assert_false(exists("20261118-110642-1.crash"));
    assert_true(exists("20261118-110643-1.crash") && exists("20261118-110644-1.crash"));
    store.keep_size = 10;
    report_store_prune(&store);
    assert_true(exists("20261118-110644-1.crash")); /* the newest stays, however large */
    assert_false(exists("20261118-110643-1.crash"));
}

static void touch(const char *name, const char *bytes)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(bytes, file);
    fclose(file);
}

static void test_other_files_stay(void **state)
{
    (void)state;
    store.keep = 0;
    touch("notes.crash", "x"), touch("20261118-110640-1.txt", "x"), touch("1-1.crash.old", "x");
    report_store_prune(&store);
    (void)report_store_adopt(&store);
    assert_true(exists("notes.crash") && exists("20261118-110640-1.txt") && exists("1-1.crash.old"));
}

/* What a reporter that died has left: whole, not whole, just begun. Of one that lives: nothing is taken. */
static void test_adopt(void **state)
{
    struct report_file living;
    (void)state;
    touch(".20261118-110640-1.crash.tmp", "\xa1x");
    touch(".20261118-110640-2.crash.tmp", "\xa9x");
    touch(".20261118-110640-3.slow.tmp", "");
    assert_int_equal(report_store_begin(&store, NOW + 5, "crash", &living), 0);
    fputs("\xa1x", living.stream);
    fflush(living.stream);
    assert_int_equal(report_store_adopt(&store), 1);
    assert_true(exists("20261118-110640-1.crash"));
    assert_false(exists(".20261118-110640-1.crash.tmp"));
    assert_false(exists("20261118-110640-2.crash") || exists(".20261118-110640-2.crash.tmp"));
    assert_int_equal(report_store_commit(&store, &living), 0);
    assert_true(exists("20261118-110645-1.crash"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ids_and_modes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_number_that_is_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_number_is_not_given_twice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_is_seen_before_its_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_prune_by_number, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_prune_by_size, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_files_stay, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_adopt, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
