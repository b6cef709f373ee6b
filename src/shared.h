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

/* A memfd of that many zero bytes that the caller can write to, and whoever has *view can read: no mapping of
 * that one can ever be made writable. Returns the caller's mapping, NULL with errno. */
void *shared_publish(const char *name, size_t size, int *memfd, int *view);
/* The caller's mapping of a memfd that shared_publish() has made. NULL with errno. */
void *shared_open(int memfd, size_t size);

#endif
