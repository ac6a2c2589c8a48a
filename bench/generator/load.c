/*
 * A generator of load for what wrk cannot do: a session of its own for each connection,
 * WebSockets, and connections that are only held.
 *
 *   load MODE HOST PORT CONNECTIONS SECONDS REQUESTS
 *
 *   keepalive  connection i sends request i again and again
 *   hop        every connection sends a random one of the requests each time
 *   connect    a new connection for each request; the time includes the connect
 *   echo       WebSockets: a handshake, then a frame there and back, again and again
 *   hold       opens the connections, SECONDS (as a number) at a time, sends each its
 *              request, reads what comes, answers pings; ends when stdin does
 *
 * REQUESTS is a file of requests as they go over the wire, each after its length (32
 * bits, native). For hold, HELD replaces the status that must be answered: 0 for none.
 *
 * Prints one line of JSON; hold prints one when all are open, and one at the end.
 *
 * Invariant: a response counts only if it is complete and has the status we want.
 * Everything else is an error, and what was not answered for two seconds is a timeout.
 *
 * One thread and one epoll, edge-triggered: it shares the machine with those it measures.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 4096, DISCARD = 1 << 20, PER_ADDRESS = 20000, EVENTS = 256, NO_ANSWER_US = 100000, MAX_SAMPLES = 1 << 23 };
enum mode { KEEPALIVE, HOP, CONNECT, ECHO, HOLD, MODES };
static const char *MODE_NAMES[MODES] = {"keepalive", "hop", "connect", "echo", "hold"};

struct request { const char *bytes; uint32_t length; };

struct connection {
    int fd;
    uint32_t number;
    bool sent, open;      /* the request has left; the WebSocket is open */
    uint64_t since;       /* when the request, or the connect before it, began */
    uint32_t length;      /* bytes in buffer, or of the body that are still to come */
    bool in_body, last;   /* the head is done; the server closes after this response */
    char buffer[BUFFER];
};

static enum mode mode;
static struct sockaddr_in server;
static struct request *requests;
static uint32_t request_count, connection_count;
static struct connection *connections;
static int epoll;
static int wanted_status = 200;
static uint64_t done, errors, timeouts, dropped, samples;
static uint32_t *times;
static uint32_t held;
static char frame[6 + 64];      /* masked with zero: the payload is as it is */

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint32_t random_number(void) {
    static uint32_t x = 2463534242u;
    x ^= x << 13, x ^= x >> 17, x ^= x << 5;
    return x;
}

static void read_requests(const char *path) {
    FILE *file = fopen(path, "rb");
    uint32_t length;
    if (!file) fail(path);
    while (fread(&length, sizeof length, 1, file) == 1) {
        char *bytes = malloc(length + 1);
        if (fread(bytes, 1, length, file) != length) fail(path);
        requests = realloc(requests, (request_count + 1) * sizeof *requests);
        requests[request_count++] = (struct request){bytes, length};
    }
    fclose(file);
}

static void sample(struct connection *c, uint64_t now) {
    if (samples < MAX_SAMPLES) times[samples++] = (uint32_t)(now - c->since);
}

static void open_connection(struct connection *c);

static void close_connection(struct connection *c) {
    close(c->fd);
    c->fd = -1;
}

static void again(struct connection *c) {
    close_connection(c);
    open_connection(c);
}

/* What happened is no response: count it, and go on with a new connection. */
static void on_error(struct connection *c) {
    if (mode == HOLD) {
        if (c->open) dropped++; else errors++;
        close_connection(c);
        return;
    }
    errors++;
    again(c);
}

static void send_bytes(struct connection *c, const char *bytes, size_t length) {
    ssize_t sent = send(c->fd, bytes, length, MSG_NOSIGNAL);
    if (sent == (ssize_t)length) { c->sent = true; return; }
    if (sent >= 0) { fprintf(stderr, "load: a request did not fit\n"); exit(1); }
    /* Not connected yet: EPOLLOUT will say when. Anything else is seen when we read. */
    if (errno != EAGAIN && errno != ENOTCONN) c->sent = true;
}

