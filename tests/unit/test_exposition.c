#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "exposition.h"

static char *text;
static size_t size;

static FILE *begin(void)
{
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    return out;
}

static void expect(FILE *out, const char *wanted)
{
    assert_int_equal(fclose(out), 0);
    assert_string_equal(text, wanted);
    free(text);
}

static void test_head(void **state)
{
    (void)state;
    FILE *out = begin();
    exposition_begin(out, "x_total", "counter", "A \\ and \"two\"\nlines.");
    expect(out, "# HELP x_total A \\\\ and \"two\"\\nlines.\n# TYPE x_total counter\n");
}

static void test_samples(void **state)
{
    (void)state;
    FILE *out = begin();
    const struct exposition_label labels[] = {{"method", "f"}, {"code", "OK"}, {0}};
    exposition_count(out, "x", NULL, 0);
    exposition_count(out, "x", labels, UINT64_MAX);
    exposition_seconds(out, "y", NULL, 0);
    exposition_seconds(out, "y", labels + 1, 1500000001);
    exposition_seconds(out, "y", NULL, 20000000000);
    expect(out,
           "x 0\nx{method=\"f\",code=\"OK\"} 18446744073709551615\ny 0\ny{code=\"OK\"} 1.500000001\ny 20\n");
}

static void test_labels_are_escaped(void **state)
{
    (void)state;
    FILE *out = begin();
    exposition_count(out, "x", (const struct exposition_label[]){{"a", "q\" b\\ n\n \xc3\xa4 \xff\xc3"}, {0}},
                     1);
    expect(out, "x{a=\"q\\\" b\\\\ n\\n \xc3\xa4 \xef\xbf\xbd\xef\xbf\xbd\"} 1\n");
}

static uint64_t bound(unsigned bucket)
{
    return UINT64_C(16000) << bucket;
}

static void test_histogram(void **state)
{
    (void)state;
    FILE *out = begin();
    const uint64_t counts[] = {3, 0, 2, 1};
    const struct exposition_label labels[] = {{"m", "f"}, {0}};
    exposition_histogram(out, "h", labels, counts, 4, bound, 123456789);
    exposition_histogram(out, "h", NULL, counts, 1, bound, 0);
    expect(out, "h_bucket{m=\"f\",le=\"0.000016\"} 3\n"
                "h_bucket{m=\"f\",le=\"0.000032\"} 3\n"
                "h_bucket{m=\"f\",le=\"0.000064\"} 5\n"
                "h_bucket{m=\"f\",le=\"+Inf\"} 6\n"
                "h_sum{m=\"f\"} 0.123456789\n"
                "h_count{m=\"f\"} 6\n"
                "h_bucket{le=\"+Inf\"} 3\n"
                "h_sum 0\n"
                "h_count 3\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head),
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_labels_are_escaped),
        cmocka_unit_test(test_histogram),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
