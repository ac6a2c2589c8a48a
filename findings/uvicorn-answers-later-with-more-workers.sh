#!/usr/bin/env bash
# uvicorn on asyncio answers in two writes: at once with one worker, after 40 ms (a delayed
# ACK) with two. One worker lets asyncio open the listener, whose sockets are labelled as
# TCP; several inherit one that uvicorn made without a label, and asyncio sets TCP_NODELAY
# by the label alone. uvloop sets it always.
#
# Expected: the number of workers changes no socket option.
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
with_packages uvicorn==0.54.0 h11==0.16.0 <<'PYTHON'
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

APP = """
async def app(scope, receive, send):
    headers = [(b"content-length", b"4")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ab", "more_body": True})
    await send({"type": "http.response.body", "body": b"cd"})
"""


def connect(port):
    deadline = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 20)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def seconds_of_an_answer(client):
    began = time.perf_counter()
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"abcd"):
        answer += client.recv(65536)
    return time.perf_counter() - began


def median(workers):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as home:
        Path(home, "two.py").write_text(APP)
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "two:app", "--workers", str(workers),
             "--port", str(port), "--loop", "asyncio", "--http", "h11", "--lifespan", "off",
             "--log-level", "error"],
            cwd=home,
        )
        try:
            with connect(port) as client:
                return statistics.median(seconds_of_an_answer(client) for _ in range(40))
        finally:
            server.terminate()
            server.wait()


print(f"uvicorn {version('uvicorn')}, Python {sys.version.split()[0]}, Linux {os.uname().release}")
found = {workers: 1000 * median(workers) for workers in (1, 2)}
for workers, milliseconds in found.items():
    print(f"--workers {workers}: an answer in two writes takes {milliseconds:.1f} ms")
sys.exit(not found[1] < 20 < 35 < found[2])
PYTHON
