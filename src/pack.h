/* PURE. */
#ifndef PACK_H
#define PACK_H

#include <string.h>

#include <msgpack.h>

/* A terminated string as a msgpack str. */
static inline int pack_text(msgpack_packer *packer, const char *text)
{
    return msgpack_pack_str_with_body(packer, text, strlen(text));
}

#endif
