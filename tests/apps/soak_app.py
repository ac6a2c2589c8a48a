"""
An application with sessions in its memory that keeps a ledger: for the long mixed load.

    /ask      reads the whole body, then answers at once, or after `x-pause` seconds
    /events   server-sent events, `x-events` of them, `x-pause` seconds apart
    /ws       a WebSocket: answers each message, which is an id

A session is named by the header `x-session`, which clients make, or by the cookie
`cart`, which the application makes. Each answer ends with one line:

    id  pid  session  requests of it that this process had  size and hash of the body

Each process has a file of its own in the directory ``LEDGER``, named by its pid. A
line is one write at the file's end: it is there after ``kill -9``. Its fields are the
time, what happened, the id, the session as the client named it, how many requests of it
this process had before, and the session that was made, or ``-``.
"""

import asyncio
import hashlib
import os
import secrets
import time
from collections import Counter
from http.cookies import SimpleCookie
from pathlib import Path

SESSIONS: Counter[str] = Counter()
_file = os.open(
    Path(os.environ["LEDGER"]) / str(os.getpid()),
    os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC,
    0o600,
)


def note(what, id_, session="-", before=0, made="-"):
    """Add a line."""
    line = f"{time.time():.6f} {what} {id_} {session} {before} {made}\n"
    os.write(_file, line.encode())


async def app(scope, receive, send):
    """Serve one request or WebSocket; note its id first of all."""
    if scope["type"] == "lifespan":
        return
    headers = dict(scope["headers"])
    id_ = headers[b"x-id"].decode()
    asked, session = _session(headers)
    note("started", id_, asked, SESSIONS[asked], session if session != asked else "-")
    SESSIONS[session] += 1
    cookie = [] if session == asked else [(b"set-cookie", f"cart={session}".encode())]
    if scope["type"] == "websocket":
        await _talk(id_, session, receive, send)
        return
    pause = float(headers.get(b"x-pause", b"0"))
    if scope["path"] == "/events":
        kind = [(b"content-type", b"text/event-stream")]
        await send(_start(kind + cookie))
        for number in range(int(headers[b"x-events"])):
            await send(_piece(f"data: {id_} {number}\n\n".encode(), more=True))
            await asyncio.sleep(pause)
        await send(_piece(_answer(id_, session, b""), more=False))
    else:
        if (body := await _body(receive)) is None:
            note("left", id_)
            return
        if pause:
            await asyncio.sleep(pause)
        said = _answer(id_, session, body)
        length = [(b"content-length", str(len(said)).encode())]
        await send(_start(length + cookie))
        await send(_piece(said, more=False))
    note("finished", id_)


def _session(headers):
    """Give the session as the client names it, and the one that the request gets."""
    if name := headers.get(b"x-session"):
        return name.decode(), name.decode()
    cookies = SimpleCookie(headers.get(b"cookie", b"").decode())
    asked = cookies["cart"].value if "cart" in cookies else "-"
    # A cart that nobody here remembers is gone: the client gets a new one.
    return asked, asked if SESSIONS[asked] else f"c{secrets.token_hex(8)}"


async def _talk(id_, session, receive, send):
    """Answer messages until the client leaves."""
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        note("started", event["text"])
        said = _answer(event["text"], session, b"").decode()
        await send({"type": "websocket.send", "text": said})
        note("finished", event["text"])
    note("finished", id_)


async def _body(receive):
    """Hear the body to its end; None if the client leaves before."""
    body = b""
    while True:
        event = await receive()
        if event["type"] != "http.request":
            return None
        body += event["body"]
        if not event["more_body"]:
            return body


def _answer(id_, session, body):
    size, digest = len(body), hashlib.sha256(body).hexdigest()[:16]
    said = f"{id_} {os.getpid()} {session} {SESSIONS[session]} {size} {digest}\n"
    return said.encode()


def _start(headers):
    return {"type": "http.response.start", "status": 200, "headers": headers}


def _piece(body, *, more):
    return {"type": "http.response.body", "body": body, "more_body": more}
