#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "ask.h"
#include "text.h"
#include "usage.h"

#define METHOD         "cohab.ping"
#define SHORTEST_DELAY (CLIENT_SECOND / 1000)
#define FIRST_DELAY    (CLIENT_SECOND / 50)
#define LONGEST_DELAY  (CLIENT_SECOND / 5)

/* One attempt. True when the server answered, be it with an error. */
static bool ping_once(const struct cli *cli, uint64_t deadline, uint64_t give_up, struct client *client,
                      struct client_reply *reply)
{
    struct client_request request = {.method = METHOD, .deadline = deadline, .give_up = give_up};

    *reply = (struct client_reply){0};
    bool answered = client_connect(client, cli->socket, false, deadline) == 0 &&
                    client_call(client, &request, reply) == 0;
    client_close(client);
    return answered;
}

/* Sleeps between two attempts, a little longer each time and shorter towards the end. False when the time
 * is over. */
static bool pause_before(uint64_t end, uint64_t *delay)
{
    uint64_t now = client_now();
    uint64_t half = end > now ? (end - now) / 2 : 0;

    if (half < SHORTEST_DELAY)
        return false;
    nanosleep(&(struct timespec){.tv_nsec = (long)(half < *delay ? half : *delay)}, NULL);
    *delay = *delay * 2 < LONGEST_DELAY ? *delay * 2 : LONGEST_DELAY;
    return true;
}

static int tell_outcome(const struct cli *cli, bool answered, const struct client *client,
                        const struct client_reply *reply, uint64_t started)
{
    if (!answered)
        return ask_tell_trouble(client, METHOD);
    if (reply->error)
        return ask_tell_error(reply->error, METHOD);
    printf("%s answers (", cli->socket);
    text_put_seconds(stdout, (double)(client_now() - started) / (double)CLIENT_SECOND);
    puts(")");
    return CLI_OK;
}

int ping_run(struct cli *cli, int argc, char **argv)
{
    double wait = 0;
    const struct usage_option options[] = {
        {.name = "--wait",
         .value = "S",
         .help = "try for so many seconds, for a server that is about to start",
         .seconds = &wait},
        {0},
    };
    struct client client;
    struct client_reply reply;
    uint64_t delay = FIRST_DELAY;

    usage_read(cli, options, argc, argv);
    uint64_t end = client_after(wait > 0 ? wait : ASK_QUICK);
    for (;;) {
        uint64_t started = client_now();
        bool answered = ping_once(cli, end, wait > 0 ? end : end + ASK_PATIENCE, &client, &reply);
        bool failed = !answered || reply.error;
        if (!failed || !(wait > 0) || !pause_before(end, &delay)) {
            int exit_code = tell_outcome(cli, answered, &client, &reply, started);
            client_free_reply(&reply);
            return exit_code;
        }
        client_free_reply(&reply);
    }
}
