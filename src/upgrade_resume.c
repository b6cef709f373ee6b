/* The other end of an upgrade (upgrade.h): in the program that checks, and in the one that takes over. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "forkserver.h"
#include "handover.h"
#include "log.h"
#include "upgrade.h"

int upgrade_check(const struct options *options, const char *versions)
{
    char why[256];
    const struct handover_versions ours = handover_versions(options->max_frame);
    if (handover_compare(versions, &ours, why, sizeof(why))) {
        fprintf(stderr, "cohabd: cohabd " COHAB_VERSION " cannot take over; %s\n", why);
        return EXIT_FAILURE;
    }
    struct engine engine;
    if (forkserver_try(options, &engine) < 0)
        return EXIT_FAILURE;
    fflush(NULL); /* the engine's own words first */
    printf(UPGRADE_ANSWER "\n", COHAB_VERSION);
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int upgrade_take(void)
{
    const char *text = getenv(UPGRADE_VARIABLE);
    int pid = 0, document = -1;
    bool ours = text && sscanf(text, "%d.%d", &pid, &document) == 2 && pid == (int)getpid();
    unsetenv(UPGRADE_VARIABLE);
    return ours ? document : -1;
}

/* execveat(2) has named the process after the descriptor. */
static void restore_name(void)
{
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
    path[length < 0 ? 0 : length] = '\0';
    char *name = basename(path);
    name[strcspn(name, " ")] = '\0'; /* " (deleted)" */
    if (*name)
        (void)prctl(PR_SET_NAME, name);
}

static void read_document(int document, msgpack_unpacked *unpacked)
{
    struct stat status;
    size_t offset = 0;
    if (fstat(document, &status) < 0)
        fatal("cannot take over: %m");
    const char *bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, document, 0);
    if (bytes == MAP_FAILED)
        fatal("cannot take over: %m");
    close(document);
    msgpack_unpacked_init(unpacked);
    if (msgpack_unpack_next(unpacked, bytes, (size_t)status.st_size, &offset) != MSGPACK_UNPACK_SUCCESS)
        fatal("cannot take over: what the server has left cannot be read");
}

/* Those that the server was started with: the file and the environment may be others by now. */
static void take_options(struct options *options, const struct handover *handover, char **argv)
{
    int count = handover->word_count;
    char **words = calloc((size_t)count + 2, sizeof(*words));
    if (!words)
        fatal("out of memory");
    words[0] = argv[0];
    memcpy(words + 1, handover->words, (size_t)count * sizeof(*words));
    options_parse(options, count + 1, words, OPTIONS_ROLE);
    options->words = handover->words;
    options->word_count = count;
    options->max_frame = handover->max_frame;
    options->max_connections = handover->max_connections;
    options->lifeline = handover->lifeline;
    options->listener = handover->given ? handover->listener : -1;
}

int upgrade_resume(int document, char **argv)
{
    static struct handover handover;
    static struct options options;
    static msgpack_unpacked unpacked;
    char why[256];
    restore_name();
    upgrade_init(argv);
    (void)close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC); /* cannot fail: it has worked before */
    read_document(document, &unpacked);
    if (handover_read(&handover, &unpacked.data, why, sizeof(why)) < 0)
        fatal("cannot take over: what the server has left cannot be read: %s", why);
    take_options(&options, &handover, argv);
    return master_take_over(&options, &handover, &unpacked.data);
}
