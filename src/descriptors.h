/* Where descriptors lie, in every process. Engines get the low numbers, as everybody does; cohab's own lie
 * above them, out of reach of loops that close "everything" up to 1023. */
#ifndef DESCRIPTORS_H
#define DESCRIPTORS_H

/* The master's own: listening sockets, control sockets, request buffers, admin connections: anywhere below
 * FD_OWN. */
enum {
    FD_OWN = 1024,
    FD_FORKSERVER = FD_OWN,     /* forkserver: its control socket; closed in workers */
    FD_SET,                     /* forkserver, worker: the shared epoll set */
    FD_SNAPSHOT,                /* forkserver: memory for one of itself; closed in workers */
    FD_QUARANTINE,              /* forkserver, worker: the table of requests to refuse */
    FD_HANDED_END,              /* the master hands a forkserver what comes before this */
    FD_CONTROL = FD_HANDED_END, /* worker: its control socket */
    FD_MAPS,                    /* forkserver, worker: its own /proc/self/maps */
    FD_MEMORY,                  /* worker: its own /proc/self/smaps_rollup */
    FD_BASE = FD_OWN + 16, /* FD_BASE + s: the connection in slot s, the same number in every process, as the
                              shared set  knows a registration by file and number */
};

/* A descriptor of this process in cohab's range that is not one of cohab's own: an engine's. -1 if there is
 * none. To be called before the process has any connection. */
int descriptors_find_foreign(void);

#endif
