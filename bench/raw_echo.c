/* The limit that calls are measured against: a process that reads a frame, writes it back when all of it has
 * come, and does nothing else.
 *
 *     raw_echo SOCKET [PROCESSES]        ends when it is killed
 *
 * A process serves one connection at a time, from accept to its end: for N busy connections start N processes
 * (1). They end with the first. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stream.h"

enum { PROCESSES_MAX = 1000 };

_Noreturn static void serve(int listener)
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

int main(int argc, char **argv)
{
    long processes = argc == 3 ? strtol(argv[2], NULL, 10) : 1;
    if (argc < 2 || argc > 3 || processes < 1 || processes > PROCESSES_MAX) {
        fputs("usage: raw_echo SOCKET [PROCESSES]\n", stderr);
        return 2;
    }
    int listener = stream_listen(argv[1], PROCESSES_MAX);
    for (long i = 1; i < processes; i++) {
        pid_t pid = fork();
        if (pid < 0)
            stream_fail("fork");
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            serve(listener);
        }
    }
    serve(listener);
}
