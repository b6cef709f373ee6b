/* How much memory workers have of their own, measured here and not by the server: the kernel adds it up over
 * all page tables, which takes milliseconds a worker. */
#ifndef MEMORY_H
#define MEMORY_H

#include <msgpack.h>

/* Puts what is measured into the "private" entries of a status' workers, where this user may measure; what
 * the server says itself stays where not. NULL: nothing happens. */
void memory_measure(const msgpack_object *workers);

#endif
