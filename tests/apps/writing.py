"""
An application that tries what a request asks for, and says what came of it.

    /?open=PATH       write a file
    /?remove=PATH     remove one
    /?move=PATH&to=P  move one
    /?link=PATH       make a symbolic link to /etc
    /?truncate=PATH   truncate one
    /?read=PATH       read one
    /?run=COMMAND     run a program
"""

import json
import os
import subprocess
from pathlib import Path
from urllib.parse import parse_qsl


def attempt(what):
    """Do one thing; give the text to answer with."""
    (verb, path), *rest = what
    match verb:
        case "open":
            Path(path).write_text("written")
        case "remove":
            Path(path).unlink()
        case "move":
            Path(path).rename(rest[0][1])
        case "link":
            Path(path).symlink_to("/etc")
        case "truncate":
            os.truncate(path, 0)
        case "read":
            return Path(path).read_text()
        case "run":
            subprocess.run(["sh", "-c", path], check=True, stderr=subprocess.DEVNULL)
    return "done"


async def app(scope, receive, send):
    """Serve one scope."""
    if scope["type"] != "http":
        return
    try:
        said = attempt(parse_qsl(scope["query_string"].decode()))
    except (OSError, subprocess.CalledProcessError) as exc:
        said = type(exc).__name__
    body = json.dumps(said).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
