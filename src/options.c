#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "config.h"
#include "option_table.h"

#define EXIT_USAGE   2
#define RULES_MAX    64
#define PROBLEM_SIZE 1024
#define HELP_COLUMN  26
#define HELP_WIDTH   100

/* Where a value comes from; what comes later in this list wins. */
enum origin { ORIGIN_DEFAULT, ORIGIN_FILE, ORIGIN_ENVIRONMENT, ORIGIN_OPTION };

/* What has been given, by index of option_rules. */
struct given {
    enum origin origin;
    int line;         /* of the file */
    const char *text; /* NULL: nothing */
};

static struct given given[RULES_MAX];
/* What the file says. */
static struct {
    const char *path;
    unsigned errors;
    int engine_line, argument_line;
    char *engine;
    int argc;
    char **argv;
} file;

__attribute__((format(printf, 1, 2))) _Noreturn static void usage_error(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("cohabd: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs("; see cohabd --help\n", stderr);
    va_end(arguments);
    exit(EXIT_USAGE);
}

static void *or_die(void *memory)
{
    if (!memory)
        fatal("out of memory");
    return memory;
}

/* --- the help --- */

/* The words of text, in lines that begin at this column. */
static void print_wrapped(const char *text, int column)
{
    int at = column;
    for (bool first = true; *text; first = false) {
        int length = (int)strcspn(text, " ");
        bool fits = at + 1 + length <= HELP_WIDTH;
        if (!first && !fits) {
            printf("\n%*s", column, "");
            at = column;
        }
        at += printf("%s%.*s", first || !fits ? "" : " ", length, text);
        text += length + (text[length] == ' ');
    }
    putchar('\n');
}

static void print_rule(const struct option_rule *rule)
{
    char text[512];
    if (rule->group)
        printf("\n%s:\n", rule->group);
    int at = printf("  --%s%s%s", rule->name, rule->value ? " " : "", rule->value ? rule->value : "");
    if (!rule->help) {
        putchar('\n');
        return;
    }
    snprintf(text, sizeof(text), rule->standard ? "%s (%s)" : "%s", rule->help,
             rule->standard ? rule->standard : "");
    if (at >= HELP_COLUMN) {
        putchar('\n');
        at = 0;
    }
    printf("%*s", HELP_COLUMN - at, "");
    print_wrapped(text, HELP_COLUMN);
}

_Noreturn static void print_help(void)
{
    puts("Usage: cohabd [options] ENGINE [-- engine arguments]\n"
         "\n"
         "Serves ENGINE, a shared library, from worker processes behind one Unix socket. Runs in the\n"
         "foreground. An ENGINE without a slash is looked up among the installed engines: spell means\n"
         "libspell.so there.");
    for (size_t i = 0; i < option_count; i++)
        print_rule(&option_rules[i]);
    puts("\n"
         "Sizes take K, M, G; times are seconds. What is not given here is taken from the environment\n"
         "(COHAB_MAX_FRAME for --max-frame; switches take on or off), then from the file of --config.\n"
         "SIGTERM and SIGINT stop gracefully, a second one or SIGQUIT at once; SIGHUP reloads the engine.");
    exit(EXIT_SUCCESS);
}

/* --- giving values --- */

static size_t index_of(const struct option_rule *rule)
{
    return (size_t)(rule - option_rules);
}

/* Where words of an equal or a higher rank have been given already, only looks whether the value is one. */
static int give(struct options *options, const struct option_rule *rule, enum origin origin, int line,
                const char *text, char *problem, size_t size)
{
    struct given *before = &given[index_of(rule)];
    struct options ignored = *options;
    bool wins = origin >= before->origin;
    if (option_set(wins ? options : &ignored, rule, text, problem, size) < 0)
        return -1;
    if (wins)
        *before = (struct given){.origin = origin, .line = line, .text = text};
    return 0;
}

static unsigned core_count(void)
{
    cpu_set_t set;
    int count =
        sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : (unsigned)count > WORKERS_MAX ? WORKERS_MAX : (unsigned)count;
}

static void take_defaults(struct options *options)
{
    char problem[PROBLEM_SIZE];
    *options = (struct options){.workers_min = core_count(), .lifeline = -1, .listener = -1};
    options->workers_max = options->workers_min;
    memset(given, 0, sizeof(given));
    if (option_count > RULES_MAX)
        abort();
    for (size_t i = 0; i < option_count; i++)
        if (option_rules[i].standard &&
            option_set(options, &option_rules[i], option_rules[i].standard, problem, sizeof(problem)) < 0)
            fatal("--%s %s: %s", option_rules[i].name, option_rules[i].standard, problem);
}

/* --- the environment --- */

/* "on" and "off", and what else people write. */
static const char *read_on_or_off(const struct option_rule *rule, const char *text)
{
    static const char *const words[][2] = {{"1", "on"},  {"true", "on"}, {"yes", "on"},
                                           {"0", "off"}, {"no", "off"},  {"false", "off"}};
    if (rule->kind != OPTION_FLAG && rule->kind != OPTION_SWITCH)
        return text;
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        if (strcmp(text, words[i][0]) == 0)
            return words[i][1];
    return text;
}

/* "COHAB_MAX_FRAME" */
static void name_variable(const struct option_rule *rule, char name[64])
{
    int length = snprintf(name, 64, "COHAB_%s", rule->name);
    for (int i = 0; i < length; i++)
        name[i] = name[i] == '-' ? '_' : (char)toupper((unsigned char)name[i]);
}

static void take_environment(struct options *options)
{
    char name[64], problem[PROBLEM_SIZE];
    for (size_t i = 0; i < option_count; i++) {
        const struct option_rule *rule = &option_rules[i];
        name_variable(rule, name);
        const char *text = rule->here_only ? NULL : getenv(name);
        if (!text || !*text)
            continue;
        if (give(options, rule, ORIGIN_ENVIRONMENT, 0, read_on_or_off(rule, text), problem, sizeof(problem)) <
            0)
            usage_error("%s %s", name, problem);
    }
}

/* --- the file --- */

__attribute__((format(printf, 2, 3))) static void file_error(int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "cohabd: %s:%d: ", file.path, line);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    file.errors++;
}

