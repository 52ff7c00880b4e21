/* nd_secure.h -- what an earlier run wrote last, made durable.
 *
 * No group says of itself that it is durable: the next one does.  So of the last group of
 * a log nobody knows.  A killed program may have left it in the system's memory alone, and
 * a sync that failed may have marked it as written when it was not: then another sync
 * would succeed and do nothing.  Before anyone is shown what stands in it, it is written
 * again where it stands, the same bytes, and synced.
 *
 * The segment's header is written with it, and alone when no group got that far: the next
 * run begins the next segment, and behind that one without a header is damage.
 */
#ifndef ND_SECURE_H
#define ND_SECURE_H

#include <stdint.h>

#include "nd_files.h"
#include "nd_io.h"
#include "nd_status.h"

/* cffi: begin */

/* Make a segment durable as it was read: its header, and its last group if it has one, written
 * again, and the file synced.
 *
 *   Blocks  yes.
 *   Cost    one read of the segment and its predecessor; a write of the last group; a sync.
 *   Returns ND_OK (also for 0: there is none), ND_ERR_IO, ND_ERR_NOSPACE, ND_ERR_FULL.
 */
nd_status nd_secure(const nd_io *io, const nd_files *files, const char *folder, uint64_t newest_segment);

/* cffi: end */

#endif /* ND_SECURE_H */
