/* Part of the master: lines of --log-requests and --slow. A worker leaves a record of each such call in its
 * meter and waits for nobody; here they become lines, so many at each look of the master's. */
#ifndef REQUEST_LOG_H
#define REQUEST_LOG_H

#include <stdbool.h>

#include "log.h"
#include "master.h"

/* Logs the seat's records, but no more than `most`. Returns how many it was. */
unsigned request_log_take(struct seat *seat, unsigned most);
/* The same for all seats, at a look of the master's; says, too, how many had no room. Returns whether there
 * may be more. */
bool request_log_look(struct master *master);
/* Says how many had no room, since this was last said. */
void request_log_tell(struct master *master);
/* A call that the master has answered, if it is one to be logged. */
void request_log_answer(const struct master *master, const struct log_fields *call);

#endif
