#include "exposition.h"

#include <inttypes.h>
#include <string.h>

#include "utf8.h"

static void put_escaped(FILE *out, const char *text, bool quotes)
{
    const char *end = text + strlen(text);
    while (text < end) {
        size_t length = utf8_length((const unsigned char *)text, (size_t)(end - text));
        if (length == 0)
            fputs("\xef\xbf\xbd", out); /* U+FFFD */
        else if (*text == '\n')
            fputs("\\n", out);
        else if (*text == '\\' || (*text == '"' && quotes))
            fprintf(out, "\\%c", *text);
        else
            fwrite(text, 1, length, out);
        text += length > 0 ? length : 1;
    }
}

void exposition_begin(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s ", name);
    put_escaped(out, help, false);
    fprintf(out, "\n# TYPE %s %s\n", name, type);
}

/* le: the bound of a bucket; NULL: none. */
static void put_name(FILE *out, const char *name, const char *suffix, const struct exposition_label *labels,
                     const char *le)
{
    const char *before = "{";
    fprintf(out, "%s%s", name, suffix);
    for (; labels && labels->name; labels++, before = ",") {
        fprintf(out, "%s%s=\"", before, labels->name);
        put_escaped(out, labels->value, true);
        fputc('"', out);
    }
    if (le)
        fprintf(out, "%sle=\"%s\"", before, le);
    fputs(le || *before == ',' ? "} " : " ", out);
}

/* Exactly, without digits that say nothing. */
static const char *format_seconds(uint64_t ns, char text[40])
{
    int length = snprintf(text, 40, "%" PRIu64 ".%09" PRIu64, ns / 1000000000, ns % 1000000000);
    while (text[length - 1] == '0')
        text[--length] = '\0';
    if (text[length - 1] == '.')
        text[--length] = '\0';
    return text;
}

void exposition_count(FILE *out, const char *name, const struct exposition_label *labels, uint64_t value)
{
    put_name(out, name, "", labels, NULL);
    fprintf(out, "%" PRIu64 "\n", value);
}

void exposition_seconds(FILE *out, const char *name, const struct exposition_label *labels, uint64_t ns)
{
    char text[40];
    put_name(out, name, "", labels, NULL);
    fprintf(out, "%s\n", format_seconds(ns, text));
}

void exposition_histogram(FILE *out, const char *name, const struct exposition_label *labels,
                          const uint64_t *counts, unsigned buckets, uint64_t (*bound)(unsigned bucket),
                          uint64_t sum)
{
    char text[40];
    uint64_t below = 0;
    for (unsigned i = 0; i < buckets; i++) {
        below += counts[i];
        put_name(out, name, "_bucket", labels, i + 1 < buckets ? format_seconds(bound(i), text) : "+Inf");
        fprintf(out, "%" PRIu64 "\n", below);
    }
    put_name(out, name, "_sum", labels, NULL);
    fprintf(out, "%s\n", format_seconds(sum, text));
    put_name(out, name, "_count", labels, NULL);
    fprintf(out, "%" PRIu64 "\n", below);
}
