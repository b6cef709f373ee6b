#include "bench_run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <ev.h>

#include "arrivals.h"
#include "bench_callers.h"
#include "bench_progress.h"
#include "clock.h"

struct run {
    const struct bench_options *options;
    struct record *record;
    struct bench_run_result *result;
    struct bench_callers callers;
    struct ev_loop *loop;
    struct ev_timer tick;
    struct ev_signal interrupt, terminate;
    struct ev_io alarm; /* a timerfd, as libev's own timers are good to a millisecond only */
    uint64_t alarm_set; /* for when; 0: not set */
    uint64_t end;       /* no call starts from then on; the record has the start */
    bool over;
    /* Callers that are ready and do not call yet, first in, first out: those that think, in the order in
     * which that ends, or those that wait for an arrival. */
    struct bench_caller *first, *last;
    struct arrivals arrivals; /* up to the next call to be started */
    struct arrivals ahead;    /* a copy that is up to now: the distance between them is the queue */
    struct bench_progress progress;
    double cpu_at_start; /* -1: measuring has not begun */
    uint64_t cpu_from;
};

static bool is_open_loop(const struct run *run)
{
    return run->options->rate > 0;
}

/* --- callers that are ready --- */

static void queue_push(struct run *run, struct bench_caller *caller)
{
    if (caller->queued)
        return;
    caller->queued = true;
    caller->next = NULL;
    if (run->first)
        run->last->next = caller;
    else
        run->first = caller;
    run->last = caller;
}

/* The first one that is still ready: connections can be lost while they wait. */
static struct bench_caller *queue_peek(struct run *run)
{
    while (run->first && run->first->state != BENCH_CALLER_READY) {
        run->first->queued = false;
        run->first = run->first->next;
    }
    return run->first;
}

static void queue_pop(struct run *run)
{
    run->first->queued = false;
    run->first = run->first->next;
}

static void set_alarm(struct run *run, uint64_t at)
{
    struct itimerspec time = {
        .it_value = {.tv_sec = (time_t)(at / CLOCK_NS_PER_S), .tv_nsec = (long)(at % CLOCK_NS_PER_S)}};

    if (run->alarm_set == at)
        return;
    run->alarm_set = at;
    timerfd_settime(run->alarm.fd, TFD_TIMER_ABSTIME, &time, NULL);
}

/* --- the open loop --- */

static bool arrival_is_due(const struct arrivals *arrivals, const struct run *run, uint64_t now)
{
    return arrivals->next <= now && arrivals->next < run->end;
}

/* Calls whose deadline has passed before there was a connection for them. */
static void expire_arrivals(struct run *run, uint64_t now)
{
    uint64_t limit = clock_from_seconds(run->options->timeout);

    while (arrival_is_due(&run->arrivals, run, now) && run->arrivals.next + limit <= now) {
        if (run->arrivals.next >= run->record->start)
            bench_callers_fail(&run->callers, now, "DEADLINE_EXCEEDED", "QUEUE_TIMEOUT",
                               "the deadline passed before a connection was free");
        arrivals_step(&run->arrivals);
    }
}

static void note_queue(struct run *run, uint64_t now)
{
    while (arrival_is_due(&run->ahead, run, now))
        arrivals_step(&run->ahead);
    uint64_t waiting = run->ahead.count - run->arrivals.count;
    run->progress.queue = waiting;
    if (now >= run->record->start && waiting > run->result->queue_most)
        run->result->queue_most = waiting;
}

static void start_arrivals(struct run *run)
{
    struct bench_caller *caller;
    uint64_t now = clock_now();

    expire_arrivals(run, now);
    while ((caller = queue_peek(run)) && arrival_is_due(&run->arrivals, run, now)) {
        uint64_t meant = run->arrivals.next;
        queue_pop(run);
        arrivals_step(&run->arrivals);
        if (meant >= run->record->start)
            histogram_record(&run->result->late, now - meant);
        bench_caller_start(caller, meant);
        now = clock_now();
    }
    note_queue(run, now);
    if (caller && run->arrivals.next < run->end)
        set_alarm(run, run->arrivals.next);
}

/* --- the closed loop --- */

