/* Text for people: strings from elsewhere made harmless, colours, times, aligned columns. */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* The size in bytes of the UTF-8 character at the start of text; 0 where there is none. */
size_t text_character_size(const char *text, size_t size);
bool text_is_utf8(const char *text, size_t size);
/* A character that a terminal may act upon: C0, DEL and C1. size is that of text_character_size(). */
bool text_is_control(const char *character, size_t size);

/* Writes text that somebody else wrote on one line: line ends and tabs become spaces, other controls and
 * bytes that are not UTF-8 become \xNN. */
void text_put_safe(FILE *out, const char *text, size_t size);
/* The same for about that many bytes at most, and dots for the rest. */
void text_put_cut(FILE *out, const char *text, size_t size, size_t limit);
/* All of it, line by line, each behind `indent`. */
void text_put_lines(FILE *out, const char *indent, const char *text, size_t size);
/* "350 ms", "2.4 s", "2m 13s", "3h 5m", "2d 4h"; "-" for what is no duration. */
void text_put_seconds(FILE *out, double seconds);
/* Three digits: "23.4 us", "1.23 ms", "150 ms", "12.3 s". */
void text_put_latency(FILE *out, double seconds);
/* Bytes: "512", "3.4K", "17M", "1.2G". */
void text_put_size(FILE *out, double bytes);
/* A whole number in groups: "1,234,567". */
void text_put_count(FILE *out, double count);

enum text_colour { TEXT_BOLD, TEXT_DIM, TEXT_GREEN, TEXT_YELLOW, TEXT_COLOURS };

/* Whether text_paint() paints: out is a terminal and NO_COLOR is not set. Off until this is called. */
void text_allow_colours(FILE *out);
void text_paint(FILE *out, enum text_colour colour, const char *text);

/* Columns of the terminal that out is; 0 where it is none. */
size_t text_columns(FILE *out);
/* What text takes on a terminal: characters, without colours. */
size_t text_width(const char *text);

/* Writes rows (cells end in tabs, rows in line ends) with aligned columns. alignment has 'l' or 'r' for
 * each column; what is beyond it is left. */
void text_put_table(FILE *out, const char *rows, const char *alignment);

#endif
