"""
A chat, for tests: a room lives in one process, and moves with all who are in it.

    client   JOIN room name     worker   HELLO pid room name
    client   a line             worker   name: a line, to everybody in the room
    client   WHERE              worker   PID pid count, to that client alone
    client   SAID               worker   SAID count of the lines it has said

``Chat`` is of kind handler, ``ChatProtocol`` of kind protocol and ``Talk`` of kind
websocket; ``ROOMS`` is the sniffer of what the first two speak.
"""

import asyncio
import json
import os

from maitred.routing import NEED_MORE, Sniffer, refused

HERE: dict[str, set] = {}


def sniff(data):
    """Find the room in ``JOIN room name``."""
    line, end, _ = data.partition(b"\n")
    if not end:
        return NEED_MORE if b"JOIN ".startswith(line[:5]) else refused("no_join")
    words = line.split()
    if len(words) != 3 or words[0] != b"JOIN":
        return refused("no_join")
    return {"room": words[1], "name": words[2]}


def refuse(cause, heard):
    """Say why."""
    return f"SORRY {cause}\n".encode()


ROOMS = Sniffer(
    name="rooms", sniff=sniff, fields=("room", "name"), limit=256, refuse=refuse
)
RUDE = Sniffer(name="rude", sniff=lambda data: 1 / 0, fields=("room",))


class Member:
    """Somebody in a room."""

    room = name = None
    said = 0

    def answer(self, line, say):
        """Answer *line*; ``say`` says something to this client alone."""
        if self.room is None:
            _, self.room, self.name = line.split()
            self.enter()
            say(f"HELLO {os.getpid()} {self.room} {self.name}")
        elif line == "SAID":
            say(f"SAID {self.said}")
        elif line == "WHERE":
            say(f"PID {os.getpid()} {len(HERE[self.room])}")
        else:
            self.said += 1
            for member in HERE[self.room]:
                member.tell(f"{self.name}: {line}")

    def enter(self):
        """Be in the room."""
        HERE.setdefault(self.room, set()).add(self)

    def part(self):
        """Be there no more."""
        if self.room is not None:
            HERE[self.room].discard(self)
            for member in HERE[self.room]:
                member.tell(f"{self.name} left")

    def freeze(self):
        """Give what another process has to know."""
        return json.dumps([self.room, self.name, self.said]).encode()

    def thaw(self, state):
        """Know it."""
        self.room, self.name, self.said = json.loads(state)


class Chat(Member):
    """One client, of kind handler."""

    async def __call__(self, reader, writer):
        """Serve it."""
        self.writer = writer
        if self.room is not None:
            self.enter()
        try:
            while line := await reader.readline():
                self.answer(line.decode().rstrip("\n"), self.tell)
                await writer.drain()
        finally:
            self.part()

    def tell(self, text):
        """Say *text*."""
        self.writer.write(text.encode() + b"\n")


class ChatProtocol(Member, asyncio.Protocol):
    """One client, of kind protocol."""

    buffer = b""

    def connection_made(self, transport):
        """Begin."""
        self.transport = transport
        if self.room is not None:
            self.enter()

    def data_received(self, data):
        """Serve it."""
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        for line in lines:
            self.answer(line.decode(), self.tell)

    def connection_lost(self, exc):
        """Part."""
        self.part()

    def tell(self, text):
        """Say *text*."""
        self.transport.write(text.encode() + b"\n")

    def freeze(self):
        """Give what another process has to know, and half a line."""
        return json.dumps(
            [self.room, self.name, self.said, self.buffer.decode()]
        ).encode()

    def thaw(self, state):
        """Know it."""
        self.room, self.name, self.said, buffer = json.loads(state)
        self.buffer = buffer.encode()


class Talk(Member):
    """One client, of kind websocket; the room is in the path, ``/room/name``."""

    async def __call__(self, websocket):
        """Serve it."""
        self.websocket = websocket
        if self.room is None:
            _, room, name = websocket.path.split("/")
            self.answer(f"JOIN {room} {name}", self.tell)
        else:
            self.enter()
        try:
            async for line in websocket:
                self.answer(line, self.tell)
        finally:
            self.part()

    def tell(self, text):
        """Say *text*, without waiting for a client that is slow."""
        self.websocket.send_nowait(text)


class Busy(Chat):
    """Waits for a file, and not for its client."""

    async def __call__(self, reader, writer):
        """Serve one client."""
        self.writer = writer
        self.answer((await reader.readline()).decode().rstrip("\n"), self.tell)
        while not os.path.exists(os.environ["LET_GO"]):
            await asyncio.sleep(0.01)
        self.answer((await reader.readline()).decode().rstrip("\n"), self.tell)


class Heavy(Chat):
    """Has more to say than fits a packet."""

    def freeze(self):
        """Give all of it."""
        return bytes(200_000)
