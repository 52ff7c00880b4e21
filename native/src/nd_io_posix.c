/* nd_io_posix.c -- the native core's memory and sending; with nd_files_posix.c the only files with system calls. */

#define _GNU_SOURCE

#include "nd_io.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23          /* Linux 5.14; older ones refuse it */
#endif

#define LARGE_PAGE_BYTES (2u * 1024 * 1024)
#define TOUCH_BYTES      4096u          /* no system has smaller pages */

static void *posix_allocate(void *context, size_t bytes)
{
    (void)context;
    return calloc(1, bytes);
}

static void posix_release(void *context, void *memory, size_t bytes)
{
    (void)context;
    (void)bytes;
    free(memory);
}

static nd_status posix_map(void *context, uint64_t bytes, uint8_t **out)
{
    (void)context;
    if (bytes > SIZE_MAX - 2 * LARGE_PAGE_BYTES) return ND_ERR_FULL;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = ((size_t)bytes + page - 1) / page * page;
    const size_t spare = bytes >= LARGE_PAGE_BYTES ? LARGE_PAGE_BYTES - page : 0;
    /* NORESERVE: the bound is a promise not to use more, not a claim on that much now. */
    uint8_t *memory = mmap(NULL, pages + spare, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return ND_ERR_FULL;
    const size_t before = spare > 0 ? -(uintptr_t)memory % LARGE_PAGE_BYTES : 0;
    if (before > 0) (void)munmap(memory, before);
    if (spare > before) (void)munmap(memory + before + pages, spare - before);
    *out = memory + before;
    return ND_OK;
}

static void posix_unmap(void *context, uint8_t *memory, uint64_t bytes)
{
    (void)context;
    (void)munmap(memory, (size_t)bytes);
}

static nd_status posix_discard(void *context, uint8_t *memory, uint64_t bytes)
{
    (void)context;
    return madvise(memory, (size_t)bytes, MADV_DONTNEED) == 0 ? ND_OK : ND_ERR_FULL;
}

static void posix_bring(void *context, uint8_t *memory, uint64_t bytes)
{
    (void)context;
    (void)madvise(memory, (size_t)bytes, MADV_POPULATE_WRITE);
}

static void posix_enlarge(void *context, uint8_t *memory, uint64_t bytes)
{
    (void)context;
#ifdef MADV_HUGEPAGE
    (void)madvise(memory, (size_t)bytes, MADV_HUGEPAGE);
#else
    (void)memory;
    (void)bytes;
#endif
}

/* By stores, for a fault locks this part alone, and a call that asks for all of it the whole address space. */
static void posix_bring_large(void *context, uint8_t *memory, uint64_t bytes)
{
    posix_enlarge(context, memory, bytes);
    for (uint64_t at = 0; at < bytes; at += TOUCH_BYTES) *(volatile uint8_t *)(memory + at) = 0;
#ifdef MADV_NOHUGEPAGE
    (void)madvise(memory, (size_t)bytes, MADV_NOHUGEPAGE);      /* those that are there stay */
#endif
}

static const nd_io posix_table = {
    .context = NULL,
    .allocate = posix_allocate,
    .release = posix_release,
    .map = posix_map,
    .unmap = posix_unmap,
    .discard = posix_discard,
    .bring = posix_bring,
    .enlarge = posix_enlarge,
    .bring_large = posix_bring_large,
};

const nd_io *nd_io_posix(void)
{
    return &posix_table;
}

static uint64_t posix_send(int32_t file, const uint8_t *bytes, uint64_t count)
{
    const ssize_t sent = send(file, bytes, (size_t)count, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent > 0 ? (uint64_t)sent : 0;
}

nd_send_function nd_send_posix(void)
{
    return posix_send;
}
