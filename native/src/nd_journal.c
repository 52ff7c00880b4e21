/* nd_journal.c -- groups gathered in one buffer while the other is written. */

#include "nd_journal.h"

#include <string.h>

#include "nd_assert.h"

#define NO_FILE    (-1)
#define COPY_BYTES 64u
#define LARGE_BYTES          (256u * 1024)      /* a few small groups do not cost a large page */
#define PAST_CACHE_BYTES_MIN (64u * 1024)       /* a disk that is waited for once more should be worth it */

_Static_assert(ND_BLOCK_BYTES % ND_DIRECT_BYTES == 0, "groups may be written past the cache");

typedef struct {
    uint8_t *bytes;
    uint64_t used;              /* group header included */
    uint32_t units;
    uint32_t has_large_pages;   /* was asked for */
} group;

struct nd_journal {
    nd_io              io;
    nd_files           files;
    nd_crc_function    crc;
    nd_journal_options options;

    /* gathering side */
    group    open;
    uint64_t next_group;        /* the number of the open group */
    uint64_t durable_group, durable_segment;
    nd_journal_stats_t disk;    /* segment figures as last published */
    uint32_t is_poisoned;
    void    *scratch;
    uint64_t scratch_bytes;

    /* handed over by seal and group_done */
    group     sealed;
    uint32_t  is_sealed;
    nd_status written;          /* what write_sync did with it; ND_EMPTY: not tried */

    /* writing side */
    int32_t  file;              /* of the segment being written; NO_FILE: none yet */
    uint64_t segment;           /* its id; the one before first_segment: none yet */
    uint64_t offset;            /* where the next group goes */
    int32_t  spare;
    uint64_t oldest_segment;
    uint32_t has_failed;
    char     folder[ND_FOLDER_BYTES_MAX + 1];
};

/* --- opening ----------------------------------------------------------------------- */

static int options_are_valid(const nd_journal_options *o)
{
    if (o->journal_id == 0 || o->first_group == 0) return 0;
    if (o->segment_bytes < ND_SEGMENT_BYTES_MIN || o->segment_bytes > ND_SEGMENT_BYTES_MAX) return 0;
    if (o->segment_bytes % ND_BLOCK_BYTES != 0) return 0;
    if (o->group_bytes_max < ND_BLOCK_BYTES || o->group_bytes_max > o->segment_bytes - ND_BLOCK_BYTES) return 0;
    if (o->group_bytes_max % ND_BLOCK_BYTES != 0) return 0;
    return o->oldest_segment > 0 && o->oldest_segment <= o->first_segment && o->first_segment <= ND_SEGMENT_ID_MAX;
}

/* Begin a group in the memory of one that is done.  After a large one more of them will come: large pages spare
 * the translation of addresses for each 4 KiB, as often as the copy into it, its checksum and the disk need it. */
static void group_begin(const nd_io *io, uint64_t bytes_max, group *g)
{
    if (g->used >= LARGE_BYTES && !g->has_large_pages && io->discard(io->context, g->bytes, bytes_max) == ND_OK) {
        io->enlarge(io->context, g->bytes, bytes_max);
        g->has_large_pages = 1;
    }
    g->used = sizeof(nd_group_header);
    g->units = 0;
}

static void publish_disk(nd_journal *journal)
{
    journal->disk.oldest_segment = journal->oldest_segment;
    journal->disk.has_spare = journal->spare != NO_FILE;
    journal->disk.segment_room = journal->file != NO_FILE ? journal->options.segment_bytes - journal->offset : 0;
    journal->disk.segments = journal->segment + 1 - journal->oldest_segment + (journal->spare != NO_FILE);
    journal->is_poisoned = journal->has_failed;
}

nd_status nd_journal_open(const nd_io *io, const nd_files *files, const char *folder,
                          const nd_journal_options *options, nd_journal **out)
{
    if (io == NULL || files == NULL || folder == NULL || options == NULL || out == NULL) return ND_ERR_ARGUMENT;
    if (!options_are_valid(options) || strlen(folder) > ND_FOLDER_BYTES_MAX) return ND_ERR_ARGUMENT;
    nd_journal *journal = io->allocate(io->context, sizeof *journal);
    if (journal == NULL) return ND_ERR_FULL;
    journal->io = *io;
    journal->files = *files;
    journal->crc = nd_crc32c_records_best();
    journal->options = *options;
    journal->next_group = options->first_group;
    journal->durable_group = options->first_group - 1;
    journal->written = ND_EMPTY;
    journal->file = journal->spare = NO_FILE;
    journal->segment = options->first_segment - 1;
    journal->durable_segment = journal->segment;
    journal->oldest_segment = options->oldest_segment;
    memcpy(journal->folder, folder, strlen(folder) + 1);
    publish_disk(journal);
    if (io->map(io->context, options->group_bytes_max, &journal->open.bytes) != ND_OK
        || io->map(io->context, options->group_bytes_max, &journal->sealed.bytes) != ND_OK) {
        nd_journal_close(journal);
        return ND_ERR_FULL;
    }
    group_begin(io, options->group_bytes_max, &journal->open);
    *out = journal;
    return ND_OK;
}

