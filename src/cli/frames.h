/* Native stacks, as errors, reports and the server tell them: arrays of frames, innermost first. A frame is a
 * text, or a map that has one. */
#ifndef FRAMES_H
#define FRAMES_H

#include <stdio.h>

#include <msgpack.h>

/* One numbered line for each frame, behind `indent`. */
void frames_put(FILE *out, const char *indent, const msgpack_object *frames);
/* Where a map has no stack: why, if it says it. */
void frames_put_absence(FILE *out, const msgpack_object *map);

#endif
