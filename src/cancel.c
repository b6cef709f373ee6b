#include "cancel.h"

#include "deaths.h"
#include "supervise.h"

/* As the looks at busy workers. */
#define GONE_TICK 0.01

/* At once, not with the next tick: the call may look at its flag this very moment. */
static void tell_workers(struct master *master)
{
    for (unsigned i = 0; i <= master->seat_count; i++) {
        struct seat *seat = &master->seats[i];
        uint32_t slot;
        if (seat_serves(seat) && slots_find(&master->slots, row_read_claim(seat->row), &slot) &&
            master->slots.slots[slot].gone)
            (void)supervise_check(seat);
    }
}

static void close_unclaimed(struct master *master)
{
    struct slots *slots = &master->slots;
    uint32_t left = slots->gone;
    for (uint32_t slot = 0; left > 0 && slot < slots->count; slot++) {
        if (!slots->slots[slot].gone)
            continue;
        left--;
        if (!deaths_claimed(master, slot))
            slots_close(slots, slot);
    }
}

static void look_at_gone(struct master *master)
{
    close_unclaimed(master);
    if (master->slots.gone == 0) {
        ev_timer_stop(master->loop, &master->gone);
        return;
    }
    tell_workers(master);
    if (!ev_is_active(&master->gone))
        ev_timer_again(master->loop, &master->gone);
}

static void on_gone(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    look_at_gone(timer->data);
}

void cancel_look(struct master *master)
{
    if (slots_take_hangups(&master->slots) > 0)
        look_at_gone(master);
}

static void on_hangups(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    (void)events;
    cancel_look(watcher->data);
}

void cancel_init(struct master *master)
{
    ev_io_init(&master->hangups, on_hangups, master->slots.hangups, EV_READ);
    master->hangups.data = master;
    ev_io_start(master->loop, &master->hangups);
    ev_timer_init(&master->gone, on_gone, GONE_TICK, GONE_TICK);
    master->gone.data = master;
}
