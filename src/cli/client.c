#include "client.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <linux/sockios.h>

#include "check.h"
#include "clock.h"
#include "frame.h"
#include "object.h"

#define REPLY_MAX   (UINT32_C(1) << 30)
#define FIRST_CHUNK (UINT32_C(64) << 10)
/* Containers that msgpack-c's parser can hold inside one another; the response itself is one of them. */
#define PARSER_DEPTH 32
#define RETRY_PAUSE  (10 * CLIENT_SECOND / 1000)

uint64_t client_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * CLIENT_SECOND + (uint64_t)now.tv_nsec;
}

uint64_t client_after(double seconds)
{
    double bounded = seconds < 1e9 ? seconds : 1e9;

    return client_now() + (uint64_t)(bounded * (double)CLIENT_SECOND);
}

static struct timespec time_left(uint64_t until)
{
    uint64_t now = client_now();
    uint64_t left = until > now ? until - now : 0;

    return (struct timespec){.tv_sec = (time_t)(left / CLIENT_SECOND),
                             .tv_nsec = (long)(left % CLIENT_SECOND)};
}

void client_close(struct client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
}

static int fail(struct client *client, enum client_trouble trouble, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(struct client *client, enum client_trouble trouble, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(client->text, sizeof client->text, format, arguments);
    va_end(arguments);
    client->trouble = trouble;
    client_close(client);
    return -1;
}

/* --- connecting --- */

static bool is_no_socket(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && !S_ISSOCK(status.st_mode);
}

static const char *explain_refusal(int error, bool admin)
{
    switch (error) {
    case ENOENT:
        return "no such file";
    case ENOTSOCK:
        return "not a socket";
    case ECONNREFUSED:
        return "nobody listens on it";
    case EAGAIN:
        return "its queue of new connections is full; is cohabd stuck or stopped?";
    case EACCES:
        return admin ? "permission denied; only the user who runs cohabd (and root) may do this"
                     : "permission denied; only the socket's owner and group may connect";
    default:
        return strerror(error);
    }
}

static int fail_to_connect(struct client *client, int error, const char *path, const char *socket_path,
                           bool admin)
{
    if (error == ECONNREFUSED && is_no_socket(path))
        error = ENOTSOCK;
    fail(client, CLIENT_UNREACHABLE, "cannot connect to %s: %s", path, explain_refusal(error, admin));
    if (error == ENOENT || error == ECONNREFUSED) {
        size_t length = strlen(client->text);
        snprintf(client->text + length, sizeof client->text - length, "; is cohabd running with --socket %s?",
                 socket_path);
    }
    return -1;
}

/* A blocking connect() waits for room in the listener's queue as long as SO_SNDTIMEO says, where the
 * kernel honours it; elsewhere it says EAGAIN at once. */
static int connect_once(int fd, const struct sockaddr_un *address, uint64_t give_up)
{
    struct timespec left = time_left(give_up);
    struct timeval limit = {.tv_sec = left.tv_sec, .tv_usec = left.tv_nsec / 1000 + 1};

    if (limit.tv_usec == 1000000)
        limit = (struct timeval){.tv_sec = left.tv_sec + 1};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    return connect(fd, (const struct sockaddr *)address, sizeof *address);
}

static int connect_until(int fd, const struct sockaddr_un *address, uint64_t give_up)
{
    while (connect_once(fd, address, give_up) < 0) {
        if (errno != EAGAIN && errno != EINTR)
            return -1;
        if (client_now() >= give_up) {
            errno = EAGAIN;
            return -1;
        }
        if (errno == EAGAIN)
            nanosleep(&(struct timespec){.tv_nsec = RETRY_PAUSE}, NULL);
    }
    return 0;
}

int client_connect(struct client *client, const char *socket_path, bool admin, uint64_t give_up)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    *client = (struct client){.fd = -1, .admin = admin};
    int length = snprintf(address.sun_path, sizeof address.sun_path, "%s%s", socket_path,
                          admin ? CLIENT_ADMIN_SUFFIX : "");
    if (length < 0 || (size_t)length >= sizeof address.sun_path)
        return fail_to_connect(client, ENAMETOOLONG, socket_path, socket_path, admin);
    client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        return fail(client, CLIENT_EXHAUSTED, "cannot make a socket: %s", strerror(errno));
    if (connect_until(client->fd, &address, give_up) < 0)
        return fail_to_connect(client, errno, address.sun_path, socket_path, admin);
    return 0;
}

/* --- moving bytes --- */

/* What moving some bytes came to, apart from trouble (-1). */
enum { MOVED_ALL, MOVED_SOME };

/* Whether a part of what was sent lies in the server's end of the socket, read by nobody (unix(7)). */
static bool is_unread(const struct client *client)
{
    int unread = 0;
    return ioctl(client->fd, SIOCOUTQ, &unread) == 0 && unread > 0;
}

