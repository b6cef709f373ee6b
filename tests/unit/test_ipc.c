#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc.h"
#include "random.h"

#define HEADER_SIZE      offsetof(struct ipc_message, text)
#define MOST_DESCRIPTORS 32

/* --- a pair, and a pipe whose write end travels: the read end tells when the last copy is closed --- */

struct fixture {
    int pair[2]; /* [0] is the master's: with credentials, where asked for */
    int pipe[2];
};

static void set_up(struct fixture *fixture, int credentials)
{
    assert_int_equal(ipc_pair(fixture->pair, credentials), 0);
    assert_int_equal(pipe2(fixture->pipe, O_CLOEXEC | O_NONBLOCK), 0);
}

static void tear_down(struct fixture *fixture)
{
    for (int i = 0; i < 2; i++) {
        close(fixture->pair[i]);
        if (fixture->pipe[i] >= 0)
            close(fixture->pipe[i]);
    }
}

/* That no copy of the pipe's write end is open any more: neither the test's, which this closes, nor one that
 * came with a message. */
static void assert_nothing_kept(struct fixture *fixture)
{
    char byte;
    close(fixture->pipe[1]);
    fixture->pipe[1] = -1;
    assert_int_equal(read(fixture->pipe[0], &byte, 1), 0);
    close(fixture->pipe[0]);
    assert_int_equal(pipe2(fixture->pipe, O_CLOEXEC | O_NONBLOCK), 0);
}

/* Sends bytes as they are, with copies of a descriptor. */
static void send_raw(int socket, const void *bytes, size_t size, int descriptor, unsigned copies)
{
    union {
        char space[CMSG_SPACE(sizeof(int) * MOST_DESCRIPTORS)];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    if (copies > 0) {
        header.msg_control = control.space;
        header.msg_controllen = CMSG_SPACE(sizeof(int) * copies);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int) * copies);
        for (unsigned i = 0; i < copies; i++)
            memcpy(CMSG_DATA(rights) + i * sizeof(int), &descriptor, sizeof(int));
    }
    assert_int_equal(sendmsg(socket, &header, MSG_NOSIGNAL), size);
}

/* Receives into a message with room behind it, which must stay as it is. */
static int receive(int socket, struct ipc_message *message)
{
    struct {
        struct ipc_message message;
        unsigned char guard[4 * MOST_DESCRIPTORS];
    } guarded;
    memset(&guarded, 0xa5, sizeof(guarded));
    int result = ipc_receive(socket, &guarded.message, MSG_DONTWAIT);
    int saved = errno;
    for (size_t i = 0; i < sizeof(guarded.guard); i++)
        assert_int_equal(guarded.guard[i], 0xa5);
    *message = guarded.message;
    errno = saved;
    return result;
}

static void assert_refused(struct fixture *fixture)
{
    struct ipc_message message;
    errno = 0;
    assert_int_equal(receive(fixture->pair[0], &message), -1);
    assert_int_equal(errno, EPROTO);
    assert_int_equal(message.descriptor_count, 0);
    assert_nothing_kept(fixture);
}

/* --- what goes right --- */

