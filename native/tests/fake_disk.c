/* fake_disk.c -- see the header. */

#include "fake_disk.h"

#include <stdlib.h>
#include <string.h>

#define FILES_MAX 256
#define NAME_MAX_BYTES 64
#define SECTOR 512u
#define MUCH_BYTES 4096u              /* more than a header */

typedef struct {
    char     name[NAME_MAX_BYTES];
    int      exists, existed;           /* now; and as far as the folder was synced */
    int      is_ahead;                  /* was asked for ahead, and not read since */
    uint8_t *bytes, *synced;
    uint64_t count, synced_count;
} file;

struct fake_disk {
    nd_files table;
    file     files[FILES_MAX];
    uint64_t files_count;
    uint64_t random;
    uint64_t calls, fail_at, die_at, write_max, hold_max, past_cache, reads_ahead, reads_waited_for;
    nd_status fail_status;
};

static uint64_t next_random(fake_disk *disk)
{
    disk->random = disk->random * 6364136223846793005u + 1442695040888963407u;
    return disk->random >> 33;
}

static nd_status begin_call(fake_disk *disk)
{
    disk->calls++;
    if (disk->die_at != 0 && disk->calls >= disk->die_at) return ND_ERR_IO;
    return disk->fail_at != 0 && disk->calls == disk->fail_at ? disk->fail_status : ND_OK;
}

/* A call that takes no space: it fails in another way. */
static nd_status begin_plain_call(fake_disk *disk)
{
    const nd_status status = begin_call(disk);
    return status == ND_ERR_NOSPACE ? ND_ERR_IO : status;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static file *find(fake_disk *disk, const char *name)
{
    for (uint64_t i = 0; i < disk->files_count; i++) {
        if (strcmp(disk->files[i].name, name) == 0) return &disk->files[i];
    }
    return NULL;
}

static void resize(uint8_t **bytes, uint64_t *count, uint64_t new_count)
{
    *bytes = realloc(*bytes, new_count > 0 ? new_count : 1);
    if (*bytes == NULL) abort();
    if (new_count > *count) memset(*bytes + *count, 0, new_count - *count);
    *count = new_count;
}

static nd_status fake_create(void *context, const char *path, int32_t *out)
{
    fake_disk *disk = context;
    const nd_status status = begin_call(disk);
    if (status != ND_OK) return status;
    file *f = find(disk, base_name(path));
    if (f == NULL) {
        if (disk->files_count == FILES_MAX) abort();
        f = &disk->files[disk->files_count];
        disk->files_count++;
        strncpy(f->name, base_name(path), NAME_MAX_BYTES - 1);
    }
    f->exists = 1;
    resize(&f->bytes, &f->count, 0);
    *out = (int32_t)(f - disk->files);
    return ND_OK;
}

static nd_status fake_open(void *context, const char *path, int32_t *out, uint64_t *bytes_out)
{
    fake_disk *disk = context;
    const nd_status status = begin_plain_call(disk);
    if (status != ND_OK) return status;
    file *f = find(disk, base_name(path));
    if (f == NULL || !f->exists) return ND_EMPTY;
    *out = (int32_t)(f - disk->files);
    *bytes_out = f->count;
    return ND_OK;
}

static nd_status fake_reopen(void *context, const char *path, int32_t *out)
{
    uint64_t bytes;
    return fake_open(context, path, out, &bytes);
}

static void fake_close(void *context, int32_t number)
{
    (void)context;
    (void)number;
}

static uint64_t held_bytes(const fake_disk *disk)
{
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < disk->files_count; i++) {
        if (disk->files[i].exists) bytes += disk->files[i].count;
    }
    return bytes;
}

static nd_status fake_preallocate(void *context, int32_t number, uint64_t offset, uint64_t bytes)
{
    fake_disk *disk = context;
    const nd_status status = begin_call(disk);
    if (status != ND_OK) return status;
    file *f = &disk->files[number];
    const uint64_t end = offset + bytes > f->count ? offset + bytes : f->count;
    if (disk->hold_max != 0 && held_bytes(disk) + end - f->count > disk->hold_max) return ND_ERR_NOSPACE;
    resize(&f->bytes, &f->count, end);
    return ND_OK;
}

static nd_status fake_give_back(void *context, int32_t number, uint64_t offset, uint64_t bytes)
{
    fake_disk *disk = context;
    const nd_status status = begin_call(disk);
    if (status != ND_OK) return status;
    file *f = &disk->files[number];
    if (offset + bytes > f->count) abort();
    memset(f->bytes + offset, 0xdd, bytes);                     /* whoever reads it is to notice */
    return ND_OK;
}

static nd_status fake_write(void *context, int32_t number, const uint8_t *bytes, uint64_t count,
                            uint64_t offset, uint64_t *written)
{
    fake_disk *disk = context;
    const nd_status status = begin_call(disk);
    if (status != ND_OK) return status;
    file *f = &disk->files[number];
    if (offset + count > f->count) abort();                     /* the journal stays in its segment */
    if (disk->write_max != 0 && count > disk->write_max) count = disk->write_max;
    memcpy(f->bytes + offset, bytes, count);
    *written = count;
    return ND_OK;
}

static nd_status fake_write_past_cache(void *context, int32_t number, const uint8_t *bytes, uint64_t count,
                                       uint64_t offset, uint64_t *written)
{
    fake_disk *disk = context;
    disk->past_cache++;
    return fake_write(context, number, bytes, count, offset, written);
}

