/* Other programs that the tool starts. */
#ifndef PROGRAM_H
#define PROGRAM_H

#include <limits.h>
#include <stdbool.h>

/* Finds a program in $PATH. */
bool program_find(const char *name, char path[PATH_MAX]);
/* The same for one that is installed together with this tool: beside it, else in $PATH. */
bool program_find_sibling(const char *name, char path[PATH_MAX]);

#endif
