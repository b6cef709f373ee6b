#include "handover.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "descriptors.h"
#include "handover_fields.h"

struct reading {
    const msgpack_object *document;
    char *why;
    size_t size;
};

static int refuse(const struct reading *reading, const char *what)
{
    snprintf(reading->why, reading->size, "%s", what);
    return -1;
}

/* Names the part in front of what is wrong with it. */
static int read_fields(const struct reading *reading, const char *part, const struct field *fields,
                       size_t count, const msgpack_object *map, void *object)
{
    char why[128];
    if (fields_read(fields, count, map, object, why, sizeof(why)) == 0)
        return 0;
    snprintf(reading->why, reading->size, "%s: %s", part, why);
    return -1;
}

/* The list of that name, of at most so many elements; NULL where there is none. */
static const msgpack_object_array *find_list(const msgpack_object *map, const char *name, size_t most)
{
    const msgpack_object *list = fields_find(map, name);
    return list && list->type == MSGPACK_OBJECT_ARRAY && list->via.array.size <= most ? &list->via.array
                                                                                      : NULL;
}

static char *copy_text(const msgpack_object *object)
{
    if (!object || object->type != MSGPACK_OBJECT_STR ||
        memchr(object->via.str.ptr, '\0', object->via.str.size))
        return NULL;
    return strndup(object->via.str.ptr, object->via.str.size);
}

#define TEXTS_MAX 100000u

/* A terminated list of texts. -1 where it is none, or without memory. */
static int read_texts(const msgpack_object_array *list, char ***texts, int *count)
{
    *texts = list ? calloc((size_t)list->size + 1, sizeof(char *)) : NULL;
    *count = 0;
    if (!*texts)
        return -1;
    for (uint32_t i = 0; i < list->size; i++)
        if (((*texts)[(*count)++] = copy_text(&list->ptr[i])) == NULL)
            return -1;
    return 0;
}

/* --- the first part --- */

static int read_admin(struct handover *handover, const struct reading *reading)
{
    const msgpack_object_array *list = find_list(reading->document, "admin", HANDOVER_ADMIN_MAX);
    if (!list)
        return refuse(reading, "admin is not sound");
    handover->admin_count = list->size;
    for (uint32_t i = 0; i < list->size; i++)
        if (read_fields(reading, "admin", admin_fields, LENGTH(admin_fields), &list->ptr[i],
                        &handover->admin[i]) < 0)
            return -1;
    return 0;
}

int handover_read(struct handover *handover, const msgpack_object *document, char *why, size_t size)
{
    const struct reading reading = {.document = document, .why = why, .size = size};
    const msgpack_object *version = fields_find(document, "handover");
    if (!version || version->type != MSGPACK_OBJECT_POSITIVE_INTEGER || version->via.u64 != HANDOVER_VERSION)
        return refuse(&reading, "it is none, or of another version");
    if (read_fields(&reading, "head", head_fields, LENGTH(head_fields), fields_find(document, "head"),
                    handover) < 0)
        return -1;
    if (read_texts(find_list(document, "words", TEXTS_MAX), &handover->words, &handover->word_count) < 0)
        return refuse(&reading, "words are not sound");
    return read_admin(handover, &reading);
}

/* --- the master --- */

static int read_deaths(struct master *master, const struct reading *reading)
{
    const msgpack_object_array *list = find_list(reading->document, "deaths", MASTER_DEATHS_KEPT);
    for (uint32_t i = 0; list && i < list->size; i++)
        if (read_fields(reading, "deaths", death_fields, LENGTH(death_fields), &list->ptr[i],
                        &master->deaths[i]) < 0)
            return -1;
    return list ? 0 : refuse(reading, "deaths are not sound");
}

static int add_slot(struct slots *slots, const struct numbered_slot *slot, const struct reading *reading)
{
    if (slot->number >= slots->count || slot->slot.generation == 0 || slots->slots[slot->number].open)
        return refuse(reading, "slots: one is not sound");
    slots->slots[slot->number] = slot->slot;
    slots->open += slot->slot.open;
    slots->in_doubt += slot->slot.in_doubt;
    slots->gone += slot->slot.gone;
    return !slot->slot.open && (slot->slot.in_doubt || slot->slot.gone)
               ? refuse(reading, "slots: one is not sound")
               : 0;
}

