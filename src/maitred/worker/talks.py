"""
One connection that an application of kind handler, websocket or protocol serves.

    Talk          the event loop's protocol, whatever the application is
    Handling      calls it with a reader and a writer
    Conversing    hands its protocol what the event loop says

asyncio's streams do not say that somebody waits for data, nor what has come and was
not read: two attributes of StreamReader are reached into here, and one method of
StreamReaderProtocol, all named in a contract test.

Invariants: TAKEN is said before the application knows of the connection. Nothing is
read from a connection that stands still, and after it has left nothing is written to
it: what the application says while it is being cancelled reaches nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import socket
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

from maitred import connection, logs

from .moving import Arrival

LIMIT: Final = 64 * 1024
"Bytes that a StreamReader holds before reading pauses, as in asyncio itself."


class Visit(Protocol):
    """What the runtime knows of one connection, and wants to be told of it."""

    id: int
    prefix: bytes
    frozen: bytes
    client: tuple[str, int] | None

    @property
    def key(self) -> bytes:
        """What it was placed by; empty if by nothing."""

    def taken(self) -> None:
        """It is ours."""

    def closed(self) -> None:
        """It is over; said once, unless it was moved."""

    def moved(
        self,
        sock: socket.socket,
        unread: bytes,
        frozen: bytes,
        sent: Callable[[], None],
    ) -> None:
        """It is to go on elsewhere: send *sock* and the rest, soon, then say so."""

    def claim(self, field: str, value: bytes) -> None:
        """Have connections in which *field* is *value* come here."""

    def release(self, field: str, value: bytes) -> None:
        """Take that back."""


class Ours:
    """The connection as the application may know it (``connection.Connection``)."""

    def __init__(
        self, visit: Visit, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        """
        Know what *visit* knows.

        Args:
            visit: The connection's.
            loop: That of the worker, where another thread asks.
        """
        self._visit = visit
        self._loop = loop
        self.peer = visit.client
        self.key = visit.key

    def claim(self, field: str, value: bytes) -> None:
        """Have connections in which *field* is *value* come to this worker."""
        self._do(self._visit.claim, field, value)

    def release(self, field: str, value: bytes) -> None:
        """Take back what was claimed."""
        self._do(self._visit.release, field, value)

    def _do(self, what: Callable[[str, bytes], None], field: str, value: bytes) -> None:
        """Do it in the loop's thread, and wait until it is done."""
        if self._loop is None:
            what(field, value)
            return
        done = threading.Event()

        def do() -> None:
            try:
                what(field, value)
            finally:
                done.set()

        self._loop.call_soon_threadsafe(do)
        done.wait()


