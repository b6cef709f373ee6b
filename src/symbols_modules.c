#include "symbols_modules.h"

#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_code_file(const struct symbols_mapping *mapping)
{
    return mapping->path[0] == '/'
               ? strncmp(mapping->path, "/dev/", 5) != 0 && strncmp(mapping->path, "/proc/", 6) != 0
               : strcmp(mapping->path, "[vdso]") == 0;
}

size_t modules_list(const char *maps, size_t size, struct module *modules)
{
    struct symbols_mapping mapping, first = {0};
    size_t count = 0;
    bool listed = false; /* the file of first is modules[count - 1] */
    for (size_t at = 0; symbols_maps_next(maps, size, &at, &mapping);) {
        if (!is_code_file(&mapping))
            continue;
        if (!symbols_maps_same_file(&first, &mapping)) {
            first = mapping;
            listed = false;
        }
        if (mapping.executable && !listed) {
            if (count == MODULES_MAX)
                break;
            struct module *module = &modules[count++];
            *module = (struct module){.start = first.start,
                                      .offset = first.offset,
                                      .inode = first.inode,
                                      .major = first.major,
                                      .minor = first.minor,
                                      .known = !first.deleted};
            memcpy(module->path, first.path, sizeof(module->path));
            listed = true;
        }
        if (listed)
            modules[count - 1].end = mapping.end;
    }
    return count;
}

bool modules_are_same(const struct module *a, size_t a_count, const struct module *b, size_t b_count)
{
    if (a_count != b_count)
        return false;
    for (size_t i = 0; i < a_count; i++)
        if (a[i].start != b[i].start || a[i].end != b[i].end || a[i].inode != b[i].inode ||
            strcmp(a[i].path, b[i].path) != 0)
            return false;
    return true;
}

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

/* File systems without a device of their own (major 0: overlay, btrfs) show other numbers in maps than
 * stat(2) does. */
static bool is_the_file(const struct module *module, const struct stat *status)
{
    return S_ISREG(status->st_mode) && (status->st_ino == module->inode || module->major == 0);
}

int modules_open(struct module *module)
{
    struct stat status;
    if (module->path[0] == '[')
        return open_vdso();
    if (!module->known || stat(module->path, &status) < 0 || !is_the_file(module, &status))
        return -1; /* a pipe or a device is not so much as opened */
    int file = open(module->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0)
        return -1;
    if (fstat(file, &status) == 0 && is_the_file(module, &status)) {
        module->identity = (struct module_identity){.device = status.st_dev,
                                                    .inode = status.st_ino,
                                                    .size = status.st_size,
                                                    .written = status.st_mtim};
        return file;
    }
    close(file);
    return -1;
}

/* One that was replaced is not: the old one goes on to be what it was for those who have it open. */
static bool was_overwritten(const struct module *module)
{
    struct stat status;
    const struct module_identity *known = &module->identity;
    if (!module->known || module->path[0] == '[' || stat(module->path, &status) < 0 ||
        status.st_dev != known->device || status.st_ino != known->inode)
        return false;
    return status.st_size != known->size || status.st_mtim.tv_sec != known->written.tv_sec ||
           status.st_mtim.tv_nsec != known->written.tv_nsec;
}

bool modules_drop_overwritten(struct module *modules, size_t count)
{
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        if (!was_overwritten(&modules[i]))
            continue;
        modules[i].known = false;
        any = true;
    }
    return any;
}

/* The segment that was mapped first says how far the addresses were moved. */
bool modules_find_bias(int file, struct module *module)
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
