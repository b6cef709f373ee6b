#include "symbols.h"

#include <elfutils/libdwfl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "symbols_modules.h"
#include "symbols_names.h"

#if defined(__x86_64__)
#define POINTER_REGISTER 7u
#define COUNTER_REGISTER 16u
#else
#define POINTER_REGISTER 31u
#define COUNTER_REGISTER 32u
#define LINK_REGISTER    30u
#endif

struct symbols {
    struct module *modules, *wanted; /* MODULES_MAX each: of the Dwfl, and of a new snapshot */
    size_t count;
    Dwfl *dwfl; /* NULL: none yet */
    bool attached;
    const struct snapshot *snapshot; /* that is being unwound */
    uint64_t registers[SNAPSHOT_REGISTERS];
    bool left; /* a wild call: the program counter of registers[] is in the call, before its return address */
    struct symbols_frame *frames;
    size_t used, most;
};

static const struct module *module_at(const struct symbols *symbols, uint64_t address)
{
    for (size_t i = 0; i < symbols->count; i++)
        if (address >= symbols->modules[i].start && address < symbols->modules[i].end)
            return &symbols->modules[i];
    return NULL;
}

static void report_module(struct symbols *symbols, struct module *module)
{
    int file = modules_open(module);
    module->known = file >= 0 && modules_find_bias(file, module) &&
                    dwfl_report_elf(symbols->dwfl, symbols_maps_base(module->path), module->path, file,
                                    module->bias, true) != NULL;
    if (file >= 0 && !module->known)
        close(file);
    if (!module->known)
        module->bias = module->start - module->offset; /* as good as can be said */
}

/* --- unwinding --- */

static bool read_word(const struct snapshot *snapshot, uint64_t address, uint64_t *word)
{
    uint64_t at = address - snapshot->stack_from, size = snapshot->stack_size;
    if (size > sizeof(snapshot->stack)) /* a process wrote it that had lost its mind */
        size = sizeof(snapshot->stack);
    if (address < snapshot->stack_from || at > size || size - at < sizeof(*word))
        return false;
    memcpy(word, snapshot->stack + at, sizeof(*word));
    return true;
}

static bool read_memory(Dwfl *dwfl, Dwarf_Addr address, Dwarf_Word *word, void *context)
{
    (void)dwfl;
    const struct symbols *symbols = context;
    uint64_t value;
    if (!read_word(symbols->snapshot, address, &value))
        return false;
    *word = value;
    return true;
}

static pid_t next_thread(Dwfl *dwfl, void *context, void **thread)
{
    (void)dwfl;
    if (*thread)
        return 0;
    *thread = context;
    return 1;
}

static bool get_thread(Dwfl *dwfl, pid_t id, void *context, void **thread)
{
    (void)dwfl;
    (void)id;
    *thread = context;
    return true;
}

static bool set_registers(Dwfl_Thread *thread, void *context)
{
    struct symbols *symbols = context;
    Dwarf_Word words[SNAPSHOT_REGISTERS];
    for (size_t i = 0; i < SNAPSHOT_REGISTERS; i++)
        words[i] = symbols->registers[i];
#if defined(__x86_64__)
    return dwfl_thread_state_registers(thread, 0, COUNTER_REGISTER + 1, words);
#else
    if (!dwfl_thread_state_registers(thread, 0, COUNTER_REGISTER, words))
        return false;
    dwfl_thread_state_register_pc(thread, words[COUNTER_REGISTER]);
    return true;
#endif
}

static void place(const struct symbols *symbols, struct symbols_frame *frame)
{
    const struct module *module = module_at(symbols, frame->calls ? frame->address - 1 : frame->address);
    if (!module)
        return;
    snprintf(frame->module, sizeof(frame->module), "%.63s", symbols_maps_base(module->path));
    memcpy(frame->path, module->path, sizeof(frame->path));
    frame->offset = frame->address - module->bias;
}

static void add_frame(struct symbols *symbols, uint64_t address, bool calls)
{
    struct symbols_frame *frame = &symbols->frames[symbols->used++];
    *frame = (struct symbols_frame){.address = address, .calls = calls};
    place(symbols, frame);
}

static int on_frame(Dwfl_Frame *state, void *context)
{
    struct symbols *symbols = context;
    Dwarf_Addr address;
    bool activation;
    if (!dwfl_frame_pc(state, &address, &activation) || symbols->used == symbols->most)
        return DWARF_CB_ABORT;
    if (!module_at(symbols, address))
        return DWARF_CB_ABORT;
    if (activation && symbols->left)
        add_frame(symbols, address + 1, true);
    else
        add_frame(symbols, address, !activation);
    return DWARF_CB_OK;
}

/* A call to an address that is none: the frame of it is raw, and the caller is where its return address
 * leads. */
