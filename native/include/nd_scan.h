/* nd_scan.h -- what gateways post, turned into canonical records in one pass.
 *
 *      {"notifications":[{"ep":"x","payload":"MQ==","path":"/3"},...]}      any spelling JSON allows
 *        |
 *        v   block   {"ep":"x","path":"/3","ct":"","payload":"MQ==","max-age":0}{"ep":...
 *            meta    one number for each, as nd_rings_append takes them
 *
 * The scan may only say yes.  What it takes is strict JSON and UTF-8, within all limits,
 * and is written as dispatcher/wire/canonical.py writes it, byte for byte.  A message
 * that it does not take is *odd*: wrong, or of another kind than notifications, or merely
 * rare.  Nothing of it is kept, and whoever asked has it judged by dispatcher/wire/ingest.py,
 * the only one that words an error, and goes on behind it.
 *
 * Threads: a staging is used by one thread at a time; two stagings know nothing of each other.
 */
#ifndef ND_SCAN_H
#define ND_SCAN_H

#include <stdint.h>

#include "nd_io.h"
#include "nd_status.h"

/* cffi: begin */

/* What is taken at most; dispatcher/limits.py has the numbers. */
typedef struct {
    uint64_t integer_max;               /* a number without fraction or exponent, either side of 0 */
    uint32_t ep_chars_max;
    uint32_t path_chars_max;
    uint32_t ct_chars_max;
    uint32_t payload_bytes_max;         /* decoded */
    uint32_t depth_max;                 /* of objects and arrays within each other */
    uint32_t containers_max;            /* '{' and '[' in one message, those in strings too */
    uint32_t record_bytes_max;
} nd_scan_rules;

/* Where the records of one request come together, in order. */
typedef struct {
    uint8_t  *block;                    /* canonical bodies end to end; NULL while there is none */
    uint64_t  block_bytes;
    uint64_t *meta;                     /* one for each record */
    uint64_t  records_count;
    uint32_t *lasting;                  /* indices of notifications whose max-age is not 0, or was not given */
    uint64_t  lasting_count;
    uint64_t  memory_bytes;             /* taken for all of these */
    /* what the last scan took */
    uint64_t  next;                     /* where in the text it stopped: upto, or an odd message */
    uint64_t  lines_count;              /* blank ones too */
    uint64_t  messages_count;
    uint64_t  name_at;                  /* where in the text the message-id's value stands, with its quotation */
    uint64_t  name_bytes;               /* marks; 0 bytes: the message has none */
} nd_staged;

typedef struct nd_staging nd_staging;

/* An empty staging.
 *
 *   Owns    the caller gives it back with nd_staging_close; io must outlive it, rules are copied.
 *   Blocks  no.
 *   Cost    constant; memory for records is taken when they come.
 *   Returns ND_OK, ND_ERR_ARGUMENT (records of the largest fields would not fit a meta), ND_ERR_FULL.
 */
nd_status nd_staging_open(const nd_io *io, const nd_scan_rules *rules, nd_staging **out);

/* NULL is nothing to do. */
void nd_staging_close(nd_staging *staging);

/* What it holds.
 *
 *   Owns    the memory is the staging's.  block, meta and lasting move when records are
 *           added, and stay where they are from then on until it is cleared or closed.
 */
const nd_staged *nd_staging_look(const nd_staging *staging);

/* Make it empty, and keep the memory for the next request. */
void nd_staging_clear(nd_staging *staging);

/* The same, but give the memory back when it is more than so much. */
void nd_staging_trim(nd_staging *staging, uint64_t memory_bytes_max);

/* Add a canonical record that was made elsewhere.
 *
 *   Owns    body is copied.
 *   Blocks  no.
 *   Cost    O(bytes).
 *   Returns ND_OK, ND_ERR_ARGUMENT (meta has another length than body), ND_ERR_FULL.
 */
nd_status nd_staging_add(nd_staging *staging, const uint8_t *body, uint64_t body_bytes, uint64_t meta, int is_lasting);

/* Take a text that is one message.
 *
 * With may_be_named it may have a member "message-id", which is left to the caller to read.
 *
 *   Owns    text is only read, and not past text_bytes.
 *   Blocks  no.
 *   Cost    O(text_bytes); about as much as copying it ten times.
 *   Returns ND_OK; ND_ODD (also when there would be more than records_max records in the
 *           staging), ND_ERR_FULL: nothing of the message is kept.
 */
nd_status nd_scan_message(nd_staging *staging, const uint8_t *text, uint64_t text_bytes,
                          uint64_t records_max, int may_be_named);

/* Take the lines of a text from one place up to another, each blank or one message.
 *
 * from is where a line begins, upto where one begins or the text ends.  Stops behind
 * lines_max lines, and before the first odd one.
 *
 *   As nd_scan_message; what stands before the odd line, or the one that memory lacks for, is kept.
 */
nd_status nd_scan_lines(nd_staging *staging, const uint8_t *text, uint64_t from, uint64_t upto,
                        uint64_t records_max, uint64_t lines_max);

/* cffi: end */

#endif /* ND_SCAN_H */
