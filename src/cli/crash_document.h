/* A report as one value for programs: as it is in the file, with the request's parameters beside its frame.
 */
#ifndef CRASH_DOCUMENT_H
#define CRASH_DOCUMENT_H

#include <stdbool.h>

#include "report_read.h"

/* Unpacks the parameters that a report's frame holds. Lives in the report's zone, and leads into its bytes.
 * False with one clause in *why. */
bool crash_document_params(struct report *report, msgpack_object *params, const char **why);

/* Adds the key "params" to the report's request, null where they cannot be read; without `frame` that becomes
 * null. Ends the process without memory. */
msgpack_object crash_document_make(struct report *report, bool frame);

#endif
