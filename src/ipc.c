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

static void take_ancillary(struct msghdr *header, struct ipc_message *message)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
        if (part->cmsg_level != SOL_SOCKET)
            continue;
        if (part->cmsg_type == SCM_CREDENTIALS) {
            struct ucred sender;
            memcpy(&sender, CMSG_DATA(part), sizeof(sender));
            message->sender = sender.pid;
        }
        if (part->cmsg_type == SCM_RIGHTS) {
            size_t size = part->cmsg_len - CMSG_LEN(0);
            memcpy(message->descriptors, CMSG_DATA(part), size);
            message->descriptor_count = (int)(size / sizeof(int));
        }
    }
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
    if (received <= 0)
        return (int)received;
    take_ancillary(&header, message);
    if (header.msg_flags & (MSG_CTRUNC | MSG_TRUNC) || (size_t)received < HEADER_SIZE ||
        message->text_size != (size_t)received - HEADER_SIZE)
        return malformed(message);
    if (message->text_size)
        message->text[message->text_size - 1] = '\0';
    return 1;
}
