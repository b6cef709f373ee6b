#include "handover.h"

#include <inttypes.h>
#include <stdio.h>

#include "handover_fields.h"
#include "ipc.h"
#include "pack.h"
#include "workspace.h"

/* --- versions --- */

struct handover_versions handover_versions(uint32_t max_frame)
{
    return (struct handover_versions){.handover = HANDOVER_VERSION,
                                      .row = ROW_VERSION,
                                      .ipc = IPC_VERSION,
                                      .memory = workspace_size(max_frame, METER_METHODS),
                                      .max_frame = max_frame};
}

const char *handover_write_versions(const struct handover_versions *versions, char *text, size_t size)
{
    snprintf(text, size, "%" PRIu64 ".%" PRIu64 ".%" PRIu64 ".%" PRIu64 ".%" PRIu64, versions->handover,
             versions->row, versions->ipc, versions->memory, versions->max_frame);
    return text;
}

const char *handover_compare(const char *text, const struct handover_versions *ours, char *why, size_t size)
{
    struct handover_versions theirs;
    if (sscanf(text, "%" SCNu64 ".%" SCNu64 ".%" SCNu64 ".%" SCNu64 ".%" SCNu64, &theirs.handover,
               &theirs.row, &theirs.ipc, &theirs.memory, &theirs.max_frame) != 5) {
        snprintf(why, size, "what the server says of its versions makes no sense");
        return why;
    }
    const struct {
        const char *what;
        uint64_t theirs, ours;
    } pairs[] = {
        {"what a server leaves to the next", theirs.handover, ours->handover},
        {"the workers' rows", theirs.row, ours->row},
        {"messages between the processes", theirs.ipc, ours->ipc},
        {"--max-frame", theirs.max_frame, ours->max_frame},
        {"the workers' shared memory", theirs.memory, ours->memory},
    };
    for (size_t i = 0; i < LENGTH(pairs); i++)
        if (pairs[i].theirs != pairs[i].ours) {
            snprintf(why, size, "%s: %" PRIu64 " in the server that runs, %" PRIu64 " in the new program",
                     pairs[i].what, pairs[i].theirs, pairs[i].ours);
            return why;
        }
    return NULL;
}

/* --- writing --- */

static int write_texts(char *const *texts, int count, msgpack_packer *packer)
{
    int result = msgpack_pack_array(packer, (size_t)count);
    for (int i = 0; i < count && result == 0; i++)
        result = pack_text(packer, texts[i]);
    return result;
}

static int write_admin(const struct handover *handover, msgpack_packer *packer)
{
    int result = msgpack_pack_array(packer, handover->admin_count);
    for (unsigned i = 0; i < handover->admin_count && result == 0; i++)
        result = fields_write(admin_fields, LENGTH(admin_fields), &handover->admin[i], packer);
    return result;
}

static int write_deaths(const struct master *master, msgpack_packer *packer)
{
    int result = msgpack_pack_array(packer, MASTER_DEATHS_KEPT);
    for (unsigned i = 0; i < MASTER_DEATHS_KEPT && result == 0; i++)
        result = fields_write(death_fields, LENGTH(death_fields), &master->deaths[i], packer);
    return result;
}

static bool is_used(const struct slot *slot)
{
    return slot->open || slot->generation != 1;
}

static int write_slots(const struct slots *slots, msgpack_packer *packer)
{
    size_t count = 0;
    for (uint32_t i = 0; i < slots->count; i++)
        count += is_used(&slots->slots[i]);
    int result = msgpack_pack_array(packer, count);
    for (uint32_t i = 0; i < slots->count && result == 0; i++) {
        struct numbered_slot slot = {.number = i, .slot = slots->slots[i]};
        if (is_used(&slot.slot))
            result = fields_write(slot_fields, LENGTH(slot_fields), &slot, packer);
    }
    return result;
}

static int write_methods(const struct metrics_table *table, msgpack_packer *packer)
{
    unsigned count = table ? table->methods : 0;
    int result = msgpack_pack_array(packer, count);
    for (unsigned i = 0; i < count && result == 0; i++)
        result = msgpack_pack_uint16(packer, table->series[i]);
    return result;
}

static int write_generation(const struct generation *generation, msgpack_packer *packer)
{
    int result = msgpack_pack_map(packer, 4);
    result |= pack_text(packer, "itself");
    result |= fields_write(generation_fields, LENGTH(generation_fields), generation, packer);
    result |= pack_text(packer, "engine");
    result |= pack_text(packer, generation->spec.name);
    result |= pack_text(packer, "arguments");
    result |= write_texts(generation->spec.argv, generation->spec.argc, packer);
    result |= pack_text(packer, "methods");
    return result | write_methods(generation->methods, packer);
}

