#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "crashes.h"
#include "generation.h"
#include "handover.h"
#include "metrics.h"
#include "workspace.h"

/* Of serve.c, which is more than is needed here. */
size_t serve_buffer_size(uint32_t max_frame)
{
    return (size_t)max_frame + 4096;
}

struct whole {
    struct master master;
    struct metrics metrics;
    struct crashes crashes;
    struct seat seats[SEATS_MAX + 1];
};

/* As empty as at a start. */
static struct whole *make_server(void)
{
    struct whole *server = calloc(1, sizeof(*server));
    assert_non_null(server);
    server->master.metrics = &server->metrics;
    server->master.crashes = &server->crashes;
    server->master.seats = server->seats;
    server->metrics.series = METER_METHODS;
    for (unsigned i = 0; i <= SEATS_MAX; i++)
        server->seats[i] =
            (struct seat){.child.number = i, .master = &server->master, .workspace = -1, .control = -1};
    return server;
}

static void free_server(struct whole *server)
{
    for (unsigned i = 0; i <= SEATS_MAX; i++)
        free(server->seats[i].metering.last);
    for (struct generation *next, *generation = server->master.generations; generation; generation = next) {
        next = generation->next;
        for (int i = 0; i < generation->spec.argc; i++)
            free(generation->spec.argv[i]);
        free(generation->spec.argv);
        free(generation->spec.name);
        free(generation->methods);
        free(generation);
    }
    free(server->master.slots.slots);
    free(server->master.slots.free);
    free(server);
}

static struct generation *add_generation(struct master *master, unsigned number)
{
    struct generation *generation = calloc(1, sizeof(*generation));
    assert_non_null(generation);
    *generation = (struct generation){.master = master,
                                      .next = master->generations,
                                      .number = number,
                                      .pid = 1000 + (int)number,
                                      .control = 40 + (int)number,
                                      .snapshot = 50 + (int)number,
                                      .loaded = true};
    generation->output.watcher.fd = 60 + (int)number;
    strcpy(generation->engine_name, "spell");
    generation->spec.name = strdup("spell");
    generation->spec.argv = calloc(2, sizeof(char *));
    assert_non_null(generation->spec.argv);
    generation->spec.argv[0] = strdup("en_US");
    generation->spec.argc = 1;
    master->generations = generation;
    return generation;
}

static void add_worker(struct master *master, unsigned number, struct generation *generation)
{
    struct seat *seat = &master->seats[number];
    seat->child = (struct child){.number = number,
                                 .state = CHILD_READY,
                                 .pid = 2000 + (int)number,
                                 .generation = generation ? generation->number : 0};
    seat->generation = generation;
    seat->workspace = 70 + (int)number;
    seat->control = 80 + (int)number;
    seat->key = 12345 + number;
    seat->metering.methods = METER_METHODS;
    seat->metering.last = calloc(METER_METHODS, sizeof(*seat->metering.last));
    assert_non_null(seat->metering.last);
    seat->metering.last[1].words[METER_CALLS] = 7;
    seat->output.watcher.fd = 90 + (int)number;
    if (generation)
        generation->seats++;
}

/* Two generations, three workers, the stand-in, two of five slots open. */
static struct whole *make_full_server(void)
{
    struct whole *server = make_server();
    struct master *master = &server->master;
    master->slots.count = 5;
    master->slots.slots = calloc(5, sizeof(struct slot));
    master->slots.free = calloc(5, sizeof(*master->slots.free));
    assert_true(master->slots.slots && master->slots.free);
    for (unsigned i = 0; i < 5; i++)
        master->slots.slots[i].generation = 1;
    master->slots.slots[1] = (struct slot){.generation = 9, .open = true, .peer_pid = 77, .peer_uid = 33};
    master->slots.slots[3] = (struct slot){.generation = 4, .open = true, .in_doubt = true};
    master->slots.slots[4].generation = 6;
    master->slots.open = 2;
    master->slots.in_doubt = 1;
    master->pool = (struct pool){.min = 2, .max = 4, .target = 3, .spare = 1};
    master->seat_count = 6;
    master->last_generation = 2;
    master->past_calls = 1234;
    strcpy(master->start_problem, "it does not start");
    strcpy(master->deaths[2].cause, "killed by SIGSEGV");
    for (unsigned i = 0; i < METER_METHODS; i++)
        snprintf(server->metrics.names[i], sizeof(server->metrics.names[i]), "method%u", i);
    server->metrics.totals[2].words[METER_CALLS] = 99;
    server->crashes.book.records[5].hash = 0xabcdef;
    server->crashes.book.records[5].kills = 2;
    strcpy(server->crashes.book.records[5].method, "suggest");
    struct generation *old = add_generation(master, 1);
    master->present = add_generation(master, 2);
    add_worker(master, 0, NULL);
    add_worker(master, 1, old);
    add_worker(master, 2, master->present);
    add_worker(master, 5, master->present);
    return server;
}

