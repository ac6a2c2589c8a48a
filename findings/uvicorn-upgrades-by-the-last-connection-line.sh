#!/usr/bin/env bash
# Two Connection lines are one list (RFC 9110 section 5.3), so that "upgrade" in the first
# and "keep-alive" in the second asks for a WebSocket. uvicorn looks at the last line only:
# the application is given an ordinary GET. In the other order it is given a WebSocket.
#
# Expected: 101 for both orders.
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
with_packages uvicorn==0.54.0 httptools==0.7.1 websockets==15.0.1 h11==0.16.0 <<'PYTHON'
import socket
import sys
import threading
from importlib.metadata import version

import uvicorn

LINES = ("Connection: Upgrade", "Connection: keep-alive")
REQUEST = """GET / HTTP/1.1
Host: x
Upgrade: websocket
{}
{}
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==

"""


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})
    else:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})


def statuses(parser):
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=parser, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    found = []
    for lines in (LINES, LINES[::-1]):
        client = socket.create_connection(listener.getsockname())
        client.sendall(REQUEST.format(*lines).replace("\n", "\r\n").encode())
        found.append(int(client.recv(65536).split()[1]))
        client.close()
    server.should_exit = True
    thread.join()
    return found


print(", ".join(f"{n} {version(n)}" for n in ("uvicorn", "httptools", "h11")))
found = {parser: statuses(parser) for parser in ("httptools", "h11")}
for parser, (first, second) in found.items():
    print(f"{parser}: upgrade in the first line {first}, in the second {second}")
sys.exit(set(map(tuple, found.values())) != {(200, 101)})
PYTHON
