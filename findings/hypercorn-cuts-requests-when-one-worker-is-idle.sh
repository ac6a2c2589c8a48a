#!/usr/bin/env bash
# hypercorn with two workers is sent TERM while one of them has a request that takes a
# second, and the other nothing. The idle worker ends at once; the main process sees that
# a worker is gone and ends the rest with a plain TERM, which kills them. The client reads
# an end of file, although the grace is 20 seconds and hypercorn exits with 0. With one
# worker the same request is answered.
#
# Expected: a request under way is finished within --graceful-timeout, as with one worker.
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
with_packages hypercorn==0.18.0 <<'PYTHON'
import socket
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

APP = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
    await asyncio.sleep(1 if scope["path"] == "/slow" else 0)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"done"})
"""


def ask(port, path):
    client = socket.create_connection(("127.0.0.1", port), 20)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    return client


def wait_for(port):
    while True:
        try:
            with ask(port, "/") as client:
                if client.recv(1):
                    return
        except OSError:
            time.sleep(0.1)


def outcome(workers):
    with socket.create_server(("127.0.0.1", 0)) as free, tempfile.TemporaryDirectory() as home:
        port = free.getsockname()[1]
        free.close()
        Path(home, "slow.py").write_text(APP)
        server = subprocess.Popen(
            [sys.executable, "-m", "hypercorn", "slow:app", "--workers", str(workers),
             "--bind", f"127.0.0.1:{port}", "--graceful-timeout", "20"],
            cwd=home, stderr=subprocess.DEVNULL,
        )
        wait_for(port)
        # Both workers are up: the second may be later than the first by a second.
        time.sleep(2)
        client = ask(port, "/slow")
        time.sleep(0.3)
        server.terminate()
        answer = b"".join(iter(lambda: client.recv(65536), b""))
        return answer[9:12].decode() or "end of file", server.wait(20)


print(f"hypercorn {version('hypercorn')}, Python {sys.version.split()[0]}")
found = {workers: outcome(workers) for workers in (1, 2)}
for workers, (read, code) in found.items():
    print(f"{workers} workers: the client reads {read}, hypercorn exits with {code}")
sys.exit(found != {1: ("200", 0), 2: ("end of file", 0)})
PYTHON
