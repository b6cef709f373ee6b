/* Part of the master: what the admin socket answers, as msgpack. Documented, with its version rule, in
 * docs/protocol.md. */
#ifndef ADMIN_PACK_H
#define ADMIN_PACK_H

#include <msgpack.h>

#include "master.h"
#include "upgrade.h"

/* What status() returns. */
void admin_pack_status(struct master *master, msgpack_packer *packer);
/* What quarantine_list() returns. */
void admin_pack_quarantine(struct master *master, msgpack_packer *packer);
/* What reload() returns when it has ended, either way. */
void admin_pack_reloaded(const struct reload_result *result, msgpack_packer *packer);
/* What upgrade() returns when it has ended, either way. */
void admin_pack_upgraded(const struct upgrade_result *result, msgpack_packer *packer);
/* What scale() returns; before: the number of workers until then. */
void admin_pack_scaled(const struct master *master, unsigned before, msgpack_packer *packer);

#endif
