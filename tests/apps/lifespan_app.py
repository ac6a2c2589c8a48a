"""An application with a lifespan: prints when it begins and ends, and keeps state."""

import json


async def app(scope, receive, send):
    """Serve one scope."""
    if scope["type"] == "lifespan":
        await receive()
        print("application begins", flush=True)
        scope["state"]["greeting"] = "hello"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("application ends", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = json.dumps(scope.get("state")).encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def without(scope, receive, send):
    """Serve one scope, and know of no lifespan."""
    assert scope["type"] == "http"
    await app(scope, receive, send)
