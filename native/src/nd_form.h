/* nd_form.h -- how long a record is in a message; planning counts it, writing keeps to it. */
#ifndef ND_FORM_H
#define ND_FORM_H

#include "nd_frame.h"
#include "nd_ring.h"
#include "nd_uid.h"

#define ND_LITERAL_BYTES(text) ((uint32_t)(sizeof(text) - 1))

#define ND_UID_FIELD       ",\"uid\":\""
#define ND_TIMESTAMP_FIELD ",\"timestamp\":"
#define ND_ORIGINAL_FIELD  ",\"original-ep\":\""
#define ND_BODY_HEAD       "{\"ep\":\""

/* `"name":[` of each kind; the order of kinds is part of the stored form (FORMAT.md). */
typedef struct {
    const char *text;
    uint32_t    bytes;
} nd_array_head;

nd_array_head nd_array_head_of(uint8_t kind);

uint32_t nd_decimal_bytes(uint64_t value);

enum {
    ND_KIND_NOTIFICATION         = 0,
    ND_KIND_REGISTRATION         = 1,
    ND_KIND_REG_UPDATE           = 2,
    ND_KIND_DE_REGISTRATION      = 3,
    ND_KIND_REGISTRATION_EXPIRED = 4
};

/* Whether a record is sent as the string of its ep alone. */
static inline int nd_is_plain_ep(const nd_record *record, uint32_t form)
{
    return (record->kind == ND_KIND_DE_REGISTRATION || record->kind == ND_KIND_REGISTRATION_EXPIRED)
           && (form & ND_FORM_DEREGISTRATIONS_AS_OBJECT) == 0;
}

/* Whether a record's own original-ep is sent. */
static inline int nd_tail_is_sent(const nd_record *record, uint32_t form)
{
    /* Registrations of devices that named themselves carry it although nobody asked. */
    return (form & ND_FORM_ORIGINAL_EP) != 0 || record->kind == ND_KIND_REGISTRATION || record->kind == ND_KIND_REG_UPDATE;
}

/* Exact length of a record in a message.  timestamp_bytes: the digits of its received time. */
static inline uint32_t nd_emitted_bytes(const nd_record *record, uint32_t form, uint32_t timestamp_bytes)
{
    if (record->kind == ND_KIND_ASYNC) return record->body_bytes;
    if (nd_is_plain_ep(record, form)) return record->ep_bytes + 2u;
    uint32_t bytes = record->body_bytes - record->tail_bytes;
    if (form & ND_FORM_UID) bytes += ND_LITERAL_BYTES(ND_UID_FIELD) + ND_UID_BYTES + 1;
    if (form & ND_FORM_TIMESTAMP) bytes += ND_LITERAL_BYTES(ND_TIMESTAMP_FIELD) + timestamp_bytes;
    if (record->tail_bytes > 0) {
        if (nd_tail_is_sent(record, form)) bytes += record->tail_bytes;
    } else if (form & ND_FORM_ORIGINAL_EP) {
        bytes += ND_LITERAL_BYTES(ND_ORIGINAL_FIELD) + record->ep_bytes + 1u;
    }
    return bytes;
}

/* Whether a header's lengths can be true, so that no copy leaves the body. */
int nd_header_is_possible(const nd_record *record);

#endif /* ND_FORM_H */
