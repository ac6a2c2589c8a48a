"""
What a client reads when its request is refused instead of served. Pure.

Invariant: every cause for which maitred itself answers a request stands in WHY.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

WHY: Final = {
    "bad_request": "This is no HTTP request that can be read in one way only.",
    "bad_body": "The request's body does not end where its head says.",
    "bad_host": "The request must name one host, and the same one everywhere.",
    "ambiguous_session": "The request names two sessions.",
    "bad_version": "Only HTTP/1.0 and HTTP/1.1 are spoken here.",
    "tls": "This port speaks plain HTTP, not TLS.",
    "not_tls": "This port speaks TLS: ask for https://, not http://.",
    "bad_hello": "This is no TLS hello that can be read in one way only.",
    "hello_too_large": "The TLS hello is too large.",
    "no_protocol": "Only HTTP/1.1 is spoken here, and the client offers others.",
    "head_too_large": "The request's head is too large.",
    "head_timeout": "The request's head did not arrive in time.",
    "head_cut_short": "The request's head ended before it was complete.",
    "misdirected": "This connection cannot be moved to where the request belongs.",
    "too_many_waiting": "Too many connections are waiting.",
    "no_worker": "No worker could take this request in time.",
    "too_busy": "The worker of this session serves as many requests as it may.",
    "worker_died": "The worker died while it served this request; it was not repeated.",
    "stopping": "This server is stopping.",
}
"Every cause for which maitred answers itself, and what the client reads."

STATUS: Final = {
    "bad_request": 400,
    "bad_body": 400,
    "bad_host": 400,
    "ambiguous_session": 400,
    "bad_version": 505,
    "tls": 400,
    "not_tls": 400,
    "bad_hello": 400,
    "hello_too_large": 431,
    "no_protocol": 505,
    "head_too_large": 431,
    "head_timeout": 408,
    "head_cut_short": 400,
    "misdirected": 421,
    "too_many_waiting": 503,
    "no_worker": 503,
    "worker_died": 502,
    "stopping": 503,
}
"With what status each is answered."


def answer(status: int, cause: str) -> bytes:
    """Compose the response with *status* that explains *cause*."""
    text = f"{WHY[cause]}\n".encode()
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        "content-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(text)}\r\n"
        "connection: close\r\n\r\n"
    ).encode() + text


ALERTS: Final = {
    "bad_hello": 50,  # decode_error
    "hello_too_large": 50,
    "head_cut_short": 50,
    "no_protocol": 120,  # no_application_protocol (RFC 7301 section 3.2)
}
"What a TLS client is told instead (RFC 8446 section 6.2); by default internal_error."
INTERNAL_ERROR: Final = 80


def alert(cause: str) -> bytes:
    """Compose the TLS alert that explains *cause* to a client that said its hello."""
    # Record type, version TLS 1.2, length; level fatal, description.
    return bytes((21, 3, 3, 0, 2, 2, ALERTS.get(cause, INTERNAL_ERROR)))
