"""
The probe, of which a request can stop the event loop.

    /stuck?for=F    does nothing at all until the file F exists, then answers
"""

import os
import time
from urllib.parse import parse_qs

import probe


def wait_without_awaiting(path):
    """Keep the event loop from turning until *path* exists."""
    while not os.path.exists(path):
        time.sleep(0.01)


async def app(scope, receive, send):
    """Serve one scope."""
    if scope["type"] == "http" and scope["path"] == "/stuck":
        wait_without_awaiting(parse_qs(scope["query_string"].decode())["for"][0])
    await probe.app(scope, receive, send)
