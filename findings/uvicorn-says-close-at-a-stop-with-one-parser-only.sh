#!/usr/bin/env bash
# uvicorn is told to stop while a request is under way, answers it, and closes. With
# httptools the answer says "Connection: close" (RFC 9112 section 9.6); with h11 it does
# not, so that the client may write its next request into the connection that is closing.
#
# Expected: the header with both parsers, which uvicorn chooses by what is installed.
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
with_packages uvicorn==0.54.0 httptools==0.9.0 h11==0.16.0 <<'PYTHON'
import asyncio
import socket
import sys
import threading
from importlib.metadata import version

import uvicorn

entered = threading.Event()


async def app(scope, receive, send):
    entered.set()
    await asyncio.sleep(1)
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body"})


def says_close(parser):
    entered.clear()
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=parser, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    client = socket.create_connection(listener.getsockname(), 20)
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    entered.wait(20)
    server.should_exit = True
    answer = b"".join(iter(lambda: client.recv(65536), b""))
    thread.join()
    assert answer.startswith(b"HTTP/1.1 200"), answer
    return b"connection: close" in answer.lower()


print(", ".join(f"{n} {version(n)}" for n in ("uvicorn", "httptools", "h11")))
found = {parser: says_close(parser) for parser in ("httptools", "h11")}
for parser, close in found.items():
    print(f"{parser}: the last answer {'says' if close else 'does not say'} Connection: close")
sys.exit(found != {"httptools": True, "h11": False})
PYTHON
