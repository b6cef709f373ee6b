#include "stacks.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "clock.h"
#include "crashes.h"
#include "deaths.h"
#include "generation.h"
#include "pack.h"
#include "worker.h"

#define TICK 0.002
/* A worker that has not written its stack down by then has the signal blocked, or sleeps in the kernel. */
#define PATIENCE (CLOCK_NS_PER_S / 2)
/* Reporter and all. */
#define QUERY_TIMEOUT (2 * CLOCK_NS_PER_S)

/* One worker of a question. */
struct item {
    struct stacks *stacks;
    struct seat *seat;
    pid_t pid;
    uint64_t request;
    uint64_t running; /* ns */
    char method[ROW_METHOD_SIZE + 1];
    bool asked, done;
    char no_stack[REPORTER_TEXT_SIZE];
    msgpack_sbuffer stack; /* empty: there is none */
};

struct stacks {
    struct master *master;
    ev_timer timer;     /* while anything is awaited */
    struct item *items; /* SEATS_MAX */
    unsigned count;
    uint64_t since;
    bool busy;
    stacks_listener *listener;
    void *context;
};

static void start_timer(struct stacks *stacks)
{
    if (!ev_is_active(&stacks->timer))
        ev_timer_again(stacks->master->loop, &stacks->timer);
}

/* --- one worker's stack --- */

static void ask(struct seat *seat, const struct row_view *row, uint64_t now)
{
    struct look *look = &seat->look;
    look->asked_at = now;
    look->request = row->request;
    look->looks = row->looks;
    (void)syscall(SYS_tgkill, seat->child.pid, seat->child.pid, WORKER_SIGNAL_STACK); /* dead: it is reaped */
    start_timer(seat->master->stacks);
}

static void on_reply(void *context, const struct reporter_reply *reply);

/* The worker has written it down, or will not. */
static void report(struct seat *seat, const struct row_view *row)
{
    struct look *look = &seat->look;
    struct item *item = look->query;
    bool slow = look->slow;
    look->asked_at = 0;
    look->slow = false;
    look->query = NULL;
    struct crash *crash = crashes_new(seat->master, seat->generation, slow ? REPORTER_SLOW : REPORTER_STACK);
    if (!crash) {
        if (item)
            item->done = true;
        return;
    }
    deaths_fill_job(crashes_job(crash), seat, row);
    if (item)
        crashes_listen(crash, on_reply, item);
    (void)crashes_send(crash, seat->workspace, slow ? &seat->output : NULL);
}

/* Returns whether there is still something to wait for. */
static bool look_at(struct seat *seat, uint64_t now)
{
    struct row_view row;
    if (seat->look.asked_at == 0)
        return false;
    row_read(seat->row, seat->key, &row);
    if (row.looks == seat->look.looks && now - seat->look.asked_at < PATIENCE)
        return true;
    report(seat, &row);
    return false;
}

void stacks_watch(struct seat *seat, const struct row_view *row, uint64_t now)
{
    uint64_t limit = seat->master->options->slow_stack;
    struct look *look = &seat->look;
    if (limit == 0 || !row->valid || row->state != ROW_RUNNING || row->request == look->slow_request ||
        row->started > now || now - row->started < limit || look->asked_at != 0)
        return;
    look->slow_request = row->request;
    look->slow = true;
    ask(seat, row, now);
}

/* --- a question --- */

static void on_reply(void *context, const struct reporter_reply *reply)
{
    struct item *item = context;
    snprintf(item->no_stack, sizeof(item->no_stack), "%s", reply->no_stack);
    if (reply->data_size > 0)
        msgpack_sbuffer_write(&item->stack, reply->data, reply->data_size);
    item->done = true;
    start_timer(item->stacks);
}

static void pack_item(msgpack_packer *packer, msgpack_sbuffer *buffer, const struct item *item)
{
    msgpack_pack_map(packer, 6);
    pack_text(packer, "number");
    msgpack_pack_uint32(packer, item->seat->child.number);
    pack_text(packer, "pid");
    msgpack_pack_int64(packer, item->pid);
    pack_text(packer, "method");
    pack_text(packer, item->method);
    pack_text(packer, "running");
    msgpack_pack_double(packer, (double)item->running / 1e9);
    pack_text(packer, "stack");
    if (item->stack.size > 0)
        msgpack_sbuffer_write(buffer, item->stack.data, item->stack.size);
    else
        msgpack_pack_array(packer, 0);
    pack_text(packer, "no_stack");
    if (item->no_stack[0])
        pack_text(packer, item->no_stack);
    else
        msgpack_pack_nil(packer);
}

