/* nd_scan.c -- messages and lines, and the staging where their records come together. */

#include "nd_scan.h"

#include "nd_append.h"
#include "nd_notification.h"

#define BLOCK_BYTES_MIN   4096u
#define RECORDS_MIN       16u
#define META_TAIL_MAX     0xffffu       /* bits 24..39 of a meta, and its ep's in 40..55 */
#define META_BODY_MAX     0xffffffu

struct nd_staging {
    nd_staged     staged;
    nd_scan_rules rules;
    const nd_io  *io;
    uint64_t      block_capacity, meta_capacity, lasting_capacity;      /* in bytes */
};

/* What one scan does: up to where it may go, and what it has learnt of the text. */
typedef struct {
    nd_staging    *staging;
    nd_reader      reader;
    nd_glue        head;                /* of the last message that began with events: up to the first */
    nd_habits      habits;
    const uint8_t *text;
    uint64_t       records_max;
    int            may_be_named;
} nd_scan;

/* --- the staging --------------------------------------------------------------------- */

/* The most bytes that a name of this many characters takes in a record, where '"' takes two. */
static uint64_t name_bytes(uint64_t chars) { return chars * 4; }

nd_status nd_staging_open(const nd_io *io, const nd_scan_rules *rules, nd_staging **out)
{
    const uint64_t ep = name_bytes(rules->ep_chars_max), path = name_bytes(rules->path_chars_max);
    const uint64_t ct = 6ull * rules->ct_chars_max, payload = (rules->payload_bytes_max + 2ull) / 3 * 4;
    const uint64_t largest = 128 + 2 * ep + path + ct + payload;
    if (ep + 128 > META_TAIL_MAX || largest > META_BODY_MAX || largest > rules->record_bytes_max) return ND_ERR_ARGUMENT;
    nd_staging *staging = io->allocate(io->context, sizeof *staging);
    if (staging == NULL) return ND_ERR_FULL;
    staging->rules = *rules;
    staging->io = io;
    *out = staging;
    return ND_OK;
}

/* Nothing is in it, and it has no memory for anything. */
static void empty(nd_staging *staging)
{
    const nd_io *io = staging->io;
    nd_staged *staged = &staging->staged;
    if (staged->block != NULL) io->release(io->context, staged->block, staging->block_capacity);
    if (staged->meta != NULL) io->release(io->context, staged->meta, staging->meta_capacity);
    if (staged->lasting != NULL) io->release(io->context, staged->lasting, staging->lasting_capacity);
    *staging = (nd_staging){.rules = staging->rules, .io = io};
}

void nd_staging_close(nd_staging *staging)
{
    if (staging == NULL) return;
    const nd_io *io = staging->io;
    empty(staging);
    io->release(io->context, staging, sizeof *staging);
}

const nd_staged *nd_staging_look(const nd_staging *staging)
{
    return &staging->staged;
}

void nd_staging_clear(nd_staging *staging)
{
    staging->staged.block_bytes = staging->staged.records_count = staging->staged.lasting_count = 0;
}

void nd_staging_trim(nd_staging *staging, uint64_t memory_bytes_max)
{
    if (staging->staged.memory_bytes > memory_bytes_max) empty(staging);
    else nd_staging_clear(staging);
}

/* Memory for at least so many bytes, with those that are used already. */
static void *grown(nd_staging *staging, void *memory, uint64_t *capacity, uint64_t used, uint64_t wanted)
{
    const nd_io *io = staging->io;
    uint64_t bytes = *capacity * 2 > wanted ? *capacity * 2 : wanted;
    uint8_t *larger = io->allocate(io->context, bytes);
    if (larger == NULL) return NULL;
    if (memory != NULL) {
        memcpy(larger, memory, used);
        io->release(io->context, memory, *capacity);
    }
    staging->staged.memory_bytes += bytes - *capacity;
    *capacity = bytes;
    return larger;
}

/* Room for a record of so many bytes, in all three arrays. */
static nd_status reserve(nd_staging *staging, uint64_t bytes)
{
    nd_staged *staged = &staging->staged;
    if (staged->block_bytes + bytes > staging->block_capacity) {
        uint64_t wanted = staged->block_bytes + bytes;
        if (wanted < BLOCK_BYTES_MIN) wanted = BLOCK_BYTES_MIN;
        void *block = grown(staging, staged->block, &staging->block_capacity, staged->block_bytes, wanted);
        if (block == NULL) return ND_ERR_FULL;
        staged->block = block;
    }
    const uint64_t metas = staged->records_count * sizeof *staged->meta;
    if (metas + sizeof *staged->meta > staging->meta_capacity) {
        void *meta = grown(staging, staged->meta, &staging->meta_capacity, metas, RECORDS_MIN * sizeof *staged->meta);
        if (meta == NULL) return ND_ERR_FULL;
        staged->meta = meta;
    }
    const uint64_t lastings = staged->lasting_count * sizeof *staged->lasting;
    if (lastings + sizeof *staged->lasting > staging->lasting_capacity) {
        void *lasting = grown(staging, staged->lasting, &staging->lasting_capacity, lastings,
                              RECORDS_MIN * sizeof *staged->lasting);
        if (lasting == NULL) return ND_ERR_FULL;
        staged->lasting = lasting;
    }
    return ND_OK;
}

