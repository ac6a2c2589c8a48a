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
from .visits import StreamVisit

LIMIT: Final = 64 * 1024
"Bytes that a StreamReader holds before reading pauses, as in asyncio itself."


class Ours:
    """The connection as the application may know it (``connection.Connection``)."""

    def __init__(
        self, visit: StreamVisit, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        """
        Copy from *visit* what an application may read.

        Args:
            visit: The connection's.
            loop: That of the worker, where another thread asks.
        """
        self._visit = visit
        self._loop = loop
        self.peer = visit.client
        self.key = visit.key

    def claim(self, field: str, value: bytes) -> None:
        """Claim for this worker the connections in which *field* is *value*."""
        self._do(self._visit.claim, field, value)

    def release(self, field: str, value: bytes) -> None:
        """Release what was claimed."""
        self._do(self._visit.release, field, value)

    def _do(self, what: Callable[[str, bytes], None], field: str, value: bytes) -> None:
        """Call *what* in the loop's thread, and wait until it has returned."""
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
        """Close our half of the connection, once all is written."""
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
        """Return whether the connection is being closed, or has left."""
        return self.is_detached or self._transport.is_closing()

    # What changes nothing is the transport's own.

    def can_write_eof(self) -> bool:
        """Return whether ``write_eof`` is possible."""
        return self._transport.can_write_eof()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the transport knows by *name*."""
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent."""
        return self._transport.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return how many bytes may wait before writers are paused and resumed."""
        return self._transport.get_write_buffer_limits()

    def set_write_buffer_limits(
        self, high: int | None = None, low: int | None = None
    ) -> None:
        """Set how many bytes may wait before writers are paused and resumed."""
        self._transport.set_write_buffer_limits(high, low)

    def is_reading(self) -> bool:
        """Return whether the transport reads."""
        return self._transport.is_reading()

    def pause_reading(self) -> None:
        """Stop reading for now."""
        if not self.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if not self.is_closing():
            self._transport.resume_reading()


class Serving(Protocol):
    """What serves the talks, and is told of each."""

    def opened(self, talk: Any) -> None:
        """Count *talk*, which has begun."""

    def ended(self, talk: Any) -> None:
        """Remove *talk*, which is over or has left."""


class Talk(asyncio.Protocol, Arrival):
    """One connection; a subclass serves it with one kind of application."""

    transport: asyncio.Transport
    outlet: Outlet

    def __init__(
        self, app: Any, visit: StreamVisit, sock: socket.socket, serving: Serving
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
        """Send TAKEN, and read nothing before ``begin`` and ``go`` are called."""
        self.transport = transport
        self.outlet = Outlet(transport)
        self.visit.taken()
        transport.pause_reading()
        self._serving.opened(self)

    def data_received(self, data: bytes) -> None:
        """Pass on what came, unless it has to wait for ``go``."""
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
        """Close; CLOSED is sent unless the connection lives on elsewhere."""
        self.is_over = True
        # Shut down, because to close sends no FIN while somebody has a copy.
        if not self.has_left:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            self.visit.closed()
        self._serving.ended(self)
        self.lost(exc)

    # How it begins

    def begin(self) -> None:
        """Start the application, which has its state already if it was frozen."""
        context = contextvars.copy_context()
        context.run(connection.CURRENT.set, Ours(self.visit))
        context.run(self.start)

    def go(self) -> None:
        """Pass on what came meanwhile, and read on."""
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
        """Return whether the application can freeze a connection and thaw it."""
        return callable(getattr(self.app, "freeze", None)) and callable(
            getattr(self.app, "thaw", None)
        )

    def pause(self) -> None:
        """Stop reading; what comes nevertheless waits."""
        self._is_held = True
        self.outlet.pause_reading()

    def resume(self) -> None:
        """Read again, after what has waited."""
        self.go()

    @property
    def is_still(self) -> bool:
        """Return whether the application waits, and all it wrote has left."""
        return (
            not (self._is_over_soon or self.transport.get_write_buffer_size())
            and self.waits()
        )

    @property
    def _is_over_soon(self) -> bool:
        return self.transport.is_closing() or self._has_eof

    def freeze(self) -> bytes:
        """Return the application's state."""
        state: bytes = self.app.freeze()
        return state

    def thaw(self, state: bytes) -> None:
        """Pass on the state that the application of another worker returned."""
        self.app.thaw(state)

    @property
    def unread(self) -> bytes:
        """Return what came from the client and the application has not read."""
        return self.waiting() + b"".join(self._held)

    def detach(self) -> None:
        """Stop writing to the client."""
        self.outlet.is_detached = True

    def leave(self, frozen: bytes) -> None:
        """Return the connection to the master, with *frozen*, and end here."""
        self.has_left = self.is_over = True
        self.visit.moved(self._sock, self.unread, frozen, self.transport.abort)
        self.stop()

    # What subclasses know

    def start(self) -> None:
        """Start the application."""
        raise NotImplementedError

    def hear(self, data: bytes) -> None:
        """Pass *data* on to the application."""
        raise NotImplementedError

    def hear_end(self) -> bool | None:
        """Pass on that nothing more comes; return whether to stay open all the same."""
        raise NotImplementedError

    def lost(self, exc: Exception | None) -> None:
        """Pass on that the connection is over here."""

    def waits(self) -> bool:
        """Return whether the application waits for its client."""
        raise NotImplementedError

    def waiting(self) -> bytes:
        """Return what the application was given and has not read."""
        return b""

    def stop(self) -> None:
        """End the application's part: the connection is elsewhere."""

    def cut(self) -> None:
        """Close at once."""
        self.transport.abort()


class Handling(Talk):
    """Calls the application with a reader and a writer, in a task of its own."""

    _task: asyncio.Task[None] | None = None

    def __init__(self, app: Any, *args: Any) -> None:
        """Serve with *app*, or with one made for this connection if it is a class."""
        super().__init__(app() if inspect.isclass(app) else app, *args)

    def start(self) -> None:
        """Start the task."""
        loop = asyncio.get_running_loop()
        self._reader = asyncio.StreamReader(LIMIT, loop)
        self._flow = asyncio.StreamReaderProtocol(self._reader, loop=loop)
        self._flow.connection_made(self.outlet)
        self._task = loop.create_task(self._run())

    async def _run(self) -> None:
        """Call the application; log what it raises, and close at its end."""
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
        """Call the application, and return when it does."""
        await self.app(self._reader, writer)

    def called(self) -> str:
        """Return the name of what is called, for the log."""
        return getattr(self.app, "__qualname__", type(self.app).__qualname__)

    def hear(self, data: bytes) -> None:
        """Pass *data* on to the reader."""
        self._reader.feed_data(data)

    def hear_end(self) -> bool:
        """Pass the end on to the reader; the application may still write."""
        self._reader.feed_eof()
        return True

    def lost(self, exc: Exception | None) -> None:
        """Pass the end on to the reader, and to whoever waits for room to write."""
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
        """Pause whoever writes: too much waits to be sent."""
        self._flow.pause_writing()

    def resume_writing(self) -> None:
        """Resume whoever waited for room."""
        self._flow.resume_writing()

    def waits(self) -> bool:
        """Return whether the handler waits for data."""
        return self._reader._waiter is not None  # type: ignore[attr-defined]  # noqa: SLF001

    def waiting(self) -> bytes:
        """Return what the reader holds."""
        return bytes(self._reader._buffer)  # type: ignore[attr-defined]  # noqa: SLF001

    def stop(self) -> None:
        """Cancel the task."""
        if self._task is not None:
            self._task.cancel("the connection moved to another worker")


class Conversing(Talk):
    """Hands an ``asyncio.Protocol`` what the event loop says."""

    _has_begun = False

    def __init__(self, app: Any, *args: Any) -> None:
        """Serve with the protocol that *app* returns for this connection."""
        super().__init__(app(), *args)
        self._buffered = isinstance(self.app, asyncio.BufferedProtocol)
        self._context = contextvars.copy_context()

    def start(self) -> None:
        """Call ``connection_made`` of the protocol."""
        self._has_begun = True
        # Anew, because ``begin`` has set the current connection in it.
        self._context = contextvars.copy_context()
        self.app.connection_made(self.outlet)

    def hear(self, data: bytes) -> None:
        """Pass *data* on to the protocol."""
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
        """Copy *data* to the buffers that the protocol offers, one after the other."""
        while data:
            room = memoryview(self.app.get_buffer(len(data))).cast("B")
            count = min(len(room), len(data))
            room[:count] = data[:count]
            self.app.buffer_updated(count)
            data = data[count:]

    def hear_end(self) -> bool | None:
        """Pass the end on; return whether the protocol stays open."""
        stays: bool | None = self._call(self.app.eof_received)
        return stays

    def lost(self, exc: Exception | None) -> None:
        """Call ``connection_lost`` of a protocol that has begun, after a move too."""
        if self._has_begun:
            self._call(self.app.connection_lost, exc)

    def pause_writing(self) -> None:
        """Call ``pause_writing`` of the protocol."""
        self._call(self.app.pause_writing)

    def resume_writing(self) -> None:
        """Call ``resume_writing`` of the protocol."""
        self._call(self.app.resume_writing)

    def waits(self) -> bool:
        """Return true: a protocol is between two calls whenever anybody asks."""
        return True
