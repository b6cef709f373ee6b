/* PURE. Where in the engine a process was: the frame of a stack that names the place best, and whether two
 * frames are the same place. */
#ifndef CRASH_PLACE_H
#define CRASH_PLACE_H

#include <stdbool.h>

#include <msgpack.h>

/* The text of a frame, which is a text or a map that has one; NULL where there is none. */
const msgpack_object *crash_place_text(const msgpack_object *frame);

/* The text of the frame that is to blame, `top` of a report; of the innermost one where that is not known.
 * NULL where there is no stack. */
const msgpack_object *crash_place_find(const msgpack_object *stack, const msgpack_object *top);

/* Whether two texts name the same function of the same module. Neither offsets nor lines count, unless there
 * is no function. */
bool crash_place_equal(const msgpack_object *a, const msgpack_object *b);

#endif
