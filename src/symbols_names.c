#include "symbols_names.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INLINES_MAX 16

/* libstdc++'s (the Itanium C++ ABI): from malloc; NULL where it is neither a mangled name nor a mangled type,
 * which "f" is: float. */
extern char *__cxa_demangle(const char *mangled, char *buffer, size_t *length, int *status);

static void set_symbol(struct symbols_frame *frame, const char *name)
{
    int status;
    char *demangled = strncmp(name, "_Z", 2) == 0 ? __cxa_demangle(name, NULL, NULL, &status) : NULL;
    if (demangled)
        symbols_shorten(demangled);
    snprintf(frame->symbol, sizeof(frame->symbol), "%s", demangled ? demangled : name);
    frame->symbol[strcspn(frame->symbol, "@")] = '\0'; /* a symbol version */
    free(demangled);
}

static void name_symbol(Dwfl_Module *module, Dwarf_Addr at, struct symbols_frame *frame)
{
    GElf_Off offset;
    GElf_Sym symbol;
    const char *name = dwfl_module_addrinfo(module, at, &offset, &symbol, NULL, NULL, NULL);
    if (!name)
        return;
    set_symbol(frame, name);
    frame->symbol_offset = offset + (frame->address - at);
}

static void name_line(Dwfl_Module *module, Dwarf_Addr at, struct symbols_frame *frame)
{
    Dwfl_Line *line = dwfl_module_getsrc(module, at);
    const char *file = line ? dwfl_lineinfo(line, NULL, &frame->line, NULL, NULL, NULL) : NULL;
    if (file)
        snprintf(frame->file, sizeof(frame->file), "%.*s", (int)sizeof(frame->file) - 1, file);
}

static const char *call_file(Dwarf_Die *unit, Dwarf_Word index)
{
    Dwarf_Files *files;
    size_t count;
    if (dwarf_getsrcfiles(unit, &files, &count) != 0 || index >= count)
        return NULL;
    return dwarf_filesrc(files, index, NULL, NULL);
}

/* Where an inlined function was called: the line of the frame around it. */
static void take_call_site(Dwarf_Die *inlined, Dwarf_Die *unit, struct symbols_frame *outer)
{
    Dwarf_Attribute attribute;
    Dwarf_Word index = 0, line = 0;
    if (dwarf_formudata(dwarf_attr(inlined, DW_AT_call_file, &attribute), &index) != 0 ||
        dwarf_formudata(dwarf_attr(inlined, DW_AT_call_line, &attribute), &line) != 0)
        return;
    const char *file = call_file(unit, index);
    snprintf(outer->file, sizeof(outer->file), "%s", file ? file : "");
    outer->line = file ? (int)line : 0;
}

static const char *linkage_name(Dwarf_Die *die)
{
    Dwarf_Attribute attribute;
    return dwarf_formstring(dwarf_attr_integrate(die, DW_AT_linkage_name, &attribute));
}

/* The function that was inlined, where it is declared: its class is around it there. */
static Dwarf_Die *find_declaration(Dwarf_Die *inlined, Dwarf_Die *declaration)
{
    Dwarf_Attribute attribute;
    *declaration = *inlined;
    for (int i = 0; i < 4; i++) {
        Dwarf_Die next;
        if (!dwarf_formref_die(dwarf_attr(declaration, DW_AT_abstract_origin, &attribute), &next) &&
            !dwarf_formref_die(dwarf_attr(declaration, DW_AT_specification, &attribute), &next))
            break;
        *declaration = next;
    }
    return declaration;
}

static bool is_named_scope(Dwarf_Die *die)
{
    int tag = dwarf_tag(die);
    return tag == DW_TAG_namespace || tag == DW_TAG_class_type || tag == DW_TAG_structure_type ||
           tag == DW_TAG_union_type;
}

/* "(anonymous namespace)::Glossary::explain", put together from the scopes that it is declared in. */
static void qualified_name(Dwarf_Die *inlined, char *text, size_t size)
{
    Dwarf_Die declaration, *scopes = NULL;
    int count = dwarf_getscopes_die(find_declaration(inlined, &declaration), &scopes);
    size_t used = 0;
    *text = '\0';
    for (int i = count - 1; i >= 0 && used < size; i--) {
        const char *name = dwarf_diename(&scopes[i]);
        if (i > 0 && !is_named_scope(&scopes[i]))
            continue;
        used += (size_t)snprintf(text + used, size - used, "%s%s", name ? name : "(anonymous namespace)",
                                 i > 0 ? "::" : "");
    }
    free(scopes);
}

static void set_inlined_name(struct symbols_frame *frame, Dwarf_Die *inlined)
{
    const char *name = linkage_name(inlined);
    if (name)
        set_symbol(frame, name);
    else
        qualified_name(inlined, frame->symbol, sizeof(frame->symbol));
}

/* What the address lies in, innermost first, as it lies in the machine code: dwarf_getscopes() goes on from
 * an inlined function to what is around its definition. To be freed. */
static int find_scopes(Dwarf_Die *unit, Dwarf_Addr address, Dwarf_Die **scopes)
{
    Dwarf_Die *around = NULL;
    int count = dwarf_getscopes(unit, address, &around);
    count = count > 0 ? dwarf_getscopes_die(&around[0], scopes) : 0;
    free(around);
    return count;
}

/* Puts a frame in front of this one for each function that was inlined here. Returns how many. */
static size_t add_inlined(Dwfl_Module *module, Dwarf_Addr at, struct symbols_frame *frame, size_t room)
{
    Dwarf_Addr bias;
    Dwarf_Die *unit = dwfl_module_addrdie(module, at, &bias), *scopes = NULL;
    int count = unit ? find_scopes(unit, at - bias, &scopes) : 0;
    size_t added = 0;
    struct symbols_frame inner[INLINES_MAX];
    struct symbols_frame outer = *frame;
    for (int i = 0; i < count && added < INLINES_MAX && added < room; i++) {
        if (dwarf_tag(&scopes[i]) != DW_TAG_inlined_subroutine)
            continue;
        inner[added] = outer;
        set_inlined_name(&inner[added], &scopes[i]);
        inner[added].symbol_offset = 0;
        inner[added++].inlined = true;
        take_call_site(&scopes[i], unit, &outer);
    }
    free(scopes);
    memcpy(frame, inner, added * sizeof(*frame));
    frame[added] = outer;
    return added;
}

/* Frames of the array from `at` on are moved up as needed. Returns how many frames this one has become. */
static size_t name_frame(Dwfl *dwfl, struct symbols_frame *frame, size_t behind, size_t room)
{
    static struct symbols_frame named[INLINES_MAX + 1];
    Dwarf_Addr at = frame->calls ? frame->address - 1 : frame->address;
    Dwfl_Module *module = dwfl_addrmodule(dwfl, at);
    if (!module)
        return 1;
    name_symbol(module, at, frame);
    name_line(module, at, frame);
    named[0] = *frame;
    size_t added = add_inlined(module, at, named, room < INLINES_MAX ? room : INLINES_MAX);
    memmove(frame + 1 + added, frame + 1, behind * sizeof(*frame));
    memcpy(frame, named, (added + 1) * sizeof(*frame));
    return added + 1;
}

size_t names_find(Dwfl *dwfl, struct symbols_frame *frames, size_t count, size_t most)
{
    for (size_t i = 0; i < count;) {
        size_t became = name_frame(dwfl, &frames[i], count - i - 1, most - count);
        count += became - 1;
        i += became;
    }
    return count;
}
