/* Where reports of crashes lie unless --crash-dir says it: the server and the tool must agree. */
#ifndef CRASH_DIR_H
#define CRASH_DIR_H

#include <stddef.h>

/* The default directory; it need not exist. -1 with errno: ENOENT where there is no home directory,
 * ENAMETOOLONG. */
int crash_dir_default(char *path, size_t size);

/* Makes it, mode 0700, and what is above it. It may be there already. -1 with errno. */
int crash_dir_make(const char *path);

#endif
