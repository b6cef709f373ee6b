#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "random.h"
#include "recovery.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* --- the table, written out: every situation, and what is expected of it --- */

enum { CLAIM_NONE = 1, CLAIM_OLD = 2, CLAIM_TENANT = 4, CLAIM_COUNT = 3 };
enum {
    IS_WAITING = 1 << ROW_WAITING,
    IS_RECEIVED = 1 << ROW_RECEIVED,
    IS_RUNNING = 1 << ROW_RUNNING,
    IS_WRITING = 1 << ROW_WRITING,
    IS_ANSWERED = 1 << ROW_ANSWERED,
    IS_CLOSING = 1 << ROW_CLOSING,
    IS_INVALID = 1 << ROW_STATE_COUNT,
};
enum { INCOMPLETE = 1, COMPLETE = 2, PIPELINED = 4, BAD_LENGTH = 8, FRAME_COUNT = 4 };
/* The request that the row shows was ended for its deadline, its client, by an operator; another one was. */
enum {
    ENDED_NONE = 1,
    ENDED_DEADLINE = 2,
    ENDED_GONE = 4,
    ENDED_KILLED = 8,
    ENDED_OTHER = 16,
    ENDED_OTHER_KILLED = 32,
    ENDED_COUNT = 6
};
#define ENDED_NOT (ENDED_NONE | ENDED_OTHER | ENDED_OTHER_KILLED)
enum { NO = 1, YES = 2 };
/* Of a response of known size: none of it is out, a part, all; of one of unknown size: none, a part; of one
 * of size 0, as of a row whose size was not yet written: none, which is not all. */
enum {
    OUT_NOTHING = 1,
    OUT_PART = 2,
    OUT_ALL = 4,
    OUT_NOTHING_OF = 8,
    OUT_PART_OF = 16,
    OUT_EMPTY = 32,
    OUT_COUNT = 6
};
#define NOT_BEGUN (OUT_NOTHING | OUT_NOTHING_OF | OUT_EMPTY)
#define ANY       0xffu

/* One bit set in each. */
struct situation {
    unsigned claim, state, touched, frame, msgid, ended, stopping, out;
    enum row_state writing_from;
};

/* Which situations a rule speaks of: sets of the same bits; and what it demands. */
struct rule {
    struct situation when;
    enum recovery_action action;
    enum recovery_answer answer;
};