/* A record that was written behind the others. */
static void take(nd_staged *staged, uint64_t meta, int is_lasting)
{
    if (is_lasting) staged->lasting[staged->lasting_count++] = (uint32_t)staged->records_count;
    staged->meta[staged->records_count++] = meta;
    staged->block_bytes += nd_meta_body_bytes(meta);
}

nd_status nd_staging_add(nd_staging *staging, const uint8_t *body, uint64_t body_bytes, uint64_t meta, int is_lasting)
{
    if (nd_meta_body_bytes(meta) != body_bytes || staging->staged.records_count >= UINT32_MAX) return ND_ERR_ARGUMENT;
    const nd_status status = reserve(staging, body_bytes);
    if (status != ND_OK) return status;
    memcpy(staging->staged.block + staging->staged.block_bytes, body, body_bytes);
    take(&staging->staged, meta, is_lasting);
    return ND_OK;
}

/* --- messages ------------------------------------------------------------------------ */

/* '{' and '[' in a text, in its strings too. */
static uint64_t containers(const uint8_t *at, const uint8_t *end)
{
    uint64_t count = 0;
#ifdef ND_VECTOR
    while (end - at >= ND_VECTOR_BYTES) {
        const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        const __m128i found = _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('{')),
                                           _mm_cmpeq_epi8(bytes, _mm_set1_epi8('[')));
        for (int mask = _mm_movemask_epi8(found); mask != 0; mask &= mask - 1) count++;         /* mostly none */
        at += ND_VECTOR_BYTES;
    }
#endif
    for (; at < end; at++) count += *at == '{' || *at == '[';
    return count;
}

/* The items of "notifications", from behind the bracket to behind the other. */
static nd_status events_read(nd_scan *scan, const uint8_t **place)
{
    const nd_reader *reader = &scan->reader;
    nd_staged *staged = &scan->staging->staged;
    const uint8_t *at = *place, *behind = nd_pass(reader, at, ']');
    while (behind == NULL) {                                    /* an event each turn, or the end of the array */
        nd_notification event;
        if ((at = nd_notification_read(reader, &scan->habits, at, &event)) == NULL) return ND_ODD;
        if (staged->records_count >= scan->records_max) return ND_ODD;
        const nd_status status = reserve(scan->staging, nd_notification_room(&event));
        if (status != ND_OK) return status;
        const uint64_t meta = nd_notification_write(reader, &event, staged->block + staged->block_bytes);
        if (meta == 0) return ND_ODD;
        take(staged, meta, event.is_lasting);
        at = nd_skip_blanks(reader, at);
        if (at == reader->end) return ND_ODD;
        if (*at == ']') behind = at + 1;
        else if (*at++ != ',') return ND_ODD;
    }
    *place = behind;
    return ND_OK;
}

enum { HAS_EVENTS = 1, HAS_NAME = 2 };

/* A member of a message, one that it has not had yet.  from is where the message begins. */
static nd_status member_read(nd_scan *scan, const uint8_t *from, const uint8_t **place, int *seen)
{
    const nd_reader *reader = &scan->reader;
    nd_staged *staged = &scan->staging->staged;
    nd_text key, name;
    const uint8_t *at = nd_key_read(reader, *place, &key);
    if (at == NULL || at == reader->end) return ND_ODD;
    if ((*seen & HAS_EVENTS) == 0 && nd_text_equals(&key, "notifications", 13)) {
        if (*at == '[') {
            if (*seen == 0) nd_glue_learn(&scan->head, from, at + 1);
            *seen |= HAS_EVENTS;
            *place = at + 1;
            return events_read(scan, place);
        }
        *seen |= HAS_EVENTS;
        *place = nd_null_read(reader, at);
    } else if ((*seen & HAS_NAME) == 0 && scan->may_be_named && *at == '"' && nd_text_equals(&key, "message-id", 10)) {
        *seen |= HAS_NAME;
        *place = nd_text_read(at + 1, reader->end, &name);
        staged->name_at = (uint64_t)(at - scan->text);
        staged->name_bytes = *place == NULL ? 0 : (uint64_t)(*place - at);
    } else {
        return ND_ODD;
    }
    return *place == NULL ? ND_ODD : ND_OK;
}