static void write_server(struct whole *server, msgpack_sbuffer *document)
{
    static char word[] = "--max-frame=1M", *words[] = {word};
    static struct handover handover;
    handover = (struct handover){.master = &server->master,
                                 .program = "0.9",
                                 .max_frame = 1 << 20,
                                 .max_connections = 5,
                                 .listener = 11,
                                 .words = words,
                                 .word_count = 1,
                                 .admin = {{.descriptor = 12, .waits = true, .msgid = 3}},
                                 .admin_count = 1};
    msgpack_sbuffer_init(document);
    assert_int_equal(handover_write(&handover, document), 0);
}

static int read_server(struct handover *handover, struct whole *server, const msgpack_object *document,
                       char *why, size_t size)
{
    *handover = (struct handover){0};
    if (handover_read(handover, document, why, size) < 0)
        return -1;
    handover->master = &server->master;
    return handover_read_master(handover, document, why, size);
}

static void free_words(struct handover *handover)
{
    for (int i = 0; i < handover->word_count; i++)
        free(handover->words[i]);
    free(handover->words);
}

static void test_there_and_back(void **state)
{
    (void)state;
    struct whole *from = make_full_server(), *to = make_server();
    static struct handover handover;
    msgpack_sbuffer document;
    msgpack_unpacked unpacked;
    size_t offset = 0;
    char why[256] = "";
    write_server(from, &document);
    msgpack_unpacked_init(&unpacked);
    assert_int_equal(msgpack_unpack_next(&unpacked, document.data, document.size, &offset),
                     MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(read_server(&handover, to, &unpacked.data, why, sizeof(why)), 0);
    const struct master *master = &to->master;
    assert_string_equal(handover.program, "0.9");
    assert_int_equal(handover.word_count, 1);
    assert_string_equal(handover.words[0], "--max-frame=1M");
    assert_int_equal(handover.admin_count, 1);
    assert_true(handover.admin[0].waits);
    assert_int_equal(master->pool.target, 3);
    assert_int_equal(master->past_calls, 1234);
    assert_string_equal(master->start_problem, "it does not start");
    assert_string_equal(master->deaths[2].cause, "killed by SIGSEGV");
    assert_int_equal(master->slots.open, 2);
    assert_int_equal(master->slots.in_doubt, 1);
    assert_int_equal(master->slots.slots[1].generation, 9);
    assert_int_equal(master->slots.slots[1].peer_pid, 77);
    assert_int_equal(master->slots.slots[4].generation, 6); /* closed: its number goes on */
    assert_int_equal(master->slots.free[0], 4);
    assert_int_equal(master->slots.free[2], 0); /* taken first */
    assert_int_equal(master->present->number, 2);
    assert_int_equal(master->present->next->number, 1);
    assert_int_equal(master->present->seats, 2);
    assert_string_equal(master->present->spec.argv[0], "en_US");
    assert_ptr_equal(to->seats[1].generation, master->present->next);
    assert_int_equal(to->seats[5].key, 12350);
    assert_int_equal(to->seats[5].metering.last[1].words[METER_CALLS], 7);
    assert_int_equal(to->seats[0].child.state, CHILD_READY);
    assert_int_equal(to->seats[3].child.state, CHILD_NONE);
    assert_int_equal(to->metrics.totals[2].words[METER_CALLS], 99);
    assert_string_equal(to->crashes.book.records[5].method, "suggest");
    free_words(&handover);
    msgpack_unpacked_destroy(&unpacked);
    msgpack_sbuffer_destroy(&document);
    free_server(from);
    free_server(to);
}

static void count_visit(void *context, int descriptor)
{
    *(unsigned *)context += descriptor > 0;
}

static void test_every_descriptor_is_named(void **state)
{
    (void)state;
    struct whole *server = make_full_server();
    struct handover handover = {.master = &server->master, .listener = 11, .admin_count = 1};
    handover.admin[0].descriptor = 12;
    unsigned count = 0;
    handover_visit(&handover, count_visit, &count);
    /* Listener and admin connection; two slots; three of each generation; three of each process. */
    assert_int_equal(count, 2 + 2 + 2 * 3 + 4 * 3);
    free_server(server);
}

/* Whatever is done to one value of a document: it is read or refused, and nothing else happens. */
static void spoil(msgpack_object *object, unsigned *left, const msgpack_object *value)
{
    if (*left == 0)
        return;
    if (--*left == 0) {
        *object = *value;
        return;
    }
    if (object->type == MSGPACK_OBJECT_ARRAY)
        for (uint32_t i = 0; i < object->via.array.size; i++)
            spoil(&object->via.array.ptr[i], left, value);
    if (object->type == MSGPACK_OBJECT_MAP)
        for (uint32_t i = 0; i < object->via.map.size; i++)
            spoil(&object->via.map.ptr[i].val, left, value);
}

static void test_spoilt_documents_do_no_harm(void **state)
{
    (void)state;
    static const msgpack_object values[] = {
        {.type = MSGPACK_OBJECT_NIL},
        {.type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = UINT64_MAX},
        {.type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = 0},
        {.type = MSGPACK_OBJECT_ARRAY},
        {.type = MSGPACK_OBJECT_MAP},
    };
    static struct handover handover;
    struct whole *from = make_full_server();
    msgpack_sbuffer document;
    unsigned refused = 0, read = 0;
    write_server(from, &document);
    for (size_t v = 0; v < sizeof(values) / sizeof(*values); v++)
        for (unsigned nth = 1;; nth += nth < 400 ? 1 : 37) {
            struct whole *to = make_server();
            msgpack_unpacked unpacked;
            size_t offset = 0;
            char why[256] = "";
            unsigned left = nth;
            msgpack_unpacked_init(&unpacked);
            assert_int_equal(msgpack_unpack_next(&unpacked, document.data, document.size, &offset),
                             MSGPACK_UNPACK_SUCCESS);
            spoil(&unpacked.data, &left, &values[v]);
            int result = left > 0 ? 1 : read_server(&handover, to, &unpacked.data, why, sizeof(why));
            if (result < 0)
                assert_true(*why != '\0');
            refused += result < 0;
            read += result == 0;
            if (left == 0)
                free_words(&handover);
            msgpack_unpacked_destroy(&unpacked);
            free_server(to);
            if (result > 0)
                break;
        }
    assert_true(refused > 200);
    assert_true(read > 100);
    msgpack_sbuffer_destroy(&document);
    free_server(from);
}

static void test_versions(void **state)
{
    (void)state;
    char text[96], why[256];
    struct handover_versions ours = handover_versions(1 << 20), theirs = ours;
    assert_null(
        handover_compare(handover_write_versions(&ours, text, sizeof(text)), &ours, why, sizeof(why)));
    theirs.row++;
    assert_non_null(
        handover_compare(handover_write_versions(&theirs, text, sizeof(text)), &ours, why, sizeof(why)));
    assert_non_null(strstr(why, "rows"));
    theirs = handover_versions(1 << 21);
    assert_non_null(
        handover_compare(handover_write_versions(&theirs, text, sizeof(text)), &ours, why, sizeof(why)));
    assert_non_null(strstr(why, "--max-frame"));
    assert_non_null(handover_compare("1.2", &ours, why, sizeof(why)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_every_descriptor_is_named),
        cmocka_unit_test(test_spoilt_documents_do_no_harm),
        cmocka_unit_test(test_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
