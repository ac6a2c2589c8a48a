"""
Records what real TLS clients say first, into client_hellos.json next to this file.

Run it to add a client or to take in a new version: ``python record_client_hellos.py``.
Each recording says which program sent it, and what it was told to send.
"""

import json
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

HERE = Path(__file__).parent
LONG_LIST = [f"protocol-{number:04}" for number in range(150)]


def record(client):
    """Give the bytes that *client*, called with a port, sends before it is answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        thread = threading.Thread(target=client, args=[port])
        thread.start()
        connection, _ = server.accept()
        data = b""
        with connection:
            connection.settimeout(1.0)
            try:
                while chunk := connection.recv(65536):
                    data += chunk
            except TimeoutError:
                pass
        thread.join()
    return data


def command(*words):
    """Make a client of a command line; ``{}`` stands for the port."""

    def run(port):
        subprocess.run(
            [word.replace("{}", str(port)) for word in words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )

    return run


def python(name, alpn=(), most=None):
    """Make a client of Python's own ssl."""

    def run(port):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if most is not None:
            context.maximum_version = most
        with socket.create_connection(("127.0.0.1", port)) as sock:
            try:
                context.wrap_socket(sock, server_hostname=name).close()
            except OSError:
                pass

    return run


def version(*words):
    """Give the first line that a program says about itself."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0].strip()


OPENSSL = ("openssl", "s_client", "-connect", "127.0.0.1:{}")
CURL = ("curl", "-sk", "--max-time", "5", "--noproxy", "*")
GNUTLS = ("gnutls-cli", "--insecure", "--port", "{}")
CHROMIUM = (
    "timeout", "30", "chromium", "--headless", "--no-sandbox", "--disable-gpu",
    "--disable-background-networking", "--dump-dom", "--no-proxy-server",
    "--host-resolver-rules=MAP a.example 127.0.0.1",
)  # fmt: skip
NODE = (
    "node", "-e",
    ("require('tls').connect({port: {}, servername: 'a.example', host: '127.0.0.1',"
     " ALPNProtocols: ['http/1.1']}).on('error', () => 0)"),
)  # fmt: skip
TLS = ssl.OPENSSL_VERSION
A = "a.example"

# Name: what sent it, client, the name it was told, the protocols it was told.
CLIENTS = {
    "openssl": ("openssl", command(*OPENSSL, "-servername", A), A, []),
    "openssl, mixed case": (
        "openssl", command(*OPENSSL, "-servername", "A.Example."), A, [],
    ),
    "openssl, no name": ("openssl", command(*OPENSSL, "-noservername"), "", []),
    "openssl, protocols": (
        "openssl",
        command(*OPENSSL, "-servername", A, "-alpn", "h2,http/1.1"),
        A, ["h2", "http/1.1"],
    ),
    "openssl, 1.2": (
        "openssl", command(*OPENSSL, "-servername", A, "-tls1_2"), A, [],
    ),
    "openssl, records of 512": (
        "openssl",
        command(*OPENSSL, "-servername", A, "-max_send_frag", "512",
                "-alpn", ",".join(LONG_LIST)),
        A, LONG_LIST,
    ),
    "curl": (
        "curl",
        command(*CURL, "--resolve", "a.example:{}:127.0.0.1", "https://a.example:{}/"),
        A, ["h2", "http/1.1"],
    ),
    "curl, 1.1": (
        "curl",
        command(*CURL, "--http1.1", "--resolve", "a.example:{}:127.0.0.1",
                "https://a.example:{}/"),
        A, ["http/1.1"],
    ),
    "curl, address": ("curl", command(*CURL, "https://127.0.0.1:{}/"), "",
                      ["h2", "http/1.1"]),
    "gnutls": (
        "gnutls", command(*GNUTLS, "--sni-hostname", A, "127.0.0.1"), A, [],
    ),
    "gnutls, no name": (
        "gnutls", command(*GNUTLS, "--disable-sni", "127.0.0.1"), "", [],
    ),
    "gnutls, protocols": (
        "gnutls",
        command(*GNUTLS, "--sni-hostname", A, "--alpn", "http/1.1", "127.0.0.1"),
        A, ["http/1.1"],
    ),
    "gnutls, 1.2": (
        "gnutls",
        command(*GNUTLS, "--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2",
                "--sni-hostname", A, "127.0.0.1"),
        A, [],
    ),
    # GREASE, its extensions in another order each time, an encrypted hello that is
    # only noise, and post-quantum keys.
    "chromium": (
        "chromium", command(*CHROMIUM, "https://a.example:{}/"),
        A, ["h2", "http/1.1"],
    ),
    "chromium, again": (
        "chromium", command(*CHROMIUM, "https://a.example:{}/"),
        A, ["h2", "http/1.1"],
    ),
    "node": ("node", command(*NODE), A, ["http/1.1"]),
    "python": ("python", python(A), A, []),
    "python, no name": ("python", python(None), "", []),
    "python, protocols": (
        "python", python("b.example", ["http/1.1"]), "b.example", ["http/1.1"],
    ),
    "python, not ascii": (
        "python", python("bücher.example"), "xn--bcher-kva.example", [],
    ),
    "python, 1.2": ("python", python(A, most=ssl.TLSVersion.TLSv1_2), A, []),
    "python, larger than a segment": ("python", python(A, LONG_LIST), A, LONG_LIST),
}  # fmt: skip


def main():
    """Record every client."""
    programs = {
        "openssl": version("openssl", "version"),
        "curl": version("curl", "--version"),
        "gnutls": version("gnutls-cli", "--version"),
        "chromium": version("chromium", "--version"),
        "node": "node " + version("node", "--version"),
        "python": f"Python {sys.version.split()[0]} ssl, {TLS}",
    }
    found = {}
    for name, (program, client, sni, alpn) in CLIENTS.items():
        data = record(client)
        assert data, name
        found[name] = {
            "from": programs[program],
            "sni": sni,
            "alpn": alpn,
            "hello": data.hex(),
        }
    text = json.dumps(found, indent=1, ensure_ascii=False)
    (HERE / "client_hellos.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
