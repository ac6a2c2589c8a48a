"""
An application that keeps a ledger: the id of each request it starts and finishes.

    /get      answers at once
    /post     hears the whole body first
    /stream   answers in pieces while the body comes

Each process has a file of its own in the directory ``LEDGER``, named by its pid. A
line is one write at the file's end: it is there after ``kill -9``.
"""

import asyncio
import os
from pathlib import Path

PIECES = 3
PAUSE = 0.002
_file = os.open(
    Path(os.environ["LEDGER"]) / str(os.getpid()),
    os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC,
    0o600,
)


def note(what: str, id_: str) -> None:
    """Add a line."""
    os.write(_file, f"{what} {id_}\n".encode())


async def app(scope, receive, send):
    """Serve one request; note its id first of all."""
    if scope["type"] != "http":
        return
    id_ = dict(scope["headers"])[b"x-id"].decode()
    note("started", id_)
    stream = scope["path"] == "/stream"
    body = b"" if stream else await _body(receive)
    said = f"{id_} {os.getpid()} {len(body)}".encode()
    head = [(b"content-length", str(len(said)).encode())] if not stream else []
    await asyncio.sleep(PAUSE)
    await send({"type": "http.response.start", "status": 200, "headers": head})
    if stream:
        for _ in range(PIECES):
            await send(_piece(b".", more=True))
            await asyncio.sleep(PAUSE)
        said = f"{id_} {os.getpid()} {len(await _body(receive))}".encode()
    await send(_piece(said, more=False))
    note("finished", id_)


async def _body(receive):
    """Hear the body to its end."""
    body = b""
    while True:
        event = await receive()
        if event["type"] != "http.request":
            return body
        body += event["body"]
        if not event["more_body"]:
            return body


def _piece(body, *, more):
    """Make a piece of an answer."""
    return {"type": "http.response.body", "body": body, "more_body": more}
