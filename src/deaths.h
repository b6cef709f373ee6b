/* Part of the master: what a worker that died leaves behind. Its claim is recovered (recovery.h decides, this
 * carries it out), its caller is answered, its death is logged and remembered. */
#ifndef DEATHS_H
#define DEATHS_H

#include <stdbool.h>
#include <stddef.h>

#include "master.h"
#include "reporter.h"

void deaths_init(struct master *master);
/* To be called once its process was reaped and its messages were read, before its row and buffer are given
 * up. peak: its most resident memory, bytes. Returns how many requests it had taken up. */
uint64_t deaths_take_over(struct seat *seat, int status, uint64_t peak);
/* Whether a row claims the slot, or a caller there waits for an answer of the master's. */
bool deaths_claimed(const struct master *master, uint32_t slot);
/* A worker that died before it served. */
void deaths_report_start(struct seat *seat, int status, uint64_t peak);
/* What the master knows of a worker and of the request that its row shows: of the job of a report. */
void deaths_fill_job(struct reporter_job *job, const struct seat *seat, const struct row_view *row);
/* "SIGSEGV", of the wait status of a process that was killed. Returns text. */
const char *deaths_signal_name(int status, char *text, size_t size);
/* "killed by SIGSEGV", "exited with code 3": a wait status for people. */
void deaths_describe_status(int status, char *text, size_t size);
/* Whether it was one of the signals that end a process from outside: SIGKILL or SIGTERM. */
bool deaths_was_killed(int status);

#endif
