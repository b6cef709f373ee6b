#include "words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "utf8.h"

/* The line at the start of text, without its end. *next is where the next one begins. */
static struct word take_line(const char *text, const char *end, const char **next)
{
    const char *line_end = memchr(text, '\n', (size_t)(end - text));
    size_t size = (size_t)((line_end ? line_end : end) - text);

    *next = line_end ? line_end + 1 : end;
    if (size > 0 && text[size - 1] == '\r')
        size--;
    return (struct word){.text = text, .size = size > WORDS_LONGEST ? WORDS_LONGEST + 1 : (uint32_t)size};
}

static int is_utf8(const struct word *word)
{
    size_t length;

    for (size_t i = 0; i < word->size; i += length) {
        length = utf8_length((const unsigned char *)word->text + i, word->size - i);
        if (length == 0)
            return 0;
    }
    return 1;
}

static size_t count_lines(const char *text, size_t size)
{
    size_t lines = 1;

    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    return lines;
}

int words_split(struct words *words, const char *text, size_t size, char *why, size_t why_size)
{
    size_t line = 0;

    *words = (struct words){.items = malloc(count_lines(text, size) * sizeof *words->items)};
    if (!words->items)
        return snprintf(why, why_size, "out of memory"), -1;
    for (const char *at = text, *next; at < text + size; at = next) {
        struct word word = take_line(at, text + size, &next);
        line++;
        if (word.size > WORDS_LONGEST || !is_utf8(&word)) {
            snprintf(why, why_size, "line %zu is %s", line,
                     word.size > WORDS_LONGEST ? "longer than 65535 bytes" : "not UTF-8");
            words_free(words);
            return -1;
        }
        if (word.size > words->longest)
            words->longest = word.size;
        if (word.size > 0)
            words->items[words->count++] = word;
    }
    if (words->count > 0)
        return 0;
    words_free(words);
    return snprintf(why, why_size, "there is no word in it"), -1;
}

void words_free(struct words *words)
{
    free(words->items);
    *words = (struct words){0};
}