static void start_thinkers(struct run *run)
{
    struct bench_caller *caller;

    while ((caller = queue_peek(run)) && clock_now() < run->end) {
        if (caller->due > clock_now()) {
            set_alarm(run, caller->due);
            break;
        }
        queue_pop(run);
        bench_caller_start(caller, clock_now());
    }
}

static void call_or_think(struct run *run, struct bench_caller *caller)
{
    uint64_t now = clock_now();

    if (now >= run->end)
        return;
    if (run->options->think > 0) {
        caller->due = now + clock_from_seconds(run->options->think);
        queue_push(run, caller);
        start_thinkers(run);
    } else {
        bench_caller_start(caller, now);
    }
}

/* --- events --- */

static void end_if_over(struct run *run, uint64_t now)
{
    bool waiting = is_open_loop(run) && run->arrivals.next < run->end;

    if (now < run->end || run->callers.busy > 0 || waiting)
        return;
    run->over = true;
    ev_break(run->loop, EVBREAK_ALL);
}

static void on_ready(struct bench_caller *caller, void *context)
{
    struct run *run = context;

    if (is_open_loop(run)) {
        queue_push(run, caller);
        start_arrivals(run);
    } else {
        call_or_think(run, caller);
    }
    if (caller->state != BENCH_CALLER_BUSY)
        end_if_over(run, clock_now());
}

static void on_alarm(struct ev_loop *loop, struct ev_io *watcher, int events)
{
    struct run *run = watcher->data;
    uint64_t expirations;
    (void)loop;
    (void)events;

    run->alarm_set = 0;
    if (is_open_loop(run))
        start_arrivals(run);
    else
        start_thinkers(run);
    /* Setting it again has made it unreadable; else it is to be read. */
    if (run->alarm_set == 0 && read(watcher->fd, &expirations, sizeof expirations) < 0)
        return;
}

static double cpu_used(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void on_tick(struct ev_loop *loop, struct ev_timer *timer, int events)
{
    struct run *run = timer->data;
    uint64_t now = clock_now();
    (void)loop;
    (void)events;

    if (now >= run->record->start) {
        if (run->cpu_at_start < 0) {
            run->cpu_at_start = cpu_used();
            run->cpu_from = now;
        }
        record_tick(run->record, now);
    }
    bench_callers_tick(&run->callers, now);
    if (is_open_loop(run))
        start_arrivals(run);
    run->progress.away = run->callers.away;
    run->progress.busy = run->callers.busy;
    bench_progress_show(&run->progress, run->record, now, run->end);
    end_if_over(run, now);
}

/* Calls of the queue count as interrupted, too. */
static void abandon(struct run *run)
{
    uint64_t now = clock_now();

    bench_callers_abandon(&run->callers);
    while (is_open_loop(run) && arrival_is_due(&run->arrivals, run, now)) {
        if (run->arrivals.next >= run->record->start)
            bench_callers_fail(&run->callers, now, "CANCELLED", "INTERRUPTED",
                               "the run was ended before the call began");
        arrivals_step(&run->arrivals);
    }
    run->over = true;
    ev_break(run->loop, EVBREAK_ALL);
}

/* The first one ends the duration, the second one the run. */
static void on_interrupt(struct ev_loop *loop, struct ev_signal *signal, int events)
{
    struct run *run = signal->data;
    uint64_t now = clock_now();
    (void)loop;
    (void)events;

    run->result->interrupted = true;
    if (now >= run->end) {
        abandon(run);
        return;
    }
    run->end = now;
    end_if_over(run, now);
}

/* --- the run --- */

static void start_watchers(struct run *run)
{
    double seconds = (double)BENCH_CALLERS_TICK / 1e9;

    ev_timer_init(&run->tick, on_tick, seconds, seconds);
    ev_signal_init(&run->interrupt, on_interrupt, SIGINT);
    ev_signal_init(&run->terminate, on_interrupt, SIGTERM);
    ev_io_init(&run->alarm, on_alarm, run->alarm.fd, EV_READ);
    run->tick.data = run->interrupt.data = run->terminate.data = run->alarm.data = run;
    ev_timer_start(run->loop, &run->tick);
    ev_signal_start(run->loop, &run->interrupt);
    ev_signal_start(run->loop, &run->terminate);
    ev_io_start(run->loop, &run->alarm);
}

static void start_calls(struct run *run)
{
    const struct bench_options *options = run->options;
    uint64_t now = clock_now();

    ev_now_update(run->loop); /* connecting took a while */
    run->record->start = now + clock_from_seconds(options->warmup);
    run->end = run->record->start + clock_from_seconds(options->duration);
    if (is_open_loop(run))
        run->arrivals = run->ahead = arrivals_begin(now, options->rate, options->poisson, options->seed + 2);
    bench_progress_begin(&run->progress, now, run->end);
    for (unsigned i = 0; i < options->connections; i++) {
        struct bench_caller *caller = &run->callers.items[i];
        if (is_open_loop(run) || options->think > 0) {
            /* Callers that think do not begin all at once. */
            caller->due = now + clock_from_seconds(options->think * i / options->connections);
            queue_push(run, caller);
        } else {
            bench_caller_start(caller, clock_now());
        }
    }
    if (is_open_loop(run))
        start_arrivals(run);
    else
        start_thinkers(run);
}

static void ignore_signal(int number)
{
    (void)number;
}

/* Has recv() return every BENCH_CALLERS_TICK (0: no more). SO_RCVTIMEO would set a timer for every call: 4 %
 * of the fastest calls. A signal that comes just before recv() is made up for by the next one. */
static void interrupt_waiting(uint64_t period)
{
    const struct sigaction action = {.sa_handler = ignore_signal}; /* without SA_RESTART */
    const struct timeval time = {.tv_usec = (suseconds_t)(period / 1000)};

    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){.it_interval = time, .it_value = time}, NULL);
}

