#include "shared.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int shared_create(const char *name, size_t size)
{
    int memfd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (memfd < 0)
        return -1;
    if (ftruncate(memfd, (off_t)size) < 0 ||
        fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        int saved = errno;
        close(memfd);
        errno = saved;
        return -1;
    }
    return memfd;
}

void *shared_map(int memfd, size_t offset, size_t size, int resident)
{
    int flags = MAP_SHARED | (resident ? MAP_POPULATE : 0);
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, memfd, (off_t)offset);
    if (memory == MAP_FAILED)
        return NULL;
    if (madvise(memory, size, MADV_DONTFORK) < 0) {
        int saved = errno;
        munmap(memory, size);
        errno = saved;
        return NULL;
    }
    if (resident)
        (void)mlock(memory, size); /* RLIMIT_MEMLOCK may forbid it; without swap it makes no difference */
    return memory;
}

void *shared_publish(const char *name, size_t size, int *memfd)
{
    *memfd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*memfd < 0 || ftruncate(*memfd, (off_t)size) < 0)
        return NULL;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *memfd, 0);
    if (memory == MAP_FAILED ||
        fcntl(*memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0)
        return NULL;
    return memory;
}