static int write_generations(const struct master *master, msgpack_packer *packer)
{
    size_t count = 0;
    const struct generation *generation;
    for (generation = master->generations; generation; generation = generation->next)
        count++;
    int result = msgpack_pack_array(packer, count);
    for (generation = master->generations; generation; generation = generation->next)
        result |= write_generation(generation, packer);
    return result;
}

static int write_seat(const struct seat *seat, msgpack_packer *packer)
{
    int result = msgpack_pack_map(packer, 2);
    result |= pack_text(packer, "itself");
    result |= fields_write(seat_fields, LENGTH(seat_fields), seat, packer);
    result |= pack_text(packer, "counted");
    result |= msgpack_pack_array(packer, seat->metering.methods);
    for (unsigned i = 0; i < seat->metering.methods; i++)
        result |= fields_write(counted_field, 1, &seat->metering.last[i], packer);
    return result;
}

static int write_seats(const struct master *master, msgpack_packer *packer)
{
    size_t count = 0;
    for (unsigned i = 0; i <= master->seat_count; i++)
        count += master->seats[i].child.state != CHILD_NONE;
    int result = msgpack_pack_array(packer, count);
    for (unsigned i = 0; i <= master->seat_count; i++)
        if (master->seats[i].child.state != CHILD_NONE)
            result |= write_seat(&master->seats[i], packer);
    return result;
}

static int write_series(const struct metrics *metrics, msgpack_packer *packer)
{
    int result = msgpack_pack_array(packer, metrics->series);
    for (unsigned i = 0; i < metrics->series; i++) {
        result |= msgpack_pack_map(packer, 2);
        result |= pack_text(packer, "name");
        result |= pack_text(packer, metrics->names[i]);
        result |= pack_text(packer, "totals");
        result |= fields_write(counted_field, 1, &metrics->totals[i], packer);
    }
    return result;
}

static int write_quarantine(const struct quarantine *book, msgpack_packer *packer)
{
    size_t count = 0;
    for (unsigned i = 0; i < QUARANTINE_ENTRIES; i++)
        count += book->records[i].hash != 0;
    int result = msgpack_pack_array(packer, count);
    for (unsigned i = 0; i < QUARANTINE_ENTRIES && result == 0; i++) {
        struct numbered_record record = {
            .number = i, .reports_size = sizeof(book->records[i].reports), .record = book->records[i]};
        if (record.record.hash != 0)
            result = fields_write(record_fields, LENGTH(record_fields), &record, packer);
    }
    return result;
}

int handover_write(const struct handover *handover, msgpack_sbuffer *document)
{
    const struct master *master = handover->master;
    msgpack_packer packer;
    msgpack_packer_init(&packer, document, msgpack_sbuffer_write);
    int result = msgpack_pack_map(&packer, 14);
    result |= pack_text(&packer, "handover");
    result |= msgpack_pack_unsigned_int(&packer, HANDOVER_VERSION);
    result |= pack_text(&packer, "head");
    result |= fields_write(head_fields, LENGTH(head_fields), handover, &packer);
    result |= pack_text(&packer, "words");
    result |= write_texts(handover->words, handover->word_count, &packer);
    result |= pack_text(&packer, "admin");
    result |= write_admin(handover, &packer);
    result |= pack_text(&packer, "master");
    result |= fields_write(master_fields, LENGTH(master_fields), master, &packer);
    result |= pack_text(&packer, "deaths");
    result |= write_deaths(master, &packer);
    result |= pack_text(&packer, "slots");
    result |= write_slots(&master->slots, &packer);
    result |= pack_text(&packer, "metrics");
    result |= fields_write(metrics_fields, LENGTH(metrics_fields), master->metrics, &packer);
    result |= pack_text(&packer, "series");
    result |= write_series(master->metrics, &packer);
    result |= pack_text(&packer, "crashes");
    result |= fields_write(crashes_fields, LENGTH(crashes_fields), master->crashes, &packer);
    result |= pack_text(&packer, "quarantine");
    result |= write_quarantine(&master->crashes->book, &packer);
    result |= pack_text(&packer, "present");
    result |= msgpack_pack_unsigned_int(&packer, master->present->number);
    result |= pack_text(&packer, "generations");
    result |= write_generations(master, &packer);
    result |= pack_text(&packer, "seats");
    return result | write_seats(master, &packer) ? -1 : 0;
}
