"""
Streams without an end, of libraries that hear from uvicorn when it stops.

    /events   server-sent events of sse-starlette
    /hooked   ends when the function that replaced Server.handle_exit was called
    /asked    ends when the Server that handles TERM says so (signal.getsignal)
"""

import asyncio
import signal

import uvicorn
from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

CALLED = asyncio.Event()
theirs = uvicorn.Server.handle_exit


def handle_exit(server, sig, frame):
    """Note the end, then do what uvicorn does."""
    CALLED.set()
    theirs(server, sig, frame)


uvicorn.Server.handle_exit = handle_exit


async def events(request):
    """Send an event again and again."""

    async def again():
        while True:
            yield {"data": "x"}
            await asyncio.sleep(0.3)

    return EventSourceResponse(again())


async def hooked(request):
    """Wait for the call."""

    async def wait():
        yield b"begun\n"
        await CALLED.wait()
        yield b"over\n"

    return StreamingResponse(wait())


async def asked(request):
    """Look at the server, who is found as some libraries find it."""
    server = signal.getsignal(signal.SIGTERM).__self__
    assert isinstance(server, uvicorn.Server)

    async def look():
        yield b"begun\n"
        while not server.should_exit:
            await asyncio.sleep(0.05)
        yield b"over\n"

    return StreamingResponse(look())


async def pause(request):
    """Answer after a second."""
    await asyncio.sleep(1)
    return StreamingResponse(iter([b"done"]))


app = Starlette(
    routes=[
        Route("/events", events),
        Route("/hooked", hooked),
        Route("/asked", asked),
        Route("/pause", pause),
    ]
)
