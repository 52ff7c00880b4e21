/* nd_channels.c -- open addressing; at most half of the seats are taken, and none is left marked
 * by one who went: those behind move up. */

#include "nd_channels.h"

#include "nd_mix.h"

#define SEATS_MIN 64u

typedef struct {
    uint64_t number;
    nd_ring *ring;              /* NULL: nobody sits here */
} seat;

struct nd_channels {
    const nd_io *io;
    seat        *seats;
    uint64_t     seats_count;   /* a power of two */
    uint64_t     taken;
    void        *scratch;
    uint64_t     scratch_bytes;
    nd_came      came;
};

static uint64_t home_of(const nd_channels *channels, uint64_t number)
{
    return nd_mix64(number) & (channels->seats_count - 1);
}

/* The seat of a channel, or the free one that it would take. */
static uint64_t seat_of(const nd_channels *channels, uint64_t number)
{
    uint64_t at = home_of(channels, number);
    while (channels->seats[at].ring != NULL && channels->seats[at].number != number) {
        at = (at + 1) & (channels->seats_count - 1);            /* ends: half of the seats are free */
    }
    return at;
}

static int seats_double(nd_channels *channels)
{
    seat *const before = channels->seats;
    const uint64_t count = channels->seats_count;
    seat *const larger = channels->io->allocate(channels->io->context, 2 * count * sizeof *larger);
    if (larger == NULL) return 0;
    channels->seats = larger;
    channels->seats_count = 2 * count;
    for (uint64_t i = 0; i < count; i++) {
        if (before[i].ring != NULL) larger[seat_of(channels, before[i].number)] = before[i];
    }
    channels->io->release(channels->io->context, before, count * sizeof *before);
    return 1;
}

nd_status nd_channels_open(const nd_io *io, nd_channels **out)
{
    if (io == NULL || out == NULL) return ND_ERR_ARGUMENT;
    nd_channels *channels = io->allocate(io->context, sizeof *channels);
    seat *seats = io->allocate(io->context, SEATS_MIN * sizeof *seats);
    if (channels == NULL || seats == NULL) {
        if (channels != NULL) io->release(io->context, channels, sizeof *channels);
        if (seats != NULL) io->release(io->context, seats, SEATS_MIN * sizeof *seats);
        return ND_ERR_FULL;
    }
    *channels = (nd_channels){.io = io, .seats = seats, .seats_count = SEATS_MIN};
    *out = channels;
    return ND_OK;
}

void nd_channels_close(nd_channels *channels)
{
    if (channels == NULL) return;
    const nd_io *io = channels->io;
    io->release(io->context, channels->seats, channels->seats_count * sizeof *channels->seats);
    if (channels->scratch != NULL) io->release(io->context, channels->scratch, channels->scratch_bytes);
    io->release(io->context, channels, sizeof *channels);
}

nd_status nd_channels_put(nd_channels *channels, uint64_t number, nd_ring *ring)
{
    if (channels == NULL || ring == NULL || nd_channels_find(channels, number) != NULL) return ND_ERR_ARGUMENT;
    if (channels->taken * 2 >= channels->seats_count && !seats_double(channels)) return ND_ERR_FULL;
    channels->seats[seat_of(channels, number)] = (seat){number, ring};
    channels->taken++;
    return ND_OK;
}

void nd_channels_remove(nd_channels *channels, uint64_t number)
{
    const uint64_t mask = channels->seats_count - 1;
    uint64_t hole = seat_of(channels, number);
    if (channels->seats[hole].ring == NULL) return;
    for (uint64_t at = (hole + 1) & mask; channels->seats[at].ring != NULL; at = (at + 1) & mask) {
        const uint64_t home = home_of(channels, channels->seats[at].number);
        if (((at - home) & mask) < ((at - hole) & mask)) continue;     /* it is not kept from its home by the hole */
        channels->seats[hole] = channels->seats[at];
        hole = at;
    }
    channels->seats[hole] = (seat){0};
    channels->taken--;
}

nd_ring *nd_channels_find(const nd_channels *channels, uint64_t number)
{
    return channels->seats[seat_of(channels, number)].ring;
}

void nd_channels_show(nd_channels *channels, const uint64_t *numbers, const uint64_t *upto_seqs, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        nd_ring *ring = nd_channels_find(channels, numbers[i]);
        if (ring != NULL) nd_ring_show(ring, upto_seqs[i]);
    }
}

const nd_came *nd_channels_came(const nd_channels *channels)
{
    return &channels->came;
}

void nd_channels_count(nd_channels *channels, uint64_t records, uint64_t bytes)
{
    channels->came.records += records;
    channels->came.bytes += bytes;
}

void *nd_channels_scratch(nd_channels *channels, uint64_t bytes)
{
    if (bytes <= channels->scratch_bytes) return channels->scratch;
    void *larger = channels->io->allocate(channels->io->context, 2 * bytes);
    if (larger == NULL) return NULL;
    if (channels->scratch != NULL) {
        channels->io->release(channels->io->context, channels->scratch, channels->scratch_bytes);
    }
    channels->scratch = larger;
    channels->scratch_bytes = 2 * bytes;
    return larger;
}
