#include "notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"

#define STATUS_SIZE  256
#define STATUS_PAUSE CLOCK_NS_PER_S

static struct {
    int socket;
    struct sockaddr_un address;
    socklen_t address_size;
    uint64_t watchdog; /* ns */
    bool complained;
    /* Not sent yet. Of several at a time the order is this one: it is right whatever has come first. */
    uint64_t reloading; /* CLOCK_MONOTONIC, us; 0: not due */
    bool ready;
    bool stopping;
    bool stops; /* no other state follows */
    bool alive;
    char status[STATUS_SIZE];
    char status_sent[STATUS_SIZE];
    uint64_t status_at;
} state = {.socket = -1};

static uint64_t read_watchdog(void)
{
    const char *period = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    if (!period || (pid && strtol(pid, NULL, 10) != getpid()))
        return 0;
    return strtoull(period, NULL, 10) * 1000;
}

void notify_init(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    size_t length = path ? strlen(path) : 0;
    if (length == 0)
        return;
    if ((*path != '/' && *path != '@') || length >= sizeof(state.address.sun_path)) {
        log_event(LOG_WARN, "notify_failed", NULL, "NOTIFY_SOCKET is %s: neither a path nor @NAME; ignored",
                  path);
        return;
    }
    state.address.sun_family = AF_UNIX;
    memcpy(state.address.sun_path, path, length);
    if (*path == '@') /* abstract */
        state.address.sun_path[0] = '\0';
    state.address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    state.socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (state.socket < 0)
        fatal("cannot create a socket for NOTIFY_SOCKET: %m");
    state.watchdog = read_watchdog();
}

void notify_forget(void)
{
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

bool notify_is_on(void)
{
    return state.socket >= 0;
}

uint64_t notify_watchdog(void)
{
    return state.watchdog;
}

/* Whether it is settled: sent, or of no use to try again. */
static bool send_text(const char *text)
{
    ssize_t sent = sendto(state.socket, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL,
                          (const struct sockaddr *)&state.address, state.address_size);
    if (sent >= 0) {
        state.complained = false;
        return true;
    }
    if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS && !state.complained) {
        state.complained = true;
        log_event(LOG_WARN, "notify_failed", NULL, "cannot tell the service manager (NOTIFY_SOCKET): %m");
    }
    return false;
}

static void flush_status(uint64_t now)
{
    char text[STATUS_SIZE + sizeof("STATUS=")];
    bool recent = state.status_at != 0 && now - state.status_at < STATUS_PAUSE;
    if (recent || strcmp(state.status, state.status_sent) == 0)
        return;
    snprintf(text, sizeof(text), "STATUS=%s", state.status);
    if (!send_text(text))
        return;
    memcpy(state.status_sent, state.status, sizeof(state.status));
    state.status_at = now;
}

void notify_flush(void)
{
    char text[64];
    if (state.socket < 0)
        return;
    snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, state.reloading);
    if (state.reloading && send_text(text))
        state.reloading = 0;
    if (state.ready && !state.reloading && send_text("READY=1"))
        state.ready = false;
    if (state.stopping && !state.ready && send_text("STOPPING=1"))
        state.stopping = false;
    if (state.alive && send_text("WATCHDOG=1"))
        state.alive = false;
    flush_status(clock_now());
}

void notify_ready(void)
{
    state.ready = !state.stops;
    notify_flush();
}

void notify_reloading(void)
{
    state.reloading = state.stops ? 0 : clock_now() / 1000;
    state.ready = false; /* there will be another one */
    notify_flush();
}

void notify_stopping(void)
{
    state.stopping |= !state.stops;
    state.stops = true;
    notify_flush();
}

void notify_alive(void)
{
    state.alive = true;
    notify_flush();
}

void notify_status(const char *line)
{
    snprintf(state.status, sizeof(state.status), "%s", line);
    for (char *c = state.status; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    notify_flush();
}
