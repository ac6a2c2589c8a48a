#!/usr/bin/env bash
# A request with two Cookie lines, as an HTTP/2 gateway may pass them on, reaches a WSGI
# application through uvicorn and a2wsgi as one value joined by a comma. Cookies are
# separated by semicolons (RFC 6265 section 4.2.1), and RFC 9113 section 8.2.3 names "; "
# for just this case: Werkzeug then reads one cookie whose value is the rest.
#
# Expected: HTTP_COOKIE is "a=1; b=2".
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
with_packages uvicorn==0.54.0 httptools==0.7.1 a2wsgi==1.10.10 werkzeug==3.1.3 <<'PYTHON'
import json
import socket
import sys
import threading
from importlib.metadata import version

import a2wsgi
import uvicorn
import werkzeug


@werkzeug.Request.application
def app(request):
    said = {"line": request.environ["HTTP_COOKIE"], "cookies": dict(request.cookies)}
    return werkzeug.Response(json.dumps(said))


listener = socket.create_server(("127.0.0.1", 0))
config = uvicorn.Config(
    a2wsgi.WSGIMiddleware(app), http="httptools", log_level="error", lifespan="off"
)
server = uvicorn.Server(config)
threading.Thread(target=server.run, args=([listener],), daemon=True).start()
client = socket.create_connection(listener.getsockname())
client.sendall(
    b"GET / HTTP/1.1\r\nHost: x\r\nCookie: a=1\r\nCookie: b=2\r\nConnection: close\r\n\r\n"
)
answer = b"".join(iter(lambda: client.recv(65536), b""))
said = json.loads(answer.partition(b"\r\n\r\n")[2])
server.should_exit = True
print(", ".join(f"{n} {version(n)}" for n in ("uvicorn", "a2wsgi", "werkzeug")))
print(f"HTTP_COOKIE: {said['line']!r}; what Werkzeug reads: {said['cookies']}")
sys.exit(said != {"line": "a=1,b=2", "cookies": {"a": "1,b=2"}})
PYTHON
