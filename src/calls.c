#include "calls.h"

#include <unistd.h>

#include "clock.h"
#include "deaths.h"
#include "metrics.h"
#include "pack.h"
#include "supervise.h"

/* Of a request: as a rule all of it, meta included. */
#define HEAD_SIZE 512u
/* In one part: slots that are looked at, and heads that are copied. */
#define SLOTS_AT_ONCE 1024u
#define HEADS_AT_ONCE 64u

static void pack_key_number(msgpack_packer *packer, const char *key, uint64_t value)
{
    pack_text(packer, key);
    msgpack_pack_uint64(packer, value);
}

static void pack_key_seconds(msgpack_packer *packer, const char *key, uint64_t from, uint64_t to)
{
    pack_text(packer, key);
    msgpack_pack_double(packer, (double)(int64_t)(to - from) / 1e9);
}

static void pack_key_head(msgpack_packer *packer, const unsigned char *head, size_t size)
{
    pack_text(packer, "head");
    msgpack_pack_bin(packer, size);
    msgpack_pack_bin_body(packer, head, size);
}

/* --- what runs --- */

/* A call that runs at this moment. */
struct running {
    struct row_view row;
    const struct slot *slot;
};

static bool find_running(const struct seat *seat, struct running *running)
{
    const struct slots *slots = &seat->master->slots;
    uint32_t slot;
    if (!seat_serves(seat))
        return false;
    row_read(seat->row, seat->key, &running->row);
    if (!running->row.valid || running->row.state != ROW_RUNNING ||
        !slots_find(slots, running->row.claim, &slot))
        return false;
    running->slot = &slots->slots[slot];
    return true;
}

/* Why the call has been told to stop; NULL: it has not. */
static const char *ending(const struct seat *seat, const struct row_view *row)
{
    static const char *const words[] = {
        [DEADLINE_PASSED] = "deadline",
        [DEADLINE_CLIENT_GONE] = "client_gone",
        [DEADLINE_KILL_ORDERED] = "killed",
    };
    const struct deadline *deadline = &seat->deadline;
    return deadline->stage != DEADLINE_NONE && deadline->request == row->request ? words[deadline->why]
                                                                                 : NULL;
}

static void pack_peer(msgpack_packer *packer, const struct slot *slot)
{
    pack_key_number(packer, "peer_pid", (uint64_t)slot->peer_pid);
    pack_key_number(packer, "peer_uid", slot->peer_uid);
}

static void pack_running(msgpack_packer *packer, const struct seat *seat, const struct running *running,
                         uint64_t now)
{
    const struct row_view *row = &running->row;
    const char *why = ending(seat, row);
    msgpack_pack_map(packer, 11);
    pack_key_number(packer, "worker", seat->child.number);
    pack_key_number(packer, "pid", (uint64_t)seat->child.pid);
    pack_key_number(packer, "request", row->request);
    pack_text(packer, "method");
    pack_text(packer, row->method);
    pack_key_number(packer, "msgid", row->msgid);
    pack_peer(packer, running->slot);
    pack_key_seconds(packer, "running", row->started, row->started < now ? now : row->started);
    pack_key_seconds(packer, "deadline_left", now, row->deadline);
    pack_text(packer, "ending");
    if (why)
        pack_text(packer, why);
    else
        msgpack_pack_nil(packer);
    if (metrics_queued(row->queued) > 0) {
        pack_key_seconds(packer, "queued", 0, row->queued);
    } else {
        pack_text(packer, "queued");
        msgpack_pack_nil(packer);
    }
}

/* An array of which is known only in the end how long it is. */
struct list {
    msgpack_sbuffer buffer;
    msgpack_packer packer;
    uint32_t count;
};

static void list_begin(struct list *list)
{
    list->count = 0;
    msgpack_sbuffer_init(&list->buffer);
    msgpack_packer_init(&list->packer, &list->buffer, msgpack_sbuffer_write);
}

