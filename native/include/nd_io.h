/* nd_io.h -- what the native core asks of the operating system.
 *
 * Everything that can fail for want of memory goes through this table, so that a
 * test can make each request fail in turn; and what is sent goes through a function, so that
 * a test can take as little of it as it likes.
 */
#ifndef ND_IO_H
#define ND_IO_H

#include <stddef.h>
#include <stdint.h>

#include "nd_status.h"

/* cffi: begin */

typedef struct nd_io nd_io;

/* The table for this system: malloc, and private anonymous mappings.
 *
 *   Owns    the table is constant and lives as long as the program.
 *   Blocks  no.
 *   Cost    constant.
 */
const nd_io *nd_io_posix(void);

/* Hand bytes to a connected socket: how many it took at once.  0: it takes none now, or never will
 * again, which whoever sends the rest finds out.
 *
 *   Blocks  no, whatever the socket is set to.
 */
typedef uint64_t (*nd_send_function)(int32_t socket, const uint8_t *bytes, uint64_t count);

/* The one for this system. */
nd_send_function nd_send_posix(void);

/* cffi: end */

struct nd_io {
    void *context;                      /* handed to every function below */

    /* Zeroed bytes for bookkeeping, or NULL.  Given back with the same count. */
    void *(*allocate)(void *context, size_t bytes);
    void (*release)(void *context, void *memory, size_t bytes);

    /* A region that costs address space alone until it is touched, zeroed and
     * aligned to a large page when it has room for one.  ND_ERR_FULL when there is none. */
    nd_status (*map)(void *context, uint64_t bytes, uint8_t **out);
    void (*unmap)(void *context, uint8_t *memory, uint64_t bytes);

    /* Give the memory behind a part of a region back; the addresses stay ours and
     * their contents are lost.  A failure means that the memory is still there. */
    nd_status (*discard)(void *context, uint8_t *memory, uint64_t bytes);

    /* Take the memory behind a part of a region now; many pages at once cost less than a fault
     * for each.  Contents stay as they are, also while another thread writes them; what
     * cannot be brought comes when it is touched. */
    void (*bring)(void *context, uint8_t *memory, uint64_t bytes);

    /* Ask for large pages behind a part of a region, of which all will be read here and there.
     * What the system cannot give is as it was. */
    void (*enlarge)(void *context, uint8_t *memory, uint64_t bytes);

    /* Take the memory behind a part of a region that nobody uses, in large pages where the system has some;
     * what it gives this part later, after a discard, are small ones again.  May take milliseconds. */
    void (*bring_large)(void *context, uint8_t *memory, uint64_t bytes);
};

#endif /* ND_IO_H */
