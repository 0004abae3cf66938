/* A disk that can tell what it would have forgotten. Preloaded into a program, it writes down, in order, what is
 * written to files below $FORGETFUL_DISK and what is synced, into the file $FORGETFUL_LOG. Nothing else changes.
 *
 * A record: kind (1 byte), length of the path (2), offset (8), length of the data (4), path, data; numbers are
 * little-endian. Kinds: w written, s synced, t cut to a length (the offset), d removed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static int is_on_disk(const char *path) {
    const char *disk = getenv("FORGETFUL_DISK");
    return disk && strncmp(path, disk, strlen(disk)) == 0;
}

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_on_disk(path);
}

static void note(char kind, const char *path, uint64_t offset, const void *data, uint32_t length) {
    const char *name = getenv("FORGETFUL_LOG");
    uint16_t path_length = strlen(path);
    struct iovec record[] = {{&kind, 1}, {&path_length, 2}, {&offset, 8}, {&length, 4},
                             {(void *)path, path_length}, {(void *)data, length}};
    if (!name) return;
    int log = REAL(open)(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (log < 0 || writev(log, record, 6) < 0) abort();
    REAL(close)(log);
}

#define NOTED(type, call, fits, ...)                 \
    char path[PATH_MAX];                             \
    if (!path_of(fd, path)) return call;             \
    pthread_mutex_lock(&one_at_a_time);              \
    type done = call;                                \
    if (fits) note(__VA_ARGS__);                     \
    pthread_mutex_unlock(&one_at_a_time);            \
    return done;

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    NOTED(ssize_t, REAL(pwrite64)(fd, data, length, offset), done > 0, 'w', path, offset, data, done)
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    NOTED(ssize_t, REAL(pwrite)(fd, data, length, offset), done > 0, 'w', path, offset, data, done)
}

ssize_t write(int fd, const void *data, size_t length) {
    NOTED(ssize_t, REAL(write)(fd, data, length), done > 0, 'w', path,
          lseek(fd, 0, SEEK_CUR) - done, data, done)
}

int ftruncate64(int fd, off64_t length) {
    NOTED(int, REAL(ftruncate64)(fd, length), done == 0, 't', path, length, "", 0)
}

int ftruncate(int fd, off_t length) {
    NOTED(int, REAL(ftruncate)(fd, length), done == 0, 't', path, length, "", 0)
}

int fsync(int fd) { NOTED(int, REAL(fsync)(fd), done == 0, 's', path, 0, "", 0) }

int fdatasync(int fd) { NOTED(int, REAL(fdatasync)(fd), done == 0, 's', path, 0, "", 0) }

int unlink(const char *path) {
    int done = REAL(unlink)(path);
    if (done == 0 && is_on_disk(path)) note('d', path, 0, "", 0);
    return done;
}
