/* What names a build of a library for good: the note that linkers write (--build-id). */
#ifndef BUILD_ID_H
#define BUILD_ID_H

#include <stddef.h>

/* That of the loaded library in which the address lies, in hex; empty where it has none. */
void build_id_find(const void *address, char *text, size_t size);

#endif
