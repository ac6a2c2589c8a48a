"""
Serving a WSGI application (PEP 3333): each request in a thread.

An ASGI application around it. a2wsgi makes the environment and the input; what is sent
goes this way and not through a2wsgi, because a thread has to be free again when its
client has left, whatever the application goes on to say.

Invariants: a response that nobody reads any more is not asked for more of its chunks,
and is closed, in its thread. What the application raises is raised to the server.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from a2wsgi.wsgi import Body, build_environ

from .claims import Message, Receive, Scope, Send
from .limit import refuse
from .threads import ClientLeft, NoThread, Threads
from .uvicorn_seam import LEFT

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class WSGI:
    """An ASGI application that calls a WSGI application in threads."""

    def __init__(
        self, app: Application, threads: Threads, count: Callable[[str], None]
    ) -> None:
        """
        Wrap *app*.

        Args:
            app: A WSGI application.
            threads: Where it is called.
            count: Told the cause of each refusal.
        """
        self._app = app
        self._threads = threads
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request in a thread; refuse a WebSocket, which WSGI has not."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        left = scope.pop(LEFT)
        call = Call(self._app, scope, receive, send, left)
        try:
            await self._threads.run(call.run, left)
        except ClientLeft:
            pass  # an ordinary end
        except NoThread:
            self._count("no_thread")
            for message in refuse(scope, 503, "no_thread"):
                await send(message)
        finally:
            call.is_over = True


class Call:
    """One call of the application: what is said in its thread is sent in the loop."""

    def __init__(
        self,
        app: Application,
        scope: Scope,
        receive: Receive,
        send: Send,
        left: asyncio.Future[None],
    ) -> None:
        """Prepare to call *app*; the arguments are those of an ASGI application."""
        self._app = app
        self._scope = scope
        self._receive = receive
        self._send = send
        self._left = left
        self._loop = asyncio.get_running_loop()
        self._is_started = False
        # Whether nobody waits for the rest: the request was cancelled.
        self.is_over = False

    def run(self) -> None:
        """Call the application, and send all that it says; this runs in the thread."""
        environ = build_environ(self._scope, Body(self._loop, self._receive))  # type: ignore[arg-type]
        chunks = self._app(environ, self._start_response)  # type: ignore[arg-type]
        try:
            for chunk in chunks:
                self._write(chunk)
            self._say({"type": "http.response.body", "body": b""})
        finally:
            if (close := getattr(chunks, "close", None)) is not None:
                close()

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """Send the head; with *exc_info* after that, raise what it has (PEP 3333)."""
        if self._is_started:
            if exc_info:
                raise exc_info[1].with_traceback(exc_info[2])
            raise AssertionError("start_response was called twice")
        self._is_started = True
        lines = [
            (name.strip().encode("latin-1").lower(), value.strip().encode("latin-1"))
            for name, value in headers
        ]
        code = int(status.partition(" ")[0])
        start = {"type": "http.response.start", "status": code, "headers": lines}
        # The application is not told: its middleware would take it for an error of it.
        with contextlib.suppress(ClientLeft):
            self._say(start)
        return self._write

    def _write(self, chunk: bytes) -> None:
        self._say({"type": "http.response.body", "body": chunk, "more_body": True})

    def _say(self, message: Message) -> None:
        """Send *message*, and wait for that; raise ClientLeft if nobody reads."""
        if self._left.done() or self.is_over:
            raise ClientLeft
        asyncio.run_coroutine_threadsafe(self._sent(message), self._loop).result()

    async def _sent(self, message: Message) -> None:
        await self._send(message)
