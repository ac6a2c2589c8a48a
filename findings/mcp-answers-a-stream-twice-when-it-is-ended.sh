#!/usr/bin/env bash
# The MCP SDK serves its SSE stream by a Starlette endpoint that awaits the stream and then
# returns an empty Response of its own. A client that leaves is not there to see it; but
# when the *server* ends the stream, at every stop with an open session, the second answer
# is sent into the first: one traceback for each session, in a service that stopped well.
#
# Expected: a stop with open streams is quiet, as it is with sse-starlette alone.
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
with_packages mcp==2.3.0 uvicorn==0.54.0 sse-starlette==3.7.0 starlette==1.10.0 <<'PYTHON'
import os
import signal
import socket
import subprocess
import sys
import tempfile
from importlib.metadata import version

APPLICATION = """
from mcp.server.mcpserver import MCPServer
app = MCPServer("Notes").sse_app()
"""
listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
with tempfile.TemporaryDirectory() as place:
    with open(f"{place}/application.py", "w") as file:
        file.write(APPLICATION)
    command = ["-m", "uvicorn", "application:app", "--fd", str(listener.fileno())]
    server = subprocess.Popen(
        [sys.executable, *command],
        cwd=place, pass_fds=[listener.fileno()], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(f"GET /sse HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    stream = b""
    while b"session_id" not in stream:
        stream += client.recv(65536)
    server.send_signal(signal.SIGTERM)
    said, _ = server.communicate(timeout=60)
print(", ".join(f"{n} {version(n)}" for n in ("mcp", "sse-starlette", "uvicorn")))
errors = [line for line in said.splitlines() if line.startswith("RuntimeError")]
print(f"exit code {server.returncode}; errors at the stop: {errors}")
sys.exit(not (len(errors) == 1 and "http.response.start" in errors[0]))
PYTHON
