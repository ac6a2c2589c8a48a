"""A client that does what a test tells it; what it sends has arrived at once."""

import contextlib
import os
import socket

DEADLINE = 30.0
"Real seconds that the kernel has to bring what was sent; no test comes near."
CLOSED = 7
"A state of TCP as tcpi_state has it (net/tcp_states.h)."


def request(session=None, made=None, length=0):
    """Return the head of a request of *session*, before *length* bytes of body."""
    lines = ["GET / HTTP/1.1", "host: h"]
    lines += [f"x-session: {session}"] if session else []
    lines += [f"x-made: {made}"] if made else []
    lines += [f"content-length: {length}"] if length else []
    return "\r\n".join([*lines, "", ""]).encode()


def current_cpu():
    """Return the number of the CPU that this thread runs on."""
    with open("/proc/thread-self/stat", encoding="utf-8") as text:
        # "processor", field 39 of proc(5); the name before field 3 may hold spaces.
        return int(text.read().rpartition(")")[2].split()[39 - 3])


class Loopback:
    """
    Tells when everything has arrived that this process has sent to itself.

    The kernel delivers what one CPU sends over lo in its order. So this thread stays on
    one CPU, and when a datagram is back, all that was sent before it has arrived.
    """

    def __init__(self):
        self._cpus = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {current_cpu()})
        self._sock = socket.socket(type=socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self._sock.connect(self._sock.getsockname())
        self._sock.settimeout(DEADLINE)

    def settle(self):
        """Wait until all has arrived."""
        self._sock.send(b".")
        self._sock.recv(1)

    def close(self):
        """Close the socket, and free this thread to run on any CPU again."""
        self._sock.close()
        os.sched_setaffinity(0, self._cpus)


class Client:
    """One client and its connection."""

    def __init__(self, address, loopback, turn):
        self.sock = socket.create_connection(address)
        # Else the kernel waits with the second piece until the first is acknowledged.
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self._loopback, self._turn = loopback, turn
        self.received = b""
        loopback.settle()

    def send(self, data):
        """Send *data*, which has arrived when this returns."""
        self.sock.sendall(data)
        self._loopback.settle()
        return self

    def leave(self):
        """Send FIN: nothing more will come."""
        self.sock.shutdown(socket.SHUT_WR)
        self._loopback.settle()

    def hears(self):
        """Return all that has come so far."""
        self._turn()
        self._loopback.settle()
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while data := self.sock.recv(65536):
                self.received += data
        return self.received

    def is_ended(self):
        """Return whether the connection is over; ``received`` has what came before."""
        self.hears()
        try:
            return self.sock.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True

    def is_reset(self):
        """Return whether the other end takes nothing more."""
        self.hears()
        info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return info[0] == CLOSED

    def status(self):
        """Return the status of the answer that has come; 0: none has."""
        words = self.hears().split(b" ", 2)
        return int(words[1]) if len(words) > 1 else 0
