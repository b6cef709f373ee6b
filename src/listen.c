#include "listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"

char *listen_path_with(const char *path, const char *suffix)
{
    char *joined;
    if (asprintf(&joined, "%s%s", path, suffix) < 0)
        fatal("out of memory");
    return joined;
}

#define TELL_FAILED(socket, ...)                                                                             \
    log_event(LOG_ERROR, "listen_failed", LOG_FIELDS(.path = (socket)), __VA_ARGS__)
#define NOT_A_SOCKET "%s exists and is not a socket: remove it, or choose another --socket"

/* --- the lock --- */

_Noreturn static void fail_held(const char *path, int lock)
{
    char text[32] = "";
    ssize_t size = pread(lock, text, sizeof(text) - 1, 0);
    long pid = size > 0 ? strtol(text, NULL, 10) : 0;
    if (pid > 0)
        fatal("another cohabd (pid %ld) serves %s; stop it first (cohab --socket %s stop)", pid, path, path);
    fatal("another cohabd is starting on %s", path);
}

/* The holder removes the file before it gives the lock up: a lock on a file that is no longer there counts
 * for nothing. */
static int still_there(const char *name, int lock)
{
    struct stat held, named;
    return fstat(lock, &held) == 0 && stat(name, &named) == 0 && held.st_dev == named.st_dev &&
           held.st_ino == named.st_ino;
}

static void write_pid(const char *name, int lock)
{
    char text[32];
    int size = snprintf(text, sizeof(text), "%d\n", (int)getpid());
    if (ftruncate(lock, 0) < 0 || pwrite(lock, text, (size_t)size, 0) != size)
        fatal("cannot write %s: %m", name);
}

int listen_lock(const char *path)
{
    char *name = listen_path_with(path, ".lock");
    for (;;) {
        int lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (lock < 0)
            fatal("cannot create %s: %m", name);
        if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
            if (errno != EWOULDBLOCK)
                fatal("cannot lock %s: %m", name);
            fail_held(path, lock);
        }
        if (still_there(name, lock)) {
            write_pid(name, lock);
            free(name);
            return lock;
        }
        close(lock);
    }
}

void listen_unlock(const char *path, int lock)
{
    char *name = listen_path_with(path, ".lock");
    (void)unlink(name); /* gone already: nothing to do */
    close(lock);
    free(name);
}

/* --- the socket --- */

void listen_check_path(const char *path)
{
    size_t most = sizeof(((struct sockaddr_un *)0)->sun_path) - 1 - strlen(".ctl");
    if (strlen(path) > most)
        fatal("the socket path %s has %zu bytes; at most %zu leave room for the admin socket's", path,
              strlen(path), most);
    struct stat status;
    if (lstat(path, &status) == 0 &&
        !S_ISSOCK(status.st_mode)) /* before the engine is loaded, which may take long */
        fatal(NOT_A_SOCKET, path);
}

/* Whether somebody listens there, who is not a cohabd: that one would hold the lock. */
static int somebody_listens(const struct sockaddr_un *address)
{
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return -1;
    /* Anything but a refusal: a socket of another type, or of another user, may be alive. */
    int listens =
        connect(probe, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno != ECONNREFUSED;
    close(probe);
    return listens;
}

static int remove_stale(const char *path, const struct sockaddr_un *address)
{
    struct stat status;
    if (lstat(path, &status) < 0) {
        if (errno == ENOENT)
            return 0;
        TELL_FAILED(path, "cannot look at %s: %m", path);
        return -1;
    }
    if (!S_ISSOCK(status.st_mode)) {
        TELL_FAILED(path, NOT_A_SOCKET, path);
        return -1;
    }
    int listens = somebody_listens(address);
    if (listens != 0) {
        if (listens < 0)
            TELL_FAILED(path, "cannot look who listens on %s: %m", path);
        else
            TELL_FAILED(path, "another program listens on %s: stop it, or choose another --socket", path);
        return -1;
    }
    if (unlink(path) < 0 && errno != ENOENT) {
        TELL_FAILED(path, "cannot remove the stale socket %s: %m", path);
        return -1;
    }
    return 0;
}

static int bind_with_mode(int listener, const struct sockaddr_un *address, mode_t mode)
{
    mode_t before = umask(0777 & ~mode);
    int result = bind(listener, (const struct sockaddr *)address, sizeof(*address));
    umask(before);
    return result;
}

int listen_unix(const char *path, mode_t mode)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof(address.sun_path) - 1); /* listen_check_path(): it fits */
    if (remove_stale(path, &address) < 0)
        return -1;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener >= 0 && bind_with_mode(listener, &address, mode) == 0 && listen(listener, SOMAXCONN) == 0)
        return listener;
    TELL_FAILED(path, "cannot listen on %s: %m", path);
    if (listener >= 0)
        close(listener);
    return -1;
}
