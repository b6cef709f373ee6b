#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "symbols.h"

/* Libraries that are never to blame: "libc" is "libc.so.6" and "libc-2.31.so", and not "libc-client.so". */
static const char *const runtimes[] = {
    "ld",   "libasan",    "libc",  "libc++",    "libc++abi", "libdl",    "libgcc_s",  "liblsan",
    "libm", "libpthread", "librt", "libstdc++", "libtsan",   "libubsan", "libunwind",
};
/* Beginnings of the names of such. */
static const char *const runtime_families[] = {"ld-linux", "ld-musl", "libclang_rt", "[vdso]"};

static bool is_library(const char *module, const char *library)
{
    size_t length = strlen(library);
    if (strncmp(module, library, length) != 0)
        return false;
    const char *rest = module + length;
    return strncmp(rest, ".so", 3) == 0 || (rest[0] == '-' && rest[1] >= '0' && rest[1] <= '9');
}

static bool is_runtime(const struct symbols_frame *frame)
{
    if (!frame->module[0] || strcmp(frame->module, "cohabd") == 0)
        return true;
    for (size_t i = 0; i < sizeof(runtimes) / sizeof(*runtimes); i++)
        if (is_library(frame->module, runtimes[i]))
            return true;
    for (size_t i = 0; i < sizeof(runtime_families) / sizeof(*runtime_families); i++)
        if (strncmp(frame->module, runtime_families[i], strlen(runtime_families[i])) == 0)
            return true;
    return false;
}

/* A template of the standard library's, compiled into the engine. */
static bool is_library_code(const struct symbols_frame *frame)
{
    return strncmp(frame->symbol, "std::", 5) == 0 || strncmp(frame->symbol, "__gnu_cxx::", 11) == 0;
}

size_t symbols_top(const struct symbols_frame *frames, size_t count)
{
    size_t first = count;
    for (size_t i = 0; i < count; i++) {
        if (is_runtime(&frames[i]))
            continue;
        if (!is_library_code(&frames[i]))
            return i;
        if (first == count)
            first = i;
    }
    return first < count ? first : 0;
}

size_t symbols_bottom(const struct symbols_frame *frames, size_t count)
{
    for (size_t i = count; i > 0; i--)
        if (!is_runtime(&frames[i - 1]))
            return i;
    return count;
}

void symbols_describe(const struct symbols_frame *frame, char *text, size_t size)
{
    char place[SYMBOLS_PATH_SIZE + 16] = "";
    if (frame->file[0])
        snprintf(place, sizeof(place), " (%s:%d)", symbols_maps_base(frame->file), frame->line);
    if (frame->inlined)
        snprintf(text, size, "%s!%s%s", frame->module, frame->symbol, place);
    else if (frame->module[0] && frame->symbol[0])
        snprintf(text, size, "%s!%s+0x%" PRIx64 "%s", frame->module, frame->symbol, frame->symbol_offset,
                 place);
    else if (frame->module[0])
        snprintf(text, size, "%s+0x%" PRIx64 "%s", frame->module, frame->offset, place);
    else
        snprintf(text, size, "0x%" PRIx64, frame->address);
}

/* Where the bracket that closes at `end` opens; NULL: nowhere. */
static char *find_opening(char *name, char *end)
{
    int depth = 0;
    for (char *at = end; at >= name; at--) {
        if (*at == ')')
            depth++;
        else if (*at == '(' && --depth == 0)
            return at;
    }
    return NULL;
}

/* What can stand behind the parameters. */
static bool is_qualifiers(const char *text)
{
    return text[strspn(text, " &constvolatile")] == '\0';
}

static void cut_parameters(char *name)
{
    char *clone = strstr(name, " [clone ");
    if (clone)
        *clone = '\0';
    char *end = strrchr(name, ')');
    char *opening = end && is_qualifiers(end + 1) ? find_opening(name, end) : NULL;
    if (opening && opening > name)
        *opening = '\0';
}

/* "void A::f<int>" has its type in front; "operator new" has none. */
static void cut_type(char *name)
{
    int depth = 0;
    char *begin = name;
    for (char *at = name; *at; at++) {
        if (strchr("<({", *at))
            depth++;
        else if (strchr(">)}", *at) && depth > 0)
            depth--;
        if (strncmp(at, "operator", 8) == 0 && depth == 0)
            break;
        if (*at == ' ' && depth == 0)
            begin = at + 1;
    }
    memmove(name, begin, strlen(begin) + 1);
}

void symbols_shorten(char *name)
{
    cut_parameters(name);
    cut_type(name);
}
