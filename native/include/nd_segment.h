/* nd_segment.h -- the bytes of a journal segment, and what makes them valid.
 *
 *      0        4096                      a multiple of 4096
 *      | header | group .... zeros | group | group ........ zeros | zeros ...
 *                 |
 *                 | group header | unit | unit | unit |
 *
 * A *unit* is one thing that happened, a *group* what was written and synced at once.
 * dispatcher/docs/FORMAT.md describes every byte; this file is its C form, used by the
 * side that writes (nd_journal) and the side that reads (nd_recovery).
 *
 * Pure: no memory is taken and nothing is asked of the system.
 */
#ifndef ND_SEGMENT_H
#define ND_SEGMENT_H

#include <stddef.h>
#include <stdint.h>

#include "nd_append.h"
#include "nd_crc.h"
#include "nd_status.h"

#define ND_BLOCK_BYTES        4096u     /* what a disk writes as a whole, or not at all */
#define ND_SEGMENT_MAGIC      0x4753444eu       /* "NDSG" */
#define ND_GROUP_MAGIC        0x5247444eu       /* "NDGR" */
#define ND_SEGMENT_VERSION    2u        /* written; older ones are read, too */
#define ND_SEGMENT_BYTES_MIN  (64u * 1024)
#define ND_SEGMENT_BYTES_MAX  (1u << 30)
#define ND_SEGMENT_NAME_BYTES 13u       /* "00000001.seg" and its zero */
#define ND_FOLDER_BYTES_MAX 3900u       /* a path with a segment's name stays below PATH_MAX */
#define ND_SEGMENT_ID_MAX     99999999u

/* cffi: begin */

/* What a unit says; the numbers are stored. */
typedef enum {
    ND_UNIT_REQUEST = 1,    /* one request's records, and which channels they went to */
    ND_UNIT_MOVED   = 2,    /* records of one channel, written again by cleaning */
    ND_UNIT_STATE   = 3,    /* a channel: the last seq given, and up to which all are settled */
    ND_UNIT_DROPPED = 4,    /* a channel: all records between two seqs are gone */
    ND_UNIT_DELETED = 5,    /* a channel is gone */
    ND_UNIT_FROZEN  = 6,    /* a channel: the batch that was refused, to be sent again as it was */
    ND_UNIT_ANSWER  = 7,    /* what a request with an Idempotency-Key was answered */
    ND_UNIT_SUPERSEDED = 8, /* a channel: all records of many stretches of seqs are gone */
    ND_UNIT_GAPS    = 9     /* a channel: all that its receiver has yet to be told is missing */
} nd_unit_type;

/* Why records left a channel without being delivered; the numbers are stored. */
typedef enum {
    ND_GAP_OVERFLOW = 1,
    ND_GAP_MEMORY   = 2,
    ND_GAP_REJECTED = 3,
    ND_GAP_EXPIRED  = 4,
    ND_GAP_CORRUPT  = 5,
    ND_GAP_SUPERSEDED = 6,
    ND_GAP_PARKED   = 7
} nd_gap_reason;

/* Records that a channel's receiver does not get, in front of the first one behind a seq. */
typedef struct {
    uint64_t behind_seq;
    uint64_t last_seq;          /* 0: they never had a seq; else the first is behind_seq + 1 */
    uint64_t count;             /* others may stand between first and last */
    uint64_t from_unix_ms, to_unix_ms;      /* when these two were received; 0: not known */
    uint32_t reason;            /* nd_gap_reason */
    uint32_t is_told;           /* 1: a receiver may have it already, so that it does not change */
} nd_gap;

/* STATE, DROPPED, DELETED and FROZEN, as they are stored. */
typedef struct {
    uint32_t bytes;
    uint16_t type;
    uint16_t form;              /* FROZEN: nd_form; else 0 */
    uint64_t channel;
    uint64_t incarnation;
    uint64_t epoch;
    uint64_t first_seq;         /* STATE: settled up to here */
    uint64_t last_seq;          /* STATE: the last given */
    uint64_t events;            /* FROZEN: how many; 0: gaps alone, or, with first_seq 0, none any more */
} nd_channel_unit;

/* cffi: end */

