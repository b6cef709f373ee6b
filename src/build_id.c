#include "build_id.h"

#include <elf.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct search {
    uintptr_t address; /* in the library */
    char *text;
    size_t size;
};

static void write_hex(const unsigned char *bytes, size_t count, char *text, size_t size)
{
    for (size_t i = 0; i < count && 2 * i + 3 <= size; i++)
        snprintf(text + 2 * i, size - 2 * i, "%02x", bytes[i]);
}

static size_t aligned(size_t size)
{
    return (size + 3) & ~(size_t)3;
}

static void read_notes(const unsigned char *notes, size_t size, const struct search *search)
{
    ElfW(Nhdr) header;
    while (size >= sizeof(header)) {
        memcpy(&header, notes, sizeof(header));
        size_t length = sizeof(header) + aligned(header.n_namesz) + aligned(header.n_descsz);
        if (length > size)
            return;
        if (header.n_type == NT_GNU_BUILD_ID && header.n_namesz == 4 &&
            memcmp(notes + sizeof(header), "GNU", 4) == 0)
            write_hex(notes + sizeof(header) + 4, header.n_descsz, search->text, search->size);
        notes += length;
        size -= length;
    }
}

static int look_at_library(struct dl_phdr_info *info, size_t size, void *context)
{
    const struct search *search = context;
    bool holds = false;
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        holds |=
            part->p_type == PT_LOAD && search->address - (info->dlpi_addr + part->p_vaddr) < part->p_memsz;
    }
    for (int i = 0; holds && i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type == PT_NOTE)
            read_notes((const unsigned char *)(info->dlpi_addr + part->p_vaddr), part->p_memsz, search);
    }
    return holds;
}

void build_id_find(const void *address, char *text, size_t size)
{
    struct search search = {.address = (uintptr_t)address, .text = text, .size = size};
    *text = '\0';
    (void)dl_iterate_phdr(look_at_library, &search);
}
