/* PURE. Requests that are made many times: what does not change is encoded once (template_build.c), what does
 * is filled in (template.c).
 *
 * A string among the parameters, at any depth, may be or contain
 *
 *   {counter}       1, 2, 3, ...
 *   {int:LOW:HIGH}  a random integer, both included
 *   {word:FILE}     a random line of a file
 *   {blob:SIZE}     that many bytes, the same in every request
 *
 * One that stands alone becomes a value of its type (int, int, str, bytes). In the middle of text it becomes
 * text, which a blob cannot. A second pair of braces around it keeps it from being filled in. */
#ifndef TEMPLATE_H
#define TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sys/uio.h>

#include <msgpack.h>

#include "frame.h"
#include "random.h"
#include "words.h"

/* What stands before the method in a frame: length, array of 5, type 0, msgid as uint 32. An echo begins
 * with the same bytes. */
#define TEMPLATE_HEAD_SIZE (FRAME_HEADER_SIZE + 7u)
/* Templates and large constants in one request. */
#define TEMPLATE_PARTS_MAX  64
#define TEMPLATE_PIECES_MAX (TEMPLATE_PARTS_MAX + 1)

enum template_kind {
    TEMPLATE_CONSTANT,
    TEMPLATE_COUNTER,
    TEMPLATE_INTEGER,
    TEMPLATE_WORD,
    TEMPLATE_TEXT, /* one string, made of the `inner` parts that follow */
};

struct template_part {
    enum template_kind kind;
    size_t offset, size; /* of a constant, in the template's bytes */
    int64_t low, high;
    const struct words *words;
    size_t inner;
};

struct template
{
    msgpack_sbuffer bytes; /* owned: all constants */
    struct template_part parts[TEMPLATE_PARTS_MAX];
    size_t count;
    bool changes;        /* requests differ in more than msgid and deadline */
    size_t scratch_size; /* what a frame needs, at most */
};

/* What is filled in next: shared by all templates of a run. */
struct template_values {
    uint64_t counter;
    struct random random;
};

/* One request, ready to be sent. Pieces lead into scratch and into the template. */
struct template_frame {
    unsigned char *scratch;       /* the caller's, of the largest scratch_size of its templates */
    const struct template *holds; /* what scratch holds; NULL at first */
    struct iovec pieces[TEMPLATE_PIECES_MAX];
    size_t count;
    size_t size; /* of all pieces together */
};

/* Finds the words of a file. NULL with one line in why. */
struct template_files {
    const struct words *(*find)(void *context, const char *path, char *why, size_t why_size);
    void *context;
};

/* Returns 0, or -1 with one line in why. The template is to be freed after either. `params` is needed during
 * the call alone. */
int template_build(struct template *template, const char *method, const msgpack_object_array *params,
                   const struct template_files *files, char *why, size_t why_size);
void template_free(struct template *template);

/* What a frame of a template that is built needs of scratch, at most. */
size_t template_measure(const struct template *template);

/* Makes a request with the next values. deadline: CLOCK_MONOTONIC, ns. */
void template_fill(const struct template *template, struct template_values *values, uint32_t msgid,
                   uint64_t deadline, struct template_frame *frame);

#endif
