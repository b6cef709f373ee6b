/* Part of the master: what a worker that died leaves behind. Its claim is recovered (recovery.h decides, this
 * carries it out), its caller is answered, its death is logged and remembered. */
#ifndef DEATHS_H
#define DEATHS_H

#include <stdbool.h>
#include <stddef.h>

#include "master.h"

void deaths_init(struct master *master);
/* To be called once its process was reaped and its messages were read, before its row and buffer are given
 * up. Returns how many requests it had taken up. */
uint64_t deaths_take_over(struct seat *seat, int status);
/* "killed by SIGSEGV", "exited with code 3": a wait status for people. */
void deaths_describe_status(int status, char *text, size_t size);
/* Whether it was one of the signals that end a process from outside: SIGKILL or SIGTERM. */
bool deaths_was_killed(int status);

#endif
