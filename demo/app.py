"""
A small stateful application: it counts, for each session, in this process's memory.

    POST /session   makes a session and names it in the response header x-session
    POST /count     counts one up in the session that the request header x-session names

Every worker has its own SESSIONS. A request that reaches another worker than the one
that made its session is answered with 404, as frameworks with sessions in memory do.
"""

import json
import os
import uuid

SESSIONS = {}


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError  # says that there is no lifespan, and no WebSocket
    if scope["path"] == "/session":
        name = uuid.uuid4().hex
        SESSIONS[name] = 0
    else:
        name = dict(scope["headers"]).get(b"x-session", b"").decode()
    status = 200 if name in SESSIONS else 404
    if status == 200 and scope["path"] == "/count":
        SESSIONS[name] += 1
    body = json.dumps({"pid": os.getpid(), "count": SESSIONS.get(name)}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-session", name.encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
