#include "quarantine.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "siphash.h"

#define SIZES (sizeof(((struct quarantine_table *)0)->sizes) / sizeof(uint64_t) * 64)
/* Reads of an entry that the master is changing; it never takes longer than a few copies. */
#define READ_TRIES 1000

uint64_t quarantine_hash(const uint64_t key[2], const struct quarantine_request *request)
{
    uint64_t hash =
        siphash(key, request->method, request->method_length, request->params, request->params_size);
    return hash ? hash : 1; /* 0 marks what is free */
}

/* --- the table --- */

static bool may_have_size(const struct quarantine_table *table, size_t size)
{
    size_t bit = size % SIZES;
    return atomic_load_explicit(&table->sizes[bit / 64], memory_order_relaxed) >> (bit % 64) & 1;
}

static bool read_refusal(const struct quarantine_refusal *from, uint64_t hash, struct quarantine_refusal *to)
{
    for (int i = 0; i < READ_TRIES; i++) {
        uint32_t version = atomic_load_explicit(&from->version, memory_order_acquire);
        if (version & 1)
            continue;
        to->kills = from->kills;
        memcpy(to->reports, from->reports, sizeof(to->reports));
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&from->version, memory_order_relaxed) == version)
            return atomic_load_explicit(&from->hash, memory_order_relaxed) == hash;
    }
    return false;
}

bool quarantine_find(const struct quarantine_table *table, const struct quarantine_request *request,
                     struct quarantine_refusal *refusal)
{
    if (atomic_load_explicit(&table->count, memory_order_acquire) == 0 ||
        !may_have_size(table, request->params_size))
        return false;
    uint64_t hash = quarantine_hash(table->key, request);
    for (size_t i = 0; i < QUARANTINE_ENTRIES; i++)
        if (atomic_load_explicit(&table->refusals[i].hash, memory_order_relaxed) == hash)
            return read_refusal(&table->refusals[i], hash, refusal);
    return false;
}

