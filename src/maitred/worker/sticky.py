"""
Setting our own cookie: the slot of this worker, for whoever comes without one.

An ASGI wrapper around the application. The first response to a client that has no
valid cookie gets one; so does a client whose cookie was signed with a key that is being
retired, for the same slot as before.

Invariant: a cookie that the application sets under our name is the application's.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from maitred import logs
from maitred.config import WorkerSettings
from maitred.routing import Affinity, Seal
from maitred.routing.seal import NONCE
from maitred.routing.sticky import attributes, set_cookie_line

from .claims import App, Message, Receive, Scope, ScopeHead, Send

STARTS: Final = (
    "http.response.start",
    "websocket.accept",
    "websocket.http.response.start",
)
SECURE: Final = ("https", "wss")


def sticky_attributes(settings: WorkerSettings) -> bytes:
    """Return what follows the value of the cookie that *settings* describe."""
    return attributes(
        path=settings.sticky_path,
        same_site=settings.sticky_same_site,
        domain=settings.sticky_domain,
        max_age=settings.sticky_max_age,
    )


def when_secure(settings: WorkerSettings) -> str:
    """Return when the cookie is Secure: always, never, or auto."""
    # Browsers keep no other cookie for other sites.
    return "always" if settings.sticky_same_site == "none" else settings.sticky_secure


class StickyCookie:
    """Wraps an application, and gives its clients our cookie."""

    def __init__(
        self,
        app: App,
        affinity: Affinity,
        seal: Seal,
        slot: int,
        twin: int | None = None,
        *,
        secure: str = "auto",
        rest: bytes = attributes(),
    ) -> None:
        """
        Wrap *app*.

        Args:
            app: The application.
            affinity: Finds the cookie, and says what it is called.
            seal: Makes its value.
            slot: Ours.
            twin: Our place in the other set of slots, whose clients come here when
                nobody fills it; None: there is one set.
            secure: Whether it is for TLS only: always, never, or where the request came
                over TLS.
            rest: Its other attributes.
        """
        self._app = app
        self._affinity = affinity
        self._seal = seal
        self._slot = slot
        self._twin = twin
        self._secure = secure
        self._rest = rest
        self._warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve *scope*, and add the cookie to the response if the client has none."""
        slot = self._slot_to_give(scope)
        if slot is None:
            await self._app(scope, receive, send)
            return
        given = slot

        async def with_cookie(message: Message) -> None:
            if message["type"] in STARTS:
                # Not before: uvicorn believes a proxy's X-Forwarded-Proto further in,
                # and writes it into the same scope.
                self._add(message, given, secure=self._is_secure(scope))
            await send(message)

        await self._app(scope, receive, with_cookie)

    def _slot_to_give(self, scope: Scope) -> int | None:
        """Return the slot for a new cookie; None: the client has a good one."""
        if scope["type"] == "lifespan":
            return None
        tokens = self._affinity.find(ScopeHead(scope))
        if not tokens:
            return self._slot
        token = tokens if isinstance(tokens, bytes) else tokens[-1]
        slot = self._seal.slot_in(token)
        # Nobody fills the slot of this cookie, or it would not have come here.
        if slot is not None and slot == self._twin:
            return self._slot
        # Signed with a key that is being retired: signed anew, for the same slot.
        return None if self._seal.is_current(token) else slot

    def _is_secure(self, scope: Scope) -> bool:
        if self._secure == "auto":
            return scope.get("scheme") in SECURE
        return self._secure == "always"

    def _add(self, message: Message, slot: int, *, secure: bool) -> None:
        headers: list[Any] = list(message.get("headers") or ())
        for name, value in headers:
            if name.lower() == b"set-cookie" and self._is_ours(bytes(value)):
                self._warn()
                return
        token = self._seal.token(slot, secrets.token_bytes(NONCE))
        line = set_cookie_line(
            self._affinity.sets, token, secure=secure, rest=self._rest
        )
        message["headers"] = [*headers, (b"set-cookie", line)]

    def _is_ours(self, line: bytes) -> bool:
        name, _, _ = line.partition(b"=")
        return name.strip(b" \t") == self._affinity.sets

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            logs.worker.warning(
                "the application sets a cookie %s itself, so ours is left out and"
                " its clients are not sticky; give ours another name with"
                " --affinity sticky:NAME",
                self._affinity.sets.decode(),
            )