static void list_end(struct list *list, msgpack_packer *packer)
{
    msgpack_pack_array(packer, list->count);
    packer->callback(packer->data, list->buffer.data, list->buffer.size);
    msgpack_sbuffer_destroy(&list->buffer);
}

static void pack_all_running(const struct master *master, unsigned last, uint64_t now, msgpack_packer *packer)
{
    struct list list;
    struct running running;
    list_begin(&list);
    for (unsigned i = 1; i <= last; i++)
        if (find_running(&master->seats[i], &running)) {
            pack_running(&list.packer, &master->seats[i], &running, now);
            list.count++;
        }
    list_end(&list, packer);
}

/* --- what waits --- */

/* Copies the beginning of the request that waits in a slot; returns how much, 0: none does. Where no row
 * claims the slot, what is unread begins with a request: workers take whole ones. */
static size_t peek_waiting(const struct master *master, uint32_t slot, unsigned char *head, size_t size)
{
    const struct slot *place = &master->slots.slots[slot];
    if (!place->open || place->gone)
        return 0;
    size_t count = slots_peek(slot, head, size);
    return count > 0 && !deaths_claimed(master, slot) ? count : 0;
}

static void pack_waiting(msgpack_packer *packer, const struct slot *slot, uint32_t number,
                         const unsigned char *head, size_t size)
{
    msgpack_pack_map(packer, 4);
    pack_peer(packer, slot);
    pack_key_number(packer, "bytes", (uint64_t)slots_unread(number));
    pack_key_head(packer, head, size);
}

/* Returns the slot at which the next part begins, or the number of slots. */
static uint32_t pack_some_waiting(const struct master *master, uint32_t first, msgpack_packer *packer)
{
    unsigned char head[HEAD_SIZE];
    struct list list;
    uint32_t slot = first;
    list_begin(&list);
    for (; slot < master->slots.count && slot - first < SLOTS_AT_ONCE && list.count < HEADS_AT_ONCE; slot++) {
        size_t size = peek_waiting(master, slot, head, sizeof(head));
        if (size == 0)
            continue;
        pack_waiting(&list.packer, &master->slots.slots[slot], slot, head, size);
        list.count++;
    }
    list_end(&list, packer);
    return slot;
}

void calls_pack(const struct master *master, uint32_t first, msgpack_packer *packer)
{
    uint64_t now = clock_now();
    msgpack_pack_map(packer, 5);
    pack_key_number(packer, "version", 1);
    pack_key_number(packer, "now", now);
    pack_text(packer, "running");
    pack_all_running(master, first == 0 ? master->seat_count : 0, now, packer);
    pack_text(packer, "waiting");
    uint32_t next = pack_some_waiting(master, first, packer);
    pack_text(packer, "next");
    if (next < master->slots.count)
        msgpack_pack_uint32(packer, next);
    else
        msgpack_pack_nil(packer);
}

/* --- the end of what runs --- */

static bool is_meant(const struct seat *seat, const struct running *running,
                     const struct calls_target *target)
{
    return (target->worker == 0 || seat->child.number == target->worker) &&
           (target->pid == 0 || seat->child.pid == target->pid) &&
           (target->request == 0 || running->row.request == target->request) &&
           (target->peer == 0 || running->slot->peer_pid == target->peer);
}

void calls_kill(struct master *master, const struct calls_target *target, msgpack_packer *packer)
{
    struct list list;
    struct running running;
    uint64_t now = clock_now();
    list_begin(&list);
    for (unsigned i = 1; i <= master->seat_count; i++) {
        struct seat *seat = &master->seats[i];
        if (!find_running(seat, &running) || !is_meant(seat, &running, target))
            continue;
        seat->deadline.ordered = running.row.request; /* this one, and never the next */
        pack_running(&list.packer, seat, &running, now);
        list.count++;
        (void)supervise_check(seat);
    }
    msgpack_pack_map(packer, 3);
    pack_key_number(packer, "version", 1);
    pack_key_number(packer, "now", now);
    pack_text(packer, "calls");
    list_end(&list, packer);
}
