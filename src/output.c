#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

/* Taken at a time. An engine that prints more than this between two ticks has to wait for the next, and loses
 * what its pipe has no room for. */
#define CHUNK_SIZE (16u << 10)
/* What a pipe holds, in chunks. */
#define CHUNKS_LEFT 5

/* Of one process, and of all, in a tick of the master's; a line takes about 7 microseconds. */
#define LINES_OF_ONE 100
#define LINES_OF_ALL 400

static unsigned lines_left = LINES_OF_ALL;
static uint64_t lines_skipped;

static void log_bytes(const struct output *output, const char *line, size_t size)
{
    const char *role = output->number == OUTPUT_FORKSERVER ? "forkserver"
                       : output->number == OUTPUT_REPORTER ? "reporter"
                       : output->number == OUTPUT_STANDIN  ? "stand-in"
                       : output->number == OUTPUT_CHECK    ? "upgrade check"
                                                           : NULL;
    log_output(LOG_FIELDS(.worker = role ? 0 : output->number, .pid = output->pid, .role = role), line, size);
}

static void log_line(struct output *output)
{
    size_t size = output->line_size;
    output->line_size = 0;
    if (size == 0)
        return;
    if (output->lines_left == 0 || lines_left == 0) {
        output->skipped++;
        lines_skipped++;
        return;
    }
    output->lines_left--;
    lines_left--;
    log_bytes(output, output->line, size);
}

/* And may log as many again. */
static void tell_skipped(struct output *output)
{
    char line[64];
    if (output->skipped > 0 && lines_left > 0)
        log_bytes(output, line,
                  (size_t)snprintf(line, sizeof(line), "(%u lines were not logged)", output->skipped));
    if (lines_left > 0)
        output->skipped = 0;
    output->lines_left = LINES_OF_ONE;
}

void output_tick(void)
{
    lines_left = LINES_OF_ALL;
}

uint64_t output_lines_skipped(void)
{
    return lines_skipped;
}

static void keep_tail(struct output *output, const char *bytes, size_t size)
{
    if (output->tail_size + size > sizeof(output->tail)) {
        size_t kept = output->tail_size < REPORT_STDERR_SIZE ? output->tail_size : REPORT_STDERR_SIZE;
        memmove(output->tail, output->tail + output->tail_size - kept, kept);
        output->tail_size = kept;
    }
    memcpy(output->tail + output->tail_size, bytes, size);
    output->tail_size += size;
}

static void take(struct output *output, const char *bytes, size_t size)
{
    keep_tail(output, bytes, size);
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] == '\n') {
            log_line(output);
            continue;
        }
        output->line[output->line_size++] = bytes[i];
        if (output->line_size == sizeof(output->line))
            log_line(output);
    }
}

void output_close(struct output *output)
{
    if (!output->loop || output->watcher.fd < 0)
        return;
    ev_io_stop(output->loop, &output->watcher);
    close(output->watcher.fd);
    output->watcher.fd = -1;
}

/* Returns how much it was; 0: nothing, for now or for good. */
static size_t read_chunk(struct output *output)
{
    static char chunk[CHUNK_SIZE];
    ssize_t size = read(output->watcher.fd, chunk, sizeof(chunk));
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (size <= 0) {
        output_close(output); /* all that could write to it is gone, or has closed it */
        return 0;
    }
    take(output, chunk, (size_t)size);
    return (size_t)size;
}

static void on_output(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)events;
    struct output *output = watcher->data;
    if (read_chunk(output) == CHUNK_SIZE)
        ev_io_stop(loop, watcher); /* until output_resume() */
}

int output_open(struct output *output, struct ev_loop *loop, unsigned number)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -1;
    output->loop = loop;
    output->number = number;
    output->pid = 0;
    output->line_size = output->tail_size = 0;
    output->skipped = 0;
    output->lines_left = LINES_OF_ONE;
    ev_io_init(&output->watcher, on_output, ends[0], EV_READ);
    output->watcher.data = output;
    ev_io_start(loop, &output->watcher);
    return ends[1];
}

void output_adopt(struct output *output, struct ev_loop *loop)
{
    int descriptor = output->watcher.fd;
    output->loop = loop;
    output->lines_left = LINES_OF_ONE;
    ev_io_init(&output->watcher, on_output, descriptor, EV_READ);
    output->watcher.data = output;
    if (descriptor >= 0)
        ev_io_start(loop, &output->watcher);
}

void output_restore(uint64_t skipped)
{
    lines_skipped = skipped;
}

void output_resume(struct output *output)
{
    if (!output->loop || output->watcher.fd < 0)
        return;
    tell_skipped(output);
    if (ev_is_active(&output->watcher))
        return;
    if (read_chunk(output) < CHUNK_SIZE && output->watcher.fd >= 0)
        ev_io_start(output->loop, &output->watcher);
}

void output_drain(struct output *output)
{
    if (!output->loop)
        return;
    for (int i = 0; i < CHUNKS_LEFT && output->watcher.fd >= 0 && read_chunk(output) > 0; i++)
        ;
    log_line(output);
    tell_skipped(output);
}

size_t output_copy_tail(const struct output *output, char *bytes, size_t size)
{
    size_t kept = output->tail_size < size ? output->tail_size : size;
    memcpy(bytes, output->tail + output->tail_size - kept, kept);
    return kept;
}
