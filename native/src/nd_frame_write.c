/* nd_frame_write.c -- a planned batch, written a piece at a time. */

#include "nd_frame.h"

#include <string.h>

#include "nd_form.h"
#include "nd_frame_inside.h"
#include "nd_framed.h"

#define DECIMAL_BYTES_MAX 20u

static uint8_t *put(uint8_t *at, const void *bytes, uint32_t count)
{
    memcpy(at, bytes, count);
    return at + count;
}

#define PUT_LITERAL(at, text) put((at), (text), ND_LITERAL_BYTES(text))

/* --- records ----------------------------------------------------------------------- */

/* What stays the same from record to record of one call. */
typedef struct {
    nd_crc_function crc;
    nd_uid_maker uid;
    uint32_t  form;
    uint64_t  timestamp;
    uint32_t  timestamp_bytes;
    uint8_t   timestamp_text[DECIMAL_BYTES_MAX];
} writer;

/* Records of one request share their time, so its digits are written once for all. */
static void know_timestamp(writer *w, uint64_t unix_ms)
{
    if (w->timestamp == unix_ms) return;
    w->timestamp = unix_ms;
    w->timestamp_bytes = nd_decimal_bytes(unix_ms);
    for (uint32_t i = w->timestamp_bytes; i-- > 0;) {
        w->timestamp_text[i] = (uint8_t)('0' + unix_ms % 10);
        unix_ms /= 10;
    }
}

static writer writer_of(const nd_frame_source *source, const nd_batch *batch)
{
    return (writer){
        .crc = source->crc,
        .uid = nd_uid_maker_of(source->incarnation, batch->epoch),
        .form = batch->form,
        .timestamp_bytes = 1,
        .timestamp_text = "0",
    };
}

/* The fields that a channel asked for, between a record's own and its closing brace. */
static uint8_t *put_added(uint8_t *at, const writer *w, const nd_record *record)
{
    if (w->form & ND_FORM_UID) {
        at = PUT_LITERAL(at, ND_UID_FIELD);
        nd_uid_put(at, &w->uid, record->seq);
        at += ND_UID_BYTES;
        *at++ = '"';
    }
    if (w->form & ND_FORM_TIMESTAMP) {
        at = PUT_LITERAL(at, ND_TIMESTAMP_FIELD);
        at = put(at, w->timestamp_text, w->timestamp_bytes);
    }
    const uint8_t *body = nd_record_body(record);
    if (record->tail_bytes > 0) {
        if (nd_tail_is_sent(record, w->form)) {
            at = put(at, body + record->body_bytes - 1 - record->tail_bytes, record->tail_bytes);
        }
    } else if (w->form & ND_FORM_ORIGINAL_EP) {
        at = PUT_LITERAL(at, ND_ORIGINAL_FIELD);
        at = put(at, body + ND_LITERAL_BYTES(ND_BODY_HEAD), record->ep_bytes);
        *at++ = '"';
    }
    return at;
}

static uint8_t *put_record(uint8_t *at, const writer *w, const nd_record *record)
{
    const uint8_t *body = nd_record_body(record);
    if (record->kind == ND_KIND_ASYNC) return put(at, body, record->body_bytes);
    if (nd_is_plain_ep(record, w->form)) {
        *at++ = '"';
        at = put(at, body + ND_LITERAL_BYTES(ND_BODY_HEAD), record->ep_bytes);
        *at++ = '"';
        return at;
    }
    at = put(at, body, record->body_bytes - record->tail_bytes - 1);
    at = put_added(at, w, record);
    *at++ = '}';
    return at;
}

/* --- messages ---------------------------------------------------------------------- */

enum { OPENING, RECORDS, CLOSING };

static void kind_begin(nd_batch *batch, uint32_t kind_at)
{
    batch->kind_at = kind_at;
    batch->stage = OPENING;
    batch->events_left = kind_at < batch->kinds_count ? batch->kind_events[kind_at] : 0;
    batch->next_seq = batch->first_seq;
    batch->next_offset = 0;
}

void nd_batch_rewind(nd_batch *batch)
{
    kind_begin(batch, 0);
    batch->bytes_written = 0;
}

