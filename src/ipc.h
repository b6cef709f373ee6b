/* Every message between the master and its children, over SOCK_SEQPACKET pairs. Descriptors travel inside a
 * message and nowhere else. Version rule: all processes of one master run one binary (/proc/self/exe), so
 * there is one version of this list. */
#ifndef IPC_H
#define IPC_H

#include <stdint.h>
#include <sys/types.h>

#define IPC_TEXT_SIZE       1024
#define IPC_MAX_DESCRIPTORS 3

enum ipc_type {
    /* forkserver to master */
    IPC_LOADED = 1,  /* text: the engine's name, version and build id, each terminated */
    IPC_PATH,        /* before it: text: the engine's file */
    IPC_METHODS,     /* before it: text: names of methods, each terminated; in the order of the table */
    IPC_LOAD_FAILED, /* text: why */
    IPC_FORK_FAILED, /* number; text: why */
    /* master to forkserver */
    IPC_FORK, /* number; flags; descriptors: IPC_FORK_CONTROL and so on */
    /* worker to master */
    IPC_HELLO,        /* the first message; the kernel names its sender */
    IPC_READY,        /* start() succeeded: it serves */
    IPC_START_FAILED, /* text: why */
    IPC_WANT,         /* claim: the descriptor of this slot, please; answered with GRANT or GONE */
    IPC_CLOSED,       /* claim: this connection is over, and out of the shared set */
    /* master to worker */
    IPC_GRANT, /* claim; descriptors: the connection */
    IPC_GONE,  /* claim: the slot has no such tenant any more */
    IPC_SERVE, /* to one that was born parked: serve */
};

enum {
    IPC_FORK_SELFTEST = 1, /* it runs the engine's self-test before it is ready */
    IPC_FORK_PARKED = 2,   /* it serves when it is told to */
};

enum { IPC_FORK_CONTROL, IPC_FORK_WORKSPACE, IPC_FORK_OUTPUT, IPC_FORK_DESCRIPTORS };

struct ipc_message {
    uint32_t type;   /* enum ipc_type */
    uint32_t number; /* of a worker */
    uint32_t flags;  /* IPC_FORK: IPC_FORK_SELFTEST and so on */
    uint64_t claim;  /* slot generation << 32 | slot */
    uint32_t text_size;
    char text[IPC_TEXT_SIZE]; /* received: always terminated */
    /* Not part of the bytes. */
    pid_t sender; /* received: as the kernel says, 0 without SO_PASSCRED */
    int descriptor_count;
    int descriptors[IPC_MAX_DESCRIPTORS]; /* received: CLOEXEC, owned by the receiver */
};

/* A connected pair, CLOEXEC. With `credentials` what [0] receives carries its sender's pid. */
int ipc_pair(int pair[2], int credentials);
/* Fills in the text; cut where long. */
void ipc_set_text(struct ipc_message *message, const char *text);
/* flags: 0 or MSG_DONTWAIT. Returns 0, or -1 with errno. */
int ipc_send(int socket, const struct ipc_message *message, int flags);
/* Returns 1; 0 at the end of file; -1 with errno. A message that lost its descriptors for lack of numbers, or
 * that is malformed, is EPROTO, with what came of them closed. */
int ipc_receive(int socket, struct ipc_message *message, int flags);
/* Closes what a message brought. */
void ipc_close_descriptors(struct ipc_message *message);

#endif
