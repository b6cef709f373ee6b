#include "preload.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

#define TUNABLES  "GLIBC_TUNABLES"
#define HUGETLB   "glibc.malloc.hugetlb"
#define REQUEST   HUGETLB "=1"
#define HUGE_PAGE (UINT64_C(2) << 20)

/* --- the environment --- */

void preload_request(void)
{
    const char *others = getenv(TUNABLES);
    char *all = NULL;
    if (others && strstr(others, HUGETLB))
        return;
    if (asprintf(&all, "%s%s" REQUEST, others ? others : "", others ? ":" : "") < 0)
        return;
    (void)setenv(TUNABLES, all, 1);
    free(all);
}

void preload_forget_request(void)
{
    char *all = getenv(TUNABLES);
    size_t length = all ? strlen(all) : 0, request = strlen(REQUEST);
    if (length < request || strcmp(all + length - request, REQUEST) != 0)
        return;
    if (length == request)
        unsetenv(TUNABLES);
    else
        all[length - request - 1] = '\0'; /* and the colon */
}

/* --- memory --- */

/* A mapping, as /proc/self/smaps shows it; sizes in bytes. */
struct mapping {
    uintptr_t from, to;
    size_t resident, huge;
    bool is_data; /* private and anonymous, and not the stack */
};

static bool read_head(const char *line, struct mapping *mapping)
{
    unsigned long inode;
    char mode[5];
    int name = 0;
    if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s %*s %*s %lu %n", &mapping->from, &mapping->to, mode,
               &inode, &name) < 4)
        return false;
    mapping->is_data =
        inode == 0 && strcmp(mode, "rw-p") == 0 && strncmp(line + name, "[stack", strlen("[stack")) != 0;
    return true;
}

static void read_size(const char *line, const char *key, size_t *size)
{
    size_t kib;
    if (strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), "%zu", &kib) == 1)
        *size = kib * 1024;
}

static void put_on_huge_pages(const struct mapping *mapping)
{
    uintptr_t from = (mapping->from + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    uintptr_t to = mapping->to / HUGE_PAGE * HUGE_PAGE;
    /* One that is mostly untouched stays so: collapsing would fill its holes. */
    bool dense = mapping->resident >= (mapping->to - mapping->from) / 4 * 3;
    if (from >= to || !dense || mapping->resident - mapping->huge < HUGE_PAGE)
        return;
    if (madvise((void *)from, to - from, MADV_COLLAPSE) < 0) /* an older kernel does it by and by */
        (void)madvise((void *)from, to - from, MADV_HUGEPAGE);
}

static void settle(const struct mapping *mapping, bool huge_pages)
{
    if (!mapping->is_data)
        return;
    (void)madvise((void *)mapping->from, mapping->to - mapping->from, MADV_DONTDUMP);
    if (huge_pages)
        put_on_huge_pages(mapping);
}

void preload_settle(void)
{
    FILE *maps = fopen("/proc/self/smaps", "re");
    const char *decided = getenv(TUNABLES);
    bool huge_pages = !(decided && strstr(decided, HUGETLB));
    char line[512];
    struct mapping mapping = {0};
    while (maps && fgets(line, sizeof(line), maps)) {
        read_size(line, "Rss:", &mapping.resident);
        read_size(line, "AnonHugePages:", &mapping.huge);
        if (strncmp(line, "VmFlags:", strlen("VmFlags:")) == 0) { /* the last line of a mapping */
            settle(&mapping, huge_pages);
            mapping = (struct mapping){0};
        } else {
            (void)read_head(line, &mapping);
        }
    }
    if (maps)
        fclose(maps);
}
