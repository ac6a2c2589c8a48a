"""TLS for tests: a certificate authority, and clients that trust it."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

from driver import Maitred
from raw_http import Connection

NAMES = {
    "first": ["a.example", "localhost", "127.0.0.1"],
    "second": ["b.example", "*.b.example"],
    "third": [f"t{number}.example" for number in range(16)],
}
ALL = [name for names in NAMES.values() for name in names]


class Pki:
    """A certificate authority, and files with what it signed."""

    def __init__(self, directory: Path) -> None:
        """Write the authority, and certificates for all of NAMES, to *directory*."""
        self.directory = directory
        self.ca = trustme.CA()
        self.ca_file = str(directory / "ca.pem")
        self.ca.cert_pem.write_to_path(self.ca_file)
        self.options = [
            word for name, hosts in NAMES.items() for word in self.issue(name, hosts)
        ]

    def issue(self, name: str, hosts: list[str]) -> list[str]:
        """Write certificate and key for *hosts*; return the options that use them."""
        issued = self.ca.issue_cert(*hosts)
        certfile = self.directory / f"{name}.pem"
        keyfile = self.directory / f"{name}.key"
        certfile.write_bytes(b"".join(p.bytes() for p in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(keyfile)
        return ["--certfile", str(certfile), "--keyfile", str(keyfile)]

    def context(self, *alpn: str) -> ssl.SSLContext:
        """Return what a client needs that trusts this authority."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


def secure(
    server: Maitred, pki: Pki, name: str | None = "a.example", *alpn: str
) -> Connection:
    """Connect with TLS, asking for *name*; the caller closes the socket."""
    context = pki.context(*alpn)
    if name is None:
        context.check_hostname = False
    sock = server.connect()
    try:
        return Connection(context.wrap_socket(sock, server_hostname=name))
    except BaseException:
        sock.close()
        raise
