"""An application that a function makes; it says what it knows of its process."""

import json
import os
from pathlib import Path

from probe import app as probe


def make():
    """Make the application."""
    return app


def fail():
    """Make none."""
    raise RuntimeError("no application today")


def leave():
    """Make none either."""
    raise SystemExit("nobody has paid")


async def app(scope, receive, send):
    """Answer with what this process is and has; the rest is the probe's."""
    if scope["type"] != "http" or scope["path"] != "/process":
        await probe(scope, receive, send)
        return
    lines = Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    said = {
        "uids": [int(n) for n in status["Uid"].split()],
        "gids": [int(n) for n in status["Gid"].split()],
        "groups": sorted(os.getgroups()),
        "no_new_privs": status["NoNewPrivs"].strip(),
        "umask": status["Umask"].strip(),
        "root_path": scope["root_path"],
        "path": scope["path"],
        "told": os.environ.get("TOLD"),
        "kept": os.environ.get("KEPT"),
    }
    body = json.dumps(said).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