static nd_status fake_read(void *context, int32_t number, uint8_t *bytes, uint64_t count,
                           uint64_t offset, uint64_t *got)
{
    fake_disk *disk = context;
    const nd_status status = begin_plain_call(disk);
    if (status != ND_OK) return status;
    file *f = &disk->files[number];
    if (offset == 0 && count > MUCH_BYTES) {
        disk->reads_waited_for += !f->is_ahead;
        f->is_ahead = 0;
    }
    const uint64_t left = offset < f->count ? f->count - offset : 0;
    *got = count < left ? count : left;
    if (*got > 1000) *got -= 1000;                              /* reads may be short too */
    if (*got > 0) memcpy(bytes, f->bytes + offset, *got);
    return ND_OK;
}

static void fake_read_ahead(void *context, const char *path)
{
    fake_disk *disk = context;
    file *f = find(disk, base_name(path));
    if (f == NULL) return;
    f->is_ahead = 1;
    disk->reads_ahead++;
}

static nd_status fake_sync(void *context, int32_t number)
{
    fake_disk *disk = context;
    const nd_status status = begin_plain_call(disk);
    if (status != ND_OK) return status;
    file *f = &disk->files[number];
    resize(&f->synced, &f->synced_count, f->count);
    memcpy(f->synced, f->bytes, f->count);
    return ND_OK;
}

static nd_status fake_sync_folder(void *context, const char *folder)
{
    fake_disk *disk = context;
    (void)folder;
    const nd_status status = begin_plain_call(disk);
    if (status != ND_OK) return status;
    for (uint64_t i = 0; i < disk->files_count; i++) disk->files[i].existed = disk->files[i].exists;
    return ND_OK;
}

static nd_status fake_unlink(void *context, const char *path)
{
    fake_disk *disk = context;
    const nd_status status = begin_plain_call(disk);
    if (status != ND_OK) return status;
    file *f = find(disk, base_name(path));
    if (f == NULL || !f->exists) return ND_EMPTY;
    f->exists = 0;
    return ND_OK;
}

static nd_status fake_list(void *context, const char *folder,
                           void (*visit)(void *visitor, const char *name), void *visitor)
{
    fake_disk *disk = context;
    (void)folder;
    const nd_status status = begin_plain_call(disk);
    if (status != ND_OK) return status;
    visit(visitor, "not-a-segment");
    for (uint64_t i = disk->files_count; i-- > 0;) {
        if (disk->files[i].exists) visit(visitor, disk->files[i].name);
    }
    return ND_OK;
}

void fake_disk_power_cut(fake_disk *disk)
{
    for (uint64_t i = 0; i < disk->files_count; i++) {
        file *f = &disk->files[i];
        if (f->exists != f->existed) f->exists = (int)(next_random(disk) & 1u);
        f->existed = f->exists;
        if (f->synced_count < f->count) resize(&f->synced, &f->synced_count, f->count);
        for (uint64_t at = 0; at < f->count; at += SECTOR) {
            const uint64_t bytes = f->count - at < SECTOR ? f->count - at : SECTOR;
            if ((next_random(disk) & 1u) != 0) memcpy(f->bytes + at, f->synced + at, bytes);
        }
        resize(&f->synced, &f->synced_count, f->count);
        if (f->count > 0) memcpy(f->synced, f->bytes, f->count);
    }
    disk->die_at = disk->fail_at = 0;
}

fake_disk *fake_disk_new(uint64_t seed)
{
    fake_disk *disk = calloc(1, sizeof *disk);
    if (disk == NULL) abort();
    disk->random = seed * 2 + 1;
    disk->table = (nd_files){
        .context = disk,
        .create = fake_create,
        .open = fake_open,
        .reopen = fake_reopen,
        .close = fake_close,
        .preallocate = fake_preallocate,
        .give_back = fake_give_back,
        .write = fake_write,
        .write_past_cache = fake_write_past_cache,
        .read = fake_read,
        .read_ahead = fake_read_ahead,
        .sync = fake_sync,
        .sync_folder = fake_sync_folder,
        .unlink = fake_unlink,
        .list = fake_list,
    };
    return disk;
}

void fake_disk_free(fake_disk *disk)
{
    for (uint64_t i = 0; i < disk->files_count; i++) {
        free(disk->files[i].bytes);
        free(disk->files[i].synced);
    }
    free(disk);
}

const nd_files *fake_disk_files(fake_disk *disk) { return &disk->table; }
uint64_t fake_disk_calls(const fake_disk *disk) { return disk->calls; }
void fake_disk_die_at(fake_disk *disk, uint64_t call) { disk->die_at = call; }
uint64_t fake_disk_writes_past_cache(const fake_disk *disk) { return disk->past_cache; }
uint64_t fake_disk_reads_ahead(const fake_disk *disk) { return disk->reads_ahead; }
uint64_t fake_disk_reads_waited_for(const fake_disk *disk) { return disk->reads_waited_for; }
void fake_disk_write_at_most(fake_disk *disk, uint64_t bytes) { disk->write_max = bytes; }
void fake_disk_hold_at_most(fake_disk *disk, uint64_t bytes) { disk->hold_max = bytes; }

void fake_disk_fail_at(fake_disk *disk, uint64_t call, nd_status status)
{
    disk->fail_at = call;
    disk->fail_status = status;
}

uint8_t *fake_disk_bytes(fake_disk *disk, const char *name, uint64_t *count_out)
{
    file *f = find(disk, name);
    if (f == NULL || !f->exists) return NULL;
    *count_out = f->count;
    return f->bytes;
}

void fake_disk_truncate(fake_disk *disk, const char *name, uint64_t count)
{
    file *f = find(disk, name);
    if (f != NULL && count < f->count) f->count = count;
}

uint64_t fake_disk_count(const fake_disk *disk)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < disk->files_count; i++) count += disk->files[i].exists != 0;
    return count;
}