static int read_slots(struct slots *slots, const struct reading *reading)
{
    const msgpack_object_array *list = find_list(reading->document, "slots", slots->count);
    slots->slots = calloc(slots->count, sizeof(*slots->slots));
    slots->free = calloc(slots->count, sizeof(*slots->free));
    if (!list || !slots->slots || !slots->free)
        return refuse(reading, list ? "no memory" : "slots are not sound");
    for (uint32_t i = 0; i < slots->count; i++)
        slots->slots[i].generation = 1;
    for (uint32_t i = 0; i < list->size; i++) {
        struct numbered_slot slot = {0};
        if (read_fields(reading, "slots", slot_fields, LENGTH(slot_fields), &list->ptr[i], &slot) < 0 ||
            add_slot(slots, &slot, reading) < 0)
            return -1;
    }
    uint32_t count = 0;
    for (uint32_t i = slots->count; i-- > 0;) /* the lowest comes first */
        if (!slots->slots[i].open)
            slots->free[count++] = i;
    return 0;
}

static int read_series(struct metrics *metrics, const struct reading *reading)
{
    static const struct field name_field[] = {
        {.name = "name", .kind = FIELD_TEXT, .size = sizeof(metrics->names[0])}};
    const msgpack_object_array *list = find_list(reading->document, "series", METRICS_SERIES_MAX);
    if (!list || list->size < METER_METHODS)
        return refuse(reading, "series are not sound");
    metrics->series = list->size;
    for (uint32_t i = 0; i < list->size; i++)
        if (read_fields(reading, "series", name_field, 1, &list->ptr[i], metrics->names[i]) < 0 ||
            read_fields(reading, "series", counted_field, 1, fields_find(&list->ptr[i], "totals"),
                        &metrics->totals[i]) < 0)
            return -1;
    return 0;
}

static int read_quarantine(struct quarantine *book, const struct reading *reading)
{
    const msgpack_object_array *list = find_list(reading->document, "quarantine", QUARANTINE_ENTRIES);
    for (uint32_t i = 0; list && i < list->size; i++) {
        struct numbered_record record = {0};
        if (read_fields(reading, "quarantine", record_fields, LENGTH(record_fields), &list->ptr[i], &record) <
            0)
            return -1;
        for (unsigned kill = 0; kill < QUARANTINE_AFTER_MAX; kill++)
            record.record.reports[kill][QUARANTINE_REPORT_SIZE - 1] = '\0';
        book->records[record.number] = record.record;
    }
    return list ? 0 : refuse(reading, "quarantine is not sound");
}

/* --- generations --- */

static int read_methods(struct generation *generation, const msgpack_object *map,
                        const struct reading *reading)
{
    const msgpack_object_array *list = find_list(map, "methods", METRICS_SERIES_MAX);
    if (!list || (list->size > 0 && list->size < METER_METHODS))
        return refuse(reading, "methods are not sound");
    if (list->size == 0)
        return 0;
    struct metrics_table *table = generation->methods = calloc(1, sizeof(*table));
    if (!table)
        return refuse(reading, "no memory");
    table->references = 1;
    table->methods = list->size;
    for (uint32_t i = 0; i < list->size; i++) {
        const msgpack_object *series = &list->ptr[i];
        if (series->type != MSGPACK_OBJECT_POSITIVE_INTEGER ||
            series->via.u64 >= generation->master->metrics->series)
            return refuse(reading, "methods are not sound");
        table->series[i] = (uint16_t)series->via.u64;
    }
    return 0;
}

static int read_generation(struct generation *generation, const msgpack_object *map,
                           const struct reading *reading)
{
    if (read_fields(reading, "generations", generation_fields, LENGTH(generation_fields),
                    fields_find(map, "itself"), generation) < 0)
        return -1;
    generation->spec.name = copy_text(fields_find(map, "engine"));
    if (!generation->spec.name || read_texts(find_list(map, "arguments", TEXTS_MAX), &generation->spec.argv,
                                             &generation->spec.argc) < 0)
        return refuse(reading, "generations: the engine is not sound");
    return read_methods(generation, map, reading);
}

static struct generation *find_generation(const struct master *master, uint64_t number)
{
    struct generation *generation = master->generations;
    while (generation && generation->number != number)
        generation = generation->next;
    return generation;
}