static void send_request(struct connection *c) {
    uint32_t which = mode == HOP || mode == CONNECT ? random_number() : c->number;
    struct request *r = &requests[which % request_count];
    c->length = 0, c->in_body = c->last = false;
    if (mode != CONNECT) c->since = now_us();
    if (c->open) { send_bytes(c, frame, sizeof frame); return; }
    if (r->length) send_bytes(c, r->bytes, r->length); else c->sent = true;
    /* Who waits for no answer holds the connection once the bytes have left. */
    if (mode == HOLD && wanted_status == 0 && c->sent) c->open = true, held++;
}

static void open_connection(struct connection *c) {
    struct sockaddr_in from = {.sin_family = AF_INET};
    int one = 1;
    c->since = now_us();
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) fail("socket");
    c->sent = c->open = false;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (c->number >= PER_ADDRESS) {
        from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + c->number / PER_ADDRESS);
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(c->fd, (struct sockaddr *)&from, sizeof from)) fail("bind");
    }
    if (connect(c->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS)
        fail("connect");
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = c};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event)) fail("epoll_ctl");
    send_request(c);
}

/* A response is complete. */
static void on_response(struct connection *c) {
    uint64_t now = now_us();
    if (mode == HOLD) { c->open = true, held++, c->length = 0; return; }
    if (mode == ECHO && !c->open) { c->open = true; send_request(c); return; }
    done++;
    sample(c, now);
    if (mode == CONNECT || c->last) again(c); else send_request(c);
}

/* The head and the body of a response; -1 if it is not what we want. */
static int on_http(struct connection *c, size_t room) {
    if (c->in_body) {
        if (room > c->length) return -1;
        if ((c->length -= room) == 0) on_response(c);
        return 0;
    }
    c->length += room;
    c->buffer[c->length] = 0;
    char *end = memmem(c->buffer, c->length, "\r\n\r\n", 4);
    if (!end) return c->length < BUFFER - 1 ? 0 : -1;
    if (atoi(c->buffer + 9) != wanted_status) return -1;
    if (wanted_status == 101) {
        /* No server of ours speaks first. */
        if (end + 4 != c->buffer + c->length) return -1;
        on_response(c);
        return 0;
    }
    char *field = strcasestr(c->buffer, "\ncontent-length:");
    if (!field || field > end) return -1;
    uint32_t body = atoi(field + 16), have = c->buffer + c->length - (end + 4);
    char *close_field = strcasestr(c->buffer, "\nconnection: close");
    c->last = close_field && close_field < end;
    if (have > body) return -1;
    c->in_body = true, c->length = body - have;
    if (c->length == 0) on_response(c);
    return 0;
}

/* Frames of less than 126 bytes, which is all that our servers send. */
static int on_frames(struct connection *c, size_t room) {
    c->length += room;
    while (c->length >= 2 && c->length >= 2u + (uint8_t)c->buffer[1]) {
        uint8_t opcode = c->buffer[0] & 15, size = c->buffer[1];
        if (size > 125) return -1;
        if (opcode == 9) {
            char pong[6 + 125] = {(char)0x8A, (char)(0x80 | size)};
            memcpy(pong + 6, c->buffer + 2, size);
            send(c->fd, pong, 6 + size, MSG_NOSIGNAL);
        } else if (opcode == 8) {
            return -1;
        } else if (mode == ECHO) {
            if (size != sizeof frame - 6) return -1;
            done++;
            sample(c, now_us());
            send_request(c);
            return 0;
        }
        c->length -= 2 + size;
        memmove(c->buffer, c->buffer + 2 + size, c->length);
    }
    return 0;
}

