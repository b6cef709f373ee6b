#include "bench_progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "text.h"

void bench_progress_begin(struct bench_progress *progress, uint64_t now, uint64_t end)
{
    *progress =
        (struct bench_progress){.wanted = isatty(STDERR_FILENO), .begin = now, .end = end, .next = now};
}

static void put_second(FILE *out, const struct record *record)
{
    const struct record_second *second = &record->seconds[record->second_count - 1];

    fputs("  ", out);
    text_put_count(out, (double)second->calls);
    fputs(" calls/s", out);
    if (second->calls > 0) {
        fputs("  p50 ", out);
        text_put_latency(out, (double)second->p50 / 1e9);
        fputs("  p99 ", out);
        text_put_latency(out, (double)second->p99 / 1e9);
        fputs("  max ", out);
        text_put_latency(out, (double)second->max / 1e9);
    }
}

static void put_line(FILE *out, const struct bench_progress *progress, const struct record *record,
                     uint64_t now, uint64_t end)
{
    if (now >= end)
        fprintf(out, "waiting for %" PRIu64 " calls; Ctrl-C ends at once", progress->busy + progress->queue);
    else
        fprintf(out, "%" PRIu64 " s of %" PRIu64, (now - progress->begin) / CLOCK_NS_PER_S,
                (end - progress->begin + CLOCK_NS_PER_S - 1) / CLOCK_NS_PER_S);
    if (now < record->start)
        fputs("  warming up", out);
    else if (record->second_count > 0)
        put_second(out, record);
    if (record->errors > 0)
        fprintf(out, "  %" PRIu64 " errors", record->errors);
    if (progress->queue > 0 && now < end)
        fprintf(out, "  %" PRIu64 " waiting", progress->queue);
    if (progress->away > 0)
        fprintf(out, "  %u not connected", progress->away);
}

/* Never more than the terminal is wide: what breaks into a second line cannot be taken back. */
void bench_progress_show(struct bench_progress *progress, const struct record *record, uint64_t now,
                         uint64_t end)
{
    char *line = NULL;
    size_t size = 0;

    if (!progress->wanted || now < progress->next)
        return;
    progress->next += CLOCK_NS_PER_S;
    FILE *out = open_memstream(&line, &size);
    if (!out)
        return;
    put_line(out, progress, record, now, end);
    if (fclose(out) == 0)
        fprintf(stderr, "\r%.*s\033[K", (int)text_columns(stderr) - 1, line);
    free(line);
}

void bench_progress_end(struct bench_progress *progress)
{
    if (progress->wanted)
        fputs("\r\033[K", stderr);
}