void nd_journal_close(nd_journal *journal)
{
    if (journal == NULL) return;
    const nd_io io = journal->io;
    const uint64_t bytes = journal->options.group_bytes_max;
    if (journal->file != NO_FILE) journal->files.close(journal->files.context, journal->file);
    if (journal->spare != NO_FILE) journal->files.close(journal->files.context, journal->spare);
    if (journal->open.bytes != NULL) io.unmap(io.context, journal->open.bytes, bytes);
    if (journal->sealed.bytes != NULL) io.unmap(io.context, journal->sealed.bytes, bytes);
    if (journal->scratch != NULL) io.release(io.context, journal->scratch, journal->scratch_bytes);
    io.release(io.context, journal, sizeof *journal);
}

/* --- gathering --------------------------------------------------------------------- */

nd_status nd_journal_room(const nd_journal *journal, uint64_t bytes)
{
    if (journal == NULL) return ND_ERR_ARGUMENT;
    if (journal->is_poisoned) return ND_ERR_POISONED;
    if (bytes > nd_journal_room_max(journal)) return ND_ERR_ARGUMENT;
    return bytes <= journal->options.group_bytes_max - journal->open.used ? ND_OK : ND_NO_ROOM;
}

uint64_t nd_journal_room_max(const nd_journal *journal)
{
    return journal->options.group_bytes_max - sizeof(nd_group_header);
}

/* Take room in the open group; its bytes are those of an older group. */
static nd_status take(nd_journal *journal, uint64_t bytes, void **out)
{
    ND_ASSERT(bytes % 8 == 0 && bytes >= sizeof(nd_unit_header));
    const nd_status status = nd_journal_room(journal, bytes);
    if (status != ND_OK) return status;
    *out = journal->open.bytes + journal->open.used;
    journal->open.used += bytes;
    journal->open.units++;
    return ND_OK;
}

nd_status nd_journal_gather(nd_journal *journal, nd_unit_type type, uint64_t bytes, void **out)
{
    const nd_status status = take(journal, bytes, out);
    if (status != ND_OK) return status;
    memset(*out, 0, bytes);
    *(nd_unit_header *)*out = (nd_unit_header){.bytes = (uint32_t)bytes, .type = (uint16_t)type};
    return ND_OK;
}

uint64_t nd_journal_request_bytes(uint64_t block_bytes, uint64_t records, uint64_t routes, uint64_t entries)
{
    return sizeof(nd_request_unit) + records * sizeof(uint64_t) + routes * (nd_route_bytes(0) + 8)
           + entries * sizeof(uint32_t) + nd_round_up(block_bytes, 8);
}

static uint64_t stored_entries(const nd_journal_route *route)
{
    return route->entries != NULL ? route->seqs : 0;
}

static uint64_t request_bytes(const nd_journal_request *request)
{
    uint64_t bytes = sizeof(nd_request_unit) + request->records * sizeof(uint64_t);
    for (uint64_t i = 0; i < request->routes_count; i++) {
        const nd_journal_route *route = &request->routes[i];
        bytes += nd_route_bytes(stored_entries(route));
    }
    return bytes + nd_round_up(request->block_bytes, 8);
}

static int request_fits(const nd_journal_request *request)
{
    if (request->records > UINT32_MAX || request->routes_count > UINT32_MAX) return 0;
    if (request->block_bytes > UINT32_MAX || request->records == 0) return 0;
    uint64_t block_bytes = 0;
    for (uint64_t i = 0; i < request->records; i++) block_bytes += request->meta[i] & 0xffffffu;
    if (block_bytes != request->block_bytes) return 0;
    for (uint64_t i = 0; i < request->routes_count; i++) {
        const nd_journal_route *route = &request->routes[i];
        if (route->seqs == 0 || route->seqs > UINT32_MAX || route->first_seq == 0) return 0;
        if (route->entries == NULL && route->seqs != request->records) return 0;
    }
    return 1;
}

