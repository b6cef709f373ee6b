#include "queue.h"

#include "clock.h"
#include "deaths.h"
#include "meter.h"

bool queue_look(struct master *master)
{
    uint64_t now = clock_now();
    bool waiting = slots_poll(&master->slots);
    if (!waiting)
        master->queue_empty_at = now;
    return waiting;
}

static uint32_t count_waiting(const struct master *master)
{
    uint32_t found[SLOTS_POLLED], waiting = 0;
    for (uint32_t next = 0; next < master->slots.count;) {
        unsigned unread = slots_find_unread(&master->slots, &next, found);
        for (unsigned i = 0; i < unread; i++)
            waiting += !master->slots.slots[found[i]].gone && !deaths_claimed(master, found[i]);
    }
    return waiting;
}

/* When the request was sent that this worker has run last, as far as its client tells; 0: unknown. The row is
 * read twice: what is read in between belongs together if it is about the same request both times. */
static uint64_t last_sent(const struct seat *seat, uint64_t now)
{
    struct row_view row, again;
    if (!seat->row || !seat_serves(seat))
        return 0;
    row_read(seat->row, seat->key, &row);
    row_read(seat->row, seat->key, &again);
    bool sound = row.request == again.request && row.started <= now && row.queued <= METER_QUEUED_MAX &&
                 row.queued <= row.started;
    return sound && row.queued > 0 ? row.started - row.queued : 0;
}

/* First come, first served: what waits was sent after whatever has been taken up, and after the queue was
 * last empty. */
static uint64_t oldest_sent(const struct master *master, uint64_t now)
{
    uint64_t latest = master->queue_empty_at;
    for (unsigned i = 1; i <= master->seat_count; i++) {
        uint64_t sent = last_sent(&master->seats[i], now);
        if (sent > latest)
            latest = sent;
    }
    return latest;
}

void queue_measure(struct master *master, struct queue_sight *sight)
{
    *sight = (struct queue_sight){0};
    if (queue_look(master))
        sight->waiting = count_waiting(master);
    uint64_t now = clock_now();
    if (sight->waiting > 0)
        sight->oldest = now - oldest_sent(master, now);
}
