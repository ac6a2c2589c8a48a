"""
An application that knows its users by a cookie of its own, and keeps them in memory.

    /...         counts the user's requests; says pid, slot and count
    /own         sets a cookie called maitred itself
    websocket    says the same, once, and closes
"""

import json
import os
import uuid
from http.cookies import SimpleCookie

BASKETS: dict[str, int] = {}


async def app(scope, receive, send):
    """Serve one scope."""
    if scope["type"] == "lifespan":
        return
    await receive()
    lines = [value.decode() for name, value in scope["headers"] if name == b"cookie"]
    cookies = SimpleCookie("; ".join(lines))
    user = cookies["user"].value if "user" in cookies else uuid.uuid4().hex
    BASKETS[user] = BASKETS.get(user, 0) + 1
    said = {
        "pid": os.getpid(),
        "slot": int(os.environ["MAITRED_SLOT"]),
        "count": BASKETS[user],
    }
    text = json.dumps(said)
    headers = [(b"set-cookie", b"user=%b" % user.encode())]
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept", "headers": headers})
        await send({"type": "websocket.send", "text": text})
        await send({"type": "websocket.close"})
        return
    if scope["path"] == "/own":
        headers.append((b"set-cookie", b"maitred=own"))
    headers.append((b"content-length", b"%d" % len(text)))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
