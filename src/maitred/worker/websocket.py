"""
WebSockets that can move: kind websocket, on the sans-IO core of ``websockets``.

An ASGI server keeps what it knows of a WebSocket inside itself. Here all of it can be
written down: the head of the request, the application's state, and the bytes of what
has come and was not given to the application. The core is fed whole frames only, so
that it never holds a part of one; and no extension is agreed on, for compression
remembers what was said before.

Invariant: a message counts as unread until ``recv`` has given it to the application.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque
from typing import Any, Final

from websockets.datastructures import Headers
from websockets.exceptions import (
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
)
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import CLOSED, OPEN
from websockets.server import ServerProtocol

from maitred.unread import TO_READ, has_unread

from .talks import Handling

END_OF_HEAD: Final = b"\r\n\r\n"
LONGEST_HEAD: Final = 64 * 1024
LONGEST_MESSAGE: Final = 2**20
MOST_FRAMES: Final = 16 * 1024
"Frames that one message may come in: also those that bring nothing take room."
MOST_WAITING: Final = 256 * 1024
"Bytes of messages that wait for the application, before reading pauses."
LINGER: Final = 2.0
"Seconds for the client to answer that it closes too."
HEAD_TIMEOUT: Final = 10.0
SIZE: Final = struct.Struct("!I")
DATA: Final = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)
SHORT: Final = 2
EXTENDED: Final = {126: 2, 127: 8}
"Bytes of the length, where the first one does not say it (RFC 6455 section 5.2)."
MASK: Final = 4
NORMAL, INVALID_DATA, TOO_BIG = 1000, 1007, 1009
INTERNAL_ERROR, RESTARTING = 1011, 1012


def frame_size(data: bytes | bytearray) -> int | None:
    """Return how long the frame is that begins *data*; None: that is not known."""
    if len(data) < SHORT:
        return None
    size, start = data[1] & 0x7F, SHORT
    if size in EXTENDED:
        start += EXTENDED[size]
        if len(data) < start:
            return None
        size = int.from_bytes(data[SHORT:start], "big")
    return start + (MASK if data[1] & 0x80 else 0) + size


class WebSocket:
    """
    What the application is called with.

    Attributes:
        path: The target of the request, with its query.
        headers: Those of the request.
    """

    path: str
    headers: Headers

    def __init__(self, speaking: Speaking, request: Request) -> None:
        """Start after the handshake, which *request* has asked for."""
        self._speaking = speaking
        self.path = request.path
        self.headers = request.headers

    async def recv(self) -> str | bytes:
        """
        Wait for the next message, and return it.

        Raises:
            ConnectionClosed: There is none: the WebSocket is closed.
        """
        return await self._speaking.recv()

    async def send(self, message: str | bytes) -> None:
        """
        Send *message*; wait while the client does not keep up.

        Raises:
            ConnectionClosed: The WebSocket is closed.
        """
        await self._speaking.send(message)

    def send_nowait(self, message: str | bytes) -> None:
        """Send *message* to one of many, without waiting; to nobody if it is closed."""
        self._speaking.send_nowait(message)

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Close, with a *code* of RFC 6455 section 7.4 and a *reason* for people."""
        self._speaking.close(code, reason)

    def __aiter__(self) -> WebSocket:
        return self

    async def __anext__(self) -> str | bytes:
        try:
            return await self._speaking.recv()
        except ConnectionClosedOK:
            raise StopAsyncIteration from None