static int is_mixed(const nd_batch *batch)
{
    return (batch->form & ND_FORM_MIXED_KINDS) != 0;
}

/* Whether something stands in the message before the kind at hand. */
static int goes_on(const nd_batch *batch)
{
    return batch->kind_at > 0 ? is_mixed(batch) : (batch->form & ND_FORM_GAPS) != 0;
}

/* `{"name":[` or, behind another array of the same message, `,"name":[`.  NULL: no room. */
static uint8_t *put_opening(uint8_t *at, const uint8_t *end, nd_batch *batch)
{
    const nd_array_head head = nd_array_head_of(batch->kinds[batch->kind_at]);
    if ((uint64_t)(end - at) < head.bytes + 1u) return NULL;
    *at++ = goes_on(batch) ? ',' : '{';
    return put(at, head.text, head.bytes);
}

static int ends_message(const nd_batch *batch)
{
    return !is_mixed(batch) || batch->kind_at + 1u == batch->kinds_count;
}

/* `]`, and `}` where a message ends.  NULL: no room. */
static uint8_t *put_closing(uint8_t *at, const uint8_t *end, nd_batch *batch)
{
    const int ends = ends_message(batch);
    if (end - at < 1 + ends) return NULL;
    *at++ = ']';
    if (ends) *at++ = '}';
    return at;
}

/* Check the next records of a kind in a span, several at once: what lies before the
 * result is sound.  The beginning of the first one itself when that is damaged. */
static const uint8_t *verify_ahead(const writer *w, nd_span span, uint8_t kind)
{
    const nd_record *records[ND_CRC_LANES];
    nd_crc_lane lanes[ND_CRC_LANES];
    uint32_t sums[ND_CRC_LANES], count = 0;
    while (span.records > 0 && count < ND_CRC_LANES) {          /* a record each turn */
        const nd_record *record = nd_span_next(&span);
        if (record == NULL) break;
        if (record->kind != kind) continue;
        records[count] = record;
        lanes[count] = nd_record_lane(record);
        count++;
    }
    if (count == 0) return span.bytes;
    w->crc(lanes, count, sums);
    for (uint32_t i = 0; i < count; i++) {
        if (records[i]->crc32c != sums[i]) return lanes[i].bytes;
    }
    return span.bytes;
}

/* Write records of the kind at hand from one span.  *needed: bytes that the next one
 * lacks room for, or 0. */
static nd_status put_span(writer *w, nd_batch *batch, nd_span *span, uint8_t **at, const uint8_t *end,
                          uint64_t *needed)
{
    const uint8_t kind = batch->kinds[batch->kind_at];
    const uint8_t *sound_end = span->bytes;
    while (span->records > 0 && batch->events_left > 0) {       /* a record each turn */
        batch->next_offset = span->offset;
        batch->next_seq = span->first_seq;
        if (span->first_seq > batch->last_seq) return ND_ERR_TRIMMED;
        if (span->bytes >= sound_end) sound_end = verify_ahead(w, *span, kind);
        const nd_record *record = nd_span_next(span);
        if (record == NULL) return ND_ERR_CORRUPT;
        if (record->kind != kind) continue;
        if ((const uint8_t *)record >= sound_end) return ND_ERR_CORRUPT;
        if (w->form & ND_FORM_TIMESTAMP) know_timestamp(w, record->received_unix_ms);
        const uint32_t comma = batch->events_left < batch->kind_events[batch->kind_at];
        const uint64_t bytes = comma + (uint64_t)nd_emitted_bytes(record, w->form, w->timestamp_bytes);
        if ((uint64_t)(end - *at) < bytes) {
            *needed = bytes;
            return ND_OK;
        }
        if (comma) *(*at)++ = ',';
        *at = put_record(*at, w, record);
        batch->events_left--;
    }
    batch->next_offset = span->offset;
    batch->next_seq = span->first_seq;
    return ND_OK;
}

