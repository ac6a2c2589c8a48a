"""
What a client reads when its request is refused instead of served. Pure.

Invariant: every cause for which maitred itself answers a request stands in CAUSES.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, NamedTuple

DECODE_ERROR: Final = 50
INTERNAL_ERROR: Final = 80
NO_APPLICATION_PROTOCOL: Final = 120
"Alerts of TLS (RFC 8446 section 6.2, RFC 7301 section 3.2)."


class Cause(NamedTuple):
    """The answer for a cause: a status with a reason, or an alert before TLS begins."""

    status: int
    why: str
    alert: int = INTERNAL_ERROR


CAUSES: Final[Mapping[str, Cause]] = MappingProxyType(
    {
        "bad_request": Cause(
            400, "This is no HTTP request that can be read in one way only."
        ),
        "bad_body": Cause(400, "The request's body does not end where its head says."),
        "bad_host": Cause(
            400, "The request must name one host, and the same one everywhere."
        ),
        "ambiguous_session": Cause(400, "The request names two sessions."),
        "bad_version": Cause(505, "Only HTTP/1.0 and HTTP/1.1 are spoken here."),
        "tls": Cause(400, "This port speaks plain HTTP, not TLS."),
        "not_tls": Cause(400, "This port speaks TLS: ask for https://, not http://."),
        "bad_hello": Cause(
            400, "This is no TLS hello that can be read in one way only.", DECODE_ERROR
        ),
        "hello_too_large": Cause(431, "The TLS hello is too large.", DECODE_ERROR),
        "no_protocol": Cause(
            505,
            "Only HTTP/1.1 is spoken here, and the client offers others.",
            NO_APPLICATION_PROTOCOL,
        ),
        "head_too_large": Cause(431, "The request's head is too large."),
        "head_timeout": Cause(408, "The request's head did not arrive in time."),
        "head_cut_short": Cause(
            400, "The request's head ended before it was complete.", DECODE_ERROR
        ),
        "misdirected": Cause(
            421, "This connection cannot be moved to where the request belongs."
        ),
        "too_many_waiting": Cause(503, "Too many connections are waiting."),
        "no_worker": Cause(503, "No worker could take this request in time."),
        "too_busy": Cause(
            503, "The worker of this session serves as many requests as it may."
        ),
        "worker_died": Cause(
            502, "The worker died while it served this request; it was not repeated."
        ),
        "cut": Cause(
            503,
            "The worker had to leave before it answered this request; it was not"
            " repeated.",
        ),
        "stopping": Cause(503, "This server is stopping."),
        "no_thread": Cause(
            503, "No thread of the worker of this session was free in time."
        ),
        "too_many_from_source": Cause(429, "This address has too many connections."),
        "handshake_body": Cause(400, "The handshake of a WebSocket has no body."),
        "out_of_step": Cause(
            400, "The server's parser read another request than was checked."
        ),
    }
)
"Every cause for which maitred answers itself."


def answer(status: int, cause: str) -> bytes:
    """Return the whole HTTP/1.1 response with *status* that explains *cause*."""
    text = f"{CAUSES[cause].why}\n".encode()
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        "content-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(text)}\r\n"
        "connection: close\r\n\r\n"
    ).encode() + text


def alert(cause: str) -> bytes:
    """Return the TLS alert for *cause*, which answers a ClientHello."""
    # Record type, version TLS 1.2, length; level fatal, description.
    return bytes((21, 3, 3, 0, 2, 2, CAUSES[cause].alert))
