/* What the service manager is told (sd_notify(3)), without libsystemd: datagrams to NOTIFY_SOCKET. Never
 * blocks; what the socket has no room for is sent at the next notify_flush(). Without NOTIFY_SOCKET all of
 * this does nothing. For the master alone. */
#ifndef NOTIFY_H
#define NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and opens the socket. They stay in the environment. */
void notify_init(void);
/* Takes them out of a child's environment: they are meant for the master. */
void notify_forget(void);
bool notify_is_on(void);
/* Within which notify_alive() is to be called, ns; 0: not at all. */
uint64_t notify_watchdog(void);

/* READY=1: serving, at the start and after notify_reloading(). */
void notify_ready(void);
/* RELOADING=1, with the time, as Type=notify-reload wants it. */
void notify_reloading(void);
void notify_stopping(void);
/* WATCHDOG=1. */
void notify_alive(void);
/* STATUS=, one line of ASCII: other bytes become question marks, as a line that is not UTF-8 is ignored. Sent
 * when it is another than before, but not within a second of the last one. */
void notify_status(const char *line);
/* Sends what is due. To be called from time to time. */
void notify_flush(void);

#endif
