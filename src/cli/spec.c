#include "spec.h"

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_blank(char character)
{
    return character == ' ' || character == '\t' || character == '\n';
}

/* The end of the JSON value at the start of text; NULL where a bracket or a quote is never closed. */
static char *end_of_json(char *text)
{
    size_t depth = 0;
    bool quoted = false;

    for (char *at = text; *at; at++) {
        if (quoted && *at == '\\' && at[1])
            at++;
        else if (*at == '"')
            quoted = !quoted;
        else if (!quoted && strchr("[{", *at))
            depth++;
        else if (!quoted && depth > 0 && strchr("]}", *at))
            depth--;
        if (!quoted && depth == 0)
            return at + 1;
    }
    return NULL;
}

static char *end_of_word(char *word)
{
    char *at = strchr("[{\"", *word) ? end_of_json(word) : word;

    while (at && *at && !is_blank(*at))
        at++;
    return at;
}

static char *skip_blanks(char *at)
{
    while (is_blank(*at))
        at++;
    return at;
}

/* Reads "9:". Returns what follows it. */
static const char *read_weight(const char *text, double *weight)
{
    char *end;
    double number = strtod(text, &end);
    bool there = end != text && *end == ':' && isdigit((unsigned char)*text);

    *weight = there ? number : 1;
    return there ? end + 1 : text;
}

/* Cuts the text of the first word into words. */
static int split(struct spec *spec, char *text, char *why, size_t why_size)
{
    for (char *at = skip_blanks(text); *at; at = skip_blanks(at)) {
        char *end = end_of_word(at);
        if (!end)
            return snprintf(why, why_size, "a bracket or a quote is not closed: %s", at), -1;
        spec->words[spec->count++] = at;
        at = *end ? end + 1 : end;
        *end = '\0';
    }
    return spec->count > 0 ? 0 : (snprintf(why, why_size, "no method is named"), -1);
}

int spec_parse(struct spec *spec, const char *text, char *why, size_t why_size)
{
    *spec = (struct spec){0};
    text = read_weight(text, &spec->weight);
    if (!isfinite(spec->weight) || spec->weight <= 0)
        return snprintf(why, why_size, "the weight is not a number above 0"), -1;
    while (is_blank(*text))
        text++;
    char *copy = strdup(text);
    spec->words = calloc(strlen(text) / 2 + 2, sizeof *spec->words);
    if (!copy || !spec->words) {
        free(copy);
        free(spec->words);
        spec->words = NULL;
        return snprintf(why, why_size, "out of memory"), -1;
    }
    spec->words[0] = copy;
    if (split(spec, copy, why, why_size) == 0)
        return 0;
    spec_free(spec);
    return -1;
}

void spec_free(struct spec *spec)
{
    if (spec->words)
        free(spec->words[0]);
    free(spec->words);
    *spec = (struct spec){0};
}
