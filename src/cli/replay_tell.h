/* What came of a replay, in words and as JSON. */
#ifndef REPLAY_TELL_H
#define REPLAY_TELL_H

#include <stdbool.h>

#include "crash_files.h"
#include "crash_judge.h"

/* "crashed again: ...", "did not crash: ..."; `otherwise` where it was neither a crash nor an error. To be
 * freed; NULL without memory. */
char *replay_tell_message(const struct crash_outcome *outcome, const struct crash_verdict *verdict,
                          const char *otherwise);
/* Prints that, and how it compares with the report. */
void replay_tell(const struct crash_file *file, const struct crash_verdict *verdict, const char *message,
                 bool json);

#endif
