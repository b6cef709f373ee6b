/* The work as plain functions of a shared library: called in-process by ctypes, and by the Python workers of
 * the pools that cohab is compared with. */
#include <stddef.h>
#include <string.h>

#include "work.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT void echo(const void *bytes, size_t size, void *copy);
EXPORT void spin(double seconds);
EXPORT void sleep_for(double seconds);
EXPORT void crash(void);

void echo(const void *bytes, size_t size, void *copy)
{
    memcpy(copy, bytes, size);
}

void spin(double seconds)
{
    work_spin(seconds);
}

void sleep_for(double seconds)
{
    work_sleep(seconds);
}

void crash(void)
{
    work_crash();
}
