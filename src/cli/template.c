#include "template.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Constants up to this size are copied into the frame; larger ones are sent from where they are. */
#define COPIED_MAX    4096u
#define MSGID_OFFSET  (TEMPLATE_HEAD_SIZE - 4u)
#define DEADLINE_SIZE 8u
#define NUMBER_SIZE   9u  /* a 64-bit integer in msgpack */
#define STRING_HEADER 5u  /* a str of any size */
#define DIGITS_MAX    21u /* a 64-bit integer in decimal, terminated */

/* --- what a frame needs --- */

static size_t measure_part(const struct template_part *part)
{
    switch (part->kind) {
    case TEMPLATE_CONSTANT:
        return part->size <= COPIED_MAX ? part->size : 0;
    case TEMPLATE_WORD:
        return STRING_HEADER + part->words->longest;
    case TEMPLATE_TEXT:
        return STRING_HEADER;
    default:
        return DIGITS_MAX; /* also enough for a number in msgpack */
    }
}

/* Constants in the middle of text are always copied. */
size_t template_measure(const struct template *template)
{
    size_t size = TEMPLATE_HEAD_SIZE + DEADLINE_SIZE;
    size_t inside = 0; /* parts that still belong to a text */

    for (size_t i = 0; i < template->count; i++) {
        const struct template_part *part = &template->parts[i];
        size += inside && part->kind == TEMPLATE_CONSTANT ? part->size : measure_part(part);
        inside = part->kind == TEMPLATE_TEXT ? part->inner : inside - (inside > 0);
    }
    return size;
}

/* --- filling in --- */

struct writer {
    struct template_frame *frame;
    unsigned char *from; /* scratch that is not yet a piece */
    unsigned char *at;
    struct template_values *values;
};

static void put_big_endian(unsigned char *at, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++)
        at[i] = (unsigned char)(value >> 8 * (size - 1 - i));
}

static void write_bytes(struct writer *writer, const void *bytes, size_t size)
{
    memcpy(writer->at, bytes, size);
    writer->at += size;
}

static void add_piece(struct template_frame *frame, const void *bytes, size_t size)
{
    if (size == 0)
        return;
    frame->pieces[frame->count++] = (struct iovec){.iov_base = (void *)bytes, .iov_len = size};
    frame->size += size;
}

static void end_scratch(struct writer *writer)
{
    add_piece(writer->frame, writer->from, (size_t)(writer->at - writer->from));
    writer->from = writer->at;
}

static void write_number(struct writer *writer, unsigned char tag, uint64_t number)
{
    *writer->at = tag;
    put_big_endian(writer->at + 1, number, NUMBER_SIZE - 1);
    writer->at += NUMBER_SIZE;
}

static void write_string_header(unsigned char *at, size_t size)
{
    *at = 0xdb; /* str 32 */
    put_big_endian(at + 1, size, STRING_HEADER - 1);
}

static const struct word *pick_word(struct writer *writer, const struct words *words)
{
    return &words->items[random_between(&writer->values->random, 0, (int64_t)words->count - 1)];
}

static int64_t pick_integer(struct writer *writer, const struct template_part *part)
{
    return random_between(&writer->values->random, part->low, part->high);
}

static void write_inner_part(struct writer *writer, const struct template *template,
                             const struct template_part *part)
{
    const struct word *word;

    switch (part->kind) {
    case TEMPLATE_CONSTANT:
        write_bytes(writer, template->bytes.data + part->offset, part->size);
        break;
    case TEMPLATE_COUNTER:
        writer->at += sprintf((char *)writer->at, "%" PRIu64, ++writer->values->counter);
        break;
    case TEMPLATE_INTEGER:
        writer->at += sprintf((char *)writer->at, "%" PRId64, pick_integer(writer, part));
        break;
    case TEMPLATE_WORD:
        word = pick_word(writer, part->words);
        write_bytes(writer, word->text, word->size);
        break;
    case TEMPLATE_TEXT:
        break; /* no text within text */
    }
}

static void write_text(struct writer *writer, const struct template *template,
                       const struct template_part *text)
{
    unsigned char *header = writer->at;

    writer->at += STRING_HEADER;
    for (size_t i = 1; i <= text->inner; i++)
        write_inner_part(writer, template, text + i);
    write_string_header(header, (size_t)(writer->at - header) - STRING_HEADER);
}

static void write_constant(struct writer *writer, const char *bytes, size_t size)
{
    if (size <= COPIED_MAX) {
        write_bytes(writer, bytes, size);
        return;
    }
    end_scratch(writer);
    add_piece(writer->frame, bytes, size);
}

static void write_part(struct writer *writer, const struct template *template,
                       const struct template_part *part)
{
    const struct word *word;

    switch (part->kind) {
    case TEMPLATE_CONSTANT:
        write_constant(writer, template->bytes.data + part->offset, part->size);
        break;
    case TEMPLATE_COUNTER:
        write_number(writer, 0xcf, ++writer->values->counter);
        break;
    case TEMPLATE_INTEGER:
        write_number(writer, 0xd3, (uint64_t)pick_integer(writer, part));
        break;
    case TEMPLATE_WORD:
        word = pick_word(writer, part->words);
        write_string_header(writer->at, word->size);
        writer->at += STRING_HEADER;
        write_bytes(writer, word->text, word->size);
        break;
    case TEMPLATE_TEXT:
        write_text(writer, template, part);
        break;
    }
}

static void write_frame(const struct template *template, struct template_values *values,
                        struct template_frame *frame)
{
    static const unsigned char opening[] = {0x95, 0x00, 0xce}; /* array of 5, type 0, uint 32 */
    struct writer writer = {.frame = frame, .from = frame->scratch, .at = frame->scratch, .values = values};

    frame->count = frame->size = 0;
    frame->holds = template;
    writer.at += FRAME_HEADER_SIZE;
    write_bytes(&writer, opening, sizeof opening);
    writer.at += TEMPLATE_HEAD_SIZE - MSGID_OFFSET;
    for (size_t i = 0; i < template->count; i += 1 + template->parts[i].inner)
        write_part(&writer, template, &template->parts[i]);
    writer.at += DEADLINE_SIZE;
    end_scratch(&writer);
    frame_put_length(frame->scratch, (uint32_t)(frame->size - FRAME_HEADER_SIZE));
}

void template_fill(const struct template *template, struct template_values *values, uint32_t msgid,
                   uint64_t deadline, struct template_frame *frame)
{
    if (template->changes || frame->holds != template)
        write_frame(template, values, frame);
    const struct iovec *last = &frame->pieces[frame->count - 1];
    put_big_endian(frame->scratch + MSGID_OFFSET, msgid, 4);
    put_big_endian((unsigned char *)last->iov_base + last->iov_len - DEADLINE_SIZE, deadline, DEADLINE_SIZE);
}
