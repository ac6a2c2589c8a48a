"""A Socket.IO server that counts the events of each client, in its process's memory."""

import os

import socketio

server = socketio.AsyncServer(async_mode="asgi")
app = socketio.ASGIApp(server)
COUNTS: dict[str, int] = {}


@server.event
async def connect(sid, _environ):
    """Begin to count."""
    COUNTS[sid] = 0


@server.event
async def disconnect(sid, _reason):
    """Forget."""
    del COUNTS[sid]


@server.event
async def hit(sid):
    """Count one event; say which process counts."""
    COUNTS[sid] += 1
    return {"pid": os.getpid(), "count": COUNTS[sid]}


@server.event
async def leave(sid):
    """Part with the client; when both sides say goodbye, a last poll hangs for long."""
    await server.eio.disconnect(server.manager.eio_sid_from_sid(sid, "/"))