/* In the order of the list: newest first. */
static int read_generations(struct master *master, const struct reading *reading)
{
    const msgpack_object_array *list = find_list(reading->document, "generations", TEXTS_MAX);
    const msgpack_object *present = fields_find(reading->document, "present");
    struct generation **link = &master->generations;
    for (uint32_t i = 0; list && i < list->size; i++) {
        struct generation *generation = *link = calloc(1, sizeof(*generation));
        if (!generation)
            return refuse(reading, "no memory");
        link = &generation->next;
        generation->master = master;
        if (read_generation(generation, &list->ptr[i], reading) < 0)
            return -1;
    }
    if (present && present->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
        master->present = find_generation(master, present->via.u64);
    return list && master->present ? 0 : refuse(reading, "generations are not sound");
}

/* --- seats --- */

/* What a worker has counted so far that is in the totals. */
static int read_counted(struct seat *seat, const msgpack_object *map, const struct reading *reading)
{
    struct metering *metering = &seat->metering;
    struct metrics_table *table = seat->generation ? seat->generation->methods : NULL;
    unsigned room = table ? table->methods : METER_METHODS;
    const msgpack_object_array *list = find_list(map, "counted", METRICS_SERIES_MAX);
    if (!list || list->size != metering->methods || metering->methods != room)
        return refuse(reading, "seats: figures are not sound");
    metering->last = calloc(metering->methods, sizeof(*metering->last));
    if (!metering->last)
        return refuse(reading, "no memory");
    metering->table = table;
    if (table)
        table->references++;
    for (uint32_t i = 0; i < list->size; i++)
        if (read_fields(reading, "seats", counted_field, 1, &list->ptr[i], &metering->last[i]) < 0)
            return -1;
    return 0;
}

static int read_seat(struct master *master, const msgpack_object *map, const struct reading *reading)
{
    static struct seat read;
    read = (struct seat){0};
    if (read_fields(reading, "seats", seat_fields, LENGTH(seat_fields), fields_find(map, "itself"), &read) <
        0)
        return -1;
    struct seat *seat = &master->seats[read.child.number];
    if (read.child.number > master->seat_count || seat->child.state != CHILD_NONE ||
        read.child.state == CHILD_NONE || read.workspace < 0)
        return refuse(reading, "seats: one is not sound");
    read.master = master;
    read.generation = find_generation(master, read.child.generation);
    if (!read.generation != (read.child.number == 0))
        return refuse(reading, "seats: one has no generation");
    *seat = read;
    if (seat->generation)
        seat->generation->seats++;
    return read_counted(seat, map, reading);
}

static int read_seats(struct master *master, const struct reading *reading)
{
    const msgpack_object_array *list = find_list(reading->document, "seats", SEATS_MAX + 1);
    for (uint32_t i = 0; list && i < list->size; i++)
        if (read_seat(master, &list->ptr[i], reading) < 0)
            return -1;
    return list ? 0 : refuse(reading, "seats are not sound");
}

int handover_read_master(const struct handover *handover, const msgpack_object *document, char *why,
                         size_t size)
{
    const struct reading reading = {.document = document, .why = why, .size = size};
    struct master *master = handover->master;
    if (read_fields(&reading, "master", master_fields, LENGTH(master_fields), fields_find(document, "master"),
                    master) < 0 ||
        read_fields(&reading, "metrics", metrics_fields, LENGTH(metrics_fields),
                    fields_find(document, "metrics"), master->metrics) < 0 ||
        read_fields(&reading, "crashes", crashes_fields, LENGTH(crashes_fields),
                    fields_find(document, "crashes"), master->crashes) < 0)
        return -1;
    return read_deaths(master, &reading) < 0 || read_slots(&master->slots, &reading) < 0 ||
                   read_series(master->metrics, &reading) < 0 ||
                   read_quarantine(&master->crashes->book, &reading) < 0 ||
                   read_generations(master, &reading) < 0 || read_seats(master, &reading) < 0
               ? -1
               : 0;
}

/* --- descriptors --- */

void handover_visit(const struct handover *handover, void (*visit)(void *context, int descriptor),
                    void *context)
{
    const struct master *master = handover->master;
    const int own[] = {handover->listener, handover->admin_listener, handover->lifeline,
                       handover->table,    handover->table_view,     master->lock,
                       master->slots.set,  master->slots.hangups};
    for (size_t i = 0; i < LENGTH(own); i++)
        visit(context, own[i]);
    for (unsigned i = 0; i < handover->admin_count; i++)
        visit(context, handover->admin[i].descriptor);
    for (uint32_t i = 0; i < master->slots.count; i++)
        if (master->slots.slots[i].open)
            visit(context, FD_BASE + (int)i);
    for (const struct generation *generation = master->generations; generation;
         generation = generation->next) {
        visit(context, generation->control);
        visit(context, generation->snapshot);
        visit(context, generation->output.watcher.fd);
    }
    for (unsigned i = 0; i <= master->seat_count; i++) {
        const struct seat *seat = &master->seats[i];
        if (seat->child.state == CHILD_NONE)
            continue;
        visit(context, seat->workspace);
        visit(context, seat->control);
        visit(context, seat->output.watcher.fd);
    }
}
