#include "rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "text.h"

void rows_begin(struct rows *rows, const char *command)
{
    *rows = (struct rows){0};
    rows->out = open_memstream(&rows->text, &rows->size);
    if (!rows->out) {
        fprintf(stderr, "cohab: %s: %s\n", command, strerror(errno));
        exit(CLI_CALL_FAILED);
    }
}

void rows_put_heading(struct rows *rows, const char *const *names)
{
    for (size_t i = 0; names[i]; i++) {
        text_paint(rows->out, TEXT_DIM, names[i]);
        fputc(names[i + 1] ? '\t' : '\n', rows->out);
    }
}

void rows_print(struct rows *rows, const char *alignment)
{
    fclose(rows->out);
    text_put_table(stdout, rows->text, alignment);
    free(rows->text);
}
