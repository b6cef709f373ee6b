#include "log_line.h"

#include <stdio.h>
#include <string.h>

#include "text.h"
#include "utf8.h"

/* The longest text of a field: what comes after it wants room, too. */
#define FIELD_MAX 512
/* What ends a JSON line: a quote, a brace and the end of the line. */
#define JSON_END 3

static const char *const level_names[] = {
    [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"};
/* As syslog(3) counts. */
static const unsigned priorities[] = {[LOG_ERROR] = 3, [LOG_WARN] = 4, [LOG_INFO] = 6, [LOG_DEBUG] = 7};

const char *log_level_name(enum log_level level)
{
    return level_names[level];
}

int log_level_parse(const char *word)
{
    for (int i = LOG_ERROR; i <= LOG_DEBUG; i++)
        if (strcmp(word, level_names[i]) == 0)
            return i;
    return -1;
}

int log_line_priority(const char *line, size_t size)
{
    if (size < LOG_PRIORITY_SIZE || line[0] != '<' || line[1] < '0' || line[1] > '7' || line[2] != '>')
        return -1;
    unsigned priority = (unsigned)(line[1] - '0');
    for (int level = LOG_ERROR; level < LOG_DEBUG; level++)
        if (priority <= priorities[level])
            return level;
    return LOG_DEBUG;
}

/* --- JSON --- */

struct json {
    char *line;
    size_t used;
};

static size_t room(const struct json *json)
{
    return json->used < LOG_LINE_SIZE - JSON_END ? LOG_LINE_SIZE - JSON_END - json->used : 0;
}

/* One character, escaped where it has to be. Returns how many bytes of it were read. */
static size_t escape(const char *at, size_t left, char text[8])
{
    unsigned char byte = (unsigned char)*at;
    size_t length = utf8_length((const unsigned char *)at, left);
    if (length == 0) {
        strcpy(text, "\\ufffd");
        return 1;
    }
    if (byte == '"' || byte == '\\') {
        snprintf(text, 8, "\\%c", byte);
    } else if (byte < ' ' || byte == 0x7f) {
        snprintf(text, 8, "\\u%04x", byte);
    } else {
        memcpy(text, at, length);
        text[length] = '\0';
    }
    return length;
}

/* A string, cut before a character where there is no more room. */
static void put_string(struct json *json, const char *value, size_t most)
{
    size_t left = strnlen(value, most);
    json->line[json->used++] = '"';
    while (left > 0) {
        char text[8];
        size_t length = escape(value, left, text), size = strlen(text);
        if (size > room(json))
            break;
        memcpy(json->line + json->used, text, size);
        json->used += size;
        value += length;
        left -= length;
    }
    json->line[json->used++] = '"';
}

/* A comma and the key; false where neither it nor its value has room. */
static bool put_key(struct json *json, const char *key)
{
    if (strlen(key) + 32 > room(json))
        return false;
    json->used += (size_t)sprintf(json->line + json->used,
                                  "%s\"%s\":", json->line[json->used - 1] == '{' ? "" : ",", key);
    return true;
}

static void put_text_field(struct json *json, const char *key, const char *value)
{
    if (value && *value && put_key(json, key))
        put_string(json, value, FIELD_MAX);
}

static void put_number(struct json *json, const char *key, uint64_t value)
{
    if (put_key(json, key))
        json->used += (size_t)sprintf(json->line + json->used, "%llu", (unsigned long long)value);
}

static void put_number_field(struct json *json, const char *key, uint64_t value)
{
    if (value > 0)
        put_number(json, key, value);
}

static void put_seconds_field(struct json *json, const char *key, uint64_t ns)
{
    if (ns > 0 && put_key(json, key))
        json->used +=
            (size_t)sprintf(json->line + json->used, "%llu.%09llu", (unsigned long long)ns / 1000000000,
                            (unsigned long long)ns % 1000000000);
}

static void put_fields(struct json *json, const struct log_fields *fields)
{
    put_number_field(json, "worker", fields->worker);
    put_number_field(json, "pid", fields->pid > 0 ? (uint64_t)fields->pid : 0);
    put_number_field(json, "generation", fields->generation);
    put_text_field(json, "role", fields->role);
    put_text_field(json, "engine", fields->engine);
    put_text_field(json, "method", fields->method);
    put_text_field(json, "code", fields->code);
    put_text_field(json, "cause", fields->cause);
    put_text_field(json, "report", fields->report);
    put_text_field(json, "path", fields->path);
    put_number_field(json, "count", fields->count);
    put_seconds_field(json, "duration", fields->duration);
    put_seconds_field(json, "queued", fields->queued);
    if (!fields->has_call)
        return;
    put_number(json, "request_bytes", fields->request_bytes);
    put_number(json, "response_bytes", fields->response_bytes);
    if (fields->peer_pid > 0) {
        put_number(json, "peer_pid", (uint64_t)fields->peer_pid);
        put_number(json, "peer_uid", fields->peer_uid);
    }
}

static size_t format_json(char *line, const struct log_event *event)
{
    struct json json = {.line = line};
    char date[32], time[64];
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &event->date);
    snprintf(time, sizeof(time), "%s.%03uZ", date, event->ms);
    line[json.used++] = '{';
    put_text_field(&json, "time", time);
    put_text_field(&json, "level", level_names[event->level]);
    put_text_field(&json, "event", event->name);
    put_number(&json, "cohabd", (uint64_t)event->process);
    if (event->fields)
        put_fields(&json, event->fields);
    if (put_key(&json, "message"))
        put_string(&json, event->message, LOG_LINE_SIZE);
    line[json.used++] = '}';
    line[json.used++] = '\n';
    return json.used;
}

/* --- text --- */

static size_t format_text(char *line, bool journal, const struct log_event *event)
{
    char date[32];
    strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &event->date);
    struct text text = text_open(line, LOG_LINE_SIZE - 1);
    if (journal)
        text_add(&text, "<%u>", priorities[event->level]);
    else
        text_add(&text, "%s.%03u cohabd[%d] %-5s ", date, event->ms, (int)event->process,
                 level_names[event->level]);
    text_add(&text, "%s", event->message);
    text_close(&text); /* what an engine says must not look like lines of ours */
    size_t size = strlen(line);
    line[size++] = '\n';
    return size;
}

size_t log_line_format(char line[LOG_LINE_SIZE], enum log_format format, const struct log_event *event)
{
    return format == LOG_JSON ? format_json(line, event) : format_text(line, format == LOG_JOURNAL, event);
}