static void test_pairs_are_not_inherited(void **state)
{
    (void)state;
    struct fixture fixture;
    set_up(&fixture, 0);
    for (int i = 0; i < 2; i++) {
        int type = 0;
        socklen_t size = sizeof(type);
        assert_int_equal(fcntl(fixture.pair[i], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        assert_int_equal(getsockopt(fixture.pair[i], SOL_SOCKET, SO_TYPE, &type, &size), 0);
        assert_int_equal(type, SOCK_SEQPACKET);
    }
    tear_down(&fixture);
}

static void test_fields_arrive_both_ways(void **state)
{
    (void)state;
    struct fixture fixture;
    set_up(&fixture, 0);
    for (int from = 0; from < 2; from++) {
        struct ipc_message got,
            sent = {.type = IPC_WANT, .number = 17, .claim = UINT64_C(0xfedcba9876543210)};
        assert_int_equal(ipc_send(fixture.pair[from], &sent, 0), 0);
        assert_int_equal(receive(fixture.pair[!from], &got), 1);
        assert_int_equal(got.type, IPC_WANT);
        assert_int_equal(got.number, 17);
        assert_int_equal(got.claim, UINT64_C(0xfedcba9876543210));
        assert_int_equal(got.text_size, 0);
        assert_string_equal(got.text, "");
        assert_int_equal(got.descriptor_count, 0);
        assert_int_equal(got.sender, 0);
    }
    tear_down(&fixture);
}

static void test_the_kernel_names_the_sender(void **state)
{
    (void)state;
    struct fixture fixture;
    set_up(&fixture, 1);
    struct ipc_message got, sent = {.type = IPC_HELLO, .sender = 1};
    assert_int_equal(ipc_send(fixture.pair[1], &sent, 0), 0);
    assert_int_equal(receive(fixture.pair[0], &got), 1);
    assert_int_equal(got.sender, getpid());
    assert_int_equal(ipc_send(fixture.pair[0], &sent, 0), 0);
    assert_int_equal(receive(fixture.pair[1], &got), 1);
    assert_int_equal(got.sender, 0);
    tear_down(&fixture);
}

static void test_texts_of_every_length(void **state)
{
    (void)state;
    struct fixture fixture;
    char text[IPC_TEXT_SIZE + 50];
    set_up(&fixture, 1);
    for (size_t length = 0; length < sizeof(text); length++) {
        struct ipc_message got, sent = {.type = IPC_LOAD_FAILED};
        size_t kept = length < IPC_TEXT_SIZE ? length : IPC_TEXT_SIZE - 1;
        memset(text, 'a' + (int)(length % 26), length);
        text[length] = '\0';
        ipc_set_text(&sent, text);
        assert_int_equal(sent.text_size, kept + 1);
        assert_int_equal(ipc_send(fixture.pair[1], &sent, 0), 0);
        assert_int_equal(receive(fixture.pair[0], &got), 1);
        assert_int_equal(got.text_size, kept + 1);
        assert_int_equal(strlen(got.text), kept);
        assert_memory_equal(got.text, text, kept);
    }
    tear_down(&fixture);
}

static void test_two_words_in_one_text(void **state)
{
    (void)state;
    struct fixture fixture;
    set_up(&fixture, 0);
    struct ipc_message got, sent = {.type = IPC_LOADED, .text_size = 10, .text = "spell\0001.0"};
    assert_int_equal(ipc_send(fixture.pair[1], &sent, 0), 0);
    assert_int_equal(receive(fixture.pair[0], &got), 1);
    assert_int_equal(got.text_size, 10);
    assert_memory_equal(got.text, "spell\0001.0\0", 10);
    tear_down(&fixture);
}

static void assert_same_file(int a, int b)
{
    struct stat one, other;
    assert_int_equal(fstat(a, &one), 0);
    assert_int_equal(fstat(b, &other), 0);
    assert_true(one.st_dev == other.st_dev && one.st_ino == other.st_ino);
}

static void test_descriptors_arrive_in_order(void **state)
{
    (void)state;
    for (int count = 1; count <= IPC_MAX_DESCRIPTORS; count++) {
        struct fixture fixture;
        set_up(&fixture, count % 2);
        int files[IPC_MAX_DESCRIPTORS] = {fixture.pipe[1], fixture.pair[0], fixture.pair[1]};
        struct ipc_message got, sent = {.type = IPC_FORK, .descriptor_count = count};
        memcpy(sent.descriptors, files, sizeof(files));
        ipc_set_text(&sent, "with text");
        assert_int_equal(ipc_send(fixture.pair[1], &sent, 0), 0);
        assert_int_equal(receive(fixture.pair[0], &got), 1);
        assert_int_equal(got.descriptor_count, count);
        assert_string_equal(got.text, "with text");
        for (int i = 0; i < count; i++) {
            assert_int_not_equal(got.descriptors[i], files[i]);
            assert_same_file(got.descriptors[i], files[i]);
            assert_int_equal(fcntl(got.descriptors[i], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        }
        ipc_close_descriptors(&got);
        assert_int_equal(got.descriptor_count, 0);
        assert_nothing_kept(&fixture);
        ipc_close_descriptors(&got);
        tear_down(&fixture);
    }
}

static void test_messages_stay_apart(void **state)
{
    (void)state;
    struct fixture fixture;
    set_up(&fixture, 1);
    for (uint32_t i = 0; i < 5; i++) {
        struct ipc_message sent = {.type = IPC_WANT, .number = i};
        if (i % 2)
            ipc_set_text(&sent, "odd");
        assert_int_equal(ipc_send(fixture.pair[1], &sent, 0), 0);
    }
    for (uint32_t i = 0; i < 5; i++) {
        struct ipc_message got;
        assert_int_equal(receive(fixture.pair[0], &got), 1);
        assert_int_equal(got.number, i);
        assert_int_equal(got.text_size, i % 2 ? 4 : 0);
    }
    tear_down(&fixture);
}

/* --- ends --- */

static void test_nothing_there(void **state)
{
    (void)state;
    struct fixture fixture;
    struct ipc_message message = {.type = IPC_HELLO};
    set_up(&fixture, 1);
    assert_int_equal(receive(fixture.pair[0], &message), -1);
    assert_int_equal(errno, EAGAIN);
    tear_down(&fixture);
}

static void test_the_other_side_is_gone(void **state)
{
    (void)state;
    struct fixture fixture;
    struct ipc_message got;
    const struct ipc_message message = {.type = IPC_HELLO};
    set_up(&fixture, 1);
    assert_int_equal(ipc_send(fixture.pair[1], &message, 0), 0);
    close(fixture.pair[1]);
    assert_int_equal(receive(fixture.pair[0], &got), 1);
    assert_int_equal(receive(fixture.pair[0], &got), 0);
    assert_int_equal(receive(fixture.pair[0], &got), 0);
    assert_int_equal(ipc_send(fixture.pair[0], &message, 0), -1);
    assert_int_equal(errno, EPIPE);
    fixture.pair[1] = dup(fixture.pair[0]);
    tear_down(&fixture);
}

static void test_a_full_socket(void **state)
{
    (void)state;
    struct fixture fixture;
    struct ipc_message got;
    const struct ipc_message message = {.type = IPC_HELLO};
    set_up(&fixture, 1);
    unsigned sent = 0;
    while (ipc_send(fixture.pair[1], &message, MSG_DONTWAIT) == 0)
        sent++;
    assert_int_equal(errno, EAGAIN);
    assert_in_range(sent, 1, 100000);
    while (sent > 0 && receive(fixture.pair[0], &got) == 1)
        sent--;
    assert_int_equal(sent, 0);
    tear_down(&fixture);
}

/* --- what a stranger could send: with and without descriptors, none of which may be kept --- */

static void test_sizes_that_do_not_fit(void **state)
{
    (void)state;
    struct fixture fixture;
    unsigned char bytes[sizeof(struct ipc_message) + 100];
    set_up(&fixture, 1);
    for (size_t size = 1; size < sizeof(bytes); size++) {
        struct ipc_message message = {.type = IPC_WANT, .text_size = (uint32_t)(size - HEADER_SIZE)};
        memset(bytes, 0, sizeof(bytes));
        memcpy(bytes, &message, HEADER_SIZE);
        if (size >= HEADER_SIZE && size <= HEADER_SIZE + IPC_TEXT_SIZE)
            continue;
        send_raw(fixture.pair[1], bytes, size, fixture.pipe[1], size % 3);
        assert_refused(&fixture);
    }
    tear_down(&fixture);
}

static void test_text_sizes_that_are_wrong(void **state)
{
    (void)state;
    static const uint32_t claimed[] = {0,          1,         99, 101, IPC_TEXT_SIZE, IPC_TEXT_SIZE + 1,
                                       0x80000000, UINT32_MAX};
    struct fixture fixture;
    set_up(&fixture, 1);
    for (size_t i = 0; i < sizeof(claimed) / sizeof(*claimed); i++) {
        struct ipc_message message = {.type = IPC_START_FAILED, .text_size = claimed[i]};
        send_raw(fixture.pair[1], &message, HEADER_SIZE + 100, fixture.pipe[1], 3);
        assert_refused(&fixture);
    }
    tear_down(&fixture);
}

/* As much of it as can be received looks whole. */
static void test_a_tail_behind_the_text(void **state)
{
    (void)state;
    struct fixture fixture;
    unsigned char bytes[HEADER_SIZE + IPC_TEXT_SIZE + 1] = {0};
    const struct ipc_message message = {.type = IPC_START_FAILED, .text_size = IPC_TEXT_SIZE};
    set_up(&fixture, 1);
    memcpy(bytes, &message, HEADER_SIZE);
    send_raw(fixture.pair[1], bytes, sizeof(bytes), fixture.pipe[1], 1);
    assert_refused(&fixture);
    tear_down(&fixture);
}

static void test_text_without_an_end(void **state)
{
    (void)state;
    struct fixture fixture;
    set_up(&fixture, 1);
    for (uint32_t size = 0; size <= IPC_TEXT_SIZE; size++) {
        struct ipc_message got, message = {.type = IPC_START_FAILED, .text_size = size};
        memset(message.text, 'x', IPC_TEXT_SIZE);
        send_raw(fixture.pair[1], &message, HEADER_SIZE + size, -1, 0);
        assert_int_equal(receive(fixture.pair[0], &got), 1);
        assert_int_equal(got.text_size, size);
        assert_int_equal(strnlen(got.text, IPC_TEXT_SIZE), size ? size - 1 : 0);
    }
    tear_down(&fixture);
}

static void test_too_many_descriptors(void **state)
{
    (void)state;
    const struct ipc_message message = {.type = IPC_HELLO};
    for (int credentials = 0; credentials < 2; credentials++) {
        struct fixture fixture;
        set_up(&fixture, credentials);
        for (unsigned count = IPC_MAX_DESCRIPTORS + 1; count <= MOST_DESCRIPTORS; count++) {
            send_raw(fixture.pair[1], &message, HEADER_SIZE, fixture.pipe[1], count);
            assert_refused(&fixture);
        }
        tear_down(&fixture);
    }
}

static void set_descriptor_limit(rlim_t soft, rlim_t *before)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (before)
        *before = limit.rlim_cur;
    limit.rlim_cur = soft;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* The process has numbers left for `room` of three. */
static void test_no_numbers_for_descriptors(void **state)
{
    (void)state;
    const struct ipc_message message = {.type = IPC_FORK};
    struct fixture fixture;
    set_up(&fixture, 1);
    for (unsigned room = 0; room < 3; room++) {
        int lowest = fcntl(fixture.pair[0], F_DUPFD_CLOEXEC, 0);
        rlim_t before;
        close(lowest);
        send_raw(fixture.pair[1], &message, HEADER_SIZE, fixture.pipe[1], 3);
        set_descriptor_limit((rlim_t)lowest + room, &before);
        struct ipc_message got;
        int result = receive(fixture.pair[0], &got), error = errno;
        set_descriptor_limit(before, NULL);
        assert_int_equal(result, -1);
        assert_int_equal(error, EPROTO);
        assert_nothing_kept(&fixture);
    }
    tear_down(&fixture);
}

/* It looks like the end of file, and is none where it brings something: descriptors, or its sender's name. */
static void test_an_empty_message_is_not_an_end(void **state)
{
    (void)state;
    for (int credentials = 0; credentials < 2; credentials++) {
        struct fixture fixture;
        set_up(&fixture, credentials);
        for (unsigned copies = credentials ? 0 : 1; copies <= MOST_DESCRIPTORS; copies++) {
            send_raw(fixture.pair[1], "", 0, fixture.pipe[1], copies);
            assert_refused(&fixture);
        }
        tear_down(&fixture);
    }
}

/* Without either, nothing tells it from an end. */
static void test_an_empty_message_that_brings_nothing(void **state)
{
    (void)state;
    struct fixture fixture;
    struct ipc_message message;
    set_up(&fixture, 0);
    send_raw(fixture.pair[1], "", 0, -1, 0);
    assert_int_equal(receive(fixture.pair[0], &message), 0);
    assert_int_equal(message.descriptor_count, 0);
    tear_down(&fixture);
}

/* What was refused is off the socket: the next message is whole. */
static void test_a_good_message_after_a_bad_one(void **state)
{
    (void)state;
    struct fixture fixture;
    struct ipc_message got, message = {.type = IPC_HELLO, .number = 6, .descriptor_count = 1};
    set_up(&fixture, 1);
    send_raw(fixture.pair[1], &message, HEADER_SIZE, fixture.pipe[1], MOST_DESCRIPTORS);
    assert_refused(&fixture);
    message.descriptors[0] = fixture.pipe[1];
    assert_int_equal(ipc_send(fixture.pair[1], &message, 0), 0);
    assert_int_equal(receive(fixture.pair[0], &got), 1);
    assert_int_equal(got.number, 6);
    assert_int_equal(got.descriptor_count, 1);
    ipc_close_descriptors(&got);
    assert_nothing_kept(&fixture);
    tear_down(&fixture);
}

static void test_random_messages(void **state)
{
    (void)state;
    struct random random = {31};
    struct fixture fixture;
    unsigned accepted = 0;
    set_up(&fixture, 1);
    for (unsigned round = 0; round < 5000; round++) {
        struct ipc_message got, message;
        random_fill(&random, &message, sizeof(message));
        message.text_size = random_below(&random, 40);
        size_t size =
            HEADER_SIZE + (random_below(&random, 2) ? message.text_size : random_below(&random, 40));
        unsigned copies = random_below(&random, IPC_MAX_DESCRIPTORS + 1);
        send_raw(fixture.pair[1], &message, size, fixture.pipe[1], copies);
        if (receive(fixture.pair[0], &got) == 1) {
            assert_int_equal(got.text_size, size - HEADER_SIZE);
            assert_int_equal(got.descriptor_count, copies);
            assert_int_equal(got.sender, getpid());
            ipc_close_descriptors(&got);
            accepted++;
        }
        assert_nothing_kept(&fixture);
    }
    assert_in_range(accepted, 2000, 4000);
    tear_down(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs_are_not_inherited),
        cmocka_unit_test(test_fields_arrive_both_ways),
        cmocka_unit_test(test_the_kernel_names_the_sender),
        cmocka_unit_test(test_texts_of_every_length),
        cmocka_unit_test(test_two_words_in_one_text),
        cmocka_unit_test(test_descriptors_arrive_in_order),
        cmocka_unit_test(test_messages_stay_apart),
        cmocka_unit_test(test_nothing_there),
        cmocka_unit_test(test_the_other_side_is_gone),
        cmocka_unit_test(test_a_full_socket),
        cmocka_unit_test(test_sizes_that_do_not_fit),
        cmocka_unit_test(test_text_sizes_that_are_wrong),
        cmocka_unit_test(test_a_tail_behind_the_text),
        cmocka_unit_test(test_text_without_an_end),
        cmocka_unit_test(test_too_many_descriptors),
        cmocka_unit_test(test_no_numbers_for_descriptors),
        cmocka_unit_test(test_an_empty_message_is_not_an_end),
        cmocka_unit_test(test_an_empty_message_that_brings_nothing),
        cmocka_unit_test(test_a_good_message_after_a_bad_one),
        cmocka_unit_test(test_random_messages),
    };
    return cmocka_run_group_tests_name("ipc", tests, NULL, NULL);
}
