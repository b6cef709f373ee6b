/* To be preloaded: a worker that has re-armed its connection dies before its row says so, as by kill -9 at
 * the worst moment; once, when the file $KILL_AFTER_REARM exists. Removes it. */
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

int epoll_ctl(int set, int operation, int descriptor, struct epoll_event *event)
{
    int (*next)(int, int, int, struct epoll_event *) = dlsym(RTLD_NEXT, "epoll_ctl");
    int result = next(set, operation, descriptor, event);
    const char *file = getenv("KILL_AFTER_REARM");
    if (operation == EPOLL_CTL_MOD && file && unlink(file) == 0) {
        usleep(100000); /* another worker has claimed the next request by then */
        kill(getpid(), SIGKILL);
    }
    return result;
}
