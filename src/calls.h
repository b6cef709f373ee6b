/* Part of the master: calls that run and requests that wait, for those who ask through the admin socket. Of
 * a request that waits the master copies the first bytes and leaves the reading of them to who has asked. */
#ifndef CALLS_H
#define CALLS_H

#include <msgpack.h>

#include "master.h"

/* What waits in some of the slots from `first` on, a part at a time, so that nobody waits for the master
 * meanwhile; and with the first part, what runs. The answer says where the next part begins. */
void calls_pack(const struct master *master, uint32_t first, msgpack_packer *packer);

/* Whose running calls are to end. */
struct calls_target {
    unsigned worker;  /* number; 0: any */
    pid_t pid;        /* of the worker; 0: any */
    uint64_t request; /* of that process; 0: whichever runs */
    pid_t peer;       /* 0: any */
};

/* Orders that they end, and packs which they are. What waits is not touched. */
void calls_kill(struct master *master, const struct calls_target *target, msgpack_packer *packer);

#endif
