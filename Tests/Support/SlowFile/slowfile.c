/*
 * A file system with one file, whose server stops to answer in the middle, as a hung file server does. A process that has the
 * file open cannot come to its end then: the kernel waits for the answer to its close, in state D, while it ends the process.
 * All else is answered as ever.
 *
 *   slowfile FOLDER     mounts it there; "ready"; on SIGUSR1 "hangs", and from then on no close (FUSE_FLUSH) is answered
 *   slowfile            ends with 0 where that is possible
 *
 * Ends on SIGTERM or after two minutes, unmounts, and lets everybody go.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { lifetime_s = 120, the_file = 2 };

static const char *folder;
static volatile sig_atomic_t hangs;

static void on_signal(int number) {
    if (number == SIGUSR1) {
        hangs = 1;
        (void)!write(1, "hangs\n", 6);
        return;
    }
    umount2(folder, MNT_DETACH);
    _exit(0);
}

static void answer(int device, uint64_t unique, int error, const void *body, size_t size) {
    struct {
        struct fuse_out_header header;
        char body[256];
    } out = {{(uint32_t)(sizeof out.header + size), error, unique}, {0}};
    memcpy(out.body, body, size);
    (void)!write(device, &out, out.header.len);
}

static struct fuse_attr attributes(uint64_t node) {
    struct fuse_attr attr = {.ino = node, .nlink = 1, .blksize = 4096};
    attr.mode = node == the_file ? S_IFREG | 0666 : S_IFDIR | 0755;
    return attr;
}

static void serve(int device, struct fuse_in_header *in, const char *body) {
    switch (in->opcode) {
    case FUSE_INIT: {
        struct fuse_init_out out = {.major = 7, .minor = 31, .max_write = 4096};
        return answer(device, in->unique, 0, &out, sizeof out);
    }
    case FUSE_LOOKUP: {
        if (strcmp(body, "file") != 0) return answer(device, in->unique, -ENOENT, "", 0);
        struct fuse_entry_out out = {.nodeid = the_file, .entry_valid = 3600, .attr_valid = 3600};
        out.attr = attributes(the_file);
        return answer(device, in->unique, 0, &out, sizeof out);
    }
    case FUSE_GETATTR:
    case FUSE_SETATTR: {
        struct fuse_attr_out out = {.attr_valid = 3600, .attr = attributes(in->nodeid)};
        return answer(device, in->unique, 0, &out, sizeof out);
    }
    case FUSE_OPEN:
    case FUSE_OPENDIR: {
        struct fuse_open_out out = {.open_flags = FOPEN_DIRECT_IO};
        return answer(device, in->unique, 0, &out, sizeof out);
    }
    case FUSE_WRITE: {
        struct fuse_write_out out = {.size = ((const struct fuse_write_in *)body)->size};
        return answer(device, in->unique, 0, &out, sizeof out);
    }
    case FUSE_FLUSH: if (hangs) return; /* fallthrough */
    case FUSE_READ:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_ACCESS: return answer(device, in->unique, 0, "", 0);
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT: return;
    default: return answer(device, in->unique, -ENOSYS, "", 0);
    }
}

int main(int count, char **words) {
    char own[] = "/tmp/slowfile-XXXXXX";
    folder = count > 1 ? words[1] : mkdtemp(own);
    int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    char options[100];
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device);
    if (folder == NULL || device < 0 || mount("slowfile", folder, "fuse", MS_NOSUID | MS_NODEV, options) != 0) {
        perror("slowfile");
        return 1;
    }
    if (count == 1) {
        umount2(folder, MNT_DETACH);
        rmdir(folder);
        return 0;
    }
    struct sigaction action = {.sa_handler = on_signal};
    int numbers[] = {SIGUSR1, SIGTERM, SIGALRM};
    for (int index = 0; index < 3; index++) sigaction(numbers[index], &action, NULL);
    alarm(lifetime_s);
    static char request[1 << 17] __attribute__((aligned(8)));
    for (int told = 0;;) {
        ssize_t length = read(device, request, sizeof request);
        if (length < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT)) continue;
        if (length < (ssize_t)sizeof(struct fuse_in_header)) return 0;
        serve(device, (struct fuse_in_header *)request, request + sizeof(struct fuse_in_header));
        if (!told) told = write(1, "ready\n", 6) > 0;
    }
}
