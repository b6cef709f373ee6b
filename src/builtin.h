/* The methods that every server has: cohab.ping, cohab.methods, cohab.version. Worker only. */
#ifndef BUILTIN_H
#define BUILTIN_H

#include "engine_load.h"

/* Parses their signatures; to be called once before the first builtin_find(). -1 without memory. */
int builtin_init(void);
/* NULL where there is no such method. Their state is the struct engine. */
const struct engine_method *builtin_find(const char *name, size_t length);

#endif
