"""
A ledger of a load: what each client sent and got, and what the application did.

``Load`` is a crowd of clients on kept connections, in a thread of its own; it enters
each request before its first byte leaves. ``judge`` compares its entries with the files
of ``apps/ledger_app.py``:

    lost    sent whole, and no whole answer
    failed  sent, in part at least, and no whole answer with status 200
    dup     finished twice
    twice   started twice

Invariant: an entry never says more than is certain. *Sent* means that the kernel has
taken it, *answered* that the whole answer was read and is the answer to this request.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
import socket
import threading
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from driver import DEADLINE

KINDS: Final = ("get", "get", "get", "post", "post", "stream")
BODY: Final = 6000
PAUSE: Final = 0.001
"Seconds between two pieces of a request that is sent in pieces."


class Extent(enum.Enum):
    """How much of something there was."""

    NONE = "none"
    PART = "part"
    WHOLE = "whole"


@dataclass
class Entry:
    """One request as its client sees it, who writes here as it goes on."""

    id: str
    sent: Extent = Extent.NONE
    answered: Extent = Extent.NONE
    status: int = 0
    pid: int = 0
    "Which process answered."

    @property
    def good(self) -> bool:
        """Return whether the request was answered as it should be."""
        return self.answered is Extent.WHOLE and self.status == 200


class Client:
    """One client: one connection at a time, one request at a time."""

    def __init__(self, number: int, port: int, seed: int) -> None:
        """Start as client *number* of the server at *port*, not connected."""
        self.entries: list[Entry] = []
        self.connections = 0
        self.closed_while_idle = 0
        self._number = number
        self._port = port
        self._random = random.Random(f"{seed} {number}")
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    async def run(self, interval: float, stop: asyncio.Event) -> None:
        """Ask about every *interval* seconds until *stop* is set."""
        loop = asyncio.get_running_loop()
        due = loop.time() + interval * self._random.random()
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await stop.wait()
                    break
            await self.ask(self._random.choice(KINDS))
            pause = interval * self._random.uniform(0.5, 1.5)
            due = max(due + pause, loop.time())
        self.close()

    async def ask(self, kind: str) -> Entry:
        """Send one request and enter it; connect first if there is no connection."""
        entry = Entry(f"{self._number}-{len(self.entries)}")
        self.entries.append(entry)
        try:
            async with asyncio.timeout(DEADLINE):
                await self._connected()
                await self._send(entry, kind)
                await self._hear(entry)
        except (OSError, EOFError, TimeoutError, ValueError):
            self.close()
        return entry

    def close(self) -> None:
        """Close the connection."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    async def _connected(self) -> None:
        if self._writer is not None:
            if not self._reader.at_eof():
                return
            self.closed_while_idle += 1
            self.close()
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._port
        )
        self._writer.transport.set_write_buffer_limits(high=0)
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections += 1

    async def _send(self, entry: Entry, kind: str) -> None:
        assert self._writer is not None
        pieces = request(kind, entry.id, self._random.randrange(BODY))
        for piece in pieces:
            entry.sent = Extent.PART
            self._writer.write(piece)
            await self._writer.drain()  # returns when the kernel has it
            if piece is not pieces[-1]:
                await asyncio.sleep(PAUSE)
        entry.sent = Extent.WHOLE

    async def _hear(self, entry: Entry) -> None:
        head = await self._reader.readuntil(b"\r\n\r\n")
        entry.answered = Extent.PART
        status = int(head.split()[1])
        lines = head.decode("latin1").lower().split("\r\n")[1:-2]
        headers = dict(line.split(": ", 1) for line in lines)
        if "content-length" in headers:
            body = await self._reader.readexactly(int(headers["content-length"]))
        else:
            body = b""
            while size := int(await self._reader.readline(), 16):
                body += (await self._reader.readexactly(size + 2))[:-2]
            await self._reader.readexactly(2)
        if status == 200:
            id_, pid, _ = body.lstrip(b".").split()
            if id_.decode() != entry.id:
                raise ValueError(f"{entry.id} got the answer to {id_!r}")
            entry.pid = int(pid)
        entry.status, entry.answered = status, Extent.WHOLE
        if headers.get("connection") == "close":
            self.close()


