/* nd_segment.c -- what is valid in a segment; FORMAT.md says the same in words. */

#include "nd_segment.h"

#include <stdio.h>
#include <string.h>


void nd_segment_name(uint64_t segment_id, char out[ND_SEGMENT_NAME_BYTES])
{
    (void)snprintf(out, ND_SEGMENT_NAME_BYTES, "%08u.seg", (unsigned)(segment_id % (ND_SEGMENT_ID_MAX + 1u)));
}

nd_path nd_segment_path(const char *folder, uint64_t segment_id)
{
    nd_path path;
    const size_t length = strlen(folder);
    memcpy(path.text, folder, length);
    path.text[length] = '/';
    nd_segment_name(segment_id, path.text + length + 1);
    return path;
}

uint64_t nd_segment_id_of(const char *name)
{
    if (strlen(name) != ND_SEGMENT_NAME_BYTES - 1 || strcmp(name + 8, ".seg") != 0) return 0;
    uint64_t id = 0;
    for (int i = 0; i < 8; i++) {
        if (name[i] < '0' || name[i] > '9') return 0;
        id = id * 10 + (uint64_t)(name[i] - '0');
    }
    return id;
}

/* The checksum of bytes that keep it in bytes 4..7. */
static uint32_t sum_of(const void *bytes, size_t count, nd_crc_function crc)
{
    const nd_crc_lane lane = {.bytes = bytes, .count = count};
    uint32_t sum;
    crc(&lane, 1, &sum);
    return sum;
}

void nd_segment_seal(nd_segment_header *header, nd_crc_function crc)
{
    header->crc32c = sum_of(header, sizeof *header, crc);
}

void nd_group_seal(nd_group_header *group, nd_crc_function crc)
{
    group->crc32c = sum_of(group, group->bytes, crc);
}

nd_status nd_segment_check(const nd_segment_header *header, uint64_t segment_id, uint64_t file_bytes,
                           nd_crc_function crc)
{
    static const nd_segment_header zeros;
    if (memcmp(header, &zeros, sizeof zeros) == 0) return ND_EMPTY;
    if (header->magic != ND_SEGMENT_MAGIC) return ND_ERR_CORRUPT;
    if (header->crc32c != sum_of(header, sizeof *header, crc)) return ND_ERR_CORRUPT;
    if (header->version == 0 || header->version > ND_SEGMENT_VERSION) return ND_ERR_ARGUMENT;
    if (header->segment_id != segment_id || header->segment_bytes > file_bytes) return ND_ERR_CORRUPT;
    return header->segment_bytes < ND_SEGMENT_BYTES_MIN || header->first_group == 0 ? ND_ERR_CORRUPT : ND_OK;
}

int nd_group_is_valid(const uint8_t *at, uint64_t bytes_left, uint64_t journal_id, uint64_t segment_id,
                      nd_crc_function crc)
{
    const nd_group_header *group = (const nd_group_header *)(const void *)at;
    if (bytes_left < sizeof *group || group->magic != ND_GROUP_MAGIC) return 0;
    if (group->journal_id != journal_id || group->segment_id != segment_id) return 0;
    if (group->number == 0 || group->durable >= group->number) return 0;
    if (group->bytes < sizeof *group || group->bytes % 8 != 0 || group->bytes > bytes_left) return 0;
    return group->crc32c == sum_of(at, group->bytes, crc);
}

/* --- units ------------------------------------------------------------------------ */

static uint64_t meta_body_bytes(uint64_t meta)
{
    return meta & 0xffffffu;
}

/* Whether entries name rising records, with lost ones anywhere. */
static int entries_are_valid(const uint32_t *entries, uint32_t count, uint32_t records)
{
    uint64_t least = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (entries[i] == ND_LOST) continue;
        if (entries[i] < least || entries[i] >= records) return 0;
        least = (uint64_t)entries[i] + 1;
    }
    return 1;
}

static int route_is_valid(const nd_request_route *route, uint32_t records)
{
    if (route->first_seq == 0 || route->seqs == 0 || route->first_seq > UINT64_MAX - route->seqs) return 0;
    if (route->entries == 0) return route->seqs == records;
    return route->entries == route->seqs && entries_are_valid(nd_route_entries(route), route->entries, records);
}

