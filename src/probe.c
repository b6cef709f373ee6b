#include "probe.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "log.h"

/* 1: the kernel behaves; 0: it does not; -1: it could not be found out, errno says why. */
static int probe_epoll(int set, int event, void *forbidden)
{
    struct epoll_event interest = {.events = EPOLLIN | EPOLLONESHOT}, claimed;
    if (epoll_ctl(set, EPOLL_CTL_ADD, event, &interest) < 0)
        return -1;
    if (epoll_wait(set, forbidden, 1, 0) != -1 || errno != EFAULT)
        return 0;
    int left = epoll_wait(set, &claimed, 1, 0);
    return left < 0 ? -1 : left == 1;
}

void probe_kernel(void)
{
    int set = epoll_create1(EPOLL_CLOEXEC);
    int event = eventfd(1, EFD_CLOEXEC);
    void *forbidden = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (set < 0 || event < 0 || forbidden == MAP_FAILED)
        fatal("cannot probe the kernel: %m");
    int verdict = probe_epoll(set, event, forbidden);
    if (verdict < 0)
        fatal("cannot probe the kernel: %m");
    if (verdict == 0)
        fatal("this kernel loses an event when epoll_wait fails (as gVisor does): a request could be lost "
              "with its "
              "worker, so cohab does not run here; it needs Linux 5.10 or later");
    munmap(forbidden, 4096);
    close(event);
    close(set);
}
