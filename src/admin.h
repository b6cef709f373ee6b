/* Part of the master: the admin socket. */
#ifndef ADMIN_H
#define ADMIN_H

#include "handover.h"

/* Opens it. -1 after a log line. */
int admin_init(struct master *master);
/* Takes the admin socket away. Its connections stay until the process ends: their end of file tells
 * of that. */
void admin_close(struct master *master);
/* Its sockets, for another program to go on with; connections that wait for anything but the upgrade are left
 * out, and end. */
void admin_hand_over(const struct master *master, struct handover *handover);
/* Goes on with them. -1 after a log line. */
int admin_adopt(struct master *master, const struct handover *handover);
/* Tells who has asked for the upgrade that it is done. */
void admin_tell_upgraded(struct master *master, const struct handover *handover);

#endif
