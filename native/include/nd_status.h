/* nd_status.h -- the one return convention of the native core.
 *
 * Zero is good, positive is "not a failure, but look", negative is a failure
 * that changed nothing unless the function's comment says otherwise.
 */
#ifndef ND_STATUS_H
#define ND_STATUS_H

/* cffi: begin */

typedef enum {
    ND_OK           =  0,
    ND_EMPTY        =  1,   /* nothing there; not a failure */
    ND_NO_ROOM      =  2,   /* the caller's buffer is too small for the next whole piece */
    ND_COLD         =  3,   /* it lies on the disk; nd_fetch.h brings it back */
    ND_ODD          =  4,   /* not for this function to judge; nothing of it was taken */
    ND_SAME         =  5,   /* done, and what became of it is what became of the last one */
    ND_ERR_ARGUMENT = -1,   /* refused before anything changed */
    ND_ERR_FULL     = -2,   /* no memory left within the bound; nothing changed */
    ND_ERR_TRIMMED  = -3,   /* the records asked for are gone */
    ND_ERR_CORRUPT  = -4,   /* stored bytes do not match their checksum */
    ND_ERR_NOSPACE  = -5,   /* the disk is full; nothing changed, try again later */
    ND_ERR_IO       = -6,   /* the system refused; see the function's comment for what is left */
    ND_ERR_POISONED = -7    /* a write or sync of the journal failed before; close it */
} nd_status;

/* cffi: end */

#endif /* ND_STATUS_H */