/* Write records of the kind at hand until all are written, one has no room, or one is cold. */
static nd_status put_records(writer *w, const nd_frame_source *source, nd_batch *batch, uint8_t **at,
                             const uint8_t *end, uint64_t *needed)
{
    *needed = 0;
    while (batch->events_left > 0 && *needed == 0) {            /* a span each turn */
        nd_span span;
        const nd_place place = {.seq = batch->next_seq, .offset = batch->next_offset};
        nd_status status = source->span(source->records, batch->next_seq, &place, &span);
        if (status == ND_EMPTY) return ND_ERR_TRIMMED;
        if (status == ND_OK) status = put_span(w, batch, &span, at, end, needed);
        if (status != ND_OK) return status;
    }
    return ND_OK;
}

nd_status nd_batch_write_from(const nd_frame_source *source, nd_batch *batch, uint8_t *buffer, uint64_t capacity)
{
    batch->bytes_written = 0;
    if (batch->kind_at >= batch->kinds_count) return ND_OK;
    writer w = writer_of(source, batch);
    uint8_t *at = buffer;
    const uint8_t *const end = buffer + capacity;
    uint64_t needed = 0;
    int is_message_over = 0, is_cold = 0;
    while (!is_message_over && needed == 0 && !is_cold) {       /* at most 3 stages of 6 kinds */
        uint8_t *next = at;
        switch (batch->stage) {
        case OPENING:
            next = put_opening(at, end, batch);
            if (next == NULL) needed = nd_array_head_of(batch->kinds[batch->kind_at]).bytes + 1u;
            else batch->stage = RECORDS;
            break;
        case RECORDS: {
            const nd_status status = put_records(&w, source, batch, &next, end, &needed);
            is_cold = status == ND_COLD;
            if (status != ND_OK && !is_cold) return status;
            if (needed == 0 && !is_cold) batch->stage = CLOSING;
            break;
        }
        default:
            next = put_closing(at, end, batch);
            if (next == NULL) {
                needed = 1u + (uint32_t)ends_message(batch);
            } else {
                is_message_over = ends_message(batch);
                kind_begin(batch, batch->kind_at + 1);
            }
            break;
        }
        if (next != NULL) at = next;
    }
    if (at == buffer) {
        batch->bytes_written = needed;
        return is_cold ? ND_COLD : ND_NO_ROOM;
    }
    batch->bytes_written = (uint64_t)(at - buffer);
    return ND_OK;
}

int nd_batch_is_between(const nd_batch *batch)
{
    if (batch->stage != OPENING || batch->kind_at == 0) return 0;
    return !is_mixed(batch) || batch->kind_at == batch->kinds_count;
}

/* --- from a ring --------------------------------------------------------------------- */

static nd_status ring_span(void *ring, uint64_t seq, const nd_place *hint, nd_span *out)
{
    return nd_ring_span(ring, seq, hint, out);
}

static uint64_t ring_slice_limit(void *ring, uint64_t seq)
{
    return nd_ring_slice_limit(ring, seq);
}

nd_frame_source nd_frame_source_of(nd_ring *ring)
{
    return (nd_frame_source){
        .span = ring_span,
        .slice_limit = ring_slice_limit,
        .records = ring,
        .crc = nd_pool_crc(nd_ring_pool(ring)),
        .incarnation = nd_ring_incarnation(ring),
    };
}

int nd_batch_is_whole(const nd_ring *ring, const nd_batch *batch)
{
    return nd_ring_count(ring, batch->first_seq, batch->last_seq) == batch->events;
}

nd_status nd_batch_read(nd_ring *ring, const nd_framed *framed, nd_batch *batch, uint8_t *buffer, uint64_t capacity)
{
    if (ring == NULL || batch == NULL || (buffer == NULL && capacity > 0)) return ND_ERR_ARGUMENT;
    batch->bytes_written = 0;
    if (batch->kind_at >= batch->kinds_count) return ND_OK;
    if (!nd_batch_is_whole(ring, batch)) return ND_ERR_TRIMMED;
    if (framed != NULL && nd_framed_read(framed, batch, buffer, capacity)) return ND_OK;
    const nd_frame_source source = nd_frame_source_of(ring);
    return nd_batch_write_from(&source, batch, buffer, capacity);
}

nd_status nd_batch_write(nd_ring *ring, nd_batch *batch, uint8_t *buffer, uint64_t capacity)
{
    return nd_batch_read(ring, NULL, batch, buffer, capacity);
}
