/* nd_files.h -- what the journal and the scratch file ask of the file system.
 *
 * Every call that can fail, be cut short or be lost in a power cut goes through this
 * table, so that a test can do all three.  Paths are the caller's; a file is a number.
 */
#ifndef ND_FILES_H
#define ND_FILES_H

#include <stdint.h>

#include "nd_status.h"

#define ND_DIRECT_BYTES 4096u           /* no disk we know wants more */

/* cffi: begin */

typedef struct {
    void *context;                      /* handed to every function below */

    /* A new, empty file; what was there under this path is gone.  ND_ERR_NOSPACE, ND_ERR_IO. */
    nd_status (*create)(void *context, const char *path, int32_t *file_out);

    /* An existing file, for reading.  ND_EMPTY when there is none, ND_ERR_IO. */
    nd_status (*open)(void *context, const char *path, int32_t *file_out, uint64_t *bytes_out);

    /* An existing file, for writing within its length.  ND_EMPTY when there is none, ND_ERR_IO. */
    nd_status (*reopen)(void *context, const char *path, int32_t *file_out);

    void (*close)(void *context, int32_t file);

    /* Make a file reach this far, with zeros in a part of it that was never written to and
     * its place on the disk taken, so that no later write within it can find the disk full.
     * ND_ERR_NOSPACE, ND_ERR_IO. */
    nd_status (*preallocate)(void *context, int32_t file, uint64_t offset, uint64_t bytes);

    /* Give the place of a part of a file back to the disk; its contents are lost.
     * ND_ERR_IO: the place is still ours. */
    nd_status (*give_back)(void *context, int32_t file, uint64_t offset, uint64_t bytes);

    /* Write at an offset; may write less than asked, never nothing.  ND_ERR_NOSPACE, ND_ERR_IO. */
    nd_status (*write)(void *context, int32_t file, const uint8_t *bytes, uint64_t count,
                       uint64_t offset, uint64_t *written_out);

    /* The same for much that is synced next and hardly ever read: past the system's cache, where the
     * file system can do that, and memory, count and offset are multiples of ND_DIRECT_BYTES. */
    nd_status (*write_past_cache)(void *context, int32_t file, const uint8_t *bytes, uint64_t count,
                                  uint64_t offset, uint64_t *written_out);

    /* Read at an offset; may read less than asked, and nothing at the end.  ND_ERR_IO. */
    nd_status (*read)(void *context, int32_t file, uint8_t *bytes, uint64_t count,
                      uint64_t offset, uint64_t *read_out);

    /* A file will be read whole, soon: the system may fetch it from the disk meanwhile.  Advice, of which
     * nothing comes back; none about a file that is not there. */
    void (*read_ahead)(void *context, const char *path);

    /* What was written to a file, and its length, survives a power cut.  ND_ERR_IO. */
    nd_status (*sync)(void *context, int32_t file);

    /* The names in a folder, as far as they were made and unlinked, survive a power cut. */
    nd_status (*sync_folder)(void *context, const char *folder);

    /* ND_EMPTY when there is no such file, ND_ERR_IO. */
    nd_status (*unlink)(void *context, const char *path);

    /* Call visit with every name in a folder, in any order.  ND_EMPTY when there is no
     * such folder, ND_ERR_IO. */
    nd_status (*list)(void *context, const char *folder,
                      void (*visit)(void *visitor, const char *name), void *visitor);
} nd_files;

/* The table for this system.
 *
 *   Owns    the table is constant and lives as long as the program.
 *   Blocks  no; most functions of the table do.
 */
const nd_files *nd_files_posix(void);

/* cffi: end */

#endif /* ND_FILES_H */