/* At the deadline a request that no worker has read is given up at once: whoever reads it later sees that its
 * time is over. */
static int give_up_late(struct client *client)
{
    if (!is_unread(client))
        return fail(client, CLIENT_LATE, "no answer in time; is cohabd stuck or stopped?");
    return fail(client, CLIENT_LATE, "%s",
                client->admin ? "cohabd has not read the request; is it stuck or stopped?"
                              : "no worker took the request in time; are all busy, or "
                                "is cohabd stopped? See cohab status");
}

/* Waits until the socket is ready for `events`. Whether it is an end or an error that made it ready shows
 * in the next call. */
static int wait_ready(struct client *client, short events, uint64_t give_up)
{
    for (;;) {
        struct pollfd entry = {.fd = client->fd, .events = events};
        uint64_t now = client_now();
        bool early = now < client->deadline && client->deadline < give_up;
        struct timespec left = time_left(early ? client->deadline : give_up);
        int ready = ppoll(&entry, 1, &left, NULL);
        if (ready > 0)
            return 0;
        if (ready == 0 && (!early || is_unread(client)))
            return give_up_late(client);
        if (ready < 0 && errno != EINTR)
            return fail(client, CLIENT_EXHAUSTED, "cannot wait: %s", strerror(errno));
    }
}

/* MOVED_SOME: the server closed the connection. It may have said why, so this is no trouble yet. */
static int send_bytes(struct client *client, const char *bytes, size_t size, uint64_t give_up)
{
    while (size > 0) {
        ssize_t sent = send(client->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0) {
            bytes += sent;
            size -= (size_t)sent;
        } else if (errno == EAGAIN) {
            if (wait_ready(client, POLLOUT, give_up) < 0)
                return -1;
        } else if (errno == EPIPE || errno == ECONNRESET) {
            return MOVED_SOME;
        } else if (errno != EINTR) {
            return fail(client, CLIENT_LOST, "cannot send: %s", strerror(errno));
        }
    }
    return MOVED_ALL;
}

/* MOVED_SOME: the server closed the connection after *received of the bytes. */
static int receive_bytes(struct client *client, unsigned char *bytes, size_t size, uint64_t give_up,
                         size_t *received)
{
    *received = 0;
    while (*received < size) {
        ssize_t got = recv(client->fd, bytes + *received, size - *received, MSG_DONTWAIT);
        if (got > 0) {
            *received += (size_t)got;
        } else if (got == 0 || errno == ECONNRESET) {
            return MOVED_SOME;
        } else if (errno == EAGAIN) {
            if (wait_ready(client, POLLIN, give_up) < 0)
                return -1;
        } else if (errno != EINTR) {
            return fail(client, CLIENT_LOST, "cannot receive: %s", strerror(errno));
        }
    }
    return MOVED_ALL;
}

/* --- a call --- */

static void pack_request(msgpack_sbuffer *frame, uint32_t msgid, const struct client_request *request)
{
    static const char deadline_key[] = "deadline", sent_key[] = "sent";
    msgpack_packer packer;

    object_packer_init(&packer, frame);
    packer.callback(frame, (const char[FRAME_HEADER_SIZE]){0}, FRAME_HEADER_SIZE);
    msgpack_pack_array(&packer, 5);
    msgpack_pack_int(&packer, 0);
    msgpack_pack_uint32(&packer, msgid);
    object_pack_text(&packer, request->method, strlen(request->method));
    if (request->params)
        packer.callback(frame, request->params->data, request->params->size);
    else
        msgpack_pack_array(&packer, 0);
    msgpack_pack_map(&packer, 2);
    object_pack_text(&packer, deadline_key, sizeof deadline_key - 1);
    msgpack_pack_uint64(&packer, request->deadline);
    object_pack_text(&packer, sent_key, sizeof sent_key - 1);
    msgpack_pack_uint64(&packer, clock_now());
}

static int send_request(struct client *client, const struct client_request *request)
{
    msgpack_sbuffer frame;
    int moved;

    msgpack_sbuffer_init(&frame);
    pack_request(&frame, client->msgid, request);
    if (frame.size - FRAME_HEADER_SIZE > FRAME_MAX_LIMIT) {
        moved = fail(client, CLIENT_EXHAUSTED, "the parameters take %zu bytes; a frame has at most %u",
                     frame.size, FRAME_MAX_LIMIT);
    } else {
        frame_put_length((unsigned char *)frame.data, (uint32_t)(frame.size - FRAME_HEADER_SIZE));
        moved = send_bytes(client, frame.data, frame.size, request->give_up);
    }
    msgpack_sbuffer_destroy(&frame);
    return moved;
}

