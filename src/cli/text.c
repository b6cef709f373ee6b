#include "text.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define MAX_COLUMNS 16

static bool colours_allowed;

size_t text_character_size(const char *text, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)text;
    if (size == 0 || (bytes[0] >= 0x80 && bytes[0] < 0xc2) || bytes[0] > 0xf4)
        return 0;
    size_t length = bytes[0] < 0x80 ? 1 : bytes[0] < 0xe0 ? 2 : bytes[0] < 0xf0 ? 3 : 4;
    if (length > size)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (bytes[0] == 0xe0 && bytes[1] < 0xa0) || (bytes[0] == 0xf0 && bytes[1] < 0x90);
    bool surrogate = bytes[0] == 0xed && bytes[1] > 0x9f;
    bool too_high = bytes[0] == 0xf4 && bytes[1] > 0x8f;
    return overlong || surrogate || too_high ? 0 : length;
}

bool text_is_utf8(const char *text, size_t size)
{
    while (size > 0) {
        size_t length = text_character_size(text, size);
        if (length == 0)
            return false;
        text += length;
        size -= length;
    }
    return true;
}

bool text_is_control(const char *character, size_t size)
{
    unsigned char first = (unsigned char)character[0];

    return (size == 1 && (first < 0x20 || first == 0x7f)) ||
           (size == 2 && first == 0xc2 && (unsigned char)character[1] < 0xa0);
}

void text_put_safe(FILE *out, const char *text, size_t size)
{
    while (size > 0) {
        size_t length = text_character_size(text, size);
        if (length == 1 && strchr("\n\r\t", *text) && *text != '\0')
            fputc(' ', out);
        else if (length > 0 && !text_is_control(text, length))
            fwrite(text, 1, length, out);
        else
            for (size_t i = 0; i == 0 || i < length; i++)
                fprintf(out, "\\x%02x", (unsigned char)text[i]);
        length += length == 0;
        text += length;
        size -= length;
    }
}

void text_put_cut(FILE *out, const char *text, size_t size, size_t limit)
{
    size_t kept = 0;

    while (kept < size && kept < limit) {
        size_t length = text_character_size(text + kept, size - kept);
        kept += length > 0 ? length : 1;
    }
    text_put_safe(out, text, kept);
    if (kept < size)
        fputs("...", out);
}

void text_put_lines(FILE *out, const char *indent, const char *text, size_t size)
{
    while (size > 0) {
        const char *end = memchr(text, '\n', size);
        size_t length = end ? (size_t)(end - text) : size;
        fputs(indent, out);
        text_put_safe(out, text, length);
        fputc('\n', out);
        length += end != NULL;
        text += length;
        size -= length;
    }
}

void text_put_seconds(FILE *out, double seconds)
{
    if (!(seconds >= 0 && seconds < 1e12)) {
        fputc('-', out);
        return;
    }
    uint64_t whole = (uint64_t)seconds;
    if (seconds < 0.00995)
        fprintf(out, "%.1f ms", seconds * 1e3);
    else if (seconds < 0.9995)
        fprintf(out, "%.0f ms", seconds * 1e3);
    else if (seconds < 59.95)
        fprintf(out, "%.1f s", seconds);
    else if (whole < 3600)
        fprintf(out, "%um %us", (unsigned)(whole / 60), (unsigned)(whole % 60));
    else if (whole < 86400)
        fprintf(out, "%uh %um", (unsigned)(whole / 3600), (unsigned)(whole / 60 % 60));
    else
        fprintf(out, "%llud %uh", (unsigned long long)(whole / 86400), (unsigned)(whole / 3600 % 24));
}

void text_put_latency(FILE *out, double seconds)
{
    bool in_us = seconds < 0.9995e-3;
    bool in_ms = !in_us && seconds < 0.9995;
    double value = in_us ? seconds * 1e6 : in_ms ? seconds * 1e3 : seconds;
    int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;

    fprintf(out, "%.*f %s", decimals, value, in_us ? "us" : in_ms ? "ms" : "s");
}

void text_put_count(FILE *out, double count)
{
    char digits[40];
    int length = snprintf(digits, sizeof digits, "%.0f", count);

    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            fputc(',', out);
        fputc(digits[i], out);
    }
}

void text_allow_colours(FILE *out)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");

    colours_allowed = isatty(fileno(out)) && (!no_color || !*no_color) && term && strcmp(term, "dumb") != 0;
}

void text_paint(FILE *out, enum text_colour colour, const char *text)
{
    static const char *const codes[] = {
        [TEXT_BOLD] = "1",
        [TEXT_DIM] = "2",
        [TEXT_GREEN] = "32",
        [TEXT_YELLOW] = "33",
    };
    _Static_assert(sizeof codes / sizeof codes[0] == TEXT_COLOURS, "one code for each colour");

    if (colours_allowed)
        fprintf(out, "\033[%sm%s\033[0m", codes[colour], text);
    else
        fputs(text, out);
}

size_t text_columns(FILE *out)
{
    struct winsize window;

    if (!isatty(fileno(out)))
        return 0;
    return ioctl(fileno(out), TIOCGWINSZ, &window) == 0 && window.ws_col > 0 ? window.ws_col : 80;
}

static size_t measure(const char *text, size_t size)
{
    size_t width = 0;
    bool in_colour = false;

    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\033')
            in_colour = true;
        else if (in_colour)
            in_colour = text[i] != 'm';
        else
            width += ((unsigned char)text[i] & 0xc0) != 0x80;
    }
    return width;
}

size_t text_width(const char *text)
{
    return measure(text, strlen(text));
}

static void measure_columns(const char *rows, size_t widths[MAX_COLUMNS])
{
    size_t column = 0;

    for (const char *cell = rows; *cell; column++) {
        size_t size = strcspn(cell, "\t\n");
        size_t width = measure(cell, size);
        if (column < MAX_COLUMNS && width > widths[column])
            widths[column] = width;
        cell += size;
        if (*cell == '\n')
            column = (size_t)-1;
        cell += *cell != '\0';
    }
}

static void put_spaces(FILE *out, size_t count)
{
    fprintf(out, "%*s", (int)count, "");
}

/* A row's cells, with two spaces between columns and none behind the last one. Returns the next row. */
static const char *put_row(FILE *out, const char *row, const size_t widths[MAX_COLUMNS],
                           const char *alignment)
{
    for (size_t column = 0;; column++) {
        size_t size = strcspn(row, "\t\n");
        size_t width = measure(row, size);
        size_t padding = column < MAX_COLUMNS && widths[column] > width ? widths[column] - width : 0;
        bool right = column < strlen(alignment) && alignment[column] == 'r';
        if (right)
            put_spaces(out, padding);
        fwrite(row, 1, size, out);
        row += size;
        if (*row != '\t')
            break;
        row++;
        put_spaces(out, (right ? 0 : padding) + 2);
    }
    fputc('\n', out);
    return row + (*row != '\0');
}

void text_put_table(FILE *out, const char *rows, const char *alignment)
{
    size_t widths[MAX_COLUMNS] = {0};

    measure_columns(rows, widths);
    while (*rows)
        rows = put_row(out, rows, widths, alignment);
}

void text_put_size(FILE *out, double bytes)
{
    static const char *const units[] = {"", "K", "M", "G", "T"};
    size_t unit = 0;

    for (; bytes >= 1024 && unit + 1 < sizeof units / sizeof units[0]; unit++)
        bytes /= 1024;
    fprintf(out, "%.*f%s", unit > 0 && bytes < 9.95 ? 1 : 0, bytes, units[unit]);
}
