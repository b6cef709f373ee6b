#include "ipc.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define HEADER_SIZE offsetof(struct ipc_message, text)

int ipc_pair(int pair[2], int credentials)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    if (credentials && setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &credentials, sizeof(credentials)) < 0) {
        close(pair[0]);
        close(pair[1]);
        return -1;
    }
    return 0;
}

void ipc_set_text(struct ipc_message *message, const char *text)
{
    size_t length = strnlen(text, IPC_TEXT_SIZE - 1);
    memcpy(message->text, text, length);
    message->text[length] = '\0';
    message->text_size = (uint32_t)length + 1;
}

int ipc_send(int socket, const struct ipc_message *message, int flags)
{
    union {
        char space[CMSG_SPACE(sizeof(int) * IPC_MAX_DESCRIPTORS)];
        struct cmsghdr align;
    } control = {0};
    struct iovec part = {.iov_base = (void *)message, .iov_len = HEADER_SIZE + message->text_size};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    if (message->descriptor_count > 0) {
        size_t size = sizeof(int) * (size_t)message->descriptor_count;
        header.msg_control = control.space;
        header.msg_controllen = CMSG_SPACE(size);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(size);
        memcpy(CMSG_DATA(rights), message->descriptors, size);
    }
    ssize_t sent;
    do
        sent = sendmsg(socket, &header, flags | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -1 : 0;
}

/* CMSG_SPACE rounds up: more may come than there is room for. Those are closed, and the message is malformed.
 * Returns whether all had room. */
static int take_descriptors(const struct cmsghdr *part, struct ipc_message *message)
{
    size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    int excess = 0;
    for (size_t i = 0; i < count; i++) {
        int descriptor;
        memcpy(&descriptor, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
        if (message->descriptor_count < IPC_MAX_DESCRIPTORS) {
            message->descriptors[message->descriptor_count++] = descriptor;
        } else {
            close(descriptor);
            excess = 1;
        }
    }
    return !excess;
}

static int take_ancillary(struct msghdr *header, struct ipc_message *message)
{
    int fits = 1;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
        if (part->cmsg_level != SOL_SOCKET)
            continue;
        if (part->cmsg_type == SCM_CREDENTIALS) {
            struct ucred sender;
            memcpy(&sender, CMSG_DATA(part), sizeof(sender));
            message->sender = sender.pid;
        }
        if (part->cmsg_type == SCM_RIGHTS)
            fits &= take_descriptors(part, message);
    }
    return fits;
}

void ipc_close_descriptors(struct ipc_message *message)
{
    for (int i = 0; i < message->descriptor_count; i++)
        close(message->descriptors[i]);
    message->descriptor_count = 0;
}

static int malformed(struct ipc_message *message)
{
    ipc_close_descriptors(message);
    errno = EPROTO;
    return -1;
}

int ipc_receive(int socket, struct ipc_message *message, int flags)
{
    union {
        char space[CMSG_SPACE(sizeof(int) * IPC_MAX_DESCRIPTORS) + CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr align;
    } control;
    struct iovec part = {.iov_base = message, .iov_len = HEADER_SIZE + IPC_TEXT_SIZE};
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.space,
                            .msg_controllen = sizeof(control.space)};
    message->sender = 0;
    message->descriptor_count = 0;
    ssize_t received;
    do
        received = recvmsg(socket, &header, flags | MSG_CMSG_CLOEXEC);
    while (received < 0 && errno == EINTR);
    if (received < 0)
        return -1;
    int fits = take_ancillary(&header, message);
    if (received == 0 && message->descriptor_count == 0 && message->sender == 0)
        return 0;
    if (!fits || header.msg_flags & (MSG_CTRUNC | MSG_TRUNC) || (size_t)received < HEADER_SIZE ||
        message->text_size != (size_t)received - HEADER_SIZE)
        return malformed(message);
    message->text[message->text_size ? message->text_size - 1 : 0] = '\0';
    return 1;
}
