#include "memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "object.h"
#include "smaps.h"

/* Bytes; 0: it could not be measured. */
static uint64_t measure(int pid)
{
    char path[64], text[2048];
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    ssize_t size = read(file, text, sizeof text - 1);
    close(file);
    if (size <= 0)
        return 0;
    text[size] = '\0';
    return smaps_private(text);
}

/* The reply is this process's own. */
static msgpack_object *find_entry(const msgpack_object *worker)
{
    for (uint32_t i = 0; worker->type == MSGPACK_OBJECT_MAP && i < worker->via.map.size; i++)
        if (object_is_text(&worker->via.map.ptr[i].key, "private"))
            return &worker->via.map.ptr[i].val;
    return NULL;
}

void memory_measure(const msgpack_object *workers)
{
    for (uint32_t i = 0; workers && i < workers->via.array.size; i++) {
        const msgpack_object *worker = &workers->via.array.ptr[i];
        msgpack_object *entry = find_entry(worker);
        double pid = 0;
        uint64_t bytes = entry && object_find_number(worker, "pid", &pid) ? measure((int)pid) : 0;
        if (bytes == 0)
            continue;
        entry->type = MSGPACK_OBJECT_POSITIVE_INTEGER;
        entry->via.u64 = bytes;
    }
}