static int request_is_valid(const uint8_t *at, uint64_t bytes)
{
    const nd_request_unit *request = (const nd_request_unit *)(const void *)at;
    if (bytes < sizeof *request) return 0;
    uint64_t left = bytes - sizeof *request;
    if (request->records > left / sizeof(uint64_t)) return 0;
    left -= request->records * sizeof(uint64_t);

    uint64_t block_bytes = 0;
    for (uint32_t i = 0; i < request->records; i++) block_bytes += meta_body_bytes(nd_request_meta(request)[i]);
    if (block_bytes != request->block_bytes) return 0;

    const nd_request_route *route = nd_request_routes(request);
    for (uint32_t i = 0; i < request->routes; i++) {            /* each takes bytes, of which there are few */
        if (left < sizeof *route || left < nd_route_bytes(route->entries)) return 0;
        if (!route_is_valid(route, request->records)) return 0;
        left -= nd_route_bytes(route->entries);
        route = nd_route_next(route);
    }
    return left == nd_round_up(block_bytes, 8);
}

static int moved_is_valid(const uint8_t *at, uint64_t bytes)
{
    const nd_moved_unit *moved = (const nd_moved_unit *)(const void *)at;
    if (bytes < sizeof *moved) return 0;
    const uint64_t left = bytes - sizeof *moved;
    if (moved->records > left / sizeof(nd_moved_record)) return 0;
    uint64_t block_bytes = 0, seq = 0;
    for (uint64_t i = 0; i < moved->records; i++) {
        const nd_moved_record *record = &nd_moved_records(moved)[i];
        if (record->seq <= seq || record->seq == UINT64_MAX) return 0;
        seq = record->seq;
        block_bytes += meta_body_bytes(record->meta);
    }
    if (block_bytes != moved->block_bytes) return 0;
    return left - moved->records * sizeof(nd_moved_record) == nd_round_up(block_bytes, 8);
}

static int answer_is_valid(const uint8_t *at, uint64_t bytes)
{
    const nd_answer_unit *answer = (const nd_answer_unit *)(const void *)at;
    if (bytes < sizeof *answer) return 0;
    return bytes - sizeof *answer == nd_round_up((uint64_t)answer->key_bytes + answer->answer_bytes, 8);
}

static int superseded_is_valid(const uint8_t *at, uint64_t bytes)
{
    const nd_superseded_unit *superseded = (const nd_superseded_unit *)(const void *)at;
    if (bytes < sizeof *superseded) return 0;
    const uint64_t left = bytes - sizeof *superseded;
    if (left % sizeof(nd_hole) != 0 || superseded->holes != left / sizeof(nd_hole)) return 0;
    uint64_t seq = 0;
    for (uint64_t i = 0; i < superseded->holes; i++) {
        const nd_hole *hole = &nd_superseded_holes(superseded)[i];
        if (hole->first_seq <= seq || hole->last_seq < hole->first_seq || hole->last_seq == UINT64_MAX) return 0;
        seq = hole->last_seq;
    }
    return 1;
}

static int gap_is_valid(const nd_gap *gap)
{
    if (gap->count == 0 || gap->reason == 0 || gap->reason > ND_GAP_PARKED || gap->is_told > 1) return 0;
    return gap->last_seq == 0 || (gap->last_seq > gap->behind_seq && gap->last_seq < UINT64_MAX);
}

static int gaps_are_valid(const uint8_t *at, uint64_t bytes)
{
    const nd_gaps_unit *unit = (const nd_gaps_unit *)(const void *)at;
    if (bytes < sizeof *unit || (bytes - sizeof *unit) % sizeof(nd_gap) != 0) return 0;
    if (unit->gaps != (bytes - sizeof *unit) / sizeof(nd_gap)) return 0;
    uint64_t behind_seq = 0;
    for (uint64_t i = 0; i < unit->gaps; i++) {
        const nd_gap *gap = &nd_unit_gaps(unit)[i];
        if (!gap_is_valid(gap) || gap->behind_seq < behind_seq) return 0;
        behind_seq = gap->behind_seq;
    }
    return 1;
}

int nd_unit_is_valid(const uint8_t *at, uint64_t bytes_left)
{
    const nd_unit_header *unit = (const nd_unit_header *)(const void *)at;
    if (bytes_left < sizeof *unit || unit->bytes < sizeof *unit) return 0;
    if (unit->bytes % 8 != 0 || unit->bytes > bytes_left) return 0;
    switch (unit->type) {
    case ND_UNIT_REQUEST: return request_is_valid(at, unit->bytes);
    case ND_UNIT_MOVED: return moved_is_valid(at, unit->bytes);
    case ND_UNIT_ANSWER: return answer_is_valid(at, unit->bytes);
    case ND_UNIT_SUPERSEDED: return superseded_is_valid(at, unit->bytes);
    case ND_UNIT_GAPS: return gaps_are_valid(at, unit->bytes);
    case ND_UNIT_STATE:
    case ND_UNIT_DROPPED:
    case ND_UNIT_DELETED:
    case ND_UNIT_FROZEN: return unit->bytes == sizeof(nd_channel_unit);
    default: return 0;
    }
}
