/* nd_crc.h -- CRC-32C (Castagnoli), the checksum of every stored record.
 *
 * Polynomial 0x1EDC6F41 reflected, initial value and final xor 0xFFFFFFFF: the
 * checksum of iSCSI and ext4, which processors compute in hardware.
 */
#ifndef ND_CRC_H
#define ND_CRC_H

#include <stddef.h>
#include <stdint.h>

#define ND_CRC_LANES 4u

/* Continue a checksum over more bytes; begin with 0.  By table, on any machine.
 *
 *   Owns    nothing.
 *   Blocks  no.
 *   Cost    O(count).
 *   Returns the checksum of all bytes so far.
 */
uint32_t nd_crc32c(uint32_t crc, const uint8_t *bytes, size_t count);

/* cffi: begin */

/* A stored record, or anything that keeps its checksum in bytes 4..7. */
typedef struct {
    const uint8_t *bytes;
    size_t         count;       /* a multiple of 8, at least 8 */
} nd_crc_lane;

/* The checksums of up to ND_CRC_LANES records, each with its own bytes 4..7 taken as
 * zeros.  Several at once because the instruction waits for its own result three
 * times as long as it takes: one record after the other leaves it idle.
 *
 *   Owns    nothing.
 *   Blocks  no.
 *   Cost    O(bytes): in hardware about eight bytes an instruction.
 */
typedef void (*nd_crc_function)(const nd_crc_lane *lanes, uint32_t lanes_count, uint32_t *sums);

/* cffi: end */

/* By table, on any machine. */
void nd_crc32c_records_table(const nd_crc_lane *lanes, uint32_t lanes_count, uint32_t *sums);

/* The fastest way this machine knows.  Ask once and keep the answer. */
/* cffi: begin */
nd_crc_function nd_crc32c_records_best(void);
/* cffi: end */

#endif /* ND_CRC_H */