#define HELD    CLAIM_TENANT
#define NOTHING RECOVERY_NOTHING
#define REARM   RECOVERY_REARM
#define SETTLE  RECOVERY_SETTLE
#define CLOSE   RECOVERY_CLOSE
#define BROKEN  (INCOMPLETE | BAD_LENGTH)
static const struct rule rules[] = {
    /* claim, state, touched, frame, msgid, ended, stopping, out */
    {{CLAIM_NONE | CLAIM_OLD, ANY, ANY, ANY, ANY, ANY, ANY, ANY, 0}, NOTHING, RECOVERY_NO_ANSWER},
    {{HELD, IS_INVALID, ANY, ANY, ANY, ANY, ANY, ANY, 0}, CLOSE, RECOVERY_NO_ANSWER},

    /* waiting: nothing was read, nothing is lost; but the first byte may have come since */
    {{HELD, IS_WAITING, NO, ANY, ANY, ANY, ANY, ANY, 0}, REARM, RECOVERY_NO_ANSWER},
    {{HELD, IS_WAITING, YES, BROKEN, ANY, ANY, ANY, ANY, 0}, CLOSE, RECOVERY_NO_ANSWER},
    {{HELD, IS_WAITING, YES, COMPLETE | PIPELINED, NO, ANY, ANY, ANY, 0}, CLOSE, RECOVERY_NO_ANSWER},
    {{HELD, IS_WAITING, YES, COMPLETE, YES, ANY, ANY, ANY, 0}, REARM, RECOVERY_WORKER_LOST},
    {{HELD, IS_WAITING, YES, PIPELINED, YES, ANY, ANY, ANY, 0}, CLOSE, RECOVERY_WORKER_LOST},

    /* received: half a frame is gone; a whole one never reached the engine */
    {{HELD, IS_RECEIVED, ANY, BROKEN, ANY, ANY, ANY, ANY, 0}, CLOSE, RECOVERY_NO_ANSWER},
    {{HELD, IS_RECEIVED, ANY, COMPLETE | PIPELINED, NO, ANY, ANY, ANY, 0}, CLOSE, RECOVERY_NO_ANSWER},
    {{HELD, IS_RECEIVED, ANY, COMPLETE, YES, ANY, ANY, ANY, 0}, REARM, RECOVERY_WORKER_LOST},
    {{HELD, IS_RECEIVED, ANY, PIPELINED, YES, ANY, ANY, ANY, 0}, CLOSE, RECOVERY_WORKER_LOST},

    /* running: an answer, whatever the engine has made of the buffer; the connection stays only where that
       still holds this one frame */
    {{HELD, IS_RUNNING, ANY, COMPLETE, ANY, ENDED_DEADLINE, ANY, ANY, 0}, REARM, RECOVERY_DEADLINE},
    {{HELD, IS_RUNNING, ANY, ~COMPLETE, ANY, ENDED_DEADLINE, ANY, ANY, 0}, CLOSE, RECOVERY_DEADLINE},
    {{HELD, IS_RUNNING, ANY, COMPLETE, ANY, ENDED_GONE, ANY, ANY, 0}, REARM, RECOVERY_CANCELLED},
    {{HELD, IS_RUNNING, ANY, ~COMPLETE, ANY, ENDED_GONE, ANY, ANY, 0}, CLOSE, RECOVERY_CANCELLED},
    {{HELD, IS_RUNNING, ANY, COMPLETE, ANY, ENDED_KILLED, ANY, ANY, 0}, REARM, RECOVERY_KILLED},
    {{HELD, IS_RUNNING, ANY, ~COMPLETE, ANY, ENDED_KILLED, ANY, ANY, 0}, CLOSE, RECOVERY_KILLED},
    {{HELD, IS_RUNNING, ANY, COMPLETE, ANY, ENDED_NOT, NO, ANY, 0}, REARM, RECOVERY_ENGINE_CRASHED},
    {{HELD, IS_RUNNING, ANY, ~COMPLETE, ANY, ENDED_NOT, NO, ANY, 0}, CLOSE, RECOVERY_ENGINE_CRASHED},
    {{HELD, IS_RUNNING, ANY, COMPLETE, ANY, ENDED_NOT, YES, ANY, 0}, REARM, RECOVERY_STOPPING},
    {{HELD, IS_RUNNING, ANY, ~COMPLETE, ANY, ENDED_NOT, YES, ANY, 0}, CLOSE, RECOVERY_STOPPING},

    /* writing: half a response cannot be completed, a whole one needs no other; its frame may be gone from
       the buffer, but nothing may stand behind it */
    {{HELD, IS_WRITING, ANY, ANY, ANY, ANY, ANY, OUT_PART | OUT_PART_OF, 0}, CLOSE, RECOVERY_NO_ANSWER},
    {{HELD, IS_WRITING, ANY, INCOMPLETE | COMPLETE, ANY, ANY, ANY, OUT_ALL, 0}, REARM, RECOVERY_NO_ANSWER},
    {{HELD, IS_WRITING, ANY, PIPELINED | BAD_LENGTH, ANY, ANY, ANY, OUT_ALL, 0}, CLOSE, RECOVERY_NO_ANSWER},

    {{HELD, IS_ANSWERED, ANY, ANY, ANY, ANY, ANY, ANY, 0}, SETTLE, RECOVERY_NO_ANSWER},
    {{HELD, IS_CLOSING, ANY, ANY, ANY, ANY, ANY, ANY, 0}, CLOSE, RECOVERY_NO_ANSWER},
};

static bool speaks_of(const struct situation *when, const struct situation *now)
{
    return when->claim & now->claim && when->state & now->state && when->touched & now->touched &&
           when->frame & now->frame && when->msgid & now->msgid && when->ended & now->ended &&
           when->stopping & now->stopping && when->out & now->out;
}