/* Copy by plain moves.  memcpy leaves long copies to the processor's string instruction, and where source and
 * target lie a little apart within a page, some processors (AMD, Zen 3 and 4) take ten times as long for it. */
static void copy(uint8_t *to, const uint8_t *from, uint64_t bytes)
{
    for (; bytes >= COPY_BYTES; bytes -= COPY_BYTES, to += COPY_BYTES, from += COPY_BYTES) memcpy(to, from, COPY_BYTES);
    memcpy(to, from, bytes);
}

/* Write a route and step over it. */
static uint8_t *put_route(uint8_t *at, const nd_journal_route *route)
{
    const uint64_t entries = stored_entries(route);
    uint8_t *end = at + nd_route_bytes(entries);
    memset(end - 8, 0, 8);                                      /* the padding, if there is any */
    nd_request_route *stored = (nd_request_route *)(void *)at;
    *stored = (nd_request_route){
        .channel = route->channel,
        .incarnation = route->incarnation,
        .first_seq = route->first_seq,
        .seqs = (uint32_t)route->seqs,
        .entries = (uint32_t)entries,
    };
    if (entries > 0) memcpy(stored + 1, route->entries, entries * sizeof(uint32_t));
    return end;
}

nd_status nd_journal_gather_request(nd_journal *journal, const nd_journal_request *request)
{
    if (journal == NULL || request == NULL || !request_fits(request)) return ND_ERR_ARGUMENT;
    const uint64_t bytes = request_bytes(request);
    void *unit;
    const nd_status status = take(journal, bytes, &unit);
    if (status != ND_OK) return status;
    nd_request_unit *stored = unit;
    *stored = (nd_request_unit){
        .unit = {.bytes = (uint32_t)bytes, .type = ND_UNIT_REQUEST},
        .epoch = request->epoch,
        .received_unix_ms = request->received_unix_ms,
        .records = (uint32_t)request->records,
        .routes = (uint32_t)request->routes_count,
        .block_bytes = request->block_bytes,
    };
    uint8_t *at = (uint8_t *)(stored + 1);
    copy(at, (const uint8_t *)request->meta, request->records * sizeof(uint64_t));
    at += request->records * sizeof(uint64_t);
    for (uint64_t i = 0; i < request->routes_count; i++) at = put_route(at, &request->routes[i]);
    memset((uint8_t *)unit + bytes - 8, 0, request->block_bytes > 0 ? 8 : 0);
    copy(at, request->block, request->block_bytes);
    return ND_OK;
}

nd_status nd_journal_gather_channel(nd_journal *journal, const nd_channel_unit *unit)
{
    if (journal == NULL || unit == NULL) return ND_ERR_ARGUMENT;
    if (unit->type < ND_UNIT_STATE || unit->type > ND_UNIT_FROZEN) return ND_ERR_ARGUMENT;
    void *at;
    const nd_status status = nd_journal_gather(journal, unit->type, sizeof *unit, &at);
    if (status != ND_OK) return status;
    nd_channel_unit *stored = at;
    *stored = *unit;
    stored->bytes = sizeof *unit;
    return ND_OK;
}

uint64_t nd_journal_answer_bytes(uint64_t key_bytes, uint64_t answer_bytes)
{
    return sizeof(nd_answer_unit) + nd_round_up(key_bytes + answer_bytes, 8);
}

nd_status nd_journal_gather_answer(nd_journal *journal, const nd_journal_answer *answer)
{
    if (journal == NULL || answer == NULL) return ND_ERR_ARGUMENT;
    if (answer->key_bytes > UINT16_MAX || answer->answer_bytes > UINT16_MAX) return ND_ERR_ARGUMENT;
    void *at;
    const nd_status status = nd_journal_gather(
        journal, ND_UNIT_ANSWER, nd_journal_answer_bytes(answer->key_bytes, answer->answer_bytes), &at);
    if (status != ND_OK) return status;
    nd_answer_unit *stored = at;
    stored->account = answer->account;
    stored->answered_unix_ms = answer->answered_unix_ms;
    memcpy(stored->body_sha256, answer->body_sha256, sizeof stored->body_sha256);
    stored->key_bytes = (uint32_t)answer->key_bytes;
    stored->answer_bytes = (uint32_t)answer->answer_bytes;
    memcpy(stored + 1, answer->key, answer->key_bytes);
    memcpy((uint8_t *)(stored + 1) + answer->key_bytes, answer->answer, answer->answer_bytes);
    return ND_OK;
}

