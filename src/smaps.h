/* PURE. Reads /proc/PID/smaps_rollup. */
#ifndef SMAPS_H
#define SMAPS_H

#include <stdint.h>

/* Sum of its Private_ lines, bytes: memory that no other process shares. */
uint64_t smaps_private(const char *text);

#endif