/* The one rule for a situation. A response of which nothing is out was never begun: the state before it
 * tells. */
static const struct rule *find_rule(struct situation now)
{
    const struct rule *found = NULL;
    if (now.state == IS_WRITING && now.out & NOT_BEGUN)
        now.state = 1u << now.writing_from;
    for (size_t i = 0; i < COUNT(rules); i++) {
        if (!speaks_of(&rules[i].when, &now))
            continue;
        assert_null(found);
        found = &rules[i];
    }
    assert_non_null(found);
    return found;
}

#define ROW_MSGID     1111u
#define BUFFER_MSGID  2222u
#define REQUEST       77u
#define RESPONSE_SIZE 300u

static void set_frame(struct recovery_facts *facts, unsigned frame, uint64_t size)
{
    facts->frame_size = frame == BAD_LENGTH ? 0 : size;
    facts->row.received = frame == INCOMPLETE ? size - 1 : frame == COMPLETE ? size : size + 1;
}

static void set_response(struct row_view *row, const struct situation *now)
{
    bool unknown = now->out & (OUT_NOTHING_OF | OUT_PART_OF);
    row->writing_from = now->writing_from;
    row->response_size = unknown ? ROW_SIZE_UNKNOWN : now->out == OUT_EMPTY ? 0 : RESPONSE_SIZE;
    row->sent = now->out & NOT_BEGUN ? 0 : now->out == OUT_ALL ? RESPONSE_SIZE : RESPONSE_SIZE - 1;
}

static struct recovery_facts facts_of(const struct situation *now, uint64_t frame_size)
{
    struct recovery_facts facts = {
        .row = {.claim = now->claim == CLAIM_NONE ? ROW_NO_CLAIM : row_claim_of(3, 9),
                .valid = now->state != IS_INVALID,
                .msgid = ROW_MSGID,
                .request = REQUEST},
        .tenant = now->claim == CLAIM_TENANT,
        .buffer_touched = now->touched == YES,
        .has_msgid = now->msgid == YES,
        .msgid = BUFFER_MSGID,
        .ended_request = now->ended == ENDED_NONE ? 0
                         : now->ended & ENDED_NOT ? REQUEST - 1
                                                  : REQUEST,
        .why = now->ended == ENDED_GONE                           ? DEADLINE_CLIENT_GONE
               : now->ended & (ENDED_KILLED | ENDED_OTHER_KILLED) ? DEADLINE_KILL_ORDERED
                                                                  : DEADLINE_PASSED,
        .stopping = now->stopping == YES,
    };
    for (unsigned state = 0; state < ROW_STATE_COUNT; state++)
        if (now->state == 1u << state)
            facts.row.state = (enum row_state)state;
    set_frame(&facts, now->frame, frame_size);
    set_response(&facts.row, now);
    return facts;
}

/* A request that ran is named by the row, as its engine may have written over the buffer. */
static void assert_names_the_request(const struct recovery_plan *plan)
{
    if (plan->answer == RECOVERY_WORKER_LOST)
        assert_int_equal(plan->msgid, BUFFER_MSGID);
    else if (plan->answer != RECOVERY_NO_ANSWER)
        assert_int_equal(plan->msgid, ROW_MSGID);
}

static void check_situation(const struct situation *now, uint64_t frame_size)
{
    struct recovery_facts facts = facts_of(now, frame_size);
    struct recovery_plan plan = recovery_decide(&facts);
    const struct rule *rule = find_rule(*now);
    assert_int_equal(plan.action, rule->action);
    assert_int_equal(plan.answer, rule->answer);
    assert_names_the_request(&plan);
}

/* Situation `index` of SITUATIONS. */
#define SITUATIONS                                                                                           \
    (CLAIM_COUNT * (ROW_STATE_COUNT + 1) * 2 * FRAME_COUNT * 2 * ENDED_COUNT * 2 * OUT_COUNT * 2)
static unsigned take_digit(unsigned *index, unsigned base)
{
    unsigned digit = *index % base;
    *index /= base;
    return 1u << digit;
}

