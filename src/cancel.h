/* Part of the master: clients that go away. Their requests that run are told so (deadline.h); those that
 * wait are dropped with the connection. A slot whose client has gone is out of the shared set at once, but
 * closed only when no row claims it any more: until then it is still known whose call that is. */
#ifndef CANCEL_H
#define CANCEL_H

#include "master.h"

void cancel_init(struct master *master);
/* Frees what clients that have gone away by now still hold, as far as that can be. */
void cancel_look(struct master *master);

#endif