static void take_file_engine(int line, const char *value)
{
    if (file.engine)
        file_error(line, "'engine' stands twice; first in line %d", file.engine_line);
    else
        file.engine = or_die(strdup(value));
    if (file.engine_line == 0)
        file.engine_line = line;
}

static void take_file_argument(int line, const char *value)
{
    file.argv = or_die(realloc(file.argv, (size_t)(file.argc + 2) * sizeof(*file.argv)));
    file.argv[file.argc++] = or_die(strdup(value));
    file.argv[file.argc] = NULL;
    file.argument_line = line;
}

static void take_file_option(struct options *options, int line, const char *name, const char *value)
{
    static int lines[RULES_MAX];
    char problem[PROBLEM_SIZE];
    const struct option_rule *rule = option_find(name, strlen(name));
    if (!rule || rule->here_only) {
        file_error(line, rule ? "'%s' is an option of the command line alone" : "there is no option '%s'",
                   name);
        return;
    }
    int *first = &lines[index_of(rule)];
    if (*first > 0) {
        file_error(line, "'%s' stands twice; first in line %d", name, *first);
        return;
    }
    *first = line;
    const char *text = read_on_or_off(rule, or_die(strdup(value)));
    if (give(options, rule, ORIGIN_FILE, line, text, problem, sizeof(problem)) < 0)
        file_error(line, "%s %s", name, problem);
}

static void on_value(void *context, int line, const char *section, const char *name, const char *value)
{
    if (*section && strcmp(section, "cohab") != 0)
        file_error(line, "there is no section [%s]: options stand in [cohab], or in none", section);
    else if (strcmp(name, "engine") == 0)
        take_file_engine(line, value);
    else if (strcmp(name, "arg") == 0)
        take_file_argument(line, value);
    else
        take_file_option(context, line, name, value);
}

static void on_complaint(void *context, int line, const char *why)
{
    (void)context;
    file_error(line, "%s", why);
}

/* All that is wrong with it is said. */
static void take_file(struct options *options)
{
    if (!file.path)
        return;
    if (config_read(file.path, on_value, on_complaint, options) < 0) {
        fprintf(stderr, "cohabd: --config %s: %s\n", file.path, strerror(errno));
        exit(EXIT_USAGE);
    }
    if (file.argc > 0 && !file.engine)
        file_error(file.argument_line, "arguments of an engine, and no 'engine'");
    if (file.errors > 0)
        exit(EXIT_USAGE);
}

/* --- the command line --- */

static bool shows_config;

