/* Frames of a snapshot, with names: unwinds the copy of a stack by the unwind tables of the files that were
 * mapped, and looks symbols, files and lines up there and in debug information that lies beside them or under
 * /usr/lib/debug. By libdw of elfutils, and in no process but the reporter. What it is given is not to be
 * trusted, and the files may have changed since: it then finds less. */
#ifndef SYMBOLS_H
#define SYMBOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot.h"
#include "symbols_maps.h"

#define SYMBOLS_FRAMES_MAX  256u
#define SYMBOLS_SYMBOL_SIZE 512u

/* Texts are terminated, and empty where nothing is known. */
struct symbols_frame {
    uint64_t address;
    bool calls;      /* the address is that of a return, behind the call */
    char module[64]; /* the file's name */
    char path[SYMBOLS_PATH_SIZE];
    uint64_t offset;                  /* the address as the file counts it; means nothing without a module */
    char symbol[SYMBOLS_SYMBOL_SIZE]; /* demangled, without parameters */
    uint64_t symbol_offset;
    char file[SYMBOLS_PATH_SIZE];
    int line;     /* 0: unknown */
    bool inlined; /* into the frame after it */
};

struct symbols;

/* NULL without memory. */
struct symbols *symbols_new(void);
void symbols_free(struct symbols *symbols);

/* Reads what the unwinding of any snapshot with the same mappings will need. */
void symbols_warm(struct symbols *symbols, const struct snapshot *snapshot);

/* Unwinds: fills addresses, modules and offsets, innermost first. Returns how many frames; 0 with a reason
 * (static storage). */
size_t symbols_unwind(struct symbols *symbols, const struct snapshot *snapshot, struct symbols_frame *frames,
                      size_t most, const char **why);
/* Names what symbols_unwind() found in the snapshot before this; frames of inlined functions are put in
 * between. Returns how many there are now, up to `most`. */
size_t symbols_name(struct symbols *symbols, struct symbols_frame *frames, size_t count, size_t most);

/* --- PURE --- */

/* Module and offset of one address, from the list of mappings alone. */
bool symbols_locate(const char *maps, size_t size, uint64_t address, struct symbols_frame *frame);

/* The frame to blame: the innermost one that is neither the C library's, nor a language runtime's, nor
 * cohab's; 0 where there is none. */
size_t symbols_top(const struct symbols_frame *frames, size_t count);
/* How many frames are left without cohab's own at the outer end; all of them where nothing else is there. */
size_t symbols_bottom(const struct symbols_frame *frames, size_t count);
/* "libspell.so!Affix::lookup+0x4f (affix.cxx:120)"; without a symbol "libspell.so+0x1234"; without a module
 * "0x7f0012345678". */
void symbols_describe(const struct symbols_frame *frame, char *text, size_t size);
/* Takes the parameters and the type from a demangled C++ name: "void A::f<int>(char const*) const" becomes
 * "A::f<int>". */
void symbols_shorten(char *name);

#endif
