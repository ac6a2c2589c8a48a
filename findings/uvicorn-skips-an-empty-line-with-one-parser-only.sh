#!/usr/bin/env bash
# A server should ignore at least one empty line before the request line (RFC 9112
# section 2.2): some clients send one after a body. uvicorn with httptools does; with h11
# it answers 400. Which of them serves is decided by whether httptools is installed.
#
# Expected: 200 with both.
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
with_packages uvicorn==0.54.0 httptools==0.9.0 h11==0.16.0 <<'PYTHON'
import socket
import sys
import threading
from importlib.metadata import version

import uvicorn


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body"})


def status(parser):
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=parser, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    with socket.create_connection(listener.getsockname(), 20) as client:
        client.sendall(b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
        found = int(client.recv(65536).split()[1])
    server.should_exit = True
    thread.join()
    return found


print(", ".join(f"{n} {version(n)}" for n in ("uvicorn", "httptools", "h11")))
found = {parser: status(parser) for parser in ("httptools", "h11")}
print(", ".join(f"{parser}: {number}" for parser, number in found.items()))
sys.exit(found != {"httptools": 200, "h11": 400})
PYTHON