class Outlet(asyncio.Transport):
    """What the application writes to: the transport, until the connection has left."""

    def __init__(self, transport: asyncio.Transport) -> None:
        """Write to *transport*."""
        super().__init__()
        self._transport = transport
        self.is_detached = False

    def write(self, data: Any) -> None:
        """Write *data*, unless nobody is there any more."""
        if not self.is_closing():  # uvloop raises then, where asyncio does not
            self._transport.write(data)

    def write_eof(self) -> None:
        """Say that nothing more comes."""
        if not self.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        """Close, once all is written."""
        if not self.is_detached:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if not self.is_detached:
            self._transport.abort()

    def is_closing(self) -> bool:
        """Say whether it is being closed, or has left."""
        return self.is_detached or self._transport.is_closing()

    # What changes nothing is the transport's own.

    def can_write_eof(self) -> bool:
        """Say whether ``write_eof`` can be."""
        return self._transport.can_write_eof()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Give what the transport knows."""
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Say how many bytes wait."""
        return self._transport.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Say when the application is to feel it."""
        return self._transport.get_write_buffer_limits()

    def set_write_buffer_limits(
        self, high: int | None = None, low: int | None = None
    ) -> None:
        """Say when the application is to feel it."""
        self._transport.set_write_buffer_limits(high, low)

    def is_reading(self) -> bool:
        """Say whether it reads."""
        return self._transport.is_reading()

    def pause_reading(self) -> None:
        """Read nothing for now."""
        if not self.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if not self.is_closing():
            self._transport.resume_reading()


class Serving(Protocol):
    """Who has the talks."""

    def opened(self, talk: Any) -> None:
        """Note that *talk* has begun."""

    def ended(self, talk: Any) -> None:
        """Note that it is over, or has left."""


class Talk(asyncio.Protocol, Arrival):
    """One connection; what the application is, subclasses know."""

    transport: asyncio.Transport
    outlet: Outlet

    def __init__(
        self, app: Any, visit: Visit, sock: socket.socket, serving: Serving
    ) -> None:
        """
        Serve *sock*, which belongs to the event loop, with *app*.

        Args:
            app: What target names.
            visit: What is known of the connection.
            sock: The connection.
            serving: Is told when this begins and ends.
        """
        self.visit = visit
        self.key = visit.key
        # What knows ``freeze`` and ``thaw``, if the application offers them.
        self.app = app
        self._sock = sock
        self._serving = serving
        self._held: list[bytes] = [visit.prefix] if visit.prefix else []
        self._is_held = True
        self._has_eof = False
        # Whether it has ended here, and whether that is because it went elsewhere.
        self.is_over = self.has_left = False
        # Whether somebody sees to its move.
        self.is_moving = False

    # The event loop says

    def connection_made(self, transport: Any) -> None:
        """Note that the connection is there; ``begin`` is called when it may begin."""
        self.transport = transport
        self.outlet = Outlet(transport)
        self.visit.taken()
        transport.pause_reading()
        self._serving.opened(self)

    def data_received(self, data: bytes) -> None:
        """Pass on what came, unless it has to wait."""
        if self._is_held:
            self._held.append(bytes(data))
            self.transport.pause_reading()  # uvloop may begin to read after a pause
        else:
            self.hear(data)

    def eof_received(self) -> bool | None:
        """Pass on that nothing more comes, after what has come."""
        if self._is_held:
            self._has_eof = True
            return True
        return self.hear_end()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self.is_over = True
        if not self.has_left:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            self.visit.closed()
        self._serving.ended(self)
        self.lost(exc)

    # How it begins

    def begin(self) -> None:
        """Have the application begin, or go on with what it knows by now."""
        context = contextvars.copy_context()
        context.run(connection.CURRENT.set, Ours(self.visit))
        context.run(self.start)

    def go(self) -> None:
        """Let it hear what came meanwhile, and what comes."""
        if self.is_over or not self._is_held:
            return
        self._is_held = False
        held, self._held = self._held, []
        for data in held:
            self.hear(data)
        if self._has_eof and not self.hear_end():
            self.outlet.close()
        self.outlet.resume_reading()

    # How it moves (``moving.Movable``)

    @property
    def is_movable(self) -> bool:
        """Whether the application can freeze it and thaw it."""
        return callable(getattr(self.app, "freeze", None)) and callable(
            getattr(self.app, "thaw", None)
        )

    def pause(self) -> None:
        """Take nothing more in."""
        self._is_held = True
        self.outlet.pause_reading()

    def resume(self) -> None:
        """Take in again."""
        self.go()

    @property
    def is_still(self) -> bool:
        """Whether it waits for its client, and all it said has left."""
        return (
            not (self._is_over_soon or self.transport.get_write_buffer_size())
            and self.waits()
        )

    @property
    def _is_over_soon(self) -> bool:
        return self.transport.is_closing() or self._has_eof

    def freeze(self) -> bytes:
        """Give the application's state."""
        state: bytes = self.app.freeze()
        return state

    def thaw(self, state: bytes) -> None:
        """Give the application the state that another worker's gave."""
        self.app.thaw(state)

    @property
    def unread(self) -> bytes:
        """What came from the client and the application has not read."""
        return self.waiting() + b"".join(self._held)

    def detach(self) -> None:
        """Say nothing to the client any more."""
        self.outlet.is_detached = True

    def leave(self, frozen: bytes) -> None:
        """Go, with what is in *frozen*."""
        self.has_left = self.is_over = True
        self.visit.moved(self._sock, self.unread, frozen, self.transport.abort)
        self.stop()

    # What subclasses know

    def start(self) -> None:
        """Begin with the application."""
        raise NotImplementedError

    def hear(self, data: bytes) -> None:
        """Hear *data*."""
        raise NotImplementedError

    def hear_end(self) -> bool | None:
        """Hear that nothing more comes; say whether it stays open, all the same."""
        raise NotImplementedError

    def lost(self, exc: Exception | None) -> None:
        """Learn that the connection is over."""

    def waits(self) -> bool:
        """Say whether the application waits for its client."""
        raise NotImplementedError

    def waiting(self) -> bytes:
        """Give what the application was given and has not read."""
        return b""

    def stop(self) -> None:
        """End the application's part: the connection is elsewhere."""

    def cut(self) -> None:
        """Close, at once."""
        self.transport.abort()