def request(kind: str, id_: str, size: int) -> list[bytes]:
    """Return a request, in the pieces in which it is sent."""
    method = "GET" if kind == "get" else "POST"
    head = f"{method} /{kind} HTTP/1.1\r\nhost: test\r\nx-id: {id_}\r\n"
    body = b"x" * size
    if kind == "get":
        return [f"{head}\r\n".encode()]
    if kind == "post":
        whole = f"{head}content-length: {size}\r\n\r\n".encode() + body
        cut = len(head) // 2
        return [whole[:cut], whole[cut:-1], whole[-1:]] if size else [whole]
    chunk = f"{size + 1:x}\r\n".encode() + body + b"x\r\n"
    return [f"{head}transfer-encoding: chunked\r\n\r\n".encode() + chunk, b"0\r\n\r\n"]


class Load:
    """Many clients, who ask until the end of the ``with`` block."""

    def __init__(
        self, port: int, *, clients: int = 40, rate: float = 400, seed: int = 1
    ) -> None:
        """
        Prepare clients; ``with`` starts them, in a thread of their own.

        Args:
            port: Where the server listens.
            clients: How many there are.
            rate: Requests a second of all together.
            seed: Of who asks what, and when.
        """
        self.clients = [Client(number, port, seed) for number in range(clients)]
        self._interval = clients / rate
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run)
        self._problem: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self._problem is not None:
            raise self._problem

    @property
    def entries(self) -> list[Entry]:
        """Return what all have entered."""
        return [entry for client in self.clients for entry in client.entries]

    @property
    def closed_while_idle(self) -> int:
        """Return how many connections the server closed between two requests."""
        return sum(client.closed_while_idle for client in self.clients)

    def _run(self) -> None:
        async def all_of_them() -> None:
            async with asyncio.TaskGroup() as group:
                for client in self.clients:
                    group.create_task(client.run(self._interval, self._stop))

        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(all_of_them())
        except Exception as exc:  # noqa: BLE001 - raised where the thread is joined
            self._problem = exc


class Verdict(NamedTuple):
    """What became of a load; ids in order."""

    good: int
    lost: list[str]
    failed: list[str]
    statuses: dict[int, int]
    "How often each status came, of whole answers."
    dup: list[str]
    twice: list[str]
    started_by: dict[str, set[int]]

    def not_started(self, pids: Collection[int]) -> list[str]:
        """Return the failed requests that none of *pids* had started."""
        return [id_ for id_ in self.failed if not self.started_by[id_] & {*pids}]


def judge(entries: Iterable[Entry], directory: Path) -> Verdict:
    """Compare what clients entered with what the application wrote in *directory*."""
    entries = list(entries)
    noted: Counter[str] = Counter()
    started_by: dict[str, set[int]] = {entry.id: set() for entry in entries}
    for file in directory.iterdir():
        for line in file.read_text().splitlines():
            noted[line] += 1
            what, id_ = line.split()
            if what == "started" and id_ in started_by:
                started_by[id_].add(int(file.name))

    def ids(condition: Any) -> list[str]:
        return [entry.id for entry in entries if condition(entry)]

    return Verdict(
        good=sum(entry.good for entry in entries),
        lost=ids(lambda e: e.sent is Extent.WHOLE and e.answered is not Extent.WHOLE),
        failed=ids(lambda e: e.sent is not Extent.NONE and not e.good),
        statuses=dict(Counter(e.status for e in entries if e.answered is Extent.WHOLE)),
        dup=ids(lambda e: noted[f"finished {e.id}"] > 1),
        twice=ids(lambda e: noted[f"started {e.id}"] > 1),
        started_by=started_by,
    )
