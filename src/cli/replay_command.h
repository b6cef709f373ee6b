/* The command line of a cohabd that has the engine of a report, its arguments and its limits. */
#ifndef REPLAY_COMMAND_H
#define REPLAY_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include <msgpack.h>

/* Lives as long as the tool. Without memory the tool ends. */
struct replay_command {
    char **words; /* NULL behind the last one */
    size_t count;
};

/* Has room for what the report holds, and for REPLAY_COMMAND_OWN words of the caller's. */
#define REPLAY_COMMAND_OWN 40u
struct replay_command replay_command_begin(const msgpack_object *report);
/* The word must live as long. */
void replay_command_add(struct replay_command *command, const char *word);
void replay_command_add_timeout(struct replay_command *command, double seconds);
/* What a report may ask of cohabd: how large things are, and nothing else. */
void replay_command_add_options(struct replay_command *command, const msgpack_object *report, bool memory);
/* Ends the options. */
void replay_command_add_engine(struct replay_command *command, const msgpack_object *report,
                               const char *engine);

#endif