class Handling(Talk):
    """Calls the application with a reader and a writer, in a task of its own."""

    _task: asyncio.Task[None] | None = None

    def __init__(self, app: Any, *args: Any) -> None:
        """Take *app*, or make one for this connection if it is a class."""
        super().__init__(app() if inspect.isclass(app) else app, *args)

    def start(self) -> None:
        """Begin the task."""
        loop = asyncio.get_running_loop()
        self._reader = asyncio.StreamReader(LIMIT, loop)
        self._flow = asyncio.StreamReaderProtocol(self._reader, loop=loop)
        self._flow.connection_made(self.outlet)
        self._task = loop.create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        writer = asyncio.StreamWriter(self.outlet, self._flow, self._reader, loop)
        try:
            await self.call(writer)
        except ConnectionError:
            pass  # an ordinary end: the client has left
        except Exception:  # noqa: BLE001 - it is the application's
            logs.worker.exception("%s raised", self.called())
        finally:
            self.outlet.close()

    async def call(self, writer: asyncio.StreamWriter) -> None:
        """Call the application."""
        await self.app(self._reader, writer)

    def called(self) -> str:
        """Say what is called, for the log."""
        return getattr(self.app, "__qualname__", type(self.app).__qualname__)

    def hear(self, data: bytes) -> None:
        """Give *data* to the reader."""
        self._reader.feed_data(data)

    def hear_end(self) -> bool:
        """Tell the reader; the application may still write."""
        self._reader.feed_eof()
        return True

    def lost(self, exc: Exception | None) -> None:
        """Tell the reader, and whoever waits for room to write."""
        if self._task is None:
            return
        self._flow.connection_lost(exc)
        # Reports of an error that nobody waited for are left out, because the reader
        # has it: asyncio sees to that when the flow is collected, which may come after
        # the collection of this future.
        closed = self._flow._get_close_waiter(self.outlet)  # type: ignore[attr-defined]  # noqa: SLF001
        if not closed.cancelled():  # a task that waited for it may have been
            closed.exception()

    def pause_writing(self) -> None:
        """Tell whoever writes."""
        self._flow.pause_writing()

    def resume_writing(self) -> None:
        """Tell whoever waited."""
        self._flow.resume_writing()

    def waits(self) -> bool:
        """Say whether the handler waits for data."""
        return self._reader._waiter is not None  # type: ignore[attr-defined]  # noqa: SLF001

    def waiting(self) -> bytes:
        """Give what the reader holds."""
        return bytes(self._reader._buffer)  # type: ignore[attr-defined]  # noqa: SLF001

    def stop(self) -> None:
        """Cancel the task."""
        if self._task is not None:
            self._task.cancel("the connection moved to another worker")


class Conversing(Talk):
    """Hands an ``asyncio.Protocol`` what the event loop says."""

    _has_begun = False

    def __init__(self, app: Any, *args: Any) -> None:
        """Have *app* make the protocol of this connection."""
        super().__init__(app(), *args)
        self._buffered = isinstance(self.app, asyncio.BufferedProtocol)
        self._context = contextvars.copy_context()

    def start(self) -> None:
        """Tell the protocol that it is connected."""
        self._has_begun = True
        self._context = contextvars.copy_context()
        self.app.connection_made(self.outlet)

    def hear(self, data: bytes) -> None:
        """Give it *data*."""
        self._call(self._fill if self._buffered else self.app.data_received, data)

    def _call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call the protocol; where that raises, the connection ends."""
        try:
            return self._context.run(method, *arguments)
        except Exception:  # noqa: BLE001 - it is the application's
            logs.worker.exception("%s raised", method.__qualname__)
            self.outlet.abort()
            return None

    def _fill(self, data: bytes) -> None:
        while data:
            room = memoryview(self.app.get_buffer(len(data))).cast("B")
            count = min(len(room), len(data))
            room[:count] = data[:count]
            self.app.buffer_updated(count)
            data = data[count:]

    def hear_end(self) -> bool | None:
        """Tell it."""
        stays: bool | None = self._call(self.app.eof_received)
        return stays

    def lost(self, exc: Exception | None) -> None:
        """Tell it, unless the connection lives on elsewhere."""
        if self._has_begun:
            self._call(self.app.connection_lost, exc)

    def pause_writing(self) -> None:
        """Tell it."""
        self._call(self.app.pause_writing)

    def resume_writing(self) -> None:
        """Tell it."""
        self._call(self.app.resume_writing)

    def waits(self) -> bool:
        """A protocol is between two calls whenever anybody asks."""
        return True
