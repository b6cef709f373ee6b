#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "activation.h"
#include "forkserver.h"
#include "log.h"
#include "master.h"
#include "options.h"
#include "replay.h"
#include "standin.h"
#include "title.h"
#include "upgrade.h"

/* Descriptors 0 to 2 are open from here on, so that nothing else can come to lie there. */
static void open_standard_descriptors(void)
{
    int null = open("/dev/null", O_RDWR);
    while (null >= 0 && null <= STDERR_FILENO)
        null = open("/dev/null", O_RDWR);
    if (null < 0)
        _exit(EXIT_FAILURE);
    close(null);
}

int main(int argc, char **argv)
{
    struct options options;
    open_standard_descriptors();
    bool is_forkserver = argc > 0 && strlen(argv[0]) == TITLE_ROOM - 1 &&
                         strncmp(argv[0], FORKSERVER_ARGV0 " ", strlen(FORKSERVER_ARGV0) + 1) == 0;
    bool is_standin = argc > 0 && strncmp(argv[0], STANDIN_ARGV0 " ", strlen(STANDIN_ARGV0) + 1) == 0;
    unsigned generation = 0;
    if (is_forkserver)
        generation = (unsigned)strtoul(argv[0] + strlen(FORKSERVER_ARGV0), NULL, 10);
    if (is_forkserver || is_standin) {
        title_init(argc, argv);
        log_relay();
    }
    bool checks = argc > 0 && strncmp(argv[0], UPGRADE_CHECK_ARGV0 " ", strlen(UPGRADE_CHECK_ARGV0) + 1) == 0;
    if (checks)
        log_relay();
    int document = upgrade_take();
    if (document >= 0)
        return upgrade_resume(document, argv);
    int listener = is_forkserver || is_standin ? -1 : activation_take();
    options_parse(&options, argc, argv, is_forkserver || is_standin ? OPTIONS_ROLE : OPTIONS_USER);
    options.listener = listener;
    if (is_standin)
        standin_run(&options);
    if (is_forkserver)
        forkserver_run(&options, generation);
    if (checks)
        return upgrade_check(&options, argv[0] + strlen(UPGRADE_CHECK_ARGV0) + 1);
    if (options.check)
        return forkserver_check(&options);
    if (options.replay)
        return replay_run(&options);
    upgrade_init(argv);
    return master_run(&options);
}
