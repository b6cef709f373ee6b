/* PURE. Requests and responses as bytes: MessagePack-RPC with an optional fifth element (docs/protocol.md) */
#ifndef ENVELOPE_H
#define ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frame.h"

/* A request's parts. Pointers lead into the body that was read. */
struct envelope_request {
    bool has_msgid; /* also after an error: the response can then name the request */
    uint32_t msgid;
    const char *method; /* not terminated */
    uint32_t method_length;
    const unsigned char *params; /* one msgpack array */
    size_t params_size;
    size_t param_count;
    bool has_deadline;
    uint64_t deadline; /* CLOCK_MONOTONIC, ns */
    bool has_sent;
    uint64_t sent; /* when the client sent it: CLOCK_MONOTONIC, ns; where it says so */
    bool has_timeout;
    double timeout; /* seconds from when the server reads the frame; not NaN, not negative */
};

enum envelope_result {
    ENVELOPE_OK,
    ENVELOPE_BAD_FRAME,   /* not exactly one well-formed msgpack value */
    ENVELOPE_BAD_REQUEST, /* well-formed as far as it was read, but not a request */
    ENVELOPE_TOO_DEEP,    /* params or meta are nested deeper than CHECK_MAX_DEPTH */
};

/* Reads a body. On an error, *why is one clause for the caller (static storage), and what was read before it
 * stays in the request: method is NULL where that was not read. */
enum envelope_result envelope_read_request(const unsigned char *body, size_t size,
                                           struct envelope_request *request, const char **why);

/* Reads the msgid alone, from as much of a body as there is: what the master does for a worker that died. */
bool envelope_read_msgid(const unsigned char *body, size_t size, uint32_t *msgid);

/* A response, or the beginning of one. Strings lead into it, are not terminated, and may hold anything. */
struct envelope_response {
    bool has_msgid; /* false: a connection error */
    uint32_t msgid;
    bool failed;
    const char *code, *reason, *message; /* NULL where the error has none */
    uint32_t code_length, reason_length, message_length;
};

/* Reads the msgid and the error from the `size` first bytes of a body; the result is not looked at and need
 * not be there. False: no response, or the error reaches beyond `size`. */
bool envelope_read_response(const unsigned char *body, size_t size, struct envelope_response *response);

/* An error as it travels. Strings are terminated; bytes of message and stderr that are not UTF-8 are
 * replaced. */
struct envelope_error {
    const char *code;   /* gRPC's name, for example "INTERNAL" */
    const char *reason; /* stable upper-case word */
    const char *message;
    bool executed; /* false: the engine certainly never saw the request */
    bool retry;    /* true: sending it again is safe and may help */
    /* Details; NULL: none. */
    const char *signal; /* "SIGSEGV" */
    const char *report; /* id of a crash report */
    const char *stderr_tail;
    const char *const *frames; /* frame_count of them, innermost first; cut where there is no room */
    size_t frame_count;
    const char *const *reports; /* report_count ids, of what led to this */
    size_t report_count;
};

/* Enough for any error frame: messages are cut at ENVELOPE_MESSAGE_MAX bytes, details at what they have. */
#define ENVELOPE_MESSAGE_MAX 2048u
#define ENVELOPE_DETAILS_MAX 7168u
#define ENVELOPE_ERROR_MAX   (ENVELOPE_MESSAGE_MAX + ENVELOPE_DETAILS_MAX + 512u)

/* Writes a whole frame, response or (without msgid) connection error, and returns its size. */
size_t envelope_write_error(unsigned char frame[ENVELOPE_ERROR_MAX], bool has_msgid, uint32_t msgid,
                            const struct envelope_error *error);

/* What stands before the result in the frame of a response without an error. */
#define ENVELOPE_RESULT_HEADER (FRAME_HEADER_SIZE + 8u)
void envelope_write_result_header(unsigned char header[ENVELOPE_RESULT_HEADER], uint32_t msgid,
                                  uint32_t result_size);

#endif
