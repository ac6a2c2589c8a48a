/*
 * A worker in C: a maitred master hands it connections, it answers HTTP/1.1 on them.
 *
 *     cc -std=c11 -O2 -o worker examples/worker.c
 *
 *     ./worker /run/maitred/workers.sock one      attaches to `maitred serve --attach`, by the name "one"
 *
 * Without arguments it is started by a master (`maitred serve --exec ./worker`).
 *
 * The protocol is in docs/reference/channel.md: packets of a 12-byte header, records and blobs,
 * in network byte order. Invariant: a connection is the master's until we say TAKEN, which is at
 * our first read of it and before our first answer, and ours until we say CLOSED. All processes that
 * run this answer alike, so whose a request is (the key, REVOKE) does not matter here.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { HANDOFF = 1, READY, TAKEN, REFUSED, DRAIN = 8, QUIT, DRAINED,    /* types of messages */
       CLOSED = 12, REVOKE, RETIRE = 16, RELIEVE = 19, ATTACH, ATTACHED, REJECTED };
enum { NO_DESCRIPTOR = 1, DRAINING, WRONG_DESCRIPTOR };                 /* reasons of REFUSED */
enum { VERSION = 4, HEADER = 12, HANDOFF_RECORD = 40, MAX_PACKET = 128 * 1024, MAX_FDS = 253, MAX_OPEN = 512 };

static struct { uint64_t id; int taken; size_t have; char head[8192]; } table[1 + MAX_OPEN];
static struct pollfd polled[1 + MAX_OPEN];  /* 0 is the channel, i belongs to table[i] */
static nfds_t count = 1;
static time_t deadline;                     /* of draining; 0 before that */

static uint64_t get(const uint8_t *p, int size)
{
    uint64_t n = 0;
    while (size--)
        n = n << 8 | *p++;
    return n;
}

/* Say one message: a number of `size` bytes, and after it what else there is to say: the reason of
 * REFUSED; for READY that we mark no connections (0), and move none (0). */
static void say(uint8_t type, uint64_t number, uint8_t size, uint8_t reason)
{
    uint8_t length = size + (type == REFUSED) + 2 * (type == READY);
    uint8_t packet[HEADER + 10] = { VERSION, type, 0, 0, 0, 1, 0, 0, 0, 0, 0, length };
    packet[HEADER + size] = reason;
    for (uint8_t *p = packet + HEADER + size; p-- > packet + HEADER; number >>= 8)
        *p = (uint8_t)number;
    while (send(polled[0].fd, packet, HEADER + length, MSG_NOSIGNAL) < 0) {
        if (errno == EPIPE || errno == ECONNRESET)
            exit(0);                        /* the master is gone: so are we */
        if (errno != EAGAIN && errno != EINTR)
            err(1, "send");
        poll(&(struct pollfd){ .fd = polled[0].fd, .events = POLLOUT }, 1, -1);
    }
}

static void forget(nfds_t i)
{
    close(polled[i].fd);
    if (table[i].taken)
        say(CLOSED, table[i].id, 8, 0);
    polled[i] = polled[--count];
    table[i] = table[count];
}

/* Read what is there and answer every complete request; say whether connection i goes on. */
static int serve(nfds_t i)
{
    char *head = table[i].head, body[64], answer[256];
    size_t room = sizeof table[i].head - 1 - table[i].have;
    ssize_t n = recv(polled[i].fd, head + table[i].have, room, MSG_DONTWAIT);
    if (!table[i].taken) {
        table[i].taken = 1;
        say(TAKEN, table[i].id, 8, 0);
    }
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return 0;
    head[table[i].have += n > 0 ? (size_t)n : 0] = 0;
    for (char *end; (end = strstr(head, "\r\n\r\n")); ) {
        *end = 0;
        /* The body of a request is not ours to read: answer, and do not take it for the next. */
        int last = deadline || strncmp(head, "GET ", 4) || strcasestr(head, "\r\nContent-Length:")
            || strcasestr(head, "\r\nTransfer-Encoding:") || strcasestr(head, "\r\nConnection: close");
        int length = snprintf(body, sizeof body, "Hello from a C worker, pid %d\n", (int)getpid());
        int all = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s",
                           length, last ? "Connection: close\r\n" : "", body);
        if (send(polled[i].fd, answer, (size_t)all, MSG_NOSIGNAL | MSG_DONTWAIT) != all || last)
            return 0;
        table[i].have -= (size_t)(end + 4 - head);
        memmove(head, end + 4, table[i].have + 1);
    }
    return n != 0 && table[i].have < sizeof table[i].head - 1;
}

/* Take over one connection with the bytes that were read from it already, or refuse it. */
static void adopt(int fd, uint64_t id, const uint8_t *consumed, size_t size)
{
    uint64_t cookie = 0;
    socklen_t length = sizeof cookie;
    uint8_t reason = fd < 0 || count > MAX_OPEN ? NO_DESCRIPTOR : deadline ? DRAINING : 0;
    if (!reason && (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) || cookie != id
                    || size >= sizeof table->head))
        reason = WRONG_DESCRIPTOR;
    if (reason) {
        close(fd);
        say(REFUSED, id, 8, reason);
        return;
    }
    polled[count] = (struct pollfd){ .fd = fd, .events = POLLIN };
    table[count].id = id;
    table[count].taken = 0;
    table[count].have = size;
    memcpy(table[count++].head, consumed, size);
    if (size && !serve(count - 1))
        forget(count - 1);
}

