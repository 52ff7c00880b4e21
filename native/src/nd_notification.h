/* nd_notification.h -- one event of the array "notifications", read, checked and written plainly. */
#ifndef ND_NOTIFICATION_H
#define ND_NOTIFICATION_H

#include "nd_reader.h"

#define ND_HABITS_MAX 8u

/* The members that mean something, and the one for all others. */
typedef enum {
    ND_EP, ND_PATH, ND_CT, ND_PAYLOAD, ND_ORIGINAL_EP,          /* strings */
    ND_MAX_AGE,
    ND_UID, ND_TIMESTAMP,                                       /* dropped: they are the dispatcher's to give */
    ND_UNKNOWN
} nd_member;

/* What stood before the members of the event before this one: a program writes its events alike. */
typedef struct {
    nd_glue   glue;
    nd_member member;
} nd_habit;

/* From the first member on.  Begins with zeros; not to be kept for a text with other white space. */
typedef struct {
    nd_habit members[ND_HABITS_MAX];
} nd_habits;

typedef struct {
    nd_text  texts[ND_ORIGINAL_EP + 1]; /* those that are not given have no bytes */
    uint64_t max_age;
    uint8_t  is_lasting;                /* its max-age is not 0, or was not given */
    uint8_t  has_original_ep;
    uint8_t  padding;                   /* of the payload, when that is verbatim */
} nd_notification;

/* Read an event from its '{' on; within all limits but those that nd_notification_write sees. */
const uint8_t *nd_notification_read(const nd_reader *reader, nd_habits *habits, const uint8_t *at,
                                    nd_notification *out);

/* How many bytes nd_notification_write may touch. */
size_t nd_notification_room(const nd_notification *event);

/* Write an event that was read in canonical form.
 *
 *   Returns its meta; 0 when it turns out wrong: a path without its slash, a payload that is
 *           too long or not base64.
 */
uint64_t nd_notification_write(const nd_reader *reader, const nd_notification *event, uint8_t *out);

#endif /* ND_NOTIFICATION_H */
