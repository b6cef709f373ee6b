#include "recovery.h"

static struct recovery_plan plan(enum recovery_action action)
{
    return (struct recovery_plan){.action = action, .answer = RECOVERY_NO_ANSWER};
}

/* Answers and keeps the connection, unless something other than this one frame is in the dead worker's
 * buffer: bytes of a next frame are lost with it. */
static struct recovery_plan answer(const struct recovery_facts *facts, enum recovery_answer answer,
                                   uint32_t msgid)
{
    bool pipelined = facts->frame_size == 0 || facts->row.received != facts->frame_size;
    return (struct recovery_plan){
        .action = pipelined ? RECOVERY_CLOSE : RECOVERY_REARM, .answer = answer, .msgid = msgid};
}

static struct recovery_plan decide_received(const struct recovery_facts *facts)
{
    bool complete = facts->frame_size != 0 && facts->row.received >= facts->frame_size;
    if (!complete || !facts->has_msgid)
        return plan(RECOVERY_CLOSE);
    return answer(facts, RECOVERY_WORKER_LOST, facts->msgid);
}

static struct recovery_plan decide_running(const struct recovery_facts *facts)
{
    static const enum recovery_answer ended[] = {
        [DEADLINE_PASSED] = RECOVERY_DEADLINE,
        [DEADLINE_CLIENT_GONE] = RECOVERY_CANCELLED,
        [DEADLINE_KILL_ORDERED] = RECOVERY_KILLED,
    };
    enum recovery_answer why = facts->ended_request == facts->row.request && facts->ended_request != 0
                                   ? ended[facts->why]
                               : facts->stopping ? RECOVERY_STOPPING
                                                 : RECOVERY_ENGINE_CRASHED;
    return answer(facts, why, facts->row.msgid);
}

/* The worker was the sole owner until its re-arm, which it had not reached: a response that is out leaves
 * nothing to do but that; of one that was not begun, nothing was lost. */
static struct recovery_plan decide_writing(const struct recovery_facts *facts)
{
    if (facts->row.sent == 0)
        return facts->row.writing_from == ROW_RUNNING ? decide_running(facts) : decide_received(facts);
    if (facts->row.sent != facts->row.response_size || facts->row.received > facts->frame_size)
        return plan(RECOVERY_CLOSE);
    return plan(RECOVERY_REARM);
}

struct recovery_plan recovery_decide(const struct recovery_facts *facts)
{
    if (facts->row.claim == ROW_NO_CLAIM || !facts->tenant)
        return plan(RECOVERY_NOTHING);
    if (!facts->row.valid)
        return plan(RECOVERY_CLOSE);
    switch (facts->row.state) {
    case ROW_WAITING:
        return facts->buffer_touched ? decide_received(facts) : plan(RECOVERY_REARM);
    case ROW_RECEIVED:
        return decide_received(facts);
    case ROW_RUNNING:
        return decide_running(facts);
    case ROW_WRITING:
        return decide_writing(facts);
    case ROW_ANSWERED:
        return plan(RECOVERY_SETTLE);
    case ROW_CLOSING:
    case ROW_STATE_COUNT:
        break;
    }
    return plan(RECOVERY_CLOSE);
}
