/* PURE. The ids of crash reports: "20261122-101502-3", the time of the crash and a number within that second.
 */
#ifndef REPORT_ID_H
#define REPORT_ID_H

#include <stdbool.h>

/* Room for an id as text; longer ones are none. */
#define REPORT_ID_SIZE 32u

/* Whether this can be the id of a report: digits and dashes alone, so that it names no other file. */
bool report_id_is_valid(const char *id);
/* By age: below 0 where a is older than b. Both are valid. */
int report_id_compare(const char *a, const char *b);

#endif
