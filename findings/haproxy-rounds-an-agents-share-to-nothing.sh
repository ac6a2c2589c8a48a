#!/usr/bin/env bash
# An agent may say "75%": that share of the server's weight. HAProxy reckons in whole
# numbers from the configured weight, which is 1 unless given: 75 % of 1 is 0, and a
# server of weight 0 is sent nobody. A single server that says it has three quarters of
# its capacity is answered 503 for, while HAProxy calls it UP.
#
# Needs HAProxy (Debian 12: haproxy 2.6.12).
# Expected: any share above 0 leaves a server some of the traffic.
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
needs haproxy
with_packages <<'PYTHON'
import http.server
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

CONFIGURATION = """
global
  stats socket {stats}
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
frontend front
  bind 127.0.0.1:{front}
  default_backend back
backend back
  balance leastconn
  server a 127.0.0.1:{server} {weight} check agent-check agent-port {agent} agent-inter 200ms
"""


class Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def agent(listener, asked):
    while True:
        connection, _ = listener.accept()
        connection.sendall(b"up ready 75%\n")
        connection.close()
        asked.append(1)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def column(stats, name):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(stats)
        sock.sendall(b"show stat\n")
        text = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
    head, *rows = text.removeprefix("# ").splitlines()
    row = next(r for r in rows if r.startswith("back,a,"))
    return row.split(",")[head.split(",").index(name)]


def trial(weight):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    listener = socket.create_server(("127.0.0.1", 0))
    asked = []
    threading.Thread(target=agent, args=(listener, asked), daemon=True).start()
    with tempfile.TemporaryDirectory() as place:
        stats, front = f"{place}/stats", free_port()
        with open(f"{place}/cfg", "w") as file:
            file.write(CONFIGURATION.format(
                stats=stats, front=front, server=server.server_port, weight=weight,
                agent=listener.getsockname()[1],
            ))
        proxy = subprocess.Popen(["haproxy", "-db", "-f", f"{place}/cfg"])
        try:
            while len(asked) < 4:
                time.sleep(0.05)
            try:
                status = urllib.request.urlopen(f"http://127.0.0.1:{front}/").status
            except urllib.error.HTTPError as exc:
                status = exc.code
            return status, column(stats, "weight"), column(stats, "status")
        finally:
            proxy.terminate()
            proxy.wait()
            server.shutdown()


said = subprocess.run(["haproxy", "-v"], capture_output=True, text=True).stdout
print(said.splitlines()[0])
found = {weight: trial(weight) for weight in ("", "weight 100")}
for weight, (status, reckoned, state) in found.items():
    print(f"{weight or 'no weight given'}: {state}, weight {reckoned}, answered {status}")
sys.exit(found != {"": (503, "0", "UP"), "weight 100": (200, "75", "UP")})
PYTHON
