"""
What the admin process answers, as an ASGI application.

    /               a page for people; its files need no token, for they tell nothing
    /metrics        Prometheus text, or OpenMetrics if that is asked for
    /healthz        200 if the master answers
    /readyz         200 if the service takes connections
    /api/snapshot   the answer to ``status``, as JSON
    /api/history    the last quarter of an hour (?since=SECONDS, as ``time`` has it)
    /api/whereis    which worker owns ?key=

Invariant: whatever goes wrong is an answer with one sentence.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

from maitred.errors import MaitredError, NoMaster

from .access import refusal
from .asking import Asker, Busy
from .collector import Exposition
from .history import History
from .page import POLICY, files

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"
OPEN_TO_ALL: Final = frozenset({"/healthz", "/readyz"})
"What load balancers ask, who carry no secrets."
METHODS: Final = frozenset({"GET", "HEAD"})
LONGEST_KEY: Final = 4096


class Answer(NamedTuple):
    """The answer to a request: a status, a content type, and bytes."""

    status: int
    kind: str
    body: bytes


class Question(NamedTuple):
    """A request: the first value of each name in its query, and its headers."""

    query: Mapping[str, str]
    headers: Mapping[str, str]


Handler = Callable[[Question], Awaitable[Answer]]
Message = dict[str, Any]


class App:
    """Answers the requests to the admin process."""

    def __init__(
        self,
        asker: Asker,
        history: History,
        exposition: Exposition,
        *,
        token: bytes,
        names: frozenset[str],
    ) -> None:
        """
        Start with the routes, and files read into memory.

        Args:
            asker: Asks the master.
            history: The samples.
            exposition: Writes the metrics.
            token: The token that proves the right to ask; empty: there is none.
            names: Our own names, besides those of loopback.
        """
        self._asker = asker
        self._history = history
        self._exposition = exposition
        self._token = token
        self._names = names
        self.leaving = False
        "Whether a successor answers from now on: each answer closes its connection."
        self._files = {path: Answer(200, *file) for path, file in files().items()}
        self.routes: dict[str, Handler] = {
            "/metrics": self._metrics,
            "/healthz": self._health,
            "/readyz": self._readiness,
            "/api/snapshot": self._snapshot,
            "/api/history": self._since,
            "/api/whereis": self._whereis,
        }

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer one HTTP request (ASGI, version 3)."""
        answer = await self._answer(scope)
        headers = [
            (b"content-type", answer.kind.encode()),
            (b"content-length", str(len(answer.body)).encode()),
            (b"cache-control", b"no-store"),
            (b"content-security-policy", POLICY.encode()),
            (b"referrer-policy", b"no-referrer"),
            (b"x-content-type-options", b"nosniff"),
        ]
        if self.leaving:
            headers.append((b"connection", b"close"))
        if answer.status == 401:  # noqa: PLR2004 - Unauthorized
            headers.append((b"www-authenticate", b"Bearer"))
        start = {"type": "http.response.start", "status": answer.status}
        await send({**start, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Mapping[str, Any]) -> Answer:
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        client, path = scope["client"], scope["path"]
        file = self._files.get(path)
        if file is None and path not in OPEN_TO_ALL:
            refused = refusal(client and client[0], headers, self._token, self._names)
            if refused:
                return say(*refused)
        if file is None and path not in self.routes:
            return say(404, f"there is nothing here; ask for {', '.join(self.routes)}")
        if scope["method"] not in METHODS:
            return say(405, "only GET and HEAD are answered")
        if file is not None:
            return file
        query = parse_qs(scope["query_string"].decode("latin-1"))
        question = Question({name: v[0] for name, v in query.items()}, headers)
        try:
            return await self.routes[path](question)
        except NoMaster as exc:
            return say(503, str(exc))

    async def _metrics(self, question: Question) -> Answer:
        snapshot = await self._asker.snapshot()
        body, kind = self._exposition.write(
            snapshot, question.headers.get("accept", "")
        )
        return Answer(200, kind, body)

    async def _health(self, question: Question) -> Answer:
        await self._asker.snapshot()
        return say(200, "ok")

    async def _readiness(self, question: Question) -> Answer:
        why_not = unready(await self._asker.snapshot())
        return say(503, why_not) if why_not else say(200, "ready")

    async def _snapshot(self, question: Question) -> Answer:
        return tell(await self._asker.snapshot())

    async def _since(self, question: Question) -> Answer:
        try:
            when = float(question.query.get("since", "0"))
        except ValueError:
            return say(400, "since is a number of seconds, as in ?since=1700000000")
        return tell(self._history.since(when))

    async def _whereis(self, question: Question) -> Answer:
        key = question.query.get("key", "")
        if not 0 < len(key) <= LONGEST_KEY:
            return say(400, "which key? ask as in /api/whereis?key=cookie:cart=7f3a")
        try:
            return tell(await self._asker.whereis(key))
        except Busy:
            return say(429, "too many ask where keys live; ask again in a second")
        except NoMaster:
            raise
        except MaitredError as exc:
            return say(404, str(exc))


def unready(snapshot: Mapping[str, Any]) -> str:
    """Return why *snapshot*'s service takes no connections; empty: it does."""
    if snapshot["state"] in {"starting", "stopping"}:
        return f"the service is {snapshot['state']}"
    if not any(slot["state"] == "ready" for slot in snapshot["slots"]):
        return "no worker is ready"
    return ""


def say(status: int, sentence: str) -> Answer:
    """Return an answer with one line for people."""
    return Answer(status, TEXT, sentence.encode(errors="replace") + b"\n")


def tell(value: Any) -> Answer:
    """Return an answer with *value* as JSON."""
    return Answer(200, JSON, json.dumps(value, separators=(",", ":")).encode())
