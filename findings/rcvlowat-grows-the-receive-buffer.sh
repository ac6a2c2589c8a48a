#!/usr/bin/env bash
# A server that only peeks (MSG_PEEK) sees no more than fits the receive buffer: TCP grows
# it by what is read, and nothing is. SO_RCVLOWAT, which is said to be about when a socket
# is readable, grows the buffer at once; and setting it back to 1 leaves the buffer large.
#
# Expected: SO_RCVLOWAT changes no buffer; a peek sees what SO_RCVBUF has room for.
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
with_packages <<'PYTHON'
import platform
import selectors
import socket
import sys
import time

TOTAL = 1_000_000


def arrived(low_water):
    """Return how many of a million bytes arrive when nobody reads."""
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    client.setblocking(False)
    server, _ = listener.accept()
    client.send(b"x" * 65536)
    if low_water:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, low_water)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    sent, quiet = 65536, time.monotonic()
    poll = selectors.DefaultSelector()
    poll.register(client, selectors.EVENT_WRITE)
    while sent < TOTAL and time.monotonic() < quiet + 1:
        if poll.select(0.1):
            sent += client.send(b"x" * min(65536, TOTAL - sent))
            quiet = time.monotonic()
    seen, still = 0, time.monotonic()
    while time.monotonic() < still + 0.5:
        now = len(server.recv(TOTAL, socket.MSG_PEEK))
        if now > seen:
            seen, still = now, time.monotonic()
    return seen


with open("/proc/sys/net/core/rmem_max") as file:
    most = int(file.read())
with open("/proc/sys/net/ipv4/tcp_rmem") as file:
    largest = int(file.read().split()[2])
print(f"Linux {platform.release()}, rmem_max {most}, tcp_rmem[2] {largest}")
without, beside = arrived(0), arrived(TOTAL)
print(f"of {TOTAL} bytes a peek sees {without}; after SO_RCVLOWAT, set back: {beside}")
sys.exit(not (without < TOTAL / 2 and beside == TOTAL and largest >= 2 * TOTAL))
PYTHON
