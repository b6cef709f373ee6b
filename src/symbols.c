#include "symbols.h"

#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "symbols_names.h"

#define MODULES_MAX 512u

#if defined(__x86_64__)
#define POINTER_REGISTER 7u
#define COUNTER_REGISTER 16u
#else
#define POINTER_REGISTER 31u
#define COUNTER_REGISTER 32u
#define LINK_REGISTER    30u
#endif

/* A mapped file with code in it. */
struct module {
    uint64_t start, end;
    uint64_t offset; /* in the file, at start */
    uint64_t bias;   /* addresses in memory are so much higher than in the file */
    uint64_t inode;
    unsigned major, minor;
    bool known; /* the file could be read, and is the same */
    char path[SYMBOLS_PATH_SIZE];
};

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

/* --- modules --- */

static struct module *find_module(struct module *modules, size_t count, const struct symbols_mapping *mapping)
{
    if (count == 0)
        return NULL;
    struct module *last = &modules[count - 1]; /* a file's mappings follow each other */
    return last->inode == mapping->inode && strcmp(last->path, mapping->path) == 0 &&
                   mapping->offset >= last->offset
               ? last
               : NULL;
}

static bool is_code_file(const struct symbols_mapping *mapping)
{
    return mapping->path[0] == '/'
               ? strncmp(mapping->path, "/dev/", 5) != 0 && strncmp(mapping->path, "/proc/", 6) != 0
               : strcmp(mapping->path, "[vdso]") == 0;
}

/* Files of which a part is executable; `known` says at first that the file has not been deleted. */
static size_t list_modules(const struct snapshot *snapshot, struct module *modules)
{
    struct symbols_mapping mapping;
    size_t count = 0, kept = 0;
    static bool executable[MODULES_MAX];
    for (size_t at = 0; symbols_maps_next(snapshot->maps, snapshot->maps_size, &at, &mapping);) {
        if (!is_code_file(&mapping))
            continue;
        struct module *module = find_module(modules, count, &mapping);
        if (!module && count == MODULES_MAX)
            break;
        if (!module) {
            module = &modules[count];
            executable[count++] = false;
            *module = (struct module){.start = mapping.start,
                                      .offset = mapping.offset,
                                      .inode = mapping.inode,
                                      .major = mapping.major,
                                      .minor = mapping.minor,
                                      .known = !mapping.deleted};
            memcpy(module->path, mapping.path, sizeof(module->path));
        }
        module->end = mapping.end;
        executable[module - modules] |= mapping.executable;
    }
    for (size_t i = 0; i < count; i++)
        if (executable[i])
            modules[kept++] = modules[i];
    return kept;
}

static bool same_modules(const struct symbols *symbols, const struct module *modules, size_t count)
{
    if (!symbols->dwfl || count != symbols->count)
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct module *a = &symbols->modules[i], *b = &modules[i];
        if (a->start != b->start || a->end != b->end || a->inode != b->inode || strcmp(a->path, b->path) != 0)
            return false;
    }
    return true;
}

static const struct module *module_at(const struct symbols *symbols, uint64_t address)
{
    for (size_t i = 0; i < symbols->count; i++)
        if (address >= symbols->modules[i].start && address < symbols->modules[i].end)
            return &symbols->modules[i];
    return NULL;
}

/* --- files --- */

/* This process's own: the kernel gives every process the same. */
static int open_vdso(void)
{
    const unsigned char *image = (const void *)getauxval(AT_SYSINFO_EHDR);
    int memfd = image ? memfd_create("cohab-vdso", MFD_CLOEXEC) : -1;
    if (memfd < 0)
        return -1;
    struct symbols_mapping mapping;
    char line[1024];
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps && fgets(line, sizeof(line), maps)) {
        size_t at = 0, length = strcspn(line, "\n");
        if (symbols_maps_next(line, length, &at, &mapping) && strcmp(mapping.path, "[vdso]") == 0 &&
            write(memfd, image, mapping.end - mapping.start) < 0)
            break;
    }
    if (maps)
        fclose(maps);
    return memfd;
}

/* The file, if it still is the one that was mapped. File systems without a device of their own (major 0:
 * overlay, btrfs) show other numbers in maps than stat(2) does. */
static int open_module(const struct module *module)
{
    struct stat status;
    if (module->path[0] == '[')
        return open_vdso();
    int file = module->known ? open(module->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;
    if (file < 0)
        return -1;
    if (fstat(file, &status) == 0 && S_ISREG(status.st_mode) &&
        (status.st_ino == module->inode || module->major == 0))
        return file;
    close(file);
    return -1;
}

/* The segment that was mapped first says how far the addresses were moved. */
static bool find_bias(int file, struct module *module)
{
    bool found = false;
    size_t count = 0;
    Elf *elf = elf_begin(file, ELF_C_READ_MMAP, NULL);
    if (!elf || elf_kind(elf) != ELF_K_ELF || elf_getphdrnum(elf, &count) < 0)
        count = 0;
    for (size_t i = 0; i < count && !found; i++) {
        GElf_Phdr part;
        if (!gelf_getphdr(elf, (int)i, &part) || part.p_type != PT_LOAD)
            continue;
        uint64_t page = ~(uint64_t)(sysconf(_SC_PAGESIZE) - 1);
        found = (part.p_offset & page) == module->offset;
        module->bias = module->start - (part.p_vaddr & page);
    }
    elf_end(elf);
    return found;
}

static void report_module(struct symbols *symbols, struct module *module)
{
    int file = open_module(module);
    module->known = file >= 0 && find_bias(file, module) &&
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
    uint64_t at = address - snapshot->stack_from;
    if (address < snapshot->stack_from || at > snapshot->stack_size ||
        snapshot->stack_size - at < sizeof(*word))
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
    size_t count = list_modules(symbols->snapshot, symbols->wanted);
    if (same_modules(symbols, symbols->wanted, count))
        return true;
    if (symbols->dwfl)
        dwfl_end(symbols->dwfl);
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

bool symbols_locate(const char *maps, size_t size, uint64_t address, struct symbols_frame *frame)
{
    struct symbols_mapping mapping;
    for (size_t at = 0; symbols_maps_next(maps, size, &at, &mapping);) {
        if (!mapping.path[0] || address < mapping.start || address >= mapping.end)
            continue;
        *frame =
            (struct symbols_frame){.address = address, .offset = address - mapping.start + mapping.offset};
        snprintf(frame->module, sizeof(frame->module), "%.63s", symbols_maps_base(mapping.path));
        memcpy(frame->path, mapping.path, sizeof(frame->path));
        return true;
    }
    return false;
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