static void finish(struct stacks *stacks)
{
    msgpack_sbuffer buffer;
    msgpack_packer packer;
    msgpack_sbuffer_init(&buffer);
    msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
    msgpack_pack_array(&packer, stacks->count);
    for (unsigned i = 0; i < stacks->count; i++) {
        struct item *item = &stacks->items[i];
        crashes_forget_listener(stacks->master, item);
        if (item->seat->look.query == item)
            item->seat->look.query = NULL;
        if (!item->done)
            snprintf(item->no_stack, sizeof(item->no_stack), "no answer within 2 s");
        pack_item(&packer, &buffer, item);
        msgpack_sbuffer_destroy(&item->stack);
    }
    stacks_listener *listener = stacks->listener;
    stacks->busy = false;
    stacks->listener = NULL;
    if (listener)
        listener(stacks->context, &buffer);
    msgpack_sbuffer_destroy(&buffer);
}

/* Asks as soon as no other look at that worker is under way. */
static void ask_item(struct item *item, uint64_t now)
{
    struct seat *seat = item->seat;
    struct row_view row;
    if (item->asked || item->done || seat->look.asked_at != 0)
        return;
    if (seat_serves(seat) && seat->child.pid == item->pid) {
        row_read(seat->row, seat->key, &row);
        if (row.valid && row.state == ROW_RUNNING && row.request == item->request) {
            item->asked = true;
            seat->look.query = item;
            ask(seat, &row, now);
            return;
        }
    }
    item->done = true;
    snprintf(item->no_stack, sizeof(item->no_stack), "the call has ended");
}

static bool is_answered(struct stacks *stacks, uint64_t now)
{
    bool all = true;
    for (unsigned i = 0; i < stacks->count; i++) {
        ask_item(&stacks->items[i], now);
        all &= stacks->items[i].done;
    }
    return all || now - stacks->since >= QUERY_TIMEOUT;
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)events;
    struct stacks *stacks = timer->data;
    struct master *master = stacks->master;
    uint64_t now = clock_now();
    bool waiting = false;
    for (unsigned i = 1; i <= master->seat_count; i++)
        waiting |= look_at(&master->seats[i], now);
    if (stacks->busy && is_answered(stacks, now))
        finish(stacks);
    if (!waiting && !stacks->busy)
        ev_timer_stop(loop, timer);
}

static void add_item(struct stacks *stacks, struct seat *seat, uint64_t now)
{
    struct row_view row;
    if (!seat_serves(seat))
        return;
    row_read(seat->row, seat->key, &row);
    if (!row.valid || row.state != ROW_RUNNING)
        return;
    struct item *item = &stacks->items[stacks->count++];
    *item = (struct item){.stacks = stacks,
                          .seat = seat,
                          .pid = seat->child.pid,
                          .request = row.request,
                          .running = now > row.started ? now - row.started : 0};
    memcpy(item->method, row.method, sizeof(item->method));
    msgpack_sbuffer_init(&item->stack);
}

int stacks_ask(struct master *master, unsigned number, stacks_listener *listener, void *context)
{
    struct stacks *stacks = master->stacks;
    uint64_t now = clock_now();
    if (stacks->busy)
        return -1;
    stacks->busy = true;
    stacks->count = 0;
    stacks->since = now;
    stacks->listener = listener;
    stacks->context = context;
    for (unsigned i = 1; i <= master->seat_count; i++)
        if (number == 0 || master->seats[i].child.number == number)
            add_item(stacks, &master->seats[i], now);
    start_timer(stacks);
    return 0;
}

bool stacks_busy(const struct master *master)
{
    return master->stacks->busy;
}

void stacks_forget(struct master *master, const void *context)
{
    if (master->stacks->context == context)
        master->stacks->listener = NULL;
}

void stacks_drop(struct seat *seat)
{
    struct item *item = seat->look.query;
    if (item) {
        item->done = true;
        snprintf(item->no_stack, sizeof(item->no_stack), "the worker died meanwhile");
    }
    seat->look = (struct look){0};
}

int stacks_init(struct master *master)
{
    static struct stacks stacks;
    stacks.master = master;
    stacks.items = calloc(SEATS_MAX, sizeof(*stacks.items));
    if (!stacks.items)
        return -1;
    ev_timer_init(&stacks.timer, on_timer, TICK, TICK);
    stacks.timer.data = &stacks;
    master->stacks = &stacks;
    return 0;
}
