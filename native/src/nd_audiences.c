/* nd_audiences.c -- open addressing over one array in which the channels of all stand end to end. */

#include "nd_audiences.h"

#include <string.h>

#include "nd_mix.h"

#define SEATS_MIN    16u
#define CHANNELS_MIN 64u

typedef struct {
    uint64_t pair;
    uint32_t at;                /* of its channels */
    uint32_t count_above;       /* how many, and 1; 0: nobody sits here */
} seat;

struct nd_audiences {
    const nd_io *io;
    seat        *seats;         /* NULL: there is none */
    uint64_t     seats_count;   /* a power of two */
    uint64_t     taken;
    uint64_t    *channels;      /* NULL: there is none */
    uint64_t     channels_room;
    uint64_t     channels_count;
};

static seat *seat_of(const nd_audiences *audiences, uint64_t pair)
{
    const uint64_t mask = audiences->seats_count - 1;
    uint64_t at = nd_mix64(pair) & mask;
    while (audiences->seats[at].count_above != 0 && audiences->seats[at].pair != pair) {
        at = (at + 1) & mask;                                   /* ends: half of the seats are free */
    }
    return &audiences->seats[at];
}

static int make_seats(nd_audiences *audiences)
{
    const nd_io *io = audiences->io;
    seat *const before = audiences->seats;
    const uint64_t count = audiences->seats_count, more = before == NULL ? SEATS_MIN : 2 * count;
    seat *const seats = io->allocate(io->context, more * sizeof *seats);
    if (seats == NULL) return 0;
    audiences->seats = seats;
    audiences->seats_count = more;
    for (uint64_t i = 0; before != NULL && i < count; i++) {
        if (before[i].count_above != 0) *seat_of(audiences, before[i].pair) = before[i];
    }
    if (before != NULL) io->release(io->context, before, count * sizeof *before);
    return 1;
}

/* Room for so many, and one more: the address of none is within the array too. */
static int make_room(nd_audiences *audiences, uint64_t count)
{
    const nd_io *io = audiences->io;
    const uint64_t wanted = audiences->channels_count + count + 1;
    if (wanted <= audiences->channels_room) return 1;
    const uint64_t room = 2 * wanted < CHANNELS_MIN ? CHANNELS_MIN : 2 * wanted;
    uint64_t *const channels = io->allocate(io->context, room * sizeof *channels);
    if (channels == NULL) return 0;
    if (audiences->channels != NULL) {
        memcpy(channels, audiences->channels, audiences->channels_count * sizeof *channels);
        io->release(io->context, audiences->channels, audiences->channels_room * sizeof *channels);
    }
    audiences->channels = channels;
    audiences->channels_room = room;
    return 1;
}

nd_status nd_audiences_open(const nd_io *io, nd_audiences **out)
{
    if (io == NULL || out == NULL) return ND_ERR_ARGUMENT;
    nd_audiences *audiences = io->allocate(io->context, sizeof *audiences);
    if (audiences == NULL) return ND_ERR_FULL;
    *audiences = (nd_audiences){.io = io};
    *out = audiences;
    return ND_OK;
}

void nd_audiences_close(nd_audiences *audiences)
{
    if (audiences == NULL) return;
    nd_audiences_clear(audiences);
    audiences->io->release(audiences->io->context, audiences, sizeof *audiences);
}

void nd_audiences_clear(nd_audiences *audiences)
{
    const nd_io *io = audiences->io;
    if (audiences->seats != NULL) {
        io->release(io->context, audiences->seats, audiences->seats_count * sizeof *audiences->seats);
    }
    if (audiences->channels != NULL) {
        io->release(io->context, audiences->channels, audiences->channels_room * sizeof *audiences->channels);
    }
    *audiences = (nd_audiences){.io = io};
}

nd_status nd_audiences_put(nd_audiences *audiences, uint64_t pair, const uint64_t *channels, uint64_t count)
{
    if (audiences == NULL || (count > 0 && channels == NULL)) return ND_ERR_ARGUMENT;
    if (count >= UINT32_MAX - audiences->channels_count) return ND_ERR_ARGUMENT;
    if (audiences->taken * 2 >= audiences->seats_count && !make_seats(audiences)) return ND_ERR_FULL;
    seat *const found = seat_of(audiences, pair);
    if (found->count_above != 0) return ND_ERR_ARGUMENT;
    if (!make_room(audiences, count)) return ND_ERR_FULL;
    *found = (seat){.pair = pair, .at = (uint32_t)audiences->channels_count, .count_above = (uint32_t)count + 1};
    if (count > 0) memcpy(audiences->channels + audiences->channels_count, channels, count * sizeof *channels);
    audiences->channels_count += count;
    audiences->taken++;
    return ND_OK;
}

const uint64_t *nd_audiences_find(const nd_audiences *audiences, uint64_t pair, uint64_t *count)
{
    if (audiences->seats == NULL) return NULL;
    const seat *found = seat_of(audiences, pair);
    if (found->count_above == 0) return NULL;
    *count = found->count_above - 1;
    return audiences->channels + found->at;
}
