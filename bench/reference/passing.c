/*
 * Descriptors from one process to another as fast as C can, one at a time or BATCH in a message.
 *
 *     passing COUNT BATCH
 *
 * Prints how many a second arrived and were closed.
 */
#define _GNU_SOURCE
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 253 };    /* SCM_MAX_FD, net/core/scm.h */

static void receive(int sock, int count)
{
    static _Alignas(struct cmsghdr) char control[CMSG_SPACE(MOST * sizeof(int))];
    char byte;
    while (count > 0) {
        struct iovec iov = { &byte, 1 };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
        if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&msg))
            err(1, "recvmsg");
        const int *fds = (int *)CMSG_DATA(CMSG_FIRSTHDR(&msg));
        size_t came = (CMSG_FIRSTHDR(&msg)->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < came; i++, count--)
            close(fds[i]);
    }
}

int main(int argc, char **argv)
{
    static _Alignas(struct cmsghdr) char control[CMSG_SPACE(MOST * sizeof(int))];
    int count = argc == 3 ? atoi(argv[1]) : 0, batch = argc == 3 ? atoi(argv[2]) : 0, pair[2];
    if (count < 1 || batch < 1 || batch > MOST || count % batch)
        errx(2, "COUNT BATCH, of which COUNT is a multiple");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair))
        err(1, "socketpair");
    if (!fork()) {
        close(pair[0]);
        receive(pair[1], count);
        if (write(pair[1], "", 1) != 1)
            err(1, "write");
        _exit(0);
    }
    close(pair[1]);
    int passed = socket(AF_INET, SOCK_STREAM, 0);
    struct iovec iov = { "", 1 };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
                          .msg_controllen = CMSG_SPACE(batch * sizeof(int)) };
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    *c = (struct cmsghdr){ CMSG_LEN(batch * sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
    for (int i = 0; i < batch; i++)
        memcpy(CMSG_DATA(c) + i * sizeof(int), &passed, sizeof passed);
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int sent = 0; sent < count; sent += batch)
        if (sendmsg(pair[0], &msg, MSG_NOSIGNAL) != 1)
            err(1, "sendmsg");
    char byte;
    if (read(pair[0], &byte, 1) != 1)
        err(1, "read");
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%.0f\n", count / ((double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec)));
}
