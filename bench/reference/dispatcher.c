/*
 * The limit: what a dispatcher costs when nothing but the system calls is left of it.
 *
 *     dispatcher HEADER WORKERS BATCH EXTRAS
 *
 * Accepts, peeks, finds the value of HEADER (lower case, with its colon), hashes it to one of WORKERS
 * child processes, passes the descriptor there (SCM_RIGHTS), up to BATCH in one message, and closes its
 * own. The workers answer 200 and close. Prints its port. EXTRAS are what maitred's master does besides:
 *
 *     n  getsockname, which CPython does for every socket object
 *     i  the connection's identity, SO_COOKIE
 *     t  our copy is closed when the worker says TAKEN, not at once
 *     c  our copy is closed when the worker says CLOSED
 *     s  the worker says TAKEN and CLOSED of each connection alone, as examples/worker.c does
 *
 * No limits, no errors but fatal ones, no client that is slow: it is here to be compared with.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <signal.h>
#include <unistd.h>

enum { AT_ONCE = 64, MOST_WORKERS = 64, PEEK = 16 * 1024 };     /* as in maitred's master */
enum { HANDOFF, TAKEN, CLOSED };
static const char ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";

struct packet { uint64_t type, count, ids[AT_ONCE]; };
static struct { int channel; struct packet packet; int fds[AT_ONCE]; } workers[MOST_WORKERS];
static int batch, names, identities, taken, closed, single, count;

static void say(int channel, const struct packet *p, const int *fds)
{
    char control[CMSG_SPACE(AT_ONCE * sizeof(int))];
    struct iovec iov = { (void *)p, sizeof *p - (AT_ONCE - p->count) * sizeof *p->ids };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    if (fds) {
        msg.msg_control = control;
        msg.msg_controllen = CMSG_SPACE(p->count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        *c = (struct cmsghdr){ CMSG_LEN(p->count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
        memcpy(CMSG_DATA(c), fds, p->count * sizeof(int));
    }
    if (sendmsg(channel, &msg, MSG_NOSIGNAL) < 0)
        err(1, "sendmsg");
}

static void serve(int channel, struct packet *p, const int *fds)
{
    static char request[PEEK];
    p->type = TAKEN;
    if (taken)
        say(channel, p, NULL);
    for (uint64_t i = 0; i < p->count; i++) {
        if (recv(fds[i], request, sizeof request, 0) > 0)
            send(fds[i], ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL);
        if (closed)
            shutdown(fds[i], SHUT_RDWR);        /* with the master's copy it would stay open */
        close(fds[i]);
    }
    p->type = CLOSED;
    if (taken)
        say(channel, p, NULL);
}

static void work(int channel)
{
    static char control[CMSG_SPACE(AT_ONCE * sizeof(int))];
    struct packet p;
    for (;;) {
        struct iovec iov = { &p, sizeof p };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
        if (recvmsg(channel, &msg, 0) <= 0)
            _exit(0);
        const int *fds = (int *)CMSG_DATA(CMSG_FIRSTHDR(&msg));
        for (uint64_t i = 0; single && i < p.count; i++)
            serve(channel, &(struct packet){ .count = 1, .ids = { p.ids[i] } }, fds + i);
        if (!single)
            serve(channel, &p, fds);
    }
}

static void hand_over(int worker)
{
    struct packet *p = &workers[worker].packet;
    if (!p->count)
        return;
    say(workers[worker].channel, p, workers[worker].fds);
    for (uint64_t i = 0; i < p->count && !taken; i++)
        close(workers[worker].fds[i]);
    p->count = 0;
}

static int owner(int fd, const char *header)
{
    static char head[PEEK + 1];
    ssize_t got = recv(fd, head, PEEK, MSG_PEEK | MSG_DONTWAIT);
    head[got < 0 ? 0 : got] = 0;
    uint64_t hash = 14695981039346656037u;                      /* FNV-1a */
    const char *value = strcasestr(head, header);
    for (value += value ? strlen(header) : 0; value && *value > ' '; value++)
        hash = (hash ^ (uint8_t)*value) * 1099511628211u;
    return (int)(hash % (uint64_t)count);
}

static void accept_all(int listener, const char *header)
{
    struct sockaddr_in name;
    for (int i = 0, fd; i < AT_ONCE; i++) {
        socklen_t size = sizeof name;
        if ((fd = accept4(listener, (struct sockaddr *)&name, &size, SOCK_CLOEXEC)) < 0)
            break;
        uint64_t id = (uint64_t)fd, cookie;
        if (names)
            getsockname(fd, (struct sockaddr *)&name, &size);
        if (identities)
            getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &(socklen_t){ sizeof cookie });
        int worker = owner(fd, header);
        struct packet *p = &workers[worker].packet;
        workers[worker].fds[p->count] = fd;
        p->ids[p->count++] = id;
        if (p->count == (uint64_t)batch)
            hand_over(worker);
    }
    for (int i = 0; i < count; i++)
        hand_over(i);
}

static void listen_to(int channel)
{
    struct packet p;
    while (recv(channel, &p, sizeof p, MSG_DONTWAIT) > 0)
        for (uint64_t i = 0; p.type == (closed ? CLOSED : TAKEN) && i < p.count; i++)
            close((int)p.ids[i]);
}

int main(int argc, char **argv)
{
    if (argc != 5 || (count = atoi(argv[2])) < 1 || count > MOST_WORKERS || (batch = atoi(argv[3])) < 1 || batch > AT_ONCE)
        errx(2, "HEADER WORKERS BATCH EXTRAS");
    names = !!strchr(argv[4], 'n'), identities = !!strchr(argv[4], 'i');
    closed = !!strchr(argv[4], 'c'), taken = closed || strchr(argv[4], 't'), single = !!strchr(argv[4], 's');
    int epoll = epoll_create1(0), listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in name = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof name;
    /* As maitred's listeners: no silent connection, and the dead are found out. */
    setsockopt(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &(int){ 1 }, sizeof(int));
    setsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, &(int){ 1 }, sizeof(int));
    if (bind(listener, (struct sockaddr *)&name, size) || listen(listener, 2048)
        || getsockname(listener, (struct sockaddr *)&name, &size))
        err(1, "listen");
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &(struct epoll_event){ EPOLLIN, { .fd = listener } });
    for (int i = 0, pair[2]; i < count; i++) {
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
            err(1, "socketpair");
        if (!fork()) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            work(pair[1]);
        }
        close(pair[1]);
        workers[i].channel = pair[0];
        epoll_ctl(epoll, EPOLL_CTL_ADD, pair[0], &(struct epoll_event){ EPOLLIN, { .fd = pair[0] } });
    }
    printf("%d\n", ntohs(name.sin_port));
    fflush(stdout);
    for (struct epoll_event events[AT_ONCE];;)
        for (int i = 0, n = epoll_wait(epoll, events, AT_ONCE, -1); i < n; i++)
            if (events[i].data.fd == listener)
                accept_all(listener, argv[1]);
            else
                listen_to(events[i].data.fd);
}
