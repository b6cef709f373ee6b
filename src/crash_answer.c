#include "crash_answer.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "crash_cause.h"

#define FRAMES_MAX  16
#define STDERR_TOLD 1024

/* What the caller is told, put together. */
struct words {
    char message[ENVELOPE_MESSAGE_MAX];
    char signal[32];
    char stderr_tail[STDERR_TOLD + 1];
    const char *frames[FRAMES_MAX];
};

/* Else the master has ended it. */
static bool is_crash(const struct crash_answer *answer)
{
    return answer->answer == RECOVERY_ENGINE_CRASHED;
}

static void describe(const struct crash_answer *answer, struct words *words)
{
    const char *top = answer->top;
    char report[REPORT_ID_SIZE + 16] = "";
    if (*answer->id)
        snprintf(report, sizeof(report), " (report %s)", answer->id);
    if (is_crash(answer))
        snprintf(words->message, sizeof(words->message), "%s%s%s%s", answer->cause, *top ? ": " : "", top,
                 report);
    else
        snprintf(words->message, sizeof(words->message), "%s%s()%s%s%s%s",
                 answer->answer == RECOVERY_DEADLINE ? "the deadline passed and " : "", answer->job->method,
                 answer->answer == RECOVERY_DEADLINE ? " was ended" : " was killed by an operator",
                 *top ? ": " : "", top, report);
}

/* The last lines, from a line's beginning on. */
static void take_stderr(const struct reporter_job *job, char *text)
{
    size_t size = job->stderr_size;
    const char *from = job->stderr_tail;
    if (size > STDERR_TOLD) {
        from += size - STDERR_TOLD;
        const char *line = memchr(from, '\n', STDERR_TOLD);
        if (line && line + 1 < job->stderr_tail + size)
            from = line + 1;
        size = (size_t)(job->stderr_tail + size - from);
    }
    memcpy(text, from, size);
    text[size] = '\0';
    for (size_t i = 0; i < size; i++)
        if (text[i] == '\0')
            text[i] = ' ';
}

static size_t list_frames(const struct reporter_reply *reply, const char **frames)
{
    size_t count = 0;
    for (uint32_t at = 0; reply && count < reply->frames && count < FRAMES_MAX && at < reply->data_size;) {
        frames[count++] = reply->data + at;
        at += (uint32_t)strlen(reply->data + at) + 1;
    }
    return count;
}

const char *crash_answer_code(enum recovery_answer answer)
{
    return answer == RECOVERY_ENGINE_CRASHED ? "INTERNAL"
           : answer == RECOVERY_DEADLINE     ? "DEADLINE_EXCEEDED"
                                             : "CANCELLED";
}

size_t crash_answer_write(unsigned char frame[ENVELOPE_ERROR_MAX], const struct crash_answer *answer)
{
    struct words words;
    describe(answer, &words);
    take_stderr(answer->job, words.stderr_tail);
    struct envelope_error error = {.code = crash_answer_code(answer->answer),
                                   .reason = is_crash(answer)                      ? "ENGINE_CRASHED"
                                             : answer->answer == RECOVERY_DEADLINE ? "DEADLINE"
                                                                                   : "KILLED",
                                   .message = words.message,
                                   .executed = true,
                                   .retry = answer->job->idempotent != 0 && answer->answer != RECOVERY_KILLED,
                                   .report = *answer->id ? answer->id : NULL,
                                   .stderr_tail = words.stderr_tail[0] ? words.stderr_tail : NULL,
                                   .frames = words.frames};
    error.frame_count = list_frames(answer->reply, words.frames);
    if (is_crash(answer) && WIFSIGNALED(answer->job->status))
        error.signal = crash_signal_name(WTERMSIG(answer->job->status), words.signal, sizeof(words.signal));
    return envelope_write_error(frame, true, answer->msgid, &error);
}