/* One connection in a closed loop waits in recv(), as a blocking client does: to come back to the loop for
 * every answer costs a call and a slower wake-up, which would be measured as the server's. */
static void serve_one_caller(struct run *run)
{
    struct bench_caller *caller = &run->callers.items[0];
    uint64_t look_again = 0;

    interrupt_waiting(BENCH_CALLERS_TICK);
    while (!run->over) {
        if (!bench_caller_blocks(caller)) {
            ev_run(run->loop, EVRUN_ONCE);
            continue;
        }
        bench_caller_wait(caller);
        uint64_t now = clock_now();
        if (now >= look_again) {
            ev_run(run->loop, EVRUN_NOWAIT);
            look_again = now + BENCH_CALLERS_TICK;
        }
    }
    interrupt_waiting(0);
}

static void serve_events(struct run *run)
{
    while (!run->over)
        ev_run(run->loop, EVRUN_ONCE);
}

static void finish(struct run *run)
{
    struct bench_run_result *result = run->result;
    uint64_t now = clock_now();
    uint64_t end = run->record->last_end > run->end ? run->record->last_end : run->end;

    bench_progress_end(&run->progress);
    record_end(run->record);
    result->seconds = end > run->record->start ? (double)(end - run->record->start) / 1e9 : 0;
    if (run->cpu_at_start >= 0 && now > run->cpu_from)
        result->own_cpu = (cpu_used() - run->cpu_at_start) / ((double)(now - run->cpu_from) / 1e9);
}

static int run_callers(struct run *run)
{
    run->callers = (struct bench_callers){
        .options = run->options,
        .record = run->record,
        .loop = run->loop,
        .on_ready = on_ready,
        .context = run,
        .blocking = run->options->connections == 1 && !is_open_loop(run) && !(run->options->think > 0),
    };
    int exit_code = bench_callers_open(&run->callers);
    if (exit_code == CLI_OK) {
        start_watchers(run);
        start_calls(run);
        (run->callers.blocking ? serve_one_caller : serve_events)(run);
        finish(run);
    }
    bench_callers_close(&run->callers);
    return exit_code;
}

int bench_run_load(const struct bench_options *options, struct record *record,
                   struct bench_run_result *result)
{
    struct run run = {.options = options, .record = record, .result = result, .cpu_at_start = -1};

    memset(result, 0, sizeof *result);
    run.loop = ev_default_loop(EVFLAG_NOENV);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (!run.loop || timer < 0) {
        fprintf(stderr, "cohab: bench: cannot make an event loop: %s\n", strerror(errno));
        if (timer >= 0)
            close(timer);
        return CLI_CALL_FAILED;
    }
    run.alarm.fd = timer;
    int exit_code = run_callers(&run);
    close(timer);
    ev_loop_destroy(run.loop);
    return exit_code;
}
