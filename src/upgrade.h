/* Part of the master: an upgrade in place. The file that this program was started from, as it is now, is run
 * with `--check`, against the engine that serves, while the server goes on. Where that succeeds and the
 * versions of what both have to share are the same, the master executes it over itself: same process, same
 * children, all connections open; what the old program knows it leaves in a document (handover.h). Where
 * anything is wrong, nothing happens, and who has asked is told why. */
#ifndef UPGRADE_H
#define UPGRADE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct master;
struct options;

/* argv[0] of the process that checks; a blank and versions follow (handover.h). */
#define UPGRADE_CHECK_ARGV0 "cohabd: upgrade check"
/* The last line that it prints where it can take over: its version. */
#define UPGRADE_ANSWER       "cohabd %s can take over"
#define UPGRADE_ANSWER_SCANF "cohabd %63s can take over"
/* In the environment of the program that takes over, "PID.DESCRIPTOR": of its process, and of the document.
 */
#define UPGRADE_VARIABLE "COHAB_HANDOVER"

/* How one has ended. Valid during the call. */
struct upgrade_result {
    bool done;
    const char *before, *after; /* versions of the program; not done: the same */
    uint64_t duration;          /* ns */
    const char *problem;        /* not done: why */
    const char *output;         /* not done: what the new program printed last */
    size_t output_size;
};

/* Who has asked; called once, and only where it is not done: else the new program tells (admin.c). */
typedef void upgrade_listener(void *context, const struct upgrade_result *result);

/* The command line, which the new program is given, too. */
void upgrade_init(char **argv);
/* Begins one; listener may be NULL. -1, with the reason in problem, where that cannot be now. */
int upgrade_begin(struct master *master, upgrade_listener *listener, void *context, char *problem,
                  size_t size);
/* As asked for by a signal. */
void upgrade_ask(struct master *master);
void upgrade_forget_listener(const void *context);
/* Whether this is who waits for its outcome. */
bool upgrade_is_for(const void *context);
bool upgrade_is_under_way(void);
/* The server stops. */
void upgrade_cancel(struct master *master);
/* Returns whether the process was the one that checks. */
bool upgrade_died(struct master *master, pid_t pid, int status);
/* Once a tick. Breaks the loop off where it is time for upgrade_go(). */
void upgrade_look(struct master *master);
/* When the loop has ended: executes the new program, if it is time. Returns only where it is not, or where
 * that fails: whether the loop is to go on. */
bool upgrade_go(struct master *master);

/* In a process that checks: whether it could take over. The exit code. */
int upgrade_check(const struct options *options, const char *versions);
/* In a process that was just started: the descriptor of the document, if it is to take over; else -1. */
int upgrade_take(void);
/* Takes over: the rest of the process. The exit code. */
int upgrade_resume(int document, char **argv);

#endif
