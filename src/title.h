/* Process titles: what ps shows of forkservers and workers. */
#ifndef TITLE_H
#define TITLE_H

/* The forkserver is started with an argv[0] padded to this size: room for titles, however short the command
 * line. */
#define TITLE_ROOM 128

/* Takes over the memory of the command line, whose argv[0] must be padded. To be called once; argv[1] and
 * what follows are replaced by copies, argv[0] must not be read again. */
void title_init(int argc, char **argv);
/* "cohab: " and these words; also, cut to 15 bytes, the thread name. */
void title_set(const char *words);
/* Replaces what follows the last title_set(). A copy into memory and no system call: called twice a
 * request. */
void title_set_suffix(const char *suffix);

#endif
