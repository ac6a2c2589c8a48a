"""
Certificates: which of them is shown to whom, and what makes a pair of files unusable.

The names stand in each certificate itself (subjectAltName); who asks for a name that
none has, or for no name at all, is shown the first. The master reads the files to find
mistakes at the start, each worker to use them, so that a reload uses new ones.

Invariant: a context that exists works; everything else was refused with a sentence that
names the file.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Sequence
from typing import Any, Final, NoReturn

from maitred.errors import UsageError
from maitred.routing.tls import normal_name

PROTOCOLS: Final = ["http/1.1"]
"What is spoken inside TLS, as ALPN calls it."

SEQUENCE: Final = 0x30
OCTETS: Final = 0x04
EXTENSIONS: Final = 0xA3  # of a certificate: [3] (RFC 5280 section 4.1)
DNS_NAME: Final = 0x82  # of a subjectAltName: [2] (RFC 5280 section 4.2.1.6)
ALT_NAMES: Final = bytes.fromhex("0603551d11")  # OBJECT IDENTIFIER 2.5.29.17
LONG_LENGTH: Final = 0x80
CERTIFICATE: Final = re.compile(
    r"(?s)-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----"
)


class NamedSSLObject(ssl.SSLObject):
    """A server's TLS connection that knows which name its client asked for."""

    sni = b""


def server_context(certfiles: Sequence[str], keyfiles: Sequence[str]) -> ssl.SSLContext:
    """
    Return a context that serves all certificates, each to clients that ask for it.

    A client that asks for no name, or for one that no certificate has, gets the first.

    Args:
        certfiles: PEM files, each a certificate and what else its chain needs.
        keyfiles: PEM files with the key of each, in the same order.

    Raises:
        UsageError: A file cannot be used, or no client would ever get its certificate.
    """
    contexts = [
        _context(certfile, keyfile)
        for certfile, keyfile in zip(certfiles, keyfiles, strict=True)
    ]
    by_name: dict[bytes, ssl.SSLContext] = {}
    for certfile, context in zip(certfiles, contexts, strict=True):
        names = _names_in(certfile)
        # The first needs no name, because whoever asks for no known one is shown it.
        if not names and context is not contexts[0]:
            raise UsageError(
                f"--certfile {certfile}: the certificate has no DNS name"
                " (subjectAltName), so nobody would be shown it; only the first may"
                " have none"
            )
        for name in names:
            by_name.setdefault(name, context)

    def choose(connection: Any, name: str | None, _context: ssl.SSLContext) -> None:
        """Store the *name* that the client asks for, and choose its certificate."""
        sni = normal_name(name.encode()) if name else None
        if sni is not None:
            connection.sni = sni
            connection.context = choice(by_name, sni) or contexts[0]

    contexts[0].sni_callback = choose
    return contexts[0]


def choice(by_name: dict[bytes, ssl.SSLContext], name: bytes) -> ssl.SSLContext | None:
    """
    Return the context for *name*; None if no certificate has it.

    A ``*`` in a certificate stands for the first label of a name (RFC 9525).
    """
    _, dot, rest = name.partition(b".")
    return by_name.get(name) or (by_name.get(b"*." + rest) if dot else None)


def names_of(certificate: bytes) -> list[bytes]:
    """
    Return the DNS names of *certificate*, in lower case.

    Args:
        certificate: DER that OpenSSL has loaded, so that it is well-formed.
    """
    [(_, outer)] = _elements(certificate)
    _, to_be_signed = next(_elements(outer))
    for tag, content in _elements(to_be_signed):
        if tag != EXTENSIONS:
            continue
        [(_, extensions)] = _elements(content)
        for _, extension in _elements(extensions):
            if extension.startswith(ALT_NAMES):
                value = next(c for tag, c in _elements(extension) if tag == OCTETS)
                [(_, names)] = _elements(value)
                return [
                    content.lower()
                    for tag, content in _elements(names)
                    if tag == DNS_NAME
                ]
    return []


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each DER element in *data*, one after the other."""
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length >= LONG_LENGTH:
            size = length - LONG_LENGTH
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        yield tag, data[at : at + length]
        at += length


def _context(certfile: str, keyfile: str) -> ssl.SSLContext:
    """Return a context of one pair of files; raise UsageError if they are unusable."""

    def no_password() -> NoReturn:
        """Raise UsageError, because OpenSSL would ask at the terminal otherwise."""
        raise UsageError(
            f"--keyfile {keyfile}: the key is encrypted, and nobody is there to type"
            " its password; decrypt it with `openssl pkey`"
        )

    # Opened before OpenSSL does, because its error says neither which file nor why.
    for option, path in (("--certfile", certfile), ("--keyfile", keyfile)):
        try:
            with open(path, "rb"):
                pass
        except OSError as exc:
            raise UsageError(f"{option} {path} cannot be read: {exc.strerror}") from exc
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = NamedSSLObject
    context.set_alpn_protocols(PROTOCOLS)
    try:
        context.load_cert_chain(certfile, keyfile, no_password)
    except ssl.SSLError as exc:
        if exc.reason and "MISMATCH" in exc.reason:
            why = "the key does not belong to the certificate"
        else:
            why = f"not a certificate and its key in PEM ({exc.reason or exc})"
        raise UsageError(
            f"--certfile {certfile} with --keyfile {keyfile}: {why}"
        ) from exc
    return context


def _names_in(certfile: str) -> list[bytes]:
    """Return the DNS names of the first certificate in *certfile*, which was loaded."""
    with open(certfile, encoding="latin1") as file:
        text = file.read()
    first = CERTIFICATE.search(text)
    return names_of(ssl.PEM_cert_to_DER_cert(first[0])) if first else []
