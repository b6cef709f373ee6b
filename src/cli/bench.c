#include <stdio.h>

#include "bench_options.h"
#include "bench_report.h"
#include "bench_run.h"
#include "cli.h"
#include "record.h"

static int report(const struct bench_options *options, const struct record *record,
                  const struct bench_run_result *result)
{
    uint64_t answered = 0;

    for (size_t i = 0; i < record->call_count; i++)
        answered += record->calls[i].total;
    if ((options->json ? bench_report_json : bench_report_table)(options, record, result) < 0)
        return CLI_CALL_FAILED;
    if (answered > 0)
        return CLI_OK;
    fflush(stdout);
    fprintf(stderr, "cohab: bench: %s\n",
            record->errors > 0 ? "every call failed" : "no call was measured; was the warm-up interrupted?");
    return CLI_CALL_FAILED;
}

int bench_run(struct cli *cli, int argc, char **argv)
{
    static struct record record;
    static struct bench_run_result result; /* large */
    struct bench_options options;
    int exit_code = CLI_CALL_FAILED;

    bench_options_read(&options, cli, argc, argv);
    if (record_begin(&record, options.call_count) < 0)
        fputs("cohab: bench: out of memory\n", stderr);
    else
        exit_code = bench_run_load(&options, &record, &result);
    if (exit_code == CLI_OK)
        exit_code = report(&options, &record, &result);
    record_free(&record);
    bench_options_free(&options);
    return exit_code;
}
