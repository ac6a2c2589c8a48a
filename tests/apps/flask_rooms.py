"""
Flask-SocketIO in threads, and the same events in python-socketio beside Flask's pages.

    app      a WSGI application: polling alone
    mounted  an ASGI application: polling and WebSocket
"""

import os

import socketio
from a2wsgi import WSGIMiddleware
from flask import Flask
from flask_socketio import SocketIO

COUNTS: dict[str, int] = {}


def count(sid):
    """Count one more, of this session and in this process."""
    COUNTS[sid] = COUNTS.get(sid, 0) + 1
    return f"process {os.getpid()} counted {COUNTS[sid]}"


def page():
    """Answer at once."""
    return "a page"


app = Flask(__name__)
app.add_url_rule("/", view_func=page)
threaded = SocketIO(app, async_mode="threading")


@threaded.on("count")
def on_count():
    """Count, in a thread."""
    from flask import request

    return count(request.sid)


pages = Flask(__name__)
pages.add_url_rule("/", view_func=page)
sio = socketio.AsyncServer(async_mode="asgi")
mounted = socketio.ASGIApp(sio, WSGIMiddleware(pages))


@sio.on("count")
async def on_count_async(sid):
    """Count, in the event loop."""
    return count(sid)
