"""
Another host for the users: a network namespace with an address of its own.

Browsers and frameworks treat 127.0.0.1 as safe: cookies marked Secure are kept without
TLS, and some frameworks set other attributes. A user of a real service comes from
elsewhere, by HTTP or by HTTPS that ends in a proxy; so both are tried too.

Needs root, iproute2, HAProxy and openssl. Standard library only.
"""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

NAME = "maitred-users"
OURS, THEIRS = "10.88.77.1", "10.88.77.2"
INSIDE = ["ip", "netns", "exec", NAME]
"What goes before a command that is run on the other host."

PROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
frontend tls
  bind {ours}:{port} ssl crt {pem}
  http-request set-header X-Forwarded-Proto https
  option forwardfor
  default_backend service
backend service
  server one 127.0.0.1:{behind}
"""


def ip(words):
    """Run one command of iproute2."""
    subprocess.run(["ip", *words.split()], check=True)


def remove():
    """Remove what an earlier run has left."""
    subprocess.run(["ip", "netns", "delete", NAME], check=False, capture_output=True)
    subprocess.run(["ip", "link", "delete", NAME], check=False, capture_output=True)


@contextlib.contextmanager
def network():
    """Set up the other host, and take it down again."""
    remove()
    try:
        ip(f"netns add {NAME}")
        ip(f"link add {NAME} type veth peer name users netns {NAME}")
        ip(f"address add {OURS}/30 dev {NAME}")
        ip(f"link set {NAME} up")
        for words in ("link set lo up", f"address add {THEIRS}/30 dev users",
                      "link set users up"):  # fmt: skip
            subprocess.run([*INSIDE, "ip", *words.split()], check=True)
        yield
    finally:
        remove()


def free_port(address):
    """Return a port of *address* that nobody listens on."""
    with socket.create_server((address, 0)) as free:
        return free.getsockname()[1]


@contextlib.contextmanager
def https(behind):
    """Let HAProxy end TLS before port *behind*; give the URL for the users."""
    haproxy = shutil.which("haproxy") or "/usr/sbin/haproxy"
    with tempfile.TemporaryDirectory() as scratch:
        pem, key, config = (Path(scratch) / name for name in ("pem", "key", "cfg"))
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
             "-subj", f"/CN={OURS}", "-keyout", key, "-out", pem],
            check=True, capture_output=True,
        )  # fmt: skip
        pem.write_bytes(pem.read_bytes() + key.read_bytes())
        port = free_port(OURS)
        config.write_text(PROXY.format(ours=OURS, port=port, pem=pem, behind=behind))
        proxy = subprocess.Popen([haproxy, "-db", "-f", config])
        try:
            await_listener(port)
            yield f"https://{OURS}:{port}"
        finally:
            proxy.terminate()
            proxy.wait()


def await_listener(port):
    """Wait until somebody listens on *port* of our address."""
    end = time.monotonic() + 30
    while True:
        try:
            socket.create_connection((OURS, port), timeout=5).close()
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return
