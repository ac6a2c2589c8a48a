"""
Claiming the keys that the application makes, before anyone else can know them.

An ASGI wrapper around the application. It watches responses for a session's name and
claims it before the message that carries it is passed on to the server. Whoever
learns the name from the response and connects anew finds the master informed: the
claim is in the channel before the response is in the socket.

Invariant: a claim precedes the bytes that contain its key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

from maitred.routing import Affinity
from maitred.routing.affinity import named_slot
from maitred.routing.http1 import ABSOLUTE

from .keys import OwnKeys
from .succession import Successions

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_LIMIT: Final = 4096
"Bytes of a response, or said over a WebSocket, in which a name is looked for."
STARTS: Final = ("http.response.start", "websocket.accept")


class ScopeHead:
    """A request head (``maitred.routing.Head``) as an ASGI scope gives it."""

    def __init__(self, scope: Scope) -> None:
        """Read *scope*, which is of type http or websocket."""
        self.method: bytes = scope.get("method", "GET").encode()
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        # uvicorn puts --root-path before what the client sent.
        path = path.removeprefix(scope.get("root_path", "").encode())
        # uvicorn with h11 gives a target in absolute form whole.
        absolute = ABSOLUTE.match(path)
        self.path = absolute[2] if absolute else path
        self.query: bytes = scope["query_string"]
        self.peer: bytes = (scope.get("client") or ("",))[0].encode()
        self.sni = b""  # nobody learns it
        self._headers = scope["headers"]
        name = (self.values(b"host") or [b""])[0].lower()
        self.host = (
            name[: name.rfind(b":")] if b":" in name.rpartition(b"]")[2] else name
        )
        self.host = self.host.removesuffix(b".")

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of all lines called *name* (lower case), in order."""
        # httptools leaves the white space at the end of a value.
        return [value.strip(b" \t") for key, value in self._headers if key == name]

    def alike(self, name: bytes) -> list[bytes]:
        """Return the values of all lines whose name is *name* once ``_`` is ``-``."""
        return [
            value.strip(b" \t")
            for key, value in self._headers
            if key.replace(b"_", b"-") == name
        ]


class Reply:
    """The response so far (``maitred.routing.Response``), fed message by message."""

    def __init__(self) -> None:
        """Start with nothing: no message of the response has been seen."""
        self.status = 0
        self.body = b""
        self._headers: Sequence[tuple[bytes, bytes]] = ()

    def add(self, message: Message) -> bool:
        """Add one ASGI *message*; return whether the response is worth another look."""
        if message["type"] in STARTS:
            self.status = message.get("status", 101)
            self._headers = list(message.get("headers") or ())
            return True
        if len(self.body) >= BODY_LIMIT:
            return False
        if message["type"] == "http.response.body":
            said = message.get("body") or b""
        elif message["type"] == "websocket.send":
            said = message.get("bytes") or (message.get("text") or "").encode()
        else:
            return False
        self.body += said[: BODY_LIMIT - len(self.body)]
        return True

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of all lines called *name* (lower case), in order."""
        return [bytes(value) for key, value in self._headers if key.lower() == name]


class Claims:
    """Wraps an application, and claims the keys it makes."""

    def __init__(self, app: App, affinities: Sequence[Affinity], keys: OwnKeys) -> None:
        """
        Wrap *app*.

        Args:
            app: The application.
            affinities: Those that learn.
            keys: Claims and releases.
        """
        self._app = app
        self._affinities = tuple(affinities)
        self._keys = keys
        self._successions = Successions(keys.over)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve *scope*; claim and release keys before each message of the response."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        head = ScopeHead(scope)
        named = [(a, key) for a in self._affinities if (key := a.key(head))]
        for affinity, key in named:
            # Only cookies, because other names do not change with each answer.
            if affinity.cookie:
                self._successions.used(key)
        reply = Reply()
        to_learn = list(self._affinities)

        async def watch(message: Message) -> None:
            """Claim what *message* makes known, release what it ends; then send it."""
            if to_learn and reply.add(message):
                self._learn(to_learn, reply, named)
            # A WebSocket has no status that says that its session is over.
            if message["type"] == "http.response.start":
                self._end(named, head, reply.status)
            await send(message)

        await self._app(scope, receive, watch)

    def _learn(
        self,
        to_learn: list[Affinity],
        reply: Reply,
        named: Sequence[tuple[Affinity, bytes]],
    ) -> None:
        """Claim the keys that *reply* names; what has learned leaves *to_learn*."""
        for affinity in list(to_learn):
            if affinity.learn and (found := affinity.learn(reply)):
                to_learn.remove(affinity)
                for key in affinity.keys_of(found):
                    if named_slot(key) is None:  # else there is nothing to remember
                        self._keys.made(key)
                        self._replace(affinity, named, key)

    def _replace(
        self, affinity: Affinity, named: Sequence[tuple[Affinity, bytes]], key: bytes
    ) -> None:
        """Replace the key of the same cookie that was *named* by the new *key*."""
        if affinity.cookie:
            for other, old in named:
                if other is affinity:
                    self._successions.replaced(old, key)

    def _end(
        self, named: Sequence[tuple[Affinity, bytes]], head: ScopeHead, status: int
    ) -> None:
        """Release those keys of the request whose sessions end with *status*."""
        for affinity, key in named:
            if affinity.ends(head, status):
                self._keys.over(key)