/* Obey one packet of the master; say whether there will be more. */
static int obey(void)
{
    static uint8_t packet[MAX_PACKET];
    static _Alignas(struct cmsghdr) char control[CMSG_SPACE(MAX_FDS * sizeof(int)) + 256];
    struct iovec iov = { packet, sizeof packet };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1,
                          .msg_control = control, .msg_controllen = sizeof control };
    ssize_t got = recvmsg(polled[0].fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got <= 0)                           /* 0 is the end; ECONNRESET comes once before it */
        return got < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNRESET);
    int fds[MAX_FDS], came = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            came = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            memcpy(fds, CMSG_DATA(c), (size_t)came * sizeof(int));
        }
    int type = packet[1], descriptors = (int)get(packet + 2, 2), records = (int)get(packet + 4, 2);
    size_t record = type == HANDOFF ? HANDOFF_RECORD : type == DRAIN ? 5 : type == REVOKE ? 4
        : type == RELIEVE ? 1 : 0;
    size_t size = (size_t)got, end = HEADER + record * (size_t)records;
    if (size < HEADER || packet[0] != VERSION || (type != HANDOFF && type != DRAIN && type != QUIT && type != REVOKE
            && type != RETIRE && type != RELIEVE)
        || msg.msg_flags & MSG_TRUNC || size != HEADER + get(packet + 8, 4) || size < end
        || records < 1 || descriptors != (type == HANDOFF ? records : 0) || descriptors > MAX_FDS
        || (came != descriptors && !(msg.msg_flags & MSG_CTRUNC)))
        errx(1, "the master sent a packet that cannot be");
    while (msg.msg_flags & MSG_CTRUNC && came > 0)
        close(fds[--came]);                 /* we are at our limit: all of them are refused */
    for (int i = 0; type == HANDOFF && i < records; i++) {
        const uint8_t *r = packet + HEADER + i * HANDOFF_RECORD;
        size_t consumed = get(r + 25, 4);
        end += get(r + 8, 4) + get(r + 14, 4) + get(r + 20, 4) + consumed;
        if (end > size)
            errx(1, "the blobs of a packet reach beyond its end");
        adopt(came ? fds[i] : -1, get(r, 8), packet + end - consumed, consumed);
    }
    if (type == DRAIN) {
        deadline = time(NULL) + ((time_t)get(packet + HEADER, 4) + 999) / 1000;
        for (nfds_t i = count - 1; i > 0; i--)
            if (!table[i].taken) {          /* the master still has its copy */
                say(REFUSED, table[i].id, 8, DRAINING);
                forget(i);
            }
    }
    return type != QUIT;
}

/* Attach at the socket at `path` as `name`; give the channel. What is said is packed like any message:
 * ATTACH has two lengths and a number, then the blobs. */
static int attach(const char *path, const char *name)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t length = strlen(name);
    uint8_t said[HEADER + 10 + 255 + 16] = { VERSION, ATTACH, 0, 0, 0, 1 }, heard[512];
    if (strlen(path) >= sizeof address.sun_path || length > 255)
        errx(2, "the path or the name is too long");
    strcpy(address.sun_path, path);
    said[11] = (uint8_t)(10 + length + 16);  /* the name is short, so one byte of each length is enough */
    said[10] = (uint8_t)((10 + length + 16) >> 8);
    said[HEADER + 3] = (uint8_t)length;
    said[HEADER + 7] = 16;
    said[HEADER + 9] = 64;                  /* as many as we like ahead of TAKEN */
    memcpy(said + HEADER + 10, name, length);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (getrandom(said + HEADER + 10 + length, 16, 0) != 16 || fd < 0
        || connect(fd, (struct sockaddr *)&address, sizeof address) < 0
        || send(fd, said, HEADER + 10 + length + 16, MSG_NOSIGNAL) < 0)
        err(1, "cannot attach at %s", path);
    /* The scoreboard comes with the answer; we leave it alone, so the kernel may drop it. */
    ssize_t got = recv(fd, heard, sizeof heard, 0);
    if (got < HEADER || heard[1] != ATTACHED)
        errx(3, "rejected: %.*s", got > HEADER + 4 ? (int)got - HEADER - 4 : 0, heard + HEADER + 4);
    return fd;
}

int main(int argc, char **argv)
{
    const char *number = getenv("MAITRED_CHANNEL");
    polled[0] = (struct pollfd){ .fd = argc == 3 ? attach(argv[1], argv[2]) : number ? atoi(number) : -1, .events = POLLIN };
    if (fcntl(polled[0].fd, F_SETFD, FD_CLOEXEC) < 0)
        errx(2, "MAITRED_CHANNEL names no open descriptor: this is started by a maitred master");
    say(READY, (uint64_t)getpid(), 4, 0);
    while (!deadline || (count > 1 && time(NULL) < deadline)) {
        if (poll(polled, count, deadline ? 1000 : -1) < 0 && errno != EINTR)
            err(1, "poll");
        for (nfds_t i = count - 1; i > 0; i--)  /* backwards, because forget moves the last */
            if (polled[i].revents && !serve(i))
                forget(i);
        if (polled[0].revents && !obey())
            return 0;
    }
    say(DRAINED, count - 1, 4, 0);
    return 0;
}
