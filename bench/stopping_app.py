"""
What bench/stops.py has served: ``app`` by ASGI, ``application`` by WSGI.

``/wait/SECONDS`` answers so late, ``/stream`` and ``/sse`` (sse-starlette's) never end
by themselves, and a WebSocket is accepted and then left alone.
"""

import asyncio
import os
import time

from sse_starlette import EventSourceResponse

PID = str(os.getpid())
PLAIN = [(b"content-type", b"text/plain"), (b"x-pid", PID.encode())]
TICK = {"type": "http.response.body", "body": b"tick\n", "more_body": True}
EVERY = 0.1
"Seconds between two lines of a stream."


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
    elif scope["type"] == "lifespan":
        while (kind := (await receive())["type"]) != "lifespan.shutdown":
            await send({"type": f"{kind}.complete"})
        await send({"type": f"{kind}.complete"})
    elif scope["path"] == "/sse":
        await EventSourceResponse(events())(scope, receive, send)
    elif scope["path"] == "/stream":
        await stream(receive, send)
    else:
        await asyncio.sleep(seconds_of(scope["path"]))
        await send({"type": "http.response.start", "status": 200, "headers": PLAIN})
        await send({"type": "http.response.body", "body": b"done\n"})


async def events():
    while True:
        yield {"data": "tick"}
        await asyncio.sleep(EVERY)


async def stream(receive, send):
    """Send lines until the server says that the client is gone, as Starlette does."""
    await receive()
    gone = asyncio.ensure_future(receive())
    await send({"type": "http.response.start", "status": 200, "headers": PLAIN})
    try:
        while not gone.done():
            await send(
                {"type": "http.response.body", "body": b"tick\n", "more_body": True}
            )
            await asyncio.sleep(EVERY)
        await send({"type": "http.response.body"})
    finally:
        gone.cancel()


def application(environ, start_response):
    path = environ["PATH_INFO"]
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Pid", PID)])
    if path == "/stream":
        return lines()
    time.sleep(seconds_of(path))
    return [b"done\n"]


def lines():
    while True:
        yield b"tick\n"
        time.sleep(EVERY)


def seconds_of(path):
    return float(path.removeprefix("/wait/")) if path.startswith("/wait/") else 0.0
