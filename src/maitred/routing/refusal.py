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
    "head_too_large": "The request's head is too large.",
    "head_timeout": "The request's head did not arrive in time.",
    "head_cut_short": "The request's head ended before it was complete.",
    "misdirected": "This connection cannot be moved to where the request belongs.",
    "too_many_waiting": "Too many connections are waiting.",
    "no_worker": "No worker could take this request in time.",
    "stopping": "This server is stopping.",
}
"Every cause for which maitred answers itself, and what the client reads."


def answer(status: int, cause: str) -> bytes:
    """Compose the response with *status* that explains *cause*."""
    text = f"{WHY[cause]}\n".encode()
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        "content-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(text)}\r\n"
        "connection: close\r\n\r\n"
    ).encode() + text
