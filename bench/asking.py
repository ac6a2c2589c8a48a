"""What a connection's requests cost: those that change worker, those looked at."""

import contextlib
import functools
import socket
import time
from collections.abc import Iterator, Sequence

from bench import cost

REQUESTS = 5_000
HOPS = 20
"Requests that have to find their sessions where they were, before anything is timed."
MOST_NAMES = 100


class Client:
    """One keep-alive connection that asks, and waits for each answer."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> bytes:
        """Give the answer, which comes in one piece."""
        self.sock.sendall(request)
        answer = self.sock.recv(65536)
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"not a 200: {answer[:100]!r}")
        return answer

    def pid(self, session: str) -> bytes:
        """Give the process that answers *session*."""
        head = self.ask(written("/pid", session))
        return head.partition(b"x-pid: ")[2].partition(b"\r\n")[0]


def written(path: str, session: str) -> bytes:
    """Write a request as it goes over the wire."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: bench\r\nX-Session: {session}\r\n\r\n".encode()
    )


@contextlib.contextmanager
def serving(*options: str) -> Iterator[tuple[list[int], Client]]:
    """Run maitred with two workers; give its processes, master first, and a client."""
    with cost.maitred("app:app", "--workers", "2", "--no-access-log", *options) as site:
        client = Client(site.port)
        with client.sock:
            yield [site.pid, *cost.workers_of(site)], client


def ask(
    pids: Sequence[int], client: Client, sessions: Sequence[str]
) -> tuple[float, float]:
    """Ask for *sessions* in turn; give us by the clock and CPU of *pids* for each."""
    requests = [written("/", session) for session in sessions] * (
        REQUESTS // len(sessions)
    )
    before = sum(cost.usage(pid).cpu_ns for pid in pids)
    start = time.perf_counter()
    for request in requests:
        client.ask(request)
    seconds = time.perf_counter() - start
    used = sum(cost.usage(pid).cpu_ns for pid in pids) - before
    return seconds / len(requests) * 1e6, used / len(requests) / 1e3


@contextlib.contextmanager
def hops():
    """Ask for one session again and again, or for two of different workers in turn."""
    with serving("--affinity", "header:x-session") as (pids, client):
        homes: dict[bytes, str] = {}
        for name in map(str, range(MOST_NAMES)):
            homes.setdefault(client.pid(name), name)
        (first, one), (second, other) = homes.items()
        for _ in range(HOPS):
            if (client.pid(one), client.pid(other)) != (first, second):
                raise RuntimeError("a session is not where it was")
        yield {
            "the same session": functools.partial(ask, pids, client, [one]),
            "two sessions in turn": functools.partial(ask, pids, client, [one, other]),
        }


@contextlib.contextmanager
def checks():
    """Ask a worker that looks for each request's session, and one that does not."""
    with serving() as none, serving("--affinity", "header:x-session") as header:
        yield {
            "without affinity": functools.partial(ask, *none, ["one"]),
            "header:x-session": functools.partial(ask, *header, ["one"]),
        }
