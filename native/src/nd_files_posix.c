/* nd_files_posix.c -- the system calls on files, and nothing else. */

#define _GNU_SOURCE

#include "nd_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#define INTERRUPTS_MAX 100              /* of one call by signals; more is not a signal */
#define WRITE_BYTES_MAX (1u << 30)      /* Linux writes at most 2 GiB at once */
#define AHEAD_BYTES (128 * 1024)        /* of one advice Linux follows up to its window, which is that by default */

static nd_status status_of(int error)
{
    /* EFBIG: whoever started us set a limit on the size of files, and may raise it. */
    return error == ENOSPC || error == EDQUOT || error == EFBIG ? ND_ERR_NOSPACE : ND_ERR_IO;
}

static nd_status posix_create(void *context, const char *path, int32_t *file_out)
{
    (void)context;
    const int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0) return status_of(errno);
    *file_out = file;
    return ND_OK;
}

static nd_status posix_open(void *context, const char *path, int32_t *file_out, uint64_t *bytes_out)
{
    (void)context;
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return errno == ENOENT ? ND_EMPTY : ND_ERR_IO;
    struct stat about;
    if (fstat(file, &about) != 0 || about.st_size < 0) {
        (void)close(file);
        return ND_ERR_IO;
    }
    *file_out = file;
    *bytes_out = (uint64_t)about.st_size;
    return ND_OK;
}

static nd_status posix_reopen(void *context, const char *path, int32_t *file_out)
{
    (void)context;
    const int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return errno == ENOENT ? ND_EMPTY : ND_ERR_IO;
    *file_out = file;
    return ND_OK;
}

static void posix_close(void *context, int32_t file)
{
    (void)context;
    (void)close(file);
}

/* Write; 0 or an errno. */
static int write_some(int32_t file, const uint8_t *bytes, uint64_t count, uint64_t offset, uint64_t *written_out)
{
    if (count > WRITE_BYTES_MAX) count = WRITE_BYTES_MAX;
    for (int turn = 0; turn < INTERRUPTS_MAX; turn++) {
        const ssize_t written = pwrite(file, bytes, (size_t)count, (off_t)offset);
        if (written > 0) {
            *written_out = (uint64_t)written;
            return 0;
        }
        if (written == 0) return EIO;
        if (errno != EINTR) break;
    }
    return errno;
}

static nd_status posix_write(void *context, int32_t file, const uint8_t *bytes, uint64_t count,
                             uint64_t offset, uint64_t *written_out)
{
    (void)context;
    const int error = write_some(file, bytes, count, offset, written_out);
    return error == 0 ? ND_OK : status_of(error);
}

/* Only for as long as this write takes: others of the file are not aligned. */
static nd_status posix_write_past_cache(void *context, int32_t file, const uint8_t *bytes, uint64_t count,
                                        uint64_t offset, uint64_t *written_out)
{
    const int is_aligned = ((uintptr_t)bytes | count | offset) % ND_DIRECT_BYTES == 0;
    const int flags = is_aligned ? fcntl(file, F_GETFL) : -1;
    if (flags < 0 || fcntl(file, F_SETFL, flags | O_DIRECT) != 0) {         /* the file system cannot */
        return posix_write(context, file, bytes, count, offset, written_out);
    }
    const int error = write_some(file, bytes, count, offset, written_out);
    if (fcntl(file, F_SETFL, flags) != 0) return ND_ERR_IO;
    if (error == EINVAL) return posix_write(context, file, bytes, count, offset, written_out);   /* nor can the disk */
    return error == 0 ? ND_OK : status_of(error);
}

static nd_status posix_read(void *context, int32_t file, uint8_t *bytes, uint64_t count,
                            uint64_t offset, uint64_t *read_out)
{
    (void)context;
    if (count > WRITE_BYTES_MAX) count = WRITE_BYTES_MAX;
    for (int turn = 0; turn < INTERRUPTS_MAX; turn++) {
        const ssize_t got = pread(file, bytes, (size_t)count, (off_t)offset);
        if (got >= 0) {
            *read_out = (uint64_t)got;
            return ND_OK;
        }
        if (errno != EINTR) break;
    }
    return ND_ERR_IO;
}

