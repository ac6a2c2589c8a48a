"""
What every Python contender serves: as little as an ASGI application can do.

The measured path ``/`` does not even look at its request. ``/large`` is 10 MB, ``/pid``
names the process in a header, and a WebSocket gets back what it sends.
"""

import os

BODY = b"hello, world\n"
LARGE = b"x" * 10_000_000
PLAIN = (b"content-type", b"text/plain")

ANSWERS = {
    "/": ([PLAIN, (b"content-length", b"%d" % len(BODY))], BODY),
    "/large": ([PLAIN, (b"content-length", b"%d" % len(LARGE))], LARGE),
    "/pid": (
        [PLAIN, (b"content-length", b"0"), (b"x-pid", b"%d" % os.getpid())],
        b"",
    ),
}


async def app(scope, receive, send):
    if scope["type"] == "http":
        headers, body = ANSWERS[scope["path"]]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
    elif scope["type"] == "websocket":
        await echo(receive, send)
    else:
        await lifespan(receive, send)


async def echo(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
