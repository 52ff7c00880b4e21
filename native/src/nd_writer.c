#define _GNU_SOURCE

#include "nd_writer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "nd_assert.h"

typedef enum { IDLE, WANTED, WRITING, WRITTEN, CLOSING } writer_state;

struct nd_writer {
    const nd_io    *io;
    nd_journal     *journal;
    int             descriptor;
    pthread_t       thread;
    pthread_mutex_t lock;       /* of what is below */
    pthread_cond_t  changed;
    writer_state    state;
};

static void announce(int descriptor)
{
    const uint64_t one = 1;
    ssize_t written;
    do {
        written = write(descriptor, &one, sizeof one);
    } while (written < 0 && errno == EINTR);
    ND_ASSERT(written == sizeof one);   /* the count is 0 or 1: it never blocks */
}

static void *write_groups(void *argument)
{
    nd_writer *writer = argument;
    pthread_mutex_lock(&writer->lock);
    for (;;) {                          /* each turn is a group, or the end */
        while (writer->state != WANTED && writer->state != CLOSING) {
            pthread_cond_wait(&writer->changed, &writer->lock);
        }
        if (writer->state == CLOSING) break;
        writer->state = WRITING;
        pthread_mutex_unlock(&writer->lock);
        (void)nd_journal_write_sync(writer->journal);   /* the journal remembers what came of it */
        pthread_mutex_lock(&writer->lock);
        writer->state = WRITTEN;
        pthread_cond_signal(&writer->changed);
        announce(writer->descriptor);
    }
    pthread_mutex_unlock(&writer->lock);
    return NULL;
}

/* Signals belong to the threads that handle them: this one takes none. */
static int start(nd_writer *writer)
{
    sigset_t all, before;
    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0) return 0;
    const int failure = pthread_create(&writer->thread, NULL, write_groups, writer);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failure == 0;
}

nd_status nd_writer_open(const nd_io *io, nd_journal *journal, nd_writer **out)
{
    if (io == NULL || journal == NULL || out == NULL) return ND_ERR_ARGUMENT;
    nd_writer *writer = io->allocate(io->context, sizeof *writer);
    if (writer == NULL) return ND_ERR_FULL;
    writer->io = io;
    writer->journal = journal;
    writer->state = IDLE;
    writer->descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (writer->descriptor >= 0) {
        pthread_mutex_init(&writer->lock, NULL);
        pthread_cond_init(&writer->changed, NULL);
        if (start(writer)) {
            *out = writer;
            return ND_OK;
        }
        pthread_cond_destroy(&writer->changed);
        pthread_mutex_destroy(&writer->lock);
        close(writer->descriptor);
    }
    io->release(io->context, writer, sizeof *writer);
    return ND_ERR_FULL;
}

int32_t nd_writer_descriptor(const nd_writer *writer)
{
    return writer->descriptor;
}

nd_status nd_writer_begin(nd_writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    const int is_idle = writer->state == IDLE;
    if (is_idle) writer->state = WANTED;
    pthread_mutex_unlock(&writer->lock);
    /* Not before: on a busy core the thread runs at once, to find the lock taken and give the core back. */
    if (is_idle) pthread_cond_signal(&writer->changed);
    return is_idle ? ND_OK : ND_ERR_ARGUMENT;
}

nd_status nd_writer_ended(nd_writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    const int has_ended = writer->state == WRITTEN;
    if (has_ended) {
        uint64_t count;
        const ssize_t got = read(writer->descriptor, &count, sizeof count);
        ND_ASSERT(got == sizeof count);         /* it was announced under the lock */
        (void)got;
        writer->state = IDLE;
    }
    pthread_mutex_unlock(&writer->lock);
    return has_ended ? ND_OK : ND_EMPTY;
}

void nd_writer_close(nd_writer *writer)
{
    if (writer == NULL) return;
    pthread_mutex_lock(&writer->lock);
    while (writer->state == WANTED || writer->state == WRITING) {       /* a write ends */
        pthread_cond_wait(&writer->changed, &writer->lock);
    }
    writer->state = CLOSING;
    pthread_cond_signal(&writer->changed);
    pthread_mutex_unlock(&writer->lock);
    pthread_join(writer->thread, NULL);
    pthread_cond_destroy(&writer->changed);
    pthread_mutex_destroy(&writer->lock);
    close(writer->descriptor);
    writer->io->release(writer->io->context, writer, sizeof *writer);
}