static void posix_read_ahead(void *context, const char *path)
{
    int32_t file;
    uint64_t bytes;
    if (posix_open(context, path, &file, &bytes) != ND_OK) return;
    for (uint64_t at = 0; at < bytes; at += AHEAD_BYTES) {
        if (posix_fadvise(file, (off_t)at, AHEAD_BYTES, POSIX_FADV_WILLNEED) != 0) break;
    }
    posix_close(context, file);
}

static nd_status write_zeros(int32_t file, uint64_t at, uint64_t bytes)
{
    static const uint8_t zeros[64 * 1024];
    const uint64_t end = at + bytes;
    while (at < end) {                                          /* each turn writes something or ends */
        const uint64_t count = end - at < sizeof zeros ? end - at : sizeof zeros;
        uint64_t written = 0;
        const nd_status status = posix_write(NULL, file, zeros, count, at, &written);
        if (status != ND_OK) return status;
        at += written;
    }
    return ND_OK;
}

static nd_status posix_preallocate(void *context, int32_t file, uint64_t offset, uint64_t bytes)
{
    (void)context;
    for (int turn = 0; turn < INTERRUPTS_MAX; turn++) {
        /* Not posix_fallocate: its own fallback writes one byte a block, and hides that it does. */
        if (fallocate(file, 0, (off_t)offset, (off_t)bytes) == 0) return ND_OK;
        if (errno == EOPNOTSUPP || errno == ENOSYS) return write_zeros(file, offset, bytes);
        if (errno != EINTR) break;
    }
    return status_of(errno);
}

static nd_status posix_give_back(void *context, int32_t file, uint64_t offset, uint64_t bytes)
{
    (void)context;
    const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    return fallocate(file, mode, (off_t)offset, (off_t)bytes) == 0 ? ND_OK : ND_ERR_IO;
}

static nd_status posix_sync(void *context, int32_t file)
{
    (void)context;
    return fdatasync(file) == 0 ? ND_OK : ND_ERR_IO;
}

static nd_status posix_sync_folder(void *context, const char *folder)
{
    (void)context;
    const int file = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0) return ND_ERR_IO;
    const int failed = fsync(file);
    (void)close(file);
    return failed == 0 ? ND_OK : ND_ERR_IO;
}

static nd_status posix_unlink(void *context, const char *path)
{
    (void)context;
    if (unlink(path) == 0) return ND_OK;
    return errno == ENOENT ? ND_EMPTY : ND_ERR_IO;
}

static nd_status posix_list(void *context, const char *folder,
                            void (*visit)(void *visitor, const char *name), void *visitor)
{
    (void)context;
    DIR *entries = opendir(folder);
    if (entries == NULL) return errno == ENOENT ? ND_EMPTY : ND_ERR_IO;
    const struct dirent *entry;
    errno = 0;
    while ((entry = readdir(entries)) != NULL) {                /* the folder's entries */
        visit(visitor, entry->d_name);
        errno = 0;
    }
    const int failed = errno;
    (void)closedir(entries);
    return failed == 0 ? ND_OK : ND_ERR_IO;
}

static const nd_files posix_table = {
    .context = NULL,
    .create = posix_create,
    .open = posix_open,
    .reopen = posix_reopen,
    .close = posix_close,
    .preallocate = posix_preallocate,
    .give_back = posix_give_back,
    .write = posix_write,
    .write_past_cache = posix_write_past_cache,
    .read = posix_read,
    .read_ahead = posix_read_ahead,
    .sync = posix_sync,
    .sync_folder = posix_sync_folder,
    .unlink = posix_unlink,
    .list = posix_list,
};

const nd_files *nd_files_posix(void)
{
    return &posix_table;
}
