/* nd_uid.h -- the uid of a record: a UUIDv8 of (incarnation, epoch, seq).
 *
 * The same record has the same uid on every delivery, and uids of one incarnation and
 * epoch never meet: 64 of their bits are a bijection of the seq.  They are never
 * stored, and cost no cryptographic hash.  FORMAT.md gives the function.
 */
#ifndef ND_UID_H
#define ND_UID_H

#include <stdint.h>

#define ND_UID_BYTES 36u

/* What the uids of one incarnation and epoch share. */
typedef struct {
    uint64_t key;
    uint64_t high;              /* 58 bits */
} nd_uid_maker;

nd_uid_maker nd_uid_maker_of(uint64_t incarnation, uint64_t epoch);

/* Write the uid of a seq: ND_UID_BYTES characters, without a zero behind them.
 *
 *   Owns    at is the caller's.
 *   Blocks  no.
 *   Cost    constant.
 */
void nd_uid_put(uint8_t *at, const nd_uid_maker *maker, uint64_t seq);

#endif /* ND_UID_H */
