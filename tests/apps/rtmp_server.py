"""
A small RTMP server, of kind handler: it hears what is published, and counts it.

It begins where the master ended, after the handshake, with the command ``connect``.
Each stream adds a line to the file PUBLISHED when it ends: slot, app, stream, messages
of video, bytes of all media.
"""

import os
import struct

SLOT = os.environ["MAITRED_SLOT"]
COMMAND, AUDIO, VIDEO, CHUNK_SIZE = 20, 8, 9, 1
CHUNK = 4096


def number(value):
    """Give a number of AMF 0."""
    return b"\x00" + struct.pack("!d", value)


def text(value):
    """Give a text of AMF 0."""
    return b"\x02" + struct.pack("!H", len(value)) + value.encode()


def thing(**members):
    """Give an object of AMF 0, of texts."""
    inner = b"".join(text(n)[1:] + text(v) for n, v in members.items())
    return b"\x03" + inner + b"\x00\x00\x09"


def words(data):
    """Give the texts, numbers and nulls with which a command begins."""
    found = []
    while data and data[0] in {0, 2, 5}:
        if data[0] == 0:
            found.append(struct.unpack("!d", data[1:9])[0])
            data = data[9:]
        elif data[0] == 2:
            size = struct.unpack("!H", data[1:3])[0]
            found.append(data[3 : 3 + size].decode())
            data = data[3 + size :]
        else:
            found.append(None)
            data = data[1:]
    return found, data


class Server:
    """One client."""

    def __init__(self, reader, writer):
        """Begin."""
        self.reader, self.writer = reader, writer
        self.size = 128
        self.streams = {}

    def say(self, kind, payload, stream=0):
        """Send a message, shorter than a chunk of 128 bytes or of CHUNK."""
        head = bytes([3]) + bytes(3) + struct.pack("!I", len(payload))[1:]
        self.writer.write(head + bytes([kind]) + struct.pack("<I", stream) + payload)

    async def messages(self):
        """Give type and payload of each message."""
        read = self.reader.readexactly
        while True:
            first = await self.reader.read(1)
            if not first:
                return
            form, number_ = first[0] >> 6, first[0] & 0x3F
            if number_ == 0:
                number_ = 64 + (await read(1))[0]
            size, kind, wide, so_far = self.streams.get(number_, (0, 0, False, b""))
            stamp = None
            if form < 3:
                stamp = await read(3)
            if form < 2:
                size = int.from_bytes(await read(3), "big")
                kind = (await read(1))[0]
            if form == 0:
                await read(4)
            if stamp is not None:
                wide = stamp == b"\xff\xff\xff"
            if wide:
                await read(4)
            so_far += await read(min(self.size, size - len(so_far)))
            if len(so_far) == size:
                yield kind, so_far
                so_far = b""
            self.streams[number_] = size, kind, wide, so_far

    async def serve(self):
        """Serve."""
        app = stream = ""
        videos = media = 0
        async for kind, payload in self.messages():
            if kind == CHUNK_SIZE:
                self.size = int.from_bytes(payload, "big")
            elif kind in {AUDIO, VIDEO}:
                videos += kind == VIDEO
                media += len(payload)
            elif kind == COMMAND:
                said, rest = words(payload)
                if said[0] == "connect":
                    at = rest.index(b"\x00\x03app\x02") + 6
                    size = int.from_bytes(rest[at : at + 2], "big")
                    app = rest[at + 2 : at + 2 + size].decode()
                    self.say(CHUNK_SIZE, struct.pack("!I", CHUNK))
                    self.say(
                        COMMAND,
                        text("_result")
                        + number(1)
                        + thing()
                        + thing(level="status", code="NetConnection.Connect.Success"),
                    )
                elif said[0] == "createStream":
                    self.say(
                        COMMAND, text("_result") + number(said[1]) + b"\x05" + number(1)
                    )
                elif said[0] == "publish":
                    stream = said[3]
                    self.say(
                        COMMAND,
                        text("onStatus")
                        + number(0)
                        + b"\x05"
                        + thing(level="status", code="NetStream.Publish.Start"),
                        stream=1,
                    )
                elif said[0] == "deleteStream":
                    break
            await self.writer.drain()
        if stream:
            with open(os.environ["PUBLISHED"], "a") as file:
                file.write(f"{SLOT} {app} {stream} {videos} {media}\n")


async def handler(reader, writer):
    """Serve one client."""
    await Server(reader, writer).serve()