static struct situation situation_of(unsigned index)
{
    struct situation now;
    now.claim = take_digit(&index, CLAIM_COUNT);
    now.state = take_digit(&index, ROW_STATE_COUNT + 1);
    now.touched = take_digit(&index, 2);
    now.frame = take_digit(&index, FRAME_COUNT);
    now.msgid = take_digit(&index, 2);
    now.ended = take_digit(&index, ENDED_COUNT);
    now.stopping = take_digit(&index, 2);
    now.out = take_digit(&index, OUT_COUNT);
    now.writing_from = index ? ROW_RUNNING : ROW_RECEIVED;
    return now;
}

static void test_every_situation(void **state)
{
    (void)state;
    static const uint64_t frame_sizes[] = {5, 100, UINT64_C(0x80000003), UINT64_C(1) << 40};
    for (unsigned index = 0; index < SITUATIONS; index++) {
        struct situation now = situation_of(index);
        for (size_t i = 0; i < COUNT(frame_sizes); i++)
            check_situation(&now, frame_sizes[i]);
    }
}

/* --- edges --- */

static struct recovery_facts running(void)
{
    const struct situation now = {.claim = CLAIM_TENANT,
                                  .state = IS_RUNNING,
                                  .touched = YES,
                                  .frame = COMPLETE,
                                  .msgid = YES,
                                  .ended = ENDED_NONE,
                                  .stopping = NO,
                                  .out = OUT_NOTHING,
                                  .writing_from = ROW_RUNNING};
    return facts_of(&now, 20);
}

static void test_no_request_is_not_an_ended_one(void **state)
{
    (void)state;
    struct recovery_facts facts = running();
    facts.row.request = 0;
    facts.ended_request = 0;
    assert_int_equal(recovery_decide(&facts).answer, RECOVERY_ENGINE_CRASHED);
    facts.stopping = true;
    assert_int_equal(recovery_decide(&facts).answer, RECOVERY_STOPPING);
}

static void test_request_numbers_are_compared_whole(void **state)
{
    (void)state;
    struct recovery_facts facts = running();
    facts.row.request = UINT64_C(0x100000001);
    facts.ended_request = 1;
    assert_int_equal(recovery_decide(&facts).answer, RECOVERY_ENGINE_CRASHED);
    facts.ended_request = UINT64_C(0x100000001);
    assert_int_equal(recovery_decide(&facts).answer, RECOVERY_DEADLINE);
}

static void test_a_saturated_count_is_more_than_a_frame(void **state)
{
    (void)state;
    struct recovery_facts facts = running();
    facts.row.received = UINT64_MAX;
    assert_int_equal(recovery_decide(&facts).action, RECOVERY_CLOSE);
    facts.row.state = ROW_RECEIVED;
    assert_int_equal(recovery_decide(&facts).action, RECOVERY_CLOSE);
    assert_int_equal(recovery_decide(&facts).answer, RECOVERY_WORKER_LOST);
}

/* The response is out and its frame dropped from the buffer, which still shows it. */
static void test_a_dropped_frame_is_not_half_a_frame(void **state)
{
    (void)state;
    struct recovery_facts facts = running();
    facts.row.state = ROW_WRITING;
    facts.row.sent = facts.row.response_size;
    facts.row.received = 0;
    assert_int_equal(recovery_decide(&facts).action, RECOVERY_REARM);
    assert_int_equal(recovery_decide(&facts).answer, RECOVERY_NO_ANSWER);
}

/* sent == response_size, and yet the request has no answer. */
static void test_an_empty_response_is_not_a_whole_one(void **state)
{
    (void)state;
    struct recovery_facts facts = running();
    facts.row.state = ROW_WRITING;
    facts.row.sent = facts.row.response_size = 0;
    struct recovery_plan plan = recovery_decide(&facts);
    assert_int_equal(plan.action, RECOVERY_REARM);
    assert_int_equal(plan.answer, RECOVERY_ENGINE_CRASHED);
    assert_int_equal(plan.msgid, ROW_MSGID);
    facts.row.writing_from = ROW_RECEIVED;
    plan = recovery_decide(&facts);
    assert_int_equal(plan.action, RECOVERY_REARM);
    assert_int_equal(plan.answer, RECOVERY_WORKER_LOST);
    assert_int_equal(plan.msgid, BUFFER_MSGID);
    facts.row.received++;
    assert_int_equal(recovery_decide(&facts).action, RECOVERY_CLOSE);
    assert_int_equal(recovery_decide(&facts).answer, RECOVERY_WORKER_LOST);
}

