/* ROLE parent: a cohabd of the tool's own, in a private directory, that is gone when the tool is, whatever
 * ends it. One a process. */
#ifndef REPLAY_SERVER_H
#define REPLAY_SERVER_H

#include <stdbool.h>
#include <sys/types.h>

/* The descriptor whose end of file ends the server: for its --lifeline-fd. */
#define REPLAY_SERVER_LIFELINE 3

struct replay_server {
    char directory[96];
    char socket[112];
    char reports[112]; /* its --crash-dir */
    char log[112];
};

/* Makes the directory, and catches the signals that end the tool from then on. -1 with errno. */
int replay_server_prepare(struct replay_server *server);
/* Starts it; `command` ends with NULL. -1 with errno. */
int replay_server_start(const struct replay_server *server, char *const *command);

enum replay_server_state {
    REPLAY_SERVER_UP,
    REPLAY_SERVER_ENDED,
    REPLAY_SERVER_LATE,
};

/* Waits until it takes connections, `seconds` at most. */
enum replay_server_state replay_server_wait(const struct replay_server *server, double seconds);
/* Has it stop, and waits. */
void replay_server_stop(double seconds);
/* Ends it at once and removes the directory. Does not return where a signal has been caught: that ends the
 * tool here. */
void replay_server_end(void);

#endif