class Speaking(Handling):
    """Calls the application with a ``WebSocket``, in a task of its own."""

    def __init__(self, app: Any, *args: Any) -> None:
        """Start before the handshake."""
        super().__init__(app, *args)
        self._core = ServerProtocol(max_size=LONGEST_MESSAGE)
        # The request as it came, once all of it has.
        self._head = b""
        self._request: Request | None = None
        # Bytes that are no whole head yet, or no whole frame.
        self._rest = bytearray()
        # What there is of a message that is not complete, and the frames it came in.
        self._parts: list[bytes] = []
        self._unfinished = bytearray()
        self._is_text = False
        # Whether the client does not read what is said to it.
        self._is_deaf = False
        self._is_at_end_of_input = False
        # Messages that nobody has asked for, each with the frames it came in.
        self._messages: deque[tuple[str | bytes, bytes]] = deque()
        self._size = 0
        # Called, once, when there is news for the application.
        self._waiter: asyncio.Future[None] | None = None

    # The application

    async def call(self, writer: asyncio.StreamWriter) -> None:
        """Call the application, when the handshake is done; close at its end."""
        if not self._request:
            await self._await_head()
        if not self._request:
            return
        self._writer = writer
        code = INTERNAL_ERROR
        try:
            await self.app(WebSocket(self, self._request))
            code = NORMAL
        except ConnectionClosed:
            code = NORMAL
        finally:
            # What has moved is over here, and goes on in another worker.
            if not self.is_over:
                self.close(code, "")
                await self._hear_out()

    async def _await_head(self) -> None:
        """Wait for the head of the request, or until the time for it is over."""
        await self._news_within(HEAD_TIMEOUT)
        # Because a worker that stood still has not read what came meanwhile.
        if not self._request and has_unread(self._sock):
            await self._news_within(TO_READ)

    async def _news_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news()

    async def recv(self) -> str | bytes:
        """
        Wait for the next message, and return it.

        Raises:
            ConnectionClosed: There is none any more.
        """
        while not self._messages:
            if self._is_at_its_end:
                raise self._closed()
            await self._news()
        message, frames = self._messages.popleft()
        self._size -= len(frames)
        self._regulate()
        return message

    async def send(self, message: str | bytes) -> None:
        """
        Send *message*; wait while the client does not keep up.

        Raises:
            ConnectionClosed: The WebSocket is closed.
        """
        if self._core.state is not OPEN:
            raise self._closed()
        self.send_nowait(message)
        await self._writer.drain()

    def send_nowait(self, message: str | bytes) -> None:
        """Send *message*, if there is somebody to send it to."""
        if self._core.state is not OPEN:
            return
        if isinstance(message, str):
            self._core.send_text(message.encode())
        else:
            self._core.send_binary(message)
        self._flush()

    def close(self, code: int, reason: str) -> None:
        """Send a closing frame, unless one was sent."""
        if self._core.state is OPEN:
            self._core.send_close(code, reason)
            self._flush()

    async def _hear_out(self) -> None:
        """Wait for the client to answer that it closes too, for LINGER at most."""
        try:
            async with asyncio.timeout(LINGER):
                while not self._is_at_its_end:
                    await self._news()
                    # Nobody asks for them any more, and they would stop the reading.
                    self._messages.clear()
        except TimeoutError:
            pass

    def _closed(self) -> ConnectionClosed:
        """Return what is raised where nothing can be sent or received any more."""
        core = self._core
        if core.state is CLOSED:
            return core.close_exc
        return ConnectionClosedError(
            core.close_rcvd, core.close_sent, core.close_rcvd_then_sent
        )

    @property
    def _is_at_its_end(self) -> bool:
        return self.is_over or self._core.state is CLOSED

    async def _news(self) -> None:
        """Wait until something has come, or nothing more will."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _tell(self) -> None:
        """Resume whoever waits in ``_news``."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # The client

    def hear(self, data: bytes) -> None:
        """Parse *data*; whole messages wait for the application."""
        self._rest += data
        if self._request is None and not self._shake_hands():
            return
        while (size := frame_size(self._rest)) is not None:
            # The rest of it is on its way: what the core holds could not be frozen.
            if len(self._rest) < size <= LONGEST_MESSAGE:
                break
            # The core refuses one that is too long when it has seen how long it is.
            frame = bytes(self._rest[:size])
            del self._rest[:size]
            self._core.receive_data(frame)
            self._heed(frame)
        self._flush()
        self._regulate()

    def go(self) -> None:
        """Pass on what came meanwhile, and read on unless too much waits."""
        super().go()
        self._regulate()

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read: it is answered unasked."""
        super().pause_writing()
        self._is_deaf = True
        self._regulate()

    def resume_writing(self) -> None:
        """Read again from the client."""
        super().resume_writing()
        self._is_deaf = False
        self._regulate()

    def _regulate(self) -> None:
        """Read on, unless enough waits for the application or for the client."""
        # What is held reads nothing; ``go`` comes here when it no longer is.
        if self._is_held or self.is_over:
            return
        if self._is_deaf or self._size > MOST_WAITING:
            self.outlet.pause_reading()
        else:
            self.outlet.resume_reading()

    def hear_end(self) -> bool:
        """End the input: the client sends nothing more."""
        self._end()
        self._flush()
        return False

    def lost(self, exc: Exception | None) -> None:
        """End all: the connection is over."""
        super().lost(exc)
        self._end()

    def _end(self) -> None:
        """Pass the end of the input on to the core, once."""
        if not self._is_at_end_of_input:
            self._is_at_end_of_input = True
            self._core.receive_eof()
        self._tell()

    def _shake_hands(self) -> bool:
        """Answer the request, if all of it has come; return whether frames follow."""
        # One empty line first is skipped, as the master did.
        heard = bytes(self._rest).removeprefix(b"\r\n")
        head, end, rest = heard.partition(END_OF_HEAD)
        if not end:
            if len(head) > LONGEST_HEAD:
                self.outlet.close()
            return False
        self._rest[:] = rest
        request = self._read(head + end)
        if request is not None:
            self._core.send_response(self._core.accept(request))
        self._flush()
        if self._core.state is OPEN:
            self._head, self._request = head + end, request
            self._tell()
        else:
            self.outlet.close()
        return self._request is not None

    def _read(self, head: bytes) -> Request | None:
        self._core.receive_data(head)
        events = self._core.events_received()
        return next((event for event in events if isinstance(event, Request)), None)

    def _heed(self, raw: bytes) -> None:
        """Collect what the core has made of the frame *raw*."""
        for event in self._core.events_received():
            if not isinstance(event, Frame) or event.opcode not in DATA:
                continue
            if event.opcode is not Opcode.CONT:
                self._is_text = event.opcode is Opcode.TEXT
            self._parts.append(bytes(event.data))
            self._unfinished += raw
            if event.fin:
                self._complete()
            elif len(self._parts) == MOST_FRAMES:
                self._core.fail(TOO_BIG, f"a message in {MOST_FRAMES} frames")
        if self._core.state is not OPEN:
            self._tell()

    def _complete(self) -> None:
        """Add a message that is complete to those that wait for the application."""
        data, self._parts = b"".join(self._parts), []
        frames, self._unfinished = bytes(self._unfinished), bytearray()
        message: str | bytes = data
        if self._is_text:
            try:
                message = data.decode()
            except UnicodeDecodeError:
                self._core.fail(INVALID_DATA, "this is no UTF-8")
                return
        self._messages.append((message, frames))
        self._size += len(frames)
        self._tell()

    def _flush(self) -> None:
        """Send what the core wants to be sent; nothing means the end."""
        for data in self._core.data_to_send():
            if data:
                self.outlet.write(data)
            else:
                self.outlet.close()

    # How it moves

    def thaw(self, state: bytes) -> None:
        """Read the request again, and pass the application its state."""
        (size,) = SIZE.unpack_from(state)
        self._head = state[SIZE.size : SIZE.size + size]
        self._request = self._read(self._head)
        if self._request is None:
            raise ValueError("there is no request in what was frozen")
        self._core = ServerProtocol(state=OPEN, max_size=LONGEST_MESSAGE)
        super().thaw(state[SIZE.size + size :])

    def freeze(self) -> bytes:
        """Return the request and the application's state."""
        return SIZE.pack(len(self._head)) + self._head + super().freeze()

    def waits(self) -> bool:
        """Return whether the application waits for a message."""
        is_open = self._request is not None and self._core.state is OPEN
        return is_open and self._waiter is not None and not self._messages

    def waiting(self) -> bytes:
        """Return the frames of what the application was not given."""
        frames = b"".join(frames for _, frames in self._messages)
        return frames + self._unfinished + self._rest

    def cut(self) -> None:
        """Close with 1012, which asks the client to come again."""
        self.close(RESTARTING, "this server is restarting")
        self.outlet.close()
