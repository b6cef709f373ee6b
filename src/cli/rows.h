/* Tables for people: rows are collected, then aligned as a whole. */
#ifndef ROWS_H
#define ROWS_H

#include <stddef.h>
#include <stdio.h>

struct rows {
    FILE *out; /* takes rows as text_put_table() has them: cells end in tabs, rows in line ends */
    char *text;
    size_t size;
};

/* Without memory it ends the process; the command is named then. */
void rows_begin(struct rows *rows, const char *command);
/* The names end with NULL. */
void rows_put_heading(struct rows *rows, const char *const *names);
/* Prints to standard output. alignment: see text_put_table(). */
void rows_print(struct rows *rows, const char *alignment);

#endif
