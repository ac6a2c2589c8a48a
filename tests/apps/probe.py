"""
The probe: an application that says which process answers, and what it sees.

    /...         pid, slot, client and server address, method, path, query, body length
    /session     counts requests by header ``x-session``, or ``?header=``, in this
                 process's memory
    /learn       makes a session: response header ``x-session`` and a cookie
    /wait?for=F  makes the file F.begun, answers when F exists
    /drip?for=F  begins an answer, ends it when the file F exists
    /stream?n=N  sends N chunks
    /early       answers before it has heard the body
    /hash        says the SHA-256 of the body
    /fds         what this process has open
    /grandchild  the numbers of what a process has open that this one starts, and the
                 signals that it blocks and ignores
    websocket    echoes, with the pid in front; tells who the client is if asked
"""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from subprocess import PIPE
from urllib.parse import parse_qs

SESSIONS: dict[str, int] = {}


async def app(scope, receive, send):
    """Serve one scope."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await echo(scope, receive, send)
    else:
        await answer(scope, receive, send)


async def lifespan(receive, send):
    """Start and stop."""
    while (event := (await receive())["type"]) != "lifespan.shutdown":
        await send({"type": f"{event}.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def echo(scope, receive, send):
    """Echo every message, with our pid in front."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        said = scope["client"][0] if message["text"] == "client?" else message["text"]
        await send({"type": "websocket.send", "text": f"{os.getpid()} {said}"})


async def whole_body(receive):
    """Read a request's body to its end."""
    body = b""
    while (event := await receive())["type"] == "http.request":
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    return body


async def answer(scope, receive, send):
    """Answer one request."""
    body = b"" if scope["path"] == "/early" else await whole_body(receive)
    query = {k: v[0] for k, v in parse_qs(scope["query_string"].decode()).items()}
    headers = {k.decode(): v.decode("latin1") for k, v in scope["headers"]}
    extra: list[tuple[bytes, bytes]] = []
    said = {"pid": os.getpid()}
    match scope["path"]:
        case "/session":
            name = headers[query.get("header", "x-session")]
            if name in SESSIONS or "new" in query:
                SESSIONS[name] = SESSIONS.get(name, 0) + 1
            said["count"] = SESSIONS.get(name)
        case "/learn":
            name = uuid.uuid4().hex
            SESSIONS[name] = 0
            extra = [
                (query.get("header", "x-session").encode(), name.encode()),
                (b"set-cookie", b"sid=%b" % name.encode()),
            ]
            said["name"] = name
        case "/wait":
            Path(query["for"] + ".begun").touch()
            await existence(query["for"])
        case "/drip":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send(
                {"type": "http.response.body", "body": b"drip", "more_body": True}
            )
            await existence(query["for"])
            await send({"type": "http.response.body", "body": b"drop"})
            return
        case "/stream":
            await stream(send, int(query["n"]))
            return
        case "/hash":
            said["sha256"] = hashlib.sha256(body).hexdigest()
        case "/fds":
            said["fds"] = open_descriptors()
        case "/grandchild":
            said |= inherited()
        case _:
            said |= {
                "client": scope["client"],
                "server": scope["server"],
                "method": scope["method"],
                "version": scope["http_version"],
                "path": scope["path"],
                "query": scope["query_string"].decode(),
                "body": len(body),
                "slot": os.environ.get("MAITRED_SLOT"),
                "sessions": [
                    v.decode() for k, v in scope["headers"] if k == b"x-session"
                ],
                "scheme": scope["scheme"],
                "cwd": os.getcwd(),
            }
    content = json.dumps(said).encode()
    extra += [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(content)),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": extra})
    await send({"type": "http.response.body", "body": content})


async def existence(path):
    """Wait until there is a file at *path*."""
    while not os.path.exists(path):
        await asyncio.sleep(0.01)


async def stream(send, chunks):
    """Send *chunks* chunks of a response."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(chunks):
        await send(
            {"type": "http.response.body", "body": b"%d\n" % number, "more_body": True}
        )
        await asyncio.sleep(0)
    await send({"type": "http.response.body"})


def inherited():
    """Start a process with all it may inherit; say what it has."""
    listing = (
        "import os; print(*sorted(os.listdir('/proc/self/fd'))[:-1]);"
        " print(open('/proc/self/status').read())"
    )
    done = subprocess.run(
        [sys.executable, "-c", listing], close_fds=False, stdout=PIPE, check=True
    )
    numbers, *status = done.stdout.decode().splitlines()
    masks = dict(line.split(":\t", 1) for line in status if line.startswith("Sig"))
    return {"fds": numbers.split(), "signals": masks}


def open_descriptors():
    """Say what this process has open."""
    found = []
    for fd in Path("/proc/self/fd").iterdir():
        try:
            found.append(os.readlink(fd).split(":")[0])
        except OSError:
            continue
    return sorted(found)
