#include "row.h"

#include <string.h>

static const char *const state_names[] = {
    [ROW_WAITING] = "waiting", [ROW_RECEIVED] = "received", [ROW_RUNNING] = "running",
    [ROW_WRITING] = "writing", [ROW_ANSWERED] = "answered", [ROW_CLOSING] = "closing",
};
_Static_assert(sizeof(state_names) / sizeof(*state_names) == ROW_STATE_COUNT, "one name a state");

const char *row_state_name(enum row_state state)
{
    return (unsigned)state < ROW_STATE_COUNT ? state_names[state] : "invalid";
}

uint64_t row_read_claim(const struct row *row)
{
    return __atomic_load_n(
        (const uint64_t *)(const void *)((const char *)row + offsetof(struct row, claim.event.data)),
        __ATOMIC_ACQUIRE);
}

/* What came before, and what the kernel has written of the receive under way. */
static uint64_t count_received(const struct row *row)
{
    uint64_t bytes = atomic_load_explicit(&row->received, memory_order_relaxed);
    uint64_t more = __atomic_load_n(&row->receive.msg_len, __ATOMIC_RELAXED);
    return bytes > UINT64_MAX - more ? UINT64_MAX : bytes + more;
}

static void copy_method(const struct row *row, struct row_view *view)
{
    uint32_t length = atomic_load_explicit(&row->method_length, memory_order_relaxed);
    if (length > ROW_METHOD_SIZE)
        length = ROW_METHOD_SIZE;
    memcpy(view->method, row->method, length);
    view->method[length] = '\0';
    for (char *c = view->method; *c; c++)
        if (*c < 0x20 || *c > 0x7e)
            *c = '?';
}

void row_set_key(struct row *row, uint64_t key)
{
    row->key_before = key;
    row->key_after = key;
}

void row_publish_refusal(struct row *row, const char *words)
{
    uint32_t next = atomic_load_explicit(&row->refusal, memory_order_relaxed) == 0;
    size_t length = strnlen(words, ROW_REFUSAL_SIZE - 1);
    memcpy(row->refusals[next], words, length);
    row->refusals[next][length] = '\0';
    atomic_store_explicit(&row->refusal, next, memory_order_release);
    atomic_store_explicit(&row->orders, ROW_NO_WORKER, memory_order_release);
}

/* A worker that acts on a claim has sealed it, and gives it up only when the response is out. */
static bool is_sound(const struct row *row, uint64_t key, uint32_t state, uint64_t claim)
{
    uint64_t before = __atomic_load_n(&row->key_before, __ATOMIC_RELAXED);
    uint64_t after = __atomic_load_n(&row->key_after, __ATOMIC_RELAXED);
    if (state >= ROW_STATE_COUNT || before != key || after != key)
        return false;
    bool acts = state == ROW_RECEIVED || state == ROW_RUNNING || state == ROW_WRITING;
    if (claim == ROW_NO_CLAIM)
        return !acts;
    return state == ROW_WAITING ||
           atomic_load_explicit(&row->seal, memory_order_relaxed) == row_seal(claim, key);
}

void row_read(const struct row *row, uint64_t key, struct row_view *view)
{
    uint64_t request = atomic_load_explicit(&row->request, memory_order_acquire);
    uint32_t state = atomic_load_explicit(&row->state, memory_order_acquire);
    view->request = request;
    view->claim = row_read_claim(row);
    view->valid = is_sound(row, key, state, view->claim);
    view->state = view->valid ? (enum row_state)state : ROW_WAITING;
    view->msgid = atomic_load_explicit(&row->msgid, memory_order_relaxed);
    view->deadline = atomic_load_explicit(&row->deadline, memory_order_relaxed);
    view->started = atomic_load_explicit(&row->started, memory_order_relaxed);
    view->queued = atomic_load_explicit(&row->queued, memory_order_relaxed);
    view->calls = atomic_load_explicit(&row->calls, memory_order_relaxed);
    view->idempotent = atomic_load_explicit(&row->idempotent, memory_order_relaxed) != 0;
    view->private_memory = atomic_load_explicit(&row->private_memory, memory_order_relaxed);
    view->looks = atomic_load_explicit(&row->looks, memory_order_relaxed);
    view->received = count_received(row);
    view->sent = __atomic_load_n(&row->send.msg_len, __ATOMIC_RELAXED);
    view->response_size = atomic_load_explicit(&row->response_size, memory_order_relaxed);
    view->writing_from = atomic_load_explicit(&row->writing_from, memory_order_relaxed) == ROW_RUNNING
                             ? ROW_RUNNING
                             : ROW_RECEIVED;
    copy_method(row, view);
    atomic_thread_fence(memory_order_acquire);
    if (view->state == ROW_RUNNING &&
        (atomic_load_explicit(&row->state, memory_order_relaxed) != ROW_RUNNING ||
         atomic_load_explicit(&row->request, memory_order_relaxed) != request))
        view->state = ROW_WAITING;
}