/* Memory grows with the bytes that come: a length word is only a claim. */
static int receive_body(struct client *client, uint64_t give_up, struct client_reply *reply)
{
    size_t received = 0;
    size_t room = 0;

    while (received < reply->size) {
        room = room == 0 ? FIRST_CHUNK : room * 2;
        room = room < reply->size ? room : reply->size;
        unsigned char *grown = realloc(reply->body, room);
        if (!grown)
            return fail(client, CLIENT_EXHAUSTED, "out of memory for an answer of %u bytes", reply->size);
        reply->body = grown;
        size_t part;
        int moved = receive_bytes(client, grown + received, room - received, give_up, &part);
        received += part;
        if (moved == MOVED_SOME)
            return fail(client, CLIENT_LOST,
                        "the server closed the connection in the middle of its answer (%zu of %u bytes); "
                        "the call may have run",
                        received, reply->size);
        if (moved < 0)
            return -1;
    }
    return 0;
}

static int receive_reply(struct client *client, bool all_sent, uint64_t give_up, struct client_reply *reply)
{
    unsigned char header[FRAME_HEADER_SIZE];
    size_t received;
    int moved = receive_bytes(client, header, sizeof header, give_up, &received);

    if (moved < 0)
        return -1;
    if (moved == MOVED_SOME && !all_sent)
        return fail(client, CLIENT_LOST, "the server closed the connection before it had the whole request");
    if (moved == MOVED_SOME)
        return fail(client, CLIENT_LOST,
                    "the server closed the connection without an answer; the call may have run");
    reply->size = frame_get_length(header);
    if (reply->size == 0 || reply->size > REPLY_MAX)
        return fail(client, CLIENT_CONFUSED, "the answer claims to have %u bytes; is this a cohab server?",
                    reply->size);
    return receive_body(client, give_up, reply);
}

static int unpack_reply(struct client *client, struct client_reply *reply)
{
    size_t end = 0;
    enum check_result checked = check_value(reply->body, reply->size, PARSER_DEPTH, &end);

    if (checked == CHECK_TOO_DEEP)
        return fail(client, CLIENT_CONFUSED,
                    "the answer is nested deeper than %d levels, more than this tool can show",
                    PARSER_DEPTH - 1);
    if (checked != CHECK_OK || end != reply->size)
        return fail(client, CLIENT_CONFUSED, "the answer (%u bytes) is not one msgpack value", reply->size);
    size_t offset = 0;
    switch (msgpack_unpack_next(&reply->tree, (const char *)reply->body, reply->size, &offset)) {
    case MSGPACK_UNPACK_SUCCESS:
        return 0;
    case MSGPACK_UNPACK_NOMEM_ERROR:
        return fail(client, CLIENT_EXHAUSTED, "out of memory for an answer of %u bytes", reply->size);
    default:
        return fail(client, CLIENT_CONFUSED, "the answer (%u bytes) cannot be unpacked", reply->size);
    }
}

static int read_response(struct client *client, struct client_reply *reply)
{
    const msgpack_object *root = &reply->tree.data;

    if (root->type != MSGPACK_OBJECT_ARRAY || root->via.array.size != 4)
        return fail(client, CLIENT_CONFUSED, "the answer is not a response");
    const msgpack_object *part = root->via.array.ptr;
    if (part[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER || part[0].via.u64 != 1 ||
        (part[2].type != MSGPACK_OBJECT_NIL && part[2].type != MSGPACK_OBJECT_MAP))
        return fail(client, CLIENT_CONFUSED, "the answer is not a response");
    bool connection_error = part[1].type == MSGPACK_OBJECT_NIL && part[2].type == MSGPACK_OBJECT_MAP;
    bool mine = part[1].type == MSGPACK_OBJECT_POSITIVE_INTEGER && part[1].via.u64 == client->msgid;
    if (!connection_error && !mine)
        return fail(client, CLIENT_CONFUSED, "the answer is to another request");
    reply->error = part[2].type == MSGPACK_OBJECT_MAP ? &part[2] : NULL;
    reply->result = &part[3];
    return 0;
}

int client_call(struct client *client, const struct client_request *request, struct client_reply *reply)
{
    *reply = (struct client_reply){0};
    msgpack_unpacked_init(&reply->tree);
    client->msgid++;
    client->deadline = request->deadline;
    int sent = send_request(client, request);
    if (sent < 0 || receive_reply(client, sent == MOVED_ALL, request->give_up, reply) < 0 ||
        unpack_reply(client, reply) < 0)
        return -1;
    return read_response(client, reply);
}

void client_wait_closed(struct client *client)
{
    char ignored[256];
    ssize_t got;

    do
        got = recv(client->fd, ignored, sizeof ignored, 0);
    while (got > 0 || (got < 0 && errno == EINTR));
    client_close(client);
}

void client_free_reply(struct client_reply *reply)
{
    msgpack_unpacked_destroy(&reply->tree);
    free(reply->body);
}