static void on_event(struct connection *c, uint32_t events) {
    if (c->fd < 0) return;
    if (!c->sent && events & EPOLLOUT) send_request(c);
    if (!(events & ~EPOLLOUT)) return;
    int fd = c->fd;
    while (c->fd == fd) {
        bool http = !c->open;
        size_t used = c->in_body ? 0 : c->length;
        if (used >= BUFFER - 1) { on_error(c); return; }
        /* The rest of a long body is only counted: the kernel drops it for us. */
        size_t room = c->in_body ? DISCARD : BUFFER - 1 - used;
        ssize_t got = recv(fd, c->buffer + used, room, c->in_body ? MSG_TRUNC : 0);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) { on_error(c); return; }
        uint64_t before = done;
        if ((http ? on_http : on_frames)(c, got) < 0) { on_error(c); return; }
        /* A short read emptied the socket: its next byte or end is another event. */
        if ((size_t)got < room && !(events & EPOLLRDHUP)) return;
        /* After a response, an end is of no concern before the next has begun. */
        if (done != before) events &= ~EPOLLRDHUP;
    }
}

static void turn(int timeout_ms) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(epoll, events, EVENTS, timeout_ms);
    for (int i = 0; i < count; i++) on_event(events[i].data.ptr, events[i].events);
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double quantile(double q) {
    return samples ? times[(uint64_t)(q * (samples - 1))] / 1e3 : 0;
}

static void run(double seconds) {
    for (uint32_t i = 0; i < connection_count; i++) open_connection(&connections[i]);
    uint64_t start = now_us(), end = start + (uint64_t)(seconds * 1e6), now;
    while ((now = now_us()) < end) turn((int)((end - now) / 1000) + 1);
    for (uint32_t i = 0; i < connection_count; i++)
        timeouts += now - connections[i].since > 2000000;
    qsort(times, samples, sizeof *times, by_value);
    printf("{\"requests\": %lu, \"seconds\": %.6f, \"errors\": %lu, \"timeouts\": %lu, "
           "\"p50_ms\": %.3f, \"p99_ms\": %.3f}\n",
           done, (now - start) / 1e6, errors, timeouts, quantile(0.5), quantile(0.99));
}

static void say_held(void) {
    printf("{\"held\": %u, \"errors\": %lu, \"dropped\": %lu}\n", held, errors, dropped);
    fflush(stdout);
}

static void hold(uint32_t at_a_time) {
    uint32_t opened = 0;
    uint64_t end = now_us() + 60000000;
    while (held + errors < connection_count && now_us() < end) {
        /*
         * A burst begins when all of the one before are open, or have had time to be: a
         * second's worth of silent connections has to fit into the kernel's backlog, or
         * it turns to cookies, and then stray packets make connections of their own.
         */
        if (held + errors == opened) {
            if (wanted_status == 0) usleep(NO_ANSWER_US);
            for (uint32_t i = 0; i < at_a_time && opened < connection_count; i++)
                open_connection(&connections[opened++]);
        }
        turn(100);
    }
    errors += connection_count - held - errors;
    say_held();
    fcntl(0, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &event)) fail("stdin");
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (!events[i].data.ptr) { say_held(); return; }
            on_event(events[i].data.ptr, events[i].events);
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 7) { fprintf(stderr, "load: see the head of load.c\n"); return 2; }
    while (mode < MODES && strcmp(argv[1], MODE_NAMES[mode])) mode++;
    if (mode == MODES) { fprintf(stderr, "load: no mode %s\n", argv[1]); return 2; }
    server.sin_family = AF_INET;
    inet_pton(AF_INET, argv[2], &server.sin_addr);
    server.sin_port = htons(atoi(argv[3]));
    connection_count = atoi(argv[4]);
    double seconds = atof(argv[5]);
    read_requests(argv[6]);
    if (mode == ECHO) wanted_status = 101;
    if (getenv("HELD")) wanted_status = atoi(getenv("HELD"));

    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);

    memset(frame, 'e', sizeof frame);
    memcpy(frame, (char[]){(char)0x81, (char)(0x80 | (sizeof frame - 6)), 0, 0, 0, 0}, 6);
    times = malloc(MAX_SAMPLES * sizeof *times);
    connections = calloc(connection_count, sizeof *connections);
    for (uint32_t i = 0; i < connection_count; i++)
        connections[i].number = i, connections[i].fd = -1;
    epoll = epoll_create1(0);
    if (mode == HOLD) hold((uint32_t)seconds); else run(seconds);
    return 0;
}
