#!/usr/bin/env bash
# A kept connection ends after a whole request was read and before a byte of its answer.
# aiohttp sends a PUT again by itself, on a new connection, and its body with it; the
# caller is told nothing. It does not repeat a POST, which curl and Chromium do.
#
# Expected: a client repeats no request with a body that the server may have run.
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
with_packages aiohttp==3.14.5 <<'PYTHON'
import asyncio
import sys

import aiohttp


async def times_received(method):
    """Answer the first request, close after reading the second; count all of them."""
    bodies = []

    async def serve(reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            if b"expect" in head.lower():
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            bodies.append(await reader.readexactly(5))
            if len(bodies) == 2:
                break
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def serve_quietly(reader, writer):
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve_quietly, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    outcome = "200"
    async with aiohttp.ClientSession() as http:
        async with http.request(method, url, data=b"first"):
            pass
        try:
            async with http.request(method, url, data=b"again") as answer:
                outcome = str(answer.status)
        except aiohttp.ClientError as exc:
            outcome = type(exc).__name__
    server.close()
    return bodies.count(b"again"), outcome


found = {method: asyncio.run(times_received(method)) for method in ("PUT", "POST")}
print(f"aiohttp {aiohttp.__version__}")
for method, (times, outcome) in found.items():
    print(f"the second {method} reaches the server {times} times, and ends as {outcome}")
sys.exit(found != {"PUT": (2, "200"), "POST": (1, "ServerDisconnectedError")})
PYTHON
