/* One call from connect to answer, and how its failure is told on standard error. */
#ifndef ASK_H
#define ASK_H

#include <stdbool.h>

#include "cli.h"
#include "client.h"

/* How much longer than the deadline the client waits for the server's own answer, which knows more. */
#define ASK_PATIENCE CLIENT_SECOND
/* Seconds for questions that no engine works on. */
#define ASK_QUICK 5.0

struct ask_question {
    const char *method;
    bool admin;                    /* goes to the admin socket */
    const msgpack_sbuffer *params; /* one array; NULL: no parameters */
    double timeout;                /* seconds, connecting included */
};

/* Asks, and tells what went wrong. Returns CLI_OK when there is a result, else the exit code. The client
 * stays connected after CLI_OK. Both client and reply are to be closed and freed whatever it returns. */
int ask(const struct cli *cli, const struct ask_question *question, struct client *client,
        struct client_reply *reply);

/* The same for those who want the result alone: the connection is closed. */
int ask_once(const struct cli *cli, const struct ask_question *question, struct client_reply *reply);

/* Tell what went wrong; return the exit code. */
int ask_tell_trouble(const struct client *client, const char *method);
int ask_tell_error(const msgpack_object *error, const char *method);

/* Tells that the answer to a built-in method is not what this tool knows. */
int ask_tell_unknown(const char *method);

#endif
