/* PURE. A call of a mixed workload as it stands in one argument: [WEIGHT:]METHOD [ARG ...]. */
#ifndef SPEC_H
#define SPEC_H

#include <stddef.h>

struct spec {
    double weight;
    char **words; /* owned, and the text of the first one: the method and its arguments */
    int count;
};

/* Words end at blanks that are outside of JSON: the brackets and double quotes of a word that begins with one
 * are followed to their ends. Returns 0, or -1 with one line in why. */
int spec_parse(struct spec *spec, const char *text, char *why, size_t why_size);
void spec_free(struct spec *spec);

#endif
