#!/usr/bin/env bash
# The documentation of agent-check says that "down" may be followed by a description after
# a "#". HAProxy ignores "down#starting": the server stays UP with its last weight. It
# hears "down" and "down #starting", with a space, whose description then stands in its
# statistics.
#
# Needs HAProxy (Debian 12: haproxy 2.6.12).
# Expected: both spellings take the server down.
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
needs haproxy
with_packages <<'PYTHON'
import socket
import subprocess
import sys
import tempfile
import threading
import time

CONFIGURATION = """
global
  stats socket {stats}
defaults
  mode tcp
  timeout connect 5s
  timeout client 5s
  timeout server 5s
backend back
  server a 127.0.0.1:{server} weight 100 agent-check agent-port {agent} agent-inter 100ms
"""
word, asked = b"up ready 100%\n", 0


def agent(listener):
    global asked
    while True:
        connection, _ = listener.accept()
        connection.sendall(word)
        connection.close()
        asked += 1


def state(stats):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(stats)
        sock.sendall(b"show stat\n")
        text = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
    head, *rows = text.removeprefix("# ").splitlines()
    fields = next(row for row in rows if row.startswith("back,a,")).split(",")
    return fields[head.split(",").index("status")]


def after(said, stats):
    """Return the state after the agent has answered with *said* five times."""
    global word
    word, until = said, asked + 5
    while asked < until:
        time.sleep(0.02)
    time.sleep(0.2)
    return state(stats)


listener = socket.create_server(("127.0.0.1", 0))
server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=agent, args=(listener,), daemon=True).start()
WORDS = (b"down#starting\n", b"down #starting\n", b"up ready 100%\n", b"down\n")
with tempfile.TemporaryDirectory() as place:
    with open(f"{place}/cfg", "w") as file:
        file.write(CONFIGURATION.format(
            stats=f"{place}/stats", server=server.getsockname()[1],
            agent=listener.getsockname()[1],
        ))
    proxy = subprocess.Popen(
        ["haproxy", "-db", "-f", f"{place}/cfg"], stderr=subprocess.DEVNULL
    )
    try:
        while asked < 2:
            time.sleep(0.02)
        found = [after(said, f"{place}/stats") for said in WORDS]
    finally:
        proxy.terminate()
        proxy.wait()
said = subprocess.run(["haproxy", "-v"], capture_output=True, text=True).stdout
print(said.splitlines()[0])
for text, what in zip(WORDS, found):
    print(f"the agent answers {text!r}: {what}")
sys.exit([what.startswith("DOWN") for what in found] != [False, True, False, True])
PYTHON
