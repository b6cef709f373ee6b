#include "builtin.h"

#include <string.h>

#include "meter.h"
#include "pack.h"

#define METHOD_COUNT 3

static int run_ping(struct cohab_call *call)
{
    return msgpack_pack_object(cohab_result(call), *cohab_params(call));
}

static void pack_method(msgpack_packer *packer, const struct cohab_method *method)
{
    bool idempotent = method->flags & COHAB_IDEMPOTENT;
    msgpack_pack_map(packer, 4);
    pack_text(packer, "name");
    pack_text(packer, method->name);
    pack_text(packer, "signature");
    pack_text(packer, method->signature);
    pack_text(packer, "doc");
    pack_text(packer, method->doc ? method->doc : "");
    pack_text(packer, "flags");
    msgpack_pack_array(packer, idempotent);
    if (idempotent)
        pack_text(packer, "idempotent");
}

static int run_methods(struct cohab_call *call)
{
    const struct engine *engine = cohab_state(call);
    msgpack_packer *packer = cohab_result(call);
    msgpack_pack_array(packer, engine->method_count);
    for (size_t i = 0; i < engine->method_count; i++)
        pack_method(packer, engine->methods[i].method);
    return 0;
}

static int run_version(struct cohab_call *call)
{
    const struct engine *engine = cohab_state(call);
    msgpack_packer *packer = cohab_result(call);
    msgpack_pack_map(packer, 4);
    pack_text(packer, "cohab");
    pack_text(packer, COHAB_VERSION);
    pack_text(packer, "protocol");
    msgpack_pack_int(packer, 1);
    pack_text(packer, "engine");
    pack_text(packer, engine->description->name);
    pack_text(packer, "engine_version");
    pack_text(packer, engine->description->version);
    return 0;
}

static const struct cohab_method methods[METHOD_COUNT] = {
    {.name = "cohab.ping",
     .function = run_ping,
     .flags = COHAB_IDEMPOTENT}, /* any parameters: no signature */
    {.name = "cohab.methods",
     .function = run_methods,
     .signature = "cohab.methods() -> list[dict[str, Any]]",
     .flags = COHAB_IDEMPOTENT},
    {.name = "cohab.version",
     .function = run_version,
     .signature = "cohab.version() -> dict[str, Any]",
     .flags = COHAB_IDEMPOTENT},
};
_Static_assert(METER_BUILTIN + METHOD_COUNT == METER_METHODS, "one place in the meter each");
static struct engine_method checked[METHOD_COUNT];

int builtin_init(void)
{
    char error[ENGINE_ERROR_SIZE];
    for (size_t i = 0; i < METHOD_COUNT; i++) {
        checked[i].method = &methods[i];
        checked[i].name_length = strlen(methods[i].name);
        checked[i].meter = METER_BUILTIN + (unsigned)i;
        if (!methods[i].signature)
            continue;
        checked[i].signature = signature_parse(methods[i].signature, methods[i].name, error, sizeof(error));
        if (!checked[i].signature)
            return -1;
    }
    return 0;
}

const struct engine_method *builtin_find(const char *name, size_t length)
{
    for (size_t i = 0; i < METHOD_COUNT; i++)
        if (checked[i].name_length == length && memcmp(checked[i].method->name, name, length) == 0)
            return &checked[i];
    return NULL;
}