/* The engine has written over the length, or the row: the stream's place is not known. */
static void test_less_than_a_frame_is_not_answered_and_kept(void **state)
{
    (void)state;
    struct recovery_facts facts = running();
    facts.row.received = facts.frame_size - 1;
    assert_int_equal(recovery_decide(&facts).action, RECOVERY_CLOSE);
    assert_int_equal(recovery_decide(&facts).answer, RECOVERY_ENGINE_CRASHED);
    facts.row.received = 0;
    assert_int_equal(recovery_decide(&facts).action, RECOVERY_CLOSE);
    facts.row.received = facts.frame_size;
    facts.frame_size = 0;
    assert_int_equal(recovery_decide(&facts).action, RECOVERY_CLOSE);
    assert_int_equal(recovery_decide(&facts).answer, RECOVERY_ENGINE_CRASHED);
}

/* --- rows that an engine has written over --- */

static void scribble(struct random *random, struct row *row)
{
    random_fill(random, row, sizeof(*row));
    if (random_below(random, 8))
        atomic_store(&row->state, random_below(random, ROW_STATE_COUNT));
    if (random_below(random, 8) == 0)
        row->claim.event.data.u64 = ROW_NO_CLAIM;
    if (random_below(random, 8)) {
        row_set_key(row, 0);
        atomic_store(&row->seal, row_seal(row->claim.event.data.u64, 0));
    }
    if (random_below(random, 2)) {
        atomic_store(&row->received, random_below(random, 64));
        row->receive.msg_len = random_below(random, 64);
    }
    if (random_below(random, 4)) {
        const uint64_t sizes[] = {300, 300, 301, 0, ROW_SIZE_UNKNOWN};
        row->send.msg_len = random_below(random, 2) ? 300 : 0;
        atomic_store(&row->response_size, sizes[random_below(random, COUNT(sizes))]);
        atomic_store(&row->writing_from, random_below(random, 2) ? ROW_RUNNING : ROW_RECEIVED);
    }
}

static struct recovery_facts random_facts(struct random *random)
{
    struct row row;
    scribble(random, &row);
    struct recovery_facts facts = {
        .tenant = random_below(random, 8) != 0,
        .buffer_touched = random_below(random, 2),
        .has_msgid = random_below(random, 4) != 0,
        .msgid = (uint32_t)random_next(random),
        .stopping = random_below(random, 2),
    };
    row_read(&row, 0, &facts.row);
    uint64_t sizes[] = {0, facts.row.received, random_below(random, 128), random_next(random)};
    facts.frame_size = sizes[random_below(random, COUNT(sizes))];
    uint64_t ended[] = {0, facts.row.request, facts.row.request - 1, random_next(random)};
    facts.ended_request = ended[random_below(random, COUNT(ended))];
    facts.why = (enum deadline_why)random_below(random, DEADLINE_KILL_ORDERED + 1);
    return facts;
}

/* What must hold of any plan, whatever the row says. */
static bool is_in(const struct row_view *row, enum row_state state)
{
    return row->state == state || (row->state == ROW_WRITING && row->sent == 0 && row->writing_from == state);
}

