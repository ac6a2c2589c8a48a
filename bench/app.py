"""
What every Python contender serves: as little as an ASGI application can do.

The measured path ``/`` does not even look at its request. ``/large`` is 10 MB, and a
WebSocket gets back what it sends. ``/pid`` says in its headers which process this is
and how many WebSockets are open in it.
"""

import os

BODY = b"hello, world\n"
LARGE = b"x" * 10_000_000
PLAIN = (b"content-type", b"text/plain")

ANSWERS = {
    "/": ([PLAIN, (b"content-length", b"%d" % len(BODY))], BODY),
    "/large": ([PLAIN, (b"content-length", b"%d" % len(LARGE))], LARGE),
}
PID = [(b"content-length", b"0"), (b"x-pid", b"%d" % os.getpid())]
opened = set()


async def app(scope, receive, send):
    if scope["type"] == "http":
        headers, body = ANSWERS.get(scope["path"]) or pid()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
    elif scope["type"] == "websocket":
        opened.add(send)
        try:
            await echo(receive, send)
        finally:
            opened.remove(send)
    else:
        await lifespan(receive, send)


def pid():
    return [*PID, (b"x-open", b"%d" % len(opened))], b""


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
