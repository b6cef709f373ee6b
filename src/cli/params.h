/* The parameters of a call, as they stand on the command line. */
#ifndef PARAMS_H
#define PARAMS_H

#include <msgpack.h>

#include "cli.h"

/* Packs the arguments behind METHOD as one array; a single - is standard input. What is wrong with them ends
 * the process as bad usage. */
void params_read(const struct cli *cli, msgpack_sbuffer *params, int count, char **arguments);

#endif
