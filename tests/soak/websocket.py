"""A WebSocket's client in bytes: text messages of less than 64 KiB, and the close."""

from __future__ import annotations

import asyncio
import base64
import random
import struct
from typing import Final

TEXT: Final = 1
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10


class Talk:
    """One WebSocket, after its handshake."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        chance: random.Random,
    ) -> None:
        """Talk on a connection; *chance* makes the masks."""
        self.close_code = 0
        self._reader = reader
        self._writer = writer
        self._chance = chance

    @staticmethod
    def handshake(chance: random.Random) -> list[str]:
        """Return the header lines that ask for a WebSocket."""
        key = base64.b64encode(chance.randbytes(16)).decode()
        return [
            "connection: Upgrade",
            "upgrade: websocket",
            "sec-websocket-version: 13",
            f"sec-websocket-key: {key}",
        ]

    def ended(self) -> bool:
        """Return whether something is there to read, which can only be a close."""
        return bool(self._reader._buffer)  # type: ignore[attr-defined]

    async def send(self, text: str) -> None:
        """Send a message."""
        await self._send(TEXT, text.encode())

    async def hear(self) -> bytes | None:
        """Return the next message, or None if the server closes; then answer that."""
        while True:
            first, size = await self._reader.readexactly(2)
            if size == 126:
                (size,) = struct.unpack("!H", await self._reader.readexactly(2))
            said = await self._reader.readexactly(size)
            if first & 15 == TEXT:
                return said
            if first & 15 == PING:
                await self._send(PONG, said)
            elif first & 15 == CLOSE:
                self.close_code = int.from_bytes(said[:2]) if said else 1005
                await self._send(CLOSE, said[:2])
                return None

    async def close(self) -> None:
        """Say goodbye, and wait until the server has done so."""
        await self._send(CLOSE, struct.pack("!H", 1000))
        while await self.hear() is not None:
            pass

    async def _send(self, kind: int, payload: bytes) -> None:
        mask = self._chance.randbytes(4)
        masked = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
        self._writer.write(bytes([0x80 | kind, 0x80 | len(payload)]) + mask + masked)
        await self._writer.drain()
