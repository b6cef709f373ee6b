/* PURE. The fields of what is handed over (handover.h): for handover.c, which writes them, and
 * handover_read.c, which reads them. */
#ifndef HANDOVER_FIELDS_H
#define HANDOVER_FIELDS_H

#include "handover.h"

#include "crashes.h"
#include "fields.h"
#include "generation.h"
#include "metrics.h"
#include "quarantine.h"

#define LENGTH(array) (sizeof(array) / sizeof(*(array)))
#define SLOTS_MAX     (1u << 17)

/* --- the tables --- */

#define U(member)          FIELD(TYPE, member, FIELD_UNSIGNED)
#define UPTO(member, high) FIELD(TYPE, member, FIELD_UNSIGNED, .most = (high))
#define S(member)          FIELD(TYPE, member, FIELD_SIGNED)
#define B(member)          FIELD(TYPE, member, FIELD_BOOL)
#define TEXT(member)       FIELD(TYPE, member, FIELD_TEXT)
#define WORDS(member)      FIELD(TYPE, member, FIELD_WORDS)
#define BYTES(member, size_member, high)                                                                     \
    FIELD(TYPE, member, FIELD_BYTES, .most = (high), .used = offsetof(TYPE, size_member))
#define BACKOFF(member) U(member.failures), U(member.vain), U(member.noted_at), U(member.retry_at)
#define OUTPUT          /* what a process has printed */                                                     \
    S(output.watcher.fd), U(output.number), S(output.pid), U(output.skipped),                                \
        BYTES(output.line, output.line_size, OUTPUT_LINE_SIZE - 1),                                          \
        BYTES(output.tail, output.tail_size, sizeof(((struct output *)0)->tail))

#define TYPE struct handover
static const struct field head_fields[] = {
    TEXT(program), U(began_at),   U(max_frame),      UPTO(max_connections, SLOTS_MAX),
    B(given),      S(listener),   S(admin_listener), S(lifeline),
    S(table),      S(table_view), U(log_dropped),    U(output_skipped),
    B(sweeps),     B(reload)};
#undef TYPE

#define TYPE struct handover_admin
static const struct field admin_fields[] = {S(descriptor), B(asked), B(waits), U(msgid),
                                            BYTES(request, received, HANDOVER_REQUEST_MAX)};
#undef TYPE

#define TYPE struct master
static const struct field master_fields[] = {U(started_at),
                                             U(queue_empty_at),
                                             S(lock),
                                             UPTO(slots.count, SLOTS_MAX),
                                             S(slots.set),
                                             S(slots.hangups),
                                             UPTO(pool.min, WORKERS_MAX),
                                             UPTO(pool.max, WORKERS_MAX),
                                             UPTO(pool.spare, SEATS_MAX),
                                             UPTO(pool.target, WORKERS_MAX),
                                             U(pool.crowded),
                                             U(pool.least_idle),
                                             U(pool.since),
                                             UPTO(seat_count, SEATS_MAX),
                                             U(last_generation),
                                             BACKOFF(births),
                                             BACKOFF(loads),
                                             U(past_calls),
                                             U(recycled),
                                             U(reloads),
                                             U(failed_reloads),
                                             U(accepted),
                                             U(refused),
                                             U(worker_deaths),
                                             U(forkserver_deaths),
                                             TEXT(load_problem),
                                             TEXT(start_problem)};
#undef TYPE

#define TYPE struct death
static const struct field death_fields[] = {U(worker), S(pid), U(at), TEXT(cause), TEXT(report)};
#undef TYPE

struct numbered_slot {
    uint32_t number;
    struct slot slot;
};
#define TYPE struct numbered_slot
static const struct field slot_fields[] = {UPTO(number, SLOTS_MAX),
                                           UPTO(slot.generation, UINT32_MAX - 1),
                                           B(slot.open),
                                           B(slot.in_doubt),
                                           B(slot.gone),
                                           S(slot.peer_pid),
                                           U(slot.peer_uid)};
#undef TYPE

#define TYPE struct generation
static const struct field generation_fields[] = {
    U(number), TEXT(path),   TEXT(engine_name), TEXT(engine_version), TEXT(build_id), S(pid),      S(control),
    B(loaded), B(explained), B(ended),          U(born_at),           U(progress_at), S(snapshot), OUTPUT};
#undef TYPE

#define TYPE struct seat
static const struct field seat_fields[] = {UPTO(child.number, SEATS_MAX),
                                           UPTO(child.state, CHILD_LEAVING),
                                           S(child.pid),
                                           U(child.generation),
                                           U(child.born_at),
                                           B(child.stopped),
                                           U(key),
                                           S(workspace),
                                           S(control),
                                           UPTO(deadline.stage, DEADLINE_KILLED),
                                           UPTO(deadline.why, DEADLINE_KILL_ORDERED),
                                           U(deadline.ordered),
                                           U(deadline.request),
                                           U(deadline.since),
                                           U(deadline.seen),
                                           U(deadline.seen_at),
                                           U(stall.claim),
                                           U(stall.calls),
                                           UPTO(stall.state, ROW_STATE_COUNT - 1),
                                           B(stall.valid),
                                           U(stall.looked_at),
                                           U(stall.stuck_for),
                                           B(stall.stopping),
                                           OUTPUT,
                                           U(look.slow_request),
                                           UPTO(metering.methods, METRICS_SERIES_MAX),
                                           U(metering.refused),
                                           U(metering.late),
                                           U(metering.shed),
                                           U(metering.lost),
                                           U(metering.read),
                                           B(metering.spoilt),
                                           UPTO(end, END_OOM),
                                           B(explained),
                                           B(slow_start),
                                           B(parked),
                                           B(outdated),
                                           UPTO(due, SEAT_DUE_AGE),
                                           U(most_calls),
                                           U(most_age)};
#undef TYPE

#define TYPE struct metrics
static const struct field metrics_fields[] = {U(refused),       U(late),       U(shed), U(unlogged),
                                              U(unlogged_said), WORDS(deaths), U(gone), U(ordered)};
#undef TYPE

#define TYPE struct crashes
static const struct field crashes_fields[] = {U(number),   U(written),     U(lost),          U(warmed),
                                              U(oom.seen), U(oom.pending), U(oom.pending_at)};
#undef TYPE

struct numbered_record {
    unsigned number;
    size_t reports_size;
    struct quarantine_record record;
};
#define TYPE struct numbered_record
static const struct field record_fields[] = {
    UPTO(number, QUARANTINE_ENTRIES - 1),
    U(record.hash),
    U(record.size),
    TEXT(record.method),
    WORDS(record.kills_at),
    BYTES(record.reports, reports_size, QUARANTINE_AFTER_MAX *QUARANTINE_REPORT_SIZE),
    UPTO(record.kills, QUARANTINE_AFTER_MAX),
    U(record.deadline),
    S(record.peer),
    B(record.refused)};
#undef TYPE

/* A row of figures. */
static const struct field counted_field[] = {
    {.name = "words", .kind = FIELD_WORDS, .size = sizeof(struct meter_figures)}};

#undef U
#undef UPTO
#undef S
#undef B
#undef TEXT
#undef WORDS
#undef BYTES
#undef BACKOFF
#undef OUTPUT

#endif
