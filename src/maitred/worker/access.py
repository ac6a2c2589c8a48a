"""
What the access log says of one connection's requests.

It stands where uvicorn expects the logger of its access log, and so is told the status
of every answer when it begins; the line is written when it has ended.

Invariant: an application that filters, silences or takes over ``uvicorn.access``, as
many do to be rid of health checks, is heeded.
"""

from __future__ import annotations

import logging
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from maitred.logs import AccessLog, Entry

if TYPE_CHECKING:
    from .visits import HttpVisit

STATUS: Final = {"websocket.accept": 101, "websocket.close": 403}
"What the first word of an application to a WebSocket is answered with."
CAUSE: Final = "maitred.cause"
"Where a scope says why a wrapper refused it in the application's place."
theirs = logging.getLogger("uvicorn.access")


class Access:
    """Writes a line for each request of one connection, which is one at a time."""

    __slots__ = ("_before", "_began", "_is_unwanted", "_log", "_status", "visit")

    visit: HttpVisit

    def __init__(self, log: AccessLog) -> None:
        """Write to *log*; ``visit`` is set before the first request."""
        self._log = log
        # When the request came that is under way; 0: there is none.
        self._began = 0.0
        # Bytes that were written before.
        self._before = 0
        self._status = 0
        self._is_unwanted = False

    @property
    def is_open(self) -> bool:
        """Return whether a request is under way."""
        return self._began > 0

    def arrived(self, written: int) -> None:
        """Record when a request came; *written* bytes had been written by then."""
        self._began = perf_counter()
        self._before = written
        self._status = 0
        self._is_unwanted = False

    def info(self, text: str, *known: Any) -> None:
        """Record the status of an answer; uvicorn calls this as it would a logger."""
        self._status = known[-1]
        # The application may have silenced it, taken it over, or put a filter on it.
        if not theirs.isEnabledFor(logging.INFO):
            self._is_unwanted = True
        elif theirs.handlers:  # the application's own
            self._is_unwanted = True
            theirs.info(text, *known)
        elif theirs.filters:
            record = theirs.makeRecord(
                theirs.name, logging.INFO, "", 0, text, known, None
            )
            self._is_unwanted = not theirs.filter(record)

    def interrupted(self, scope: Any, status: int, cause: str) -> None:
        """Record *cause*, and *status* if the request of *scope* has no answer yet."""
        scope[CAUSE] = cause
        self._status = self._status or status

    def ended(self, scope: Any, written: int) -> None:
        """
        Write the line of the request of *scope*, which is over.

        Args:
            scope: As the application was given it.
            written: Bytes that were written by now; less than before: not known.
        """
        began, self._began = self._began, 0.0
        # Not begun here: ``refused`` has written the line of this request.
        if not began or self._is_unwanted:
            return
        visit = self.visit
        client = scope["client"] or ("", 0)
        target = scope["raw_path"]
        if query := scope["query_string"]:
            target = b"%b?%b" % (target, query)
        # In the order of the fields: by name it takes twice as long.
        self._log.write(
            Entry(
                str(client[0]),
                client[1],
                self._status,
                max(written - self._before, 0),
                perf_counter() - began,
                visit.id,
                visit.slot,
                visit.hops,
                visit.key,
                scope.get("method", "GET"),  # a WebSocket's has no other
                target.decode("latin-1"),
                scope["http_version"],
                *self._log.read(scope["headers"]),
                scope.get(CAUSE, ""),
            )
        )

    def refused(self, status: int, size: int, cause: str) -> None:
        """Write the line of an answer that was ours, of *size* bytes."""
        began, self._began = self._began, 0.0
        visit = self.visit
        client = visit.client or ("", 0)
        self._log.write(
            Entry(
                client=client[0],
                port=client[1],
                status=status,
                size=size,
                seconds=perf_counter() - began if began else 0.0,
                conn=visit.id,
                slot=visit.slot,
                hops=visit.hops,
                cause=cause,
            )
        )

    def watching(self, app: Any) -> Any:
        """Return *app*, for one WebSocket, so that its first message is recorded."""

        def watched(scope: Any, receive: Any, send: Any) -> Any:
            def noting(message: Any) -> Any:
                if not self._status:
                    kind = message["type"]
                    self._status = STATUS.get(kind) or message.get("status", 0)
                return send(message)

            return app(scope, receive, noting)

        return watched