typedef struct {
    uint32_t magic;
    uint32_t crc32c;            /* of these 64 bytes, this field taken as 0 */
    uint32_t version;
    uint32_t is_synced;         /* 1: groups were synced before they were called durable */
    uint64_t journal_id;        /* random: segments of another journal are not ours */
    uint64_t segment_id;        /* as in its name */
    uint64_t segment_bytes;
    uint64_t first_group;       /* the number of its first group */
    uint64_t epoch;             /* of the run that wrote it */
    uint64_t created_unix_ms;
} nd_segment_header;

typedef struct {
    uint32_t magic;
    uint32_t crc32c;            /* of the group, bytes long, this field taken as 0 */
    uint64_t journal_id;
    uint64_t segment_id;
    uint64_t number;            /* from 1, without holes */
    uint64_t durable;           /* the highest group known durable when this one was written */
    uint32_t bytes;             /* this header and the units; a multiple of 8 */
    uint32_t units;
} nd_group_header;

typedef struct {
    uint32_t bytes;             /* of the whole unit, a multiple of 8 */
    uint16_t type;              /* nd_unit_type */
    uint16_t form;
} nd_unit_header;

/* Followed by the meta of each record (nd_append.h), the routes, and the bodies end to
 * end, with zeros up to a multiple of 8. */
typedef struct {
    nd_unit_header unit;
    uint64_t epoch;
    uint64_t received_unix_ms;
    uint32_t records;
    uint32_t routes;
    uint64_t block_bytes;
} nd_request_unit;

/* Seqs from first_seq on went to the records named by the entries, one each; an entry
 * ND_LOST: that record was dropped on arrival.  No entries: all records in order.
 * Followed by the entries, and zeros up to a multiple of 8. */
typedef struct {
    uint64_t channel;
    uint64_t incarnation;
    uint64_t first_seq;
    uint32_t seqs;
    uint32_t entries;           /* 0 or seqs */
} nd_request_route;

/* Followed by the records, and their bodies as in a request. */
typedef struct {
    nd_unit_header unit;
    uint64_t channel;
    uint64_t incarnation;
    uint64_t records;
    uint64_t block_bytes;
} nd_moved_unit;

typedef struct {
    uint64_t epoch;
    uint64_t seq;
    uint64_t received_unix_ms;
    uint64_t meta;
} nd_moved_record;

/* Followed by the holes, which rise and do not touch. */
typedef struct {
    nd_unit_header unit;
    uint64_t channel;
    uint64_t incarnation;
    uint64_t epoch;
    uint64_t holes;             /* nd_hole */
} nd_superseded_unit;

/* Followed by the key and the answer, and zeros up to a multiple of 8. */
typedef struct {
    nd_unit_header unit;
    uint64_t account;
    uint64_t answered_unix_ms;
    uint8_t  body_sha256[32];
    uint32_t key_bytes;
    uint32_t answer_bytes;
} nd_answer_unit;

/* Followed by the gaps, in the order in which they stand. */
typedef struct {
    nd_unit_header unit;
    uint64_t channel;
    uint64_t incarnation;
    uint64_t gaps;
} nd_gaps_unit;

_Static_assert(sizeof(nd_segment_header) == 64, "FORMAT.md, the segment");
_Static_assert(offsetof(nd_segment_header, journal_id) == 16, "FORMAT.md, the segment");
_Static_assert(offsetof(nd_segment_header, created_unix_ms) == 56, "FORMAT.md, the segment");
_Static_assert(sizeof(nd_group_header) == 48, "FORMAT.md, the group");
_Static_assert(offsetof(nd_group_header, number) == 24, "FORMAT.md, the group");
_Static_assert(offsetof(nd_group_header, bytes) == 40, "FORMAT.md, the group");
_Static_assert(sizeof(nd_unit_header) == 8, "FORMAT.md, the unit");
_Static_assert(sizeof(nd_request_unit) == 40, "FORMAT.md, the request");
_Static_assert(sizeof(nd_request_route) == 32, "FORMAT.md, the request");
_Static_assert(sizeof(nd_moved_unit) == 40, "FORMAT.md, moved records");
_Static_assert(sizeof(nd_moved_record) == 32, "FORMAT.md, moved records");
_Static_assert(sizeof(nd_channel_unit) == 56, "FORMAT.md, the channel units");
_Static_assert(offsetof(nd_channel_unit, channel) == 8, "FORMAT.md, the channel units");
_Static_assert(sizeof(nd_superseded_unit) == 40, "FORMAT.md, superseded records");
_Static_assert(sizeof(nd_hole) == 16, "FORMAT.md, superseded records");
_Static_assert(sizeof(nd_answer_unit) == 64, "FORMAT.md, the answer");
_Static_assert(sizeof(nd_gap) == 48, "FORMAT.md, the gaps");
_Static_assert(offsetof(nd_gap, reason) == 40, "FORMAT.md, the gaps");
_Static_assert(sizeof(nd_gaps_unit) == 32, "FORMAT.md, the gaps");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "segments are little-endian");