static void act(const struct option_rule *rule, const char *text)
{
    if (strcmp(rule->name, "version") == 0) {
        puts("cohabd " COHAB_VERSION);
        exit(EXIT_SUCCESS);
    } else if (strcmp(rule->name, "help") == 0) {
        print_help();
    } else if (strcmp(rule->name, "show-config") == 0) {
        shows_config = true;
    } else {
        file.path = text;
    }
}

/* One option, at argv[at]; returns the index behind it. */
static int take_option(struct options *options, int argc, char **argv, int at)
{
    char problem[PROBLEM_SIZE];
    const char *word = argv[at] + 2, *equals = strchr(word, '=');
    const struct option_rule *rule = option_find(word, equals ? (size_t)(equals - word) : strlen(word));
    if (!rule || (equals && !rule->value && rule->kind != OPTION_FLAG))
        usage_error("unknown option %s", argv[at]);
    const char *text = equals ? equals + 1 : rule->value ? argv[at + 1] : "on";
    if (!equals && rule->value && at + 1 >= argc)
        usage_error("%s needs a value", argv[at]);
    if (rule->kind == OPTION_ACTION)
        act(rule, text);
    else if (give(options, rule, ORIGIN_OPTION, 0, text, problem, sizeof(problem)) < 0)
        usage_error("--%s %s", rule->name, problem);
    return at + (!equals && rule->value ? 2 : 1);
}

/* Abbreviations are none: what they mean would change with every new option. Returns the index of the engine,
 * or argc. */
static int take_command_line(struct options *options, int argc, char **argv)
{
    int at = 1;
    while (at < argc && argv[at][0] == '-' && strcmp(argv[at], "--") != 0) {
        if (argv[at][1] != '-')
            usage_error("unknown option %s", argv[at]);
        at = take_option(options, argc, argv, at);
    }
    return at < argc && strcmp(argv[at], "--") == 0 ? at + 1 : at;
}

/* --- the engine --- */

/* "spell" and "libspell.so" both mean libspell.so. */
static char *engine_candidate(const char *directory, const char *name)
{
    char *path;
    const char *suffix = strrchr(name, '.');
    bool is_file = suffix && strcmp(suffix, ".so") == 0;
    return asprintf(&path, is_file ? "%s/%s" : "%s/lib%s.so", directory, name) < 0 ? NULL : path;
}

