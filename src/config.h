/* The configuration file: `name = value`, a line each, after inih. Empty lines, lines that begin with # or ;,
 * and what follows " ;" in a line mean nothing. */
#ifndef CONFIG_H
#define CONFIG_H

/* Called for each name. section: "" outside of any. Strings are valid during the call. */
typedef void config_listener(void *context, int line, const char *section, const char *name,
                             const char *value);
/* Called for each line that is none of what a file may have. */
typedef void config_complaint(void *context, int line, const char *why);

/* Reads all of the file. -1 with errno where it cannot be read. */
int config_read(const char *path, config_listener *listener, config_complaint *complaint, void *context);

#endif
