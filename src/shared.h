/* Memory shared between the master and one worker: memfds whose size is sealed, so that no process can turn
 * another's access into SIGBUS by truncating them (docs/architecture.md). */
#ifndef SHARED_H
#define SHARED_H

#include <stddef.h>

/* A sealed memfd of that many zero bytes, CLOEXEC. -1 with errno. */
int shared_create(const char *name, size_t size);
/* Maps a part of it, from `offset` on, a whole number of pages: readable and writable, not inherited by
 * children of this process. Prefaulted and, where the limits allow it, locked if `resident`. NULL with errno.
 */
void *shared_map(int memfd, size_t offset, size_t size, int resident);

/* A memfd of that many zero bytes that the caller alone can write to: it is sealed against every later
 * mapping that could. Returns the caller's mapping, NULL with errno. */
void *shared_publish(const char *name, size_t size, int *memfd);

#endif