static inline uint64_t nd_round_up(uint64_t bytes, uint64_t step)
{
    return (bytes + step - 1) / step * step;
}

/* The file name of a segment. */
void nd_segment_name(uint64_t segment_id, char out[ND_SEGMENT_NAME_BYTES]);

typedef struct {
    char text[ND_FOLDER_BYTES_MAX + 1 + ND_SEGMENT_NAME_BYTES];
} nd_path;

/* The path of a segment in a folder, whose own has at most ND_FOLDER_BYTES_MAX bytes. */
nd_path nd_segment_path(const char *folder, uint64_t segment_id);

/* The segment of a file name; 0 when it is no segment's. */
uint64_t nd_segment_id_of(const char *name);

/* Fill in the checksum of a header, or of a group: of as many bytes as it says. */
void nd_segment_seal(nd_segment_header *header, nd_crc_function crc);
void nd_group_seal(nd_group_header *group, nd_crc_function crc);

/* Whether the first bytes of a file are the header of this segment.
 *
 *   Returns ND_OK, ND_EMPTY (all zeros: made, never written to), ND_ERR_CORRUPT,
 *           ND_ERR_ARGUMENT (another version: a newer program's).
 */
nd_status nd_segment_check(const nd_segment_header *header, uint64_t segment_id, uint64_t file_bytes,
                           nd_crc_function crc);

/* Whether a valid group of this segment begins here, with so many bytes left in the segment. */
int nd_group_is_valid(const uint8_t *at, uint64_t bytes_left, uint64_t journal_id, uint64_t segment_id,
                      nd_crc_function crc);

/* Whether a unit that begins here, with so many bytes left in its group, is what it
 * says: every length, count, index and order in it holds, and no more is known. */
int nd_unit_is_valid(const uint8_t *at, uint64_t bytes_left);

/* --- the parts of valid units ----------------------------------------------------- */

static inline const uint64_t *nd_request_meta(const nd_request_unit *request)
{
    return (const uint64_t *)(const void *)(request + 1);
}

static inline const nd_request_route *nd_request_routes(const nd_request_unit *request)
{
    return (const nd_request_route *)(const void *)(nd_request_meta(request) + request->records);
}

static inline const uint32_t *nd_route_entries(const nd_request_route *route)
{
    return route->entries > 0 ? (const uint32_t *)(const void *)(route + 1) : NULL;
}

static inline uint64_t nd_route_bytes(uint64_t entries)
{
    return sizeof(nd_request_route) + nd_round_up(entries * sizeof(uint32_t), 8);
}

/* The route behind this one; behind the last, the bodies. */
static inline const nd_request_route *nd_route_next(const nd_request_route *route)
{
    return (const nd_request_route *)(const void *)((const uint8_t *)route + nd_route_bytes(route->entries));
}

static inline const uint8_t *nd_request_block(const nd_request_unit *request)
{
    const uint8_t *end = (const uint8_t *)request + request->unit.bytes;
    return end - nd_round_up(request->block_bytes, 8);
}

static inline const nd_moved_record *nd_moved_records(const nd_moved_unit *moved)
{
    return (const nd_moved_record *)(const void *)(moved + 1);
}

static inline const nd_gap *nd_unit_gaps(const nd_gaps_unit *unit)
{
    return (const nd_gap *)(const void *)(unit + 1);
}

static inline const uint8_t *nd_moved_block(const nd_moved_unit *moved)
{
    return (const uint8_t *)(nd_moved_records(moved) + moved->records);
}

static inline const nd_hole *nd_superseded_holes(const nd_superseded_unit *superseded)
{
    return (const nd_hole *)(const void *)(superseded + 1);
}

#endif /* ND_SEGMENT_H */