static void leave_wild_call(struct symbols *symbols)
{
    uint64_t *registers = symbols->registers, caller;
    if (module_at(symbols, registers[COUNTER_REGISTER]))
        return;
    add_frame(symbols, registers[COUNTER_REGISTER], false);
#if defined(__x86_64__)
    if (!read_word(symbols->snapshot, registers[POINTER_REGISTER], &caller))
        return;
    registers[POINTER_REGISTER] += sizeof(caller);
#else
    caller = registers[LINK_REGISTER];
#endif
    registers[COUNTER_REGISTER] = caller - 1;
    symbols->left = true;
}

static const Dwfl_Callbacks dwfl_callbacks = {.find_elf = dwfl_build_id_find_elf,
                                              .find_debuginfo = dwfl_standard_find_debuginfo,
                                              .debuginfo_path = NULL};
static const Dwfl_Thread_Callbacks thread_callbacks = {.next_thread = next_thread,
                                                       .get_thread = get_thread,
                                                       .memory_read = read_memory,
                                                       .set_initial_registers = set_registers};

/* Makes a Dwfl of those modules; that of the snapshot before is kept where it fits: workers of one generation
 * are forked from one process. */
static bool prepare(struct symbols *symbols)
{
    const struct snapshot *snapshot = symbols->snapshot;
    size_t size = snapshot->maps_size < sizeof(snapshot->maps) ? snapshot->maps_size : sizeof(snapshot->maps);
    size_t count = modules_list(snapshot->maps, size, symbols->wanted);
    bool same = symbols->dwfl && modules_are_same(symbols->modules, symbols->count, symbols->wanted, count);
    if (same && !modules_drop_overwritten(symbols->modules, count))
        return true;
    if (symbols->dwfl)
        dwfl_end(symbols->dwfl);
    if (!same)
        memcpy(symbols->modules, symbols->wanted, count * sizeof(*symbols->modules));
    symbols->count = count;
    symbols->attached = false;
    symbols->dwfl = dwfl_begin(&dwfl_callbacks);
    if (!symbols->dwfl)
        return false;
    dwfl_report_begin(symbols->dwfl);
    for (size_t i = 0; i < count; i++)
        report_module(symbols, &symbols->modules[i]);
    dwfl_report_end(symbols->dwfl, NULL, NULL);
    symbols->attached = dwfl_attach_state(symbols->dwfl, NULL, 1, &thread_callbacks, symbols);
    return true;
}

void symbols_warm(struct symbols *symbols, const struct snapshot *snapshot)
{
    symbols->snapshot = snapshot;
    if (snapshot->maps_size == 0 || !prepare(symbols))
        return;
    for (size_t i = 0; i < symbols->count; i++) {
        Dwfl_Module *module = dwfl_addrmodule(symbols->dwfl, symbols->modules[i].start);
        Dwarf_Addr bias;
        if (!module)
            continue;
        (void)dwfl_module_getsymtab(module); /* what fails here fails later, too */
        (void)dwfl_module_eh_cfi(module, &bias);
        (void)dwfl_module_getdwarf(module, &bias);
    }
}

size_t symbols_unwind(struct symbols *symbols, const struct snapshot *snapshot, struct symbols_frame *frames,
                      size_t most, const char **why)
{
    symbols->snapshot = snapshot;
    symbols->frames = frames;
    symbols->most = most;
    symbols->used = 0;
    symbols->left = false;
    memcpy(symbols->registers, snapshot->registers, sizeof(symbols->registers));
    *why = "the process could not list its mappings";
    if (snapshot->maps_size == 0 || !prepare(symbols))
        return 0;
    *why = "its program counter and its stack pointer lead nowhere";
    leave_wild_call(symbols);
    size_t wild = symbols->used;
    if (symbols->attached)
        (void)dwfl_getthread_frames(symbols->dwfl, 1, on_frame, symbols); /* what was found is found */
    uint64_t counter = symbols->registers[COUNTER_REGISTER];
    if (symbols->used == wild && module_at(symbols, counter))
        add_frame(symbols, symbols->left ? counter + 1 : counter, symbols->left);
    return symbols->used;
}

size_t symbols_name(struct symbols *symbols, struct symbols_frame *frames, size_t count, size_t most)
{
    return symbols->dwfl ? names_find(symbols->dwfl, frames, count, most) : count;
}

/* --- life --- */

struct symbols *symbols_new(void)
{
    struct symbols *symbols = calloc(1, sizeof(*symbols));
    if (!symbols)
        return NULL;
    symbols->modules = calloc(MODULES_MAX, sizeof(*symbols->modules));
    symbols->wanted = calloc(MODULES_MAX, sizeof(*symbols->wanted));
    if (!symbols->modules || !symbols->wanted) {
        symbols_free(symbols);
        return NULL;
    }
    unsetenv("DEBUGINFOD_URLS"); /* what is looked up is looked up here, at once */
    elf_version(EV_CURRENT);
    return symbols;
}

void symbols_free(struct symbols *symbols)
{
    if (symbols->dwfl)
        dwfl_end(symbols->dwfl);
    free(symbols->modules);
    free(symbols->wanted);
    free(symbols);
}
