/* The files that a server stands behind: PATH (clients), PATH.ctl (admin), PATH.lock (one server a path). */
#ifndef LISTEN_H
#define LISTEN_H

#include <sys/types.h>

/* Ends the process where PATH, or PATH.ctl, is too long for a socket address. */
void listen_check_path(const char *path);
/* Takes PATH.lock for this process. Ends the process where another server holds it, saying who, or where it
 * cannot be made. */
int listen_lock(const char *path);
/* Removes the lock file, then gives the lock up. */
void listen_unlock(const char *path, int lock);
/* A non-blocking listening socket at path with that mode, from the first moment on. A socket file that nobody
 * listens on is taken over; anything else at path, and any other failure, is -1 after one log line. */
int listen_unix(const char *path, mode_t mode);
/* "PATH.suffix", never NULL; owned by the caller. */
char *listen_path_with(const char *path, const char *suffix);

#endif