nd_status nd_journal_gather_gaps(nd_journal *journal, uint64_t channel, uint64_t incarnation,
                                 const nd_gap *gaps, uint64_t count)
{
    if (journal == NULL || (gaps == NULL && count > 0) || count > UINT16_MAX) return ND_ERR_ARGUMENT;
    void *at;
    const nd_status status = nd_journal_gather(journal, ND_UNIT_GAPS,
                                               sizeof(nd_gaps_unit) + count * sizeof *gaps, &at);
    if (status != ND_OK) return status;
    nd_gaps_unit *stored = at;
    stored->channel = channel;
    stored->incarnation = incarnation;
    stored->gaps = count;
    if (count > 0) memcpy(stored + 1, gaps, count * sizeof *gaps);
    return ND_OK;
}

void *nd_journal_scratch(nd_journal *journal, uint64_t bytes)
{
    if (bytes <= journal->scratch_bytes) return journal->scratch;
    const nd_io *io = &journal->io;
    const uint64_t larger = nd_round_up(bytes, ND_BLOCK_BYTES);
    void *scratch = io->allocate(io->context, larger);
    if (scratch == NULL) return NULL;
    if (journal->scratch != NULL) io->release(io->context, journal->scratch, journal->scratch_bytes);
    journal->scratch = scratch;
    journal->scratch_bytes = larger;
    return scratch;
}

nd_status nd_journal_seal(nd_journal *journal)
{
    if (journal == NULL || journal->is_sealed) return ND_ERR_ARGUMENT;
    if (journal->is_poisoned) return ND_ERR_POISONED;
    if (journal->open.units == 0) return ND_EMPTY;
    *(nd_group_header *)(void *)journal->open.bytes = (nd_group_header){
        .magic = ND_GROUP_MAGIC,
        .journal_id = journal->options.journal_id,
        .number = journal->next_group,
        .durable = journal->durable_group,
        .bytes = (uint32_t)journal->open.used,
        .units = journal->open.units,
    };
    const group next = journal->sealed;
    journal->sealed = journal->open;
    journal->open = next;
    group_begin(&journal->io, journal->options.group_bytes_max, &journal->open);
    journal->next_group++;
    journal->is_sealed = 1;
    journal->written = ND_EMPTY;
    return ND_OK;
}

nd_status nd_journal_group_done(nd_journal *journal)
{
    if (journal == NULL) return ND_ERR_ARGUMENT;
    publish_disk(journal);
    if (journal->is_poisoned) return ND_ERR_POISONED;
    if (!journal->is_sealed || journal->written != ND_OK) return journal->written;
    journal->is_sealed = 0;
    journal->written = ND_EMPTY;
    journal->durable_group = journal->next_group - 1;
    journal->durable_segment = journal->segment;
    return ND_OK;
}

void nd_journal_stats(const nd_journal *journal, nd_journal_stats_t *out)
{
    *out = journal->disk;
    out->gathering_group = journal->next_group;
    out->gathered_bytes = journal->open.used - sizeof(nd_group_header);
    out->durable_group = journal->durable_group;
    out->durable_segment = journal->durable_segment;
    out->is_poisoned = journal->is_poisoned;
}

/* --- writing ----------------------------------------------------------------------- */

static nd_status poison(nd_journal *journal)
{
    journal->has_failed = 1;
    return ND_ERR_POISONED;
}

/* Write bytes within the segment; anything but success is unknown ground.  Much that is synced next is
 * written past the system's cache, in which it would cost a copy and a page for each 4 KiB (decision 0035). */
static nd_status write_all(nd_journal *journal, const uint8_t *bytes, uint64_t count, uint64_t offset)
{
    const nd_files *files = &journal->files;
    const int is_much = journal->options.is_synced && count >= PAST_CACHE_BYTES_MIN;
    while (count > 0) {                                         /* each turn writes something or ends */
        uint64_t written = 0;
        const nd_status status =
            is_much ? files->write_past_cache(files->context, journal->file, bytes, count, offset, &written)
                    : files->write(files->context, journal->file, bytes, count, offset, &written);
        if (status != ND_OK || written == 0 || written > count) return poison(journal);
        bytes += written;
        count -= written;
        offset += written;
    }
    return ND_OK;
}

static nd_status sync_segment(nd_journal *journal)
{
    const nd_files *files = &journal->files;
    return files->sync(files->context, journal->file) == ND_OK ? ND_OK : poison(journal);
}

