/* Part of symbols.c: names, files and lines of frames, from symbol tables and debug information. */
#ifndef SYMBOLS_NAMES_H
#define SYMBOLS_NAMES_H

#include <elfutils/libdwfl.h>

#include "symbols.h"

/* Names `count` frames, and puts those of inlined functions in between, as far as there is room for `most`.
 * Returns how many there are now. */
size_t names_find(Dwfl *dwfl, struct symbols_frame *frames, size_t count, size_t most);

#endif