static void assert_answer_is_due(const struct recovery_facts *facts, const struct recovery_plan *plan)
{
    const struct row_view *row = &facts->row;
    assert_true(row->valid);
    if (plan->answer == RECOVERY_WORKER_LOST) {
        assert_true(is_in(row, ROW_RECEIVED) || (row->state == ROW_WAITING && facts->buffer_touched));
        assert_true(facts->has_msgid);
        assert_true(facts->frame_size > 0 && row->received >= facts->frame_size);
        assert_int_equal(plan->msgid, facts->msgid);
    } else {
        assert_true(is_in(row, ROW_RUNNING));
        assert_int_equal(plan->msgid, row->msgid);
    }
    bool ended = plan->answer == RECOVERY_DEADLINE || plan->answer == RECOVERY_CANCELLED ||
                 plan->answer == RECOVERY_KILLED;
    if (ended)
        assert_true(facts->ended_request == row->request && row->request != 0);
    if (ended)
        assert_int_equal(facts->why, plan->answer == RECOVERY_DEADLINE    ? DEADLINE_PASSED
                                     : plan->answer == RECOVERY_CANCELLED ? DEADLINE_CLIENT_GONE
                                                                          : DEADLINE_KILL_ORDERED);
    if (plan->answer == RECOVERY_STOPPING)
        assert_true(facts->stopping);
    bool alone = facts->frame_size > 0 && row->received == facts->frame_size;
    assert_int_equal(plan->action, alone ? RECOVERY_REARM : RECOVERY_CLOSE);
}

static void assert_no_answer_is_due(const struct recovery_facts *facts, const struct recovery_plan *plan)
{
    const struct row_view *row = &facts->row;
    assert_int_not_equal(plan->action,
                         RECOVERY_NOTHING); /* a connection that nobody would ever serve again */
    assert_false(row->valid && is_in(row, ROW_RUNNING));
    bool untouched = row->state == ROW_WAITING && !facts->buffer_touched;
    bool whole = row->state == ROW_WRITING && row->sent > 0 && row->sent == row->response_size &&
                 row->received <= facts->frame_size;
    assert_int_equal(plan->action == RECOVERY_REARM, row->valid && (untouched || whole));
    assert_int_equal(plan->action == RECOVERY_SETTLE, row->valid && row->state == ROW_ANSWERED);
}

static void test_random_rows(void **state)
{
    (void)state;
    struct random random = {2024};
    unsigned seen[RECOVERY_CLOSE + 1][RECOVERY_STOPPING + 1] = {{0}};
    for (unsigned round = 0; round < 200000; round++) {
        struct recovery_facts facts = random_facts(&random);
        struct recovery_plan plan = recovery_decide(&facts);
        assert_in_range(plan.action, RECOVERY_NOTHING, RECOVERY_CLOSE);
        assert_in_range(plan.answer, RECOVERY_NO_ANSWER, RECOVERY_STOPPING);
        seen[plan.action][plan.answer]++;
        if (!facts.tenant || facts.row.claim == ROW_NO_CLAIM) {
            assert_int_equal(plan.action, RECOVERY_NOTHING);
            assert_int_equal(plan.answer, RECOVERY_NO_ANSWER);
        } else if (plan.answer != RECOVERY_NO_ANSWER) {
            assert_answer_is_due(&facts, &plan);
        } else {
            assert_no_answer_is_due(&facts, &plan);
        }
    }
    for (int action = RECOVERY_NOTHING; action <= RECOVERY_CLOSE; action++)
        assert_in_range(seen[action][RECOVERY_NO_ANSWER], 100, 200000);
    for (int answer = RECOVERY_WORKER_LOST; answer <= RECOVERY_STOPPING; answer++) {
        assert_in_range(seen[RECOVERY_REARM][answer], 100, 200000);
        assert_in_range(seen[RECOVERY_CLOSE][answer], 100, 200000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_situation),
        cmocka_unit_test(test_no_request_is_not_an_ended_one),
        cmocka_unit_test(test_request_numbers_are_compared_whole),
        cmocka_unit_test(test_a_saturated_count_is_more_than_a_frame),
        cmocka_unit_test(test_a_dropped_frame_is_not_half_a_frame),
        cmocka_unit_test(test_an_empty_response_is_not_a_whole_one),
        cmocka_unit_test(test_less_than_a_frame_is_not_answered_and_kept),
        cmocka_unit_test(test_random_rows),
    };
    return cmocka_run_group_tests_name("recovery", tests, NULL, NULL);
}