/* A message from its '{' to behind its '}'. */
static nd_status members_read(nd_scan *scan, const uint8_t **place)
{
    const nd_reader *reader = &scan->reader;
    const uint8_t *from = *place, *at = from, *behind;
    int seen = 0;
    nd_status status;
    if (nd_glue_holds(reader, &scan->head, at)) {
        at += scan->head.count;
        seen = HAS_EVENTS;
        status = events_read(scan, &at);
    } else {
        if ((at = nd_pass(reader, at, '{')) == NULL) return ND_ODD;
        *place = nd_pass(reader, at, '}');
        if (*place != NULL) return ND_OK;
        status = member_read(scan, from, &at, &seen);
    }
    while (status == ND_OK && (behind = nd_pass(reader, at, '}')) == NULL) {    /* two members at most */
        if ((at = nd_pass(reader, at, ',')) == NULL) return ND_ODD;
        status = member_read(scan, from, &at, &seen);
    }
    if (status == ND_OK) *place = behind;
    return status;
}

/* A message to the end of the text or of its line, and nothing of it unless it is whole. */
static nd_status message_read(nd_scan *scan, const uint8_t **place)
{
    nd_staged *staged = &scan->staging->staged;
    const nd_staged before = *staged;
    const uint8_t *from = *place, *behind = from;
    nd_status status = members_read(scan, &behind);
    if (status == ND_OK) {
        const uint32_t containers_max = scan->reader.rules->containers_max;
        behind = nd_skip_blanks(&scan->reader, behind);
        const int is_end = behind == scan->reader.end || *behind == '\n';
        const int is_small = behind - from <= containers_max || containers(from, behind) <= containers_max;
        *place = behind;
        if (is_end && is_small) return ND_OK;
        status = ND_ODD;
    }
    staged->block_bytes = before.block_bytes;
    staged->records_count = before.records_count;
    staged->lasting_count = before.lasting_count;
    staged->name_bytes = 0;
    return status;
}

/* Begin a scan from one place to another.  Room for what is likely to be written is asked for
 * at once; what is more than that grows as it comes. */
static nd_status begin(nd_scan *scan, nd_staging *staging, const uint8_t *text, uint64_t from, uint64_t upto,
                       uint64_t records_max)
{
    scan->staging = staging;
    scan->text = text;
    scan->reader = (nd_reader){.end = text + upto, .rules = &staging->rules, .blanks = ND_BLANK_IN_LINE};
    scan->records_max = records_max < UINT32_MAX ? records_max : UINT32_MAX;
    scan->may_be_named = 0;
    scan->head.count = 0;
    memset(&scan->habits, 0, sizeof scan->habits);
    staging->staged.next = from;
    staging->staged.lines_count = staging->staged.messages_count = 0;
    staging->staged.name_at = staging->staged.name_bytes = 0;
    return reserve(staging, upto - from);
}

nd_status nd_scan_message(nd_staging *staging, const uint8_t *text, uint64_t text_bytes,
                          uint64_t records_max, int may_be_named)
{
    nd_scan scan;
    nd_status status = begin(&scan, staging, text, 0, text_bytes, records_max);
    if (status != ND_OK) return status;
    scan.reader.blanks |= ND_BLANK_NEWLINE;
    scan.may_be_named = may_be_named;
    const uint8_t *at = text;
    if ((status = message_read(&scan, &at)) != ND_OK) return status;
    staging->staged.next = text_bytes;
    staging->staged.lines_count = staging->staged.messages_count = 1;
    return ND_OK;
}

nd_status nd_scan_lines(nd_staging *staging, const uint8_t *text, uint64_t from, uint64_t upto,
                        uint64_t records_max, uint64_t lines_max)
{
    nd_scan scan;
    nd_status status = begin(&scan, staging, text, from, upto, records_max);
    if (status != ND_OK) return status;
    nd_staged *staged = &staging->staged;
    while (staged->next < upto && staged->lines_count < lines_max) {
        const uint8_t *at = nd_skip_blanks(&scan.reader, text + staged->next);
        if (at < scan.reader.end && *at != '\n') {
            if ((status = message_read(&scan, &at)) != ND_OK) return status;
            staged->messages_count++;
        }
        staged->lines_count++;
        staged->next = (uint64_t)(at - text) + (at < scan.reader.end);
    }
    return ND_OK;
}