static char *engine_look_up(const char *name, char *problem, size_t size)
{
    char executable[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", executable, sizeof(executable) - 1);
    if (length < 0) {
        snprintf(problem, size, "cannot read /proc/self/exe: %m; is /proc mounted?");
        return NULL;
    }
    executable[length] = '\0';
    *strrchr(executable, '/') = '\0';
    char installed[PATH_MAX + 64], built[PATH_MAX + 64];
    snprintf(installed, sizeof(installed), "%s/../" COHAB_ENGINE_DIR, executable);
    snprintf(built, sizeof(built), "%s/engine", executable);
    const char *const directories[] = {built, installed};
    for (size_t i = 0; i < 2; i++) {
        char *path = engine_candidate(directories[i], name);
        if (path && access(path, R_OK) == 0)
            return path;
        free(path);
    }
    snprintf(problem, size, "no engine named '%s' in %s or %s; give a path with a slash for a file elsewhere",
             name, built, installed);
    return NULL;
}

char *options_find_engine(const char *name, char *problem, size_t size)
{
    *problem = '\0';
    char *found = strchr(name, '/') ? strdup(name) : engine_look_up(name, problem, size);
    char *path = found ? realpath(found, NULL) : NULL;
    free(found);
    if (path && access(path, R_OK) == 0)
        return path;
    if (!*problem)
        snprintf(problem, size, "cannot open engine %s: %m", name);
    free(path);
    return NULL;
}

void options_check_directories(const struct options *options)
{
    const char *directory = options->crash_dir;
    if (!directory)
        return;
    struct stat status;
    if (stat(directory, &status) < 0)
        fatal("--crash-dir %s: %m", directory);
    if (!S_ISDIR(status.st_mode))
        fatal("--crash-dir %s is not a directory", directory);
    if (access(directory, W_OK | X_OK) < 0)
        fatal("--crash-dir %s: %m; cohabd runs as uid %u", directory, (unsigned)geteuid());
}

/* That of the command line, with its arguments; else that of the file. */
static void take_engine(struct options *options, int argc, char **argv, int at)
{
    bool separated = at > 1 && strcmp(argv[at - 1], "--") == 0;
    if (at >= argc || (separated && file.engine)) {
        options->engine_name = file.engine;
        options->engine_argv = file.argv ? file.argv : argv + argc;
        options->engine_argc = file.argc;
        if (at < argc) { /* -- and arguments: they replace those of the file */
            options->engine_argv = argv + at;
            options->engine_argc = argc - at;
        }
        return;
    }
    if (at + 1 < argc && strcmp(argv[at + 1], "--") != 0)
        usage_error("'%s' after the engine: options come before it, engine arguments after --", argv[at + 1]);
    options->engine_name = argv[at];
    options->engine_argv = argv + (at + 2 < argc ? at + 2 : argc);
    options->engine_argc = at + 2 < argc ? argc - at - 2 : 0;
}

static void find_engine(struct options *options)
{
    char problem[PATH_MAX * 3];
    if (!options->engine_name)
        usage_error("no engine given");
    options->engine_path = options_find_engine(options->engine_name, problem, sizeof(problem));
    if (!options->engine_path)
        fatal("%s", problem);
}

/* --- the whole --- */

/* What children are given: all that is not as it is anyway. */
static void write_words(struct options *options)
{
    options->words = or_die(calloc(option_count + 1, sizeof(*options->words)));
    options->word_count = 0;
    for (size_t i = 0; i < option_count; i++) {
        const struct option_rule *rule = &option_rules[i];
        char *word;
        if (!given[i].text || (rule->kind == OPTION_FLAG && strcmp(given[i].text, "on") != 0))
            continue;
        int length = rule->kind == OPTION_FLAG ? asprintf(&word, "--%s", rule->name)
                                               : asprintf(&word, "--%s=%s", rule->name, given[i].text);
        if (length < 0)
            fatal("out of memory");
        options->words[options->word_count++] = word;
    }
}

static void print_value(const char *name, const char *value, const char *origin)
{
    printf("%-20s %-24s # %s\n", name, value ? value : "", origin);
}

_Noreturn static void show_config(const struct options *options)
{
    for (size_t i = 0; i < option_count; i++) {
        const struct option_rule *rule = &option_rules[i];
        const struct given *value = &given[i];
        char origin[PATH_MAX + 32] = "default", variable[64];
        if (rule->here_only)
            continue;
        name_variable(rule, variable);
        if (value->origin == ORIGIN_FILE)
            snprintf(origin, sizeof(origin), "%s:%d", file.path, value->line);
        else if (value->origin == ORIGIN_ENVIRONMENT)
            snprintf(origin, sizeof(origin), "environment, %s", variable);
        else if (value->origin == ORIGIN_OPTION)
            snprintf(origin, sizeof(origin), "command line");
        bool off = !value->text && (rule->kind == OPTION_FLAG);
        print_value(rule->name, value->text ? value->text : off ? "off" : rule->standard, origin);
    }
    bool from_file = options->engine_name && options->engine_name == file.engine;
    char origin[PATH_MAX + 32] = "command line";
    if (from_file)
        snprintf(origin, sizeof(origin), "%s:%d", file.path, file.engine_line);
    print_value("engine", options->engine_name, options->engine_name ? origin : "not given");
    for (int i = 0; i < options->engine_argc; i++)
        print_value("arg", options->engine_argv[i],
                    options->engine_argv == file.argv ? file.path : "command line");
    exit(EXIT_SUCCESS);
}

static void settle(struct options *options)
{
    if (options->default_timeout > options->max_timeout)
        usage_error("--default-timeout is longer than --max-timeout");
    if (options->default_timeout == 0)
        options->default_timeout =
            options->max_timeout < 30 * CLOCK_NS_PER_S ? options->max_timeout : 30 * CLOCK_NS_PER_S;
    if (options->socket && !*options->socket)
        options->socket = NULL;
    log_set_level(options->log_level);
    log_set_format(options->log_format);
}

void options_parse(struct options *options, int argc, char **argv, enum options_use use)
{
    take_defaults(options);
    int at = take_command_line(options, argc, argv); /* names the file, and wins over it */
    if (use == OPTIONS_USER) {
        take_environment(options);
        take_file(options);
    }
    take_engine(options, argc, argv, at);
    if (shows_config)
        show_config(options);
    settle(options);
    if (use == OPTIONS_ROLE)
        return;
    if (!options->check && !options->replay && !options->socket)
        usage_error("--socket PATH (or COHAB_SOCKET) is needed");
    find_engine(options);
    write_words(options);
}