static void write_refusal(struct quarantine_refusal *refusal, const struct quarantine_record *record)
{
    uint32_t version = atomic_load_explicit(&refusal->version, memory_order_relaxed);
    unsigned kept = record->kills < QUARANTINE_REPORTS ? record->kills : QUARANTINE_REPORTS;
    atomic_store_explicit(&refusal->version, version + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    refusal->kills = record->kills;
    memset(refusal->reports, 0, sizeof(refusal->reports));
    if (record->refused)
        memcpy(refusal->reports, record->reports[record->kills - kept], kept * QUARANTINE_REPORT_SIZE);
    atomic_store_explicit(&refusal->hash, record->refused ? record->hash : 0, memory_order_relaxed);
    atomic_store_explicit(&refusal->version, version + 2, memory_order_release);
}

static void note_size(struct quarantine_table *table, size_t size)
{
    size_t bit = size % SIZES;
    atomic_fetch_or_explicit(&table->sizes[bit / 64], UINT64_C(1) << (bit % 64), memory_order_relaxed);
}

/* Has the table say what the record says. */
static void publish(struct quarantine *book, const struct quarantine_record *record)
{
    struct quarantine_table *table = book->table;
    struct quarantine_refusal *refusal = &table->refusals[record - book->records];
    bool was = atomic_load_explicit(&refusal->hash, memory_order_relaxed) != 0;
    write_refusal(refusal, record);
    if (record->refused)
        note_size(table, record->size);
    uint32_t count = atomic_load_explicit(&table->count, memory_order_relaxed);
    count = count + record->refused - was;
    if (count == 0)
        for (size_t i = 0; i < SIZES / 64; i++)
            atomic_store_explicit(&table->sizes[i], 0, memory_order_relaxed);
    atomic_store_explicit(&table->count, count, memory_order_release);
}

/* --- the book --- */

void quarantine_init(struct quarantine *book, struct quarantine_table *table, unsigned after)
{
    *book = (struct quarantine){.table = table, .after = after};
}

static void forget(struct quarantine *book, struct quarantine_record *record)
{
    record->refused = false;
    publish(book, record);
    *record = (struct quarantine_record){0};
}

static uint64_t last_kill(const struct quarantine_record *record)
{
    return record->kills ? record->kills_at[record->kills - 1] : 0;
}

/* The record of that request; else a free one, or the least recent, of those that refuse nothing if there is
 * one. */
static struct quarantine_record *find_record(struct quarantine *book, uint64_t hash)
{
    struct quarantine_record *oldest = &book->records[0];
    for (size_t i = 0; i < QUARANTINE_ENTRIES; i++) {
        struct quarantine_record *record = &book->records[i];
        if (record->hash == hash)
            return record;
        if (record->refused != oldest->refused ? oldest->refused : last_kill(record) < last_kill(oldest))
            oldest = record;
    }
    return oldest;
}

static void drop_first_kill(struct quarantine_record *record)
{
    record->kills--;
    memmove(record->kills_at, record->kills_at + 1, record->kills * sizeof(*record->kills_at));
    memmove(record->reports, record->reports + 1, record->kills * sizeof(*record->reports));
}

static bool is_retry(const struct quarantine_record *record, const struct quarantine_kill *kill)
{
    return record->kills > 0 && kill->deadline != 0 && record->deadline == kill->deadline &&
           record->peer == kill->peer;
}

static void add_kill(struct quarantine_record *record, const struct quarantine_kill *kill, uint64_t now)
{
    if (record->kills == QUARANTINE_AFTER_MAX)
        drop_first_kill(record);
    record->kills_at[record->kills] = now;
    snprintf(record->reports[record->kills], QUARANTINE_REPORT_SIZE, "%s", kill->report);
    record->kills++;
    record->deadline = kill->deadline;
    record->peer = kill->peer;
}

static void expire(struct quarantine *book, struct quarantine_record *record, uint64_t now)
{
    if (record->hash == 0)
        return;
    if (now - last_kill(record) >= QUARANTINE_PERIOD) {
        forget(book, record);
        return;
    }
    while (!record->refused && now - record->kills_at[0] >= QUARANTINE_PERIOD)
        drop_first_kill(record);
}

bool quarantine_note(struct quarantine *book, const struct quarantine_kill *kill, uint64_t now)
{
    if (book->after == 0 || kill->hash == 0)
        return false;
    struct quarantine_record *record = find_record(book, kill->hash);
    if (record->hash != kill->hash)
        forget(book, record);
    expire(book, record, now);
    if (is_retry(record, kill))
        return false;
    bool was = record->refused;
    record->hash = kill->hash;
    record->size = kill->size;
    snprintf(record->method, sizeof(record->method), "%s", kill->method);
    add_kill(record, kill, now);
    record->refused |= record->kills >= book->after;
    publish(book, record);
    return record->refused && !was;
}

void quarantine_expire(struct quarantine *book, uint64_t now)
{
    for (size_t i = 0; i < QUARANTINE_ENTRIES; i++)
        expire(book, &book->records[i], now);
}

static bool is_named(const struct quarantine_record *record, const char *word)
{
    char hash[17];
    snprintf(hash, sizeof(hash), "%016" PRIx64, record->hash);
    if (strcmp(hash, word) == 0)
        return true;
    for (unsigned i = 0; i < record->kills; i++)
        if (record->reports[i][0] && strcmp(record->reports[i], word) == 0)
            return true;
    return false;
}

unsigned quarantine_clear(struct quarantine *book, const char *word)
{
    unsigned cleared = 0;
    for (size_t i = 0; i < QUARANTINE_ENTRIES; i++) {
        struct quarantine_record *record = &book->records[i];
        if (record->hash == 0 || (word && !is_named(record, word)))
            continue;
        forget(book, record);
        cleared++;
    }
    return cleared;
}
