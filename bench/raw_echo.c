/* The limit that calls are measured against: a process that reads a frame, writes it back when all of it has
 * come, and does nothing else.
 *
 *     raw_echo SOCKET [PROCESSES [CONNECTIONS]]        ends when it is killed
 *
 * Each of the processes (1) serves so many connections at a time (1), from accept to their end: with one it
 * waits in recv(), with more in epoll_wait(). They end with the first process. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stream.h"

enum { COUNT_MAX = 1000, EVENTS = 16 };

_Noreturn static void serve_one(int listener)
{
    struct stream_buffer buffer = {0};
    for (;;) {
        int connection = accept(listener, NULL, NULL);
        if (connection < 0)
            stream_fail("accept");
        size_t size;
        while ((size = stream_receive(connection, &buffer)) > 0 &&
               stream_send(connection, buffer.bytes, size))
            ;
        close(connection);
    }
}

static void watch(int set, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) < 0)
        stream_fail("epoll_ctl");
}

/* Accepts no more than `most`, so that connections are spread evenly over the processes. */
_Noreturn static void serve_several(int listener, long most)
{
    struct stream_buffer buffer = {0};
    struct epoll_event events[EVENTS];
    long open = 0;
    int set = epoll_create1(EPOLL_CLOEXEC);
    if (set < 0 || fcntl(listener, F_SETFL, O_NONBLOCK) < 0)
        stream_fail("epoll");
    watch(set, listener);
    for (;;) {
        int count = epoll_wait(set, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd, connection;
            size_t size;
            if (fd == listener) {
                if ((connection = accept(listener, NULL, NULL)) < 0)
                    continue; /* another process was faster */
                watch(set, connection);
                if (++open == most)
                    epoll_ctl(set, EPOLL_CTL_DEL, listener, NULL);
            } else if ((size = stream_receive(fd, &buffer)) == 0 || !stream_send(fd, buffer.bytes, size)) {
                close(fd);
                if (open-- == most)
                    watch(set, listener);
            }
        }
    }
}

_Noreturn static void serve(int listener, long connections)
{
    if (connections == 1)
        serve_one(listener);
    serve_several(listener, connections);
}

/* Argument number `at`; 1 if there is none. */
static long parse_count(int argc, char **argv, int at)
{
    long count = argc > at ? strtol(argv[at], NULL, 10) : 1;
    if (argc < 2 || argc > 4 || count < 1 || count > COUNT_MAX) {
        fputs("usage: raw_echo SOCKET [PROCESSES [CONNECTIONS]]\n", stderr);
        exit(2);
    }
    return count;
}

int main(int argc, char **argv)
{
    long processes = parse_count(argc, argv, 2), connections = parse_count(argc, argv, 3);
    int listener = stream_listen(argv[1], COUNT_MAX);
    for (long i = 1; i < processes; i++) {
        pid_t pid = fork();
        if (pid < 0)
            stream_fail("fork");
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            serve(listener, connections);
        }
    }
    serve(listener, connections);
}
