/* PURE. The lines of a text, to take one at random. */
#ifndef WORDS_H
#define WORDS_H

#include <stddef.h>
#include <stdint.h>

#define WORDS_LONGEST UINT32_C(65535)

struct word {
    const char *text; /* UTF-8, not terminated */
    uint32_t size;
};

struct words {
    struct word *items; /* owned; they lead into the text */
    size_t count;
    uint32_t longest;
};

/* Empty lines are none; a carriage return at the end of a line is not part of it. The text has to live as
 * long as the words. Returns 0, or -1 with one line in why. */
int words_split(struct words *words, const char *text, size_t size, char *why, size_t why_size);
void words_free(struct words *words);

#endif