nd_status nd_journal_prepare(nd_journal *journal)
{
    if (journal == NULL) return ND_ERR_ARGUMENT;
    if (journal->has_failed) return ND_ERR_POISONED;
    if (journal->spare != NO_FILE) return ND_OK;
    if (journal->segment == ND_SEGMENT_ID_MAX) return ND_ERR_NOSPACE;
    const nd_files *files = &journal->files;
    const nd_path path = nd_segment_path(journal->folder, journal->segment + 1);
    int32_t file;
    nd_status status = files->create(files->context, path.text, &file);
    if (status != ND_OK) return status;
    status = files->preallocate(files->context, file, 0, journal->options.segment_bytes);
    if (status == ND_OK) status = files->sync(files->context, file);
    if (status == ND_OK) status = files->sync_folder(files->context, journal->folder);
    if (status != ND_OK) {              /* nothing was written into it: it can be made again */
        files->close(files->context, file);
        (void)files->unlink(files->context, path.text);
        return status;
    }
    journal->spare = file;
    return ND_OK;
}

/* Go on in the spare segment, after the one before is on the disk whole. */
static nd_status next_segment(nd_journal *journal, uint64_t first_group)
{
    nd_status status = nd_journal_prepare(journal);
    if (status != ND_OK) return status;
    if (journal->file != NO_FILE) {
        if (!journal->options.is_synced) status = sync_segment(journal);
        if (status != ND_OK) return status;
        journal->files.close(journal->files.context, journal->file);
    }
    journal->file = journal->spare;
    journal->spare = NO_FILE;
    journal->segment++;
    journal->offset = ND_BLOCK_BYTES;

    nd_segment_header header = {
        .magic = ND_SEGMENT_MAGIC,
        .version = ND_SEGMENT_VERSION,
        .is_synced = journal->options.is_synced,
        .journal_id = journal->options.journal_id,
        .segment_id = journal->segment,
        .segment_bytes = journal->options.segment_bytes,
        .first_group = first_group,
        .epoch = journal->options.epoch,
        .created_unix_ms = journal->options.created_unix_ms,
    };
    nd_segment_seal(&header, journal->crc);
    return write_all(journal, (const uint8_t *)&header, sizeof header, 0);
}

static nd_status write_sealed(nd_journal *journal)
{
    nd_group_header *header = (nd_group_header *)(void *)journal->sealed.bytes;
    const uint64_t bytes = nd_round_up(header->bytes, ND_BLOCK_BYTES);
    if (journal->file == NO_FILE || bytes > journal->options.segment_bytes - journal->offset) {
        const nd_status status = next_segment(journal, header->number);
        if (status != ND_OK) return status;
    }
    header->segment_id = journal->segment;
    nd_group_seal(header, journal->crc);
    memset(journal->sealed.bytes + header->bytes, 0, bytes - header->bytes);
    const nd_status status = write_all(journal, journal->sealed.bytes, bytes, journal->offset);
    if (status != ND_OK) return status;
    journal->offset += bytes;
    return journal->options.is_synced ? sync_segment(journal) : ND_OK;
}

nd_status nd_journal_write_sync(nd_journal *journal)
{
    if (journal == NULL) return ND_ERR_ARGUMENT;
    if (journal->has_failed) return ND_ERR_POISONED;
    if (!journal->is_sealed || journal->written == ND_OK) return ND_EMPTY;
    journal->written = write_sealed(journal);
    return journal->written;
}

nd_status nd_journal_unlink_oldest(nd_journal *journal)
{
    if (journal == NULL) return ND_ERR_ARGUMENT;
    if (journal->has_failed) return ND_ERR_POISONED;
    if (journal->oldest_segment >= journal->segment) return ND_ERR_ARGUMENT;
    /* What was moved out of it stood on the disk before, and must not be less safe now. */
    if (!journal->options.is_synced && sync_segment(journal) != ND_OK) return ND_ERR_POISONED;
    const nd_files *files = &journal->files;
    const nd_path path = nd_segment_path(journal->folder, journal->oldest_segment);
    const nd_status status = files->unlink(files->context, path.text);
    if (status != ND_OK && status != ND_EMPTY) return status;
    /* Before the next is unlinked: segments that come back after a power cut must be
     * followed by all that were written later. */
    if (files->sync_folder(files->context, journal->folder) != ND_OK) return ND_ERR_IO;
    journal->oldest_segment++;
    return ND_OK;
}
