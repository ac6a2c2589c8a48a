"""
The PROXY header that a load balancer puts before a connection. Pure.

    PROXY TCP4 192.0.2.7 198.51.100.1 50123 443 CRLF        version 1: one line

    0d 0a 0d 0a 00 0d 0a 51 55 49 54 0a                     version 2: the signature,
    21 11 00 0c                                             version and command, family,
    c0 00 02 07 c6 33 64 01 c3 cb 01 bb                     length; addresses, then TLVs

Whether a header is there is never guessed: the operator says so for each listener, and
then a connection without one is as wrong as one with a bad one. Section numbers are
those of HAProxy's proxy-protocol.txt.

Invariants: the same bytes give the same answer however they arrive; a header ends where
it says, and nothing behind its end is looked at; nothing longer than LONGEST is waited
for.
"""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from .verdict import NEED_MORE, NeedMore

LONGEST: Final = 16 * 1024
"""
Bytes a header may have. Version 2 could say 65,551, more than a socket is sure to hold;
client certificates, the largest thing that is sent in one, have a few thousand.
"""
LONGEST_LINE: Final = 107  # section 2.1, its CRLF included

NAME: Final = b"PROXY "
LINE: Final = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?"
    rb"|TCP4 (?P<four>[0-9.]{7,15}) (?P<four_to>[0-9.]{7,15})%(ports)b"
    rb"|TCP6 (?P<six>[0-9A-Fa-f:.]{2,39}) (?P<six_to>[0-9A-Fa-f:.]{2,39})%(ports)b"
    rb")\r\n" % {b"ports": rb" (?:0|[1-9][0-9]{0,4}) (?:0|[1-9][0-9]{0,4})"}
)

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
FIXED: Final = struct.Struct("!12sBBH")
LOCAL: Final = 0x20
PROXY: Final = 0x21
UNSPEC: Final = 0x00
INET: Final = struct.Struct("!4s4sHH")
INET6: Final = struct.Struct("!16s16sHH")
UNIX: Final = struct.Struct("!108s108s")
BLOCKS: Final = {
    0x11: INET, 0x12: INET, 0x21: INET6, 0x22: INET6, 0x31: UNIX, 0x32: UNIX,
}  # fmt: skip
"Family and transport to addresses; what is not here must be rejected (section 2.2)."

TLV: Final = struct.Struct("!BH")
CRC32C: Final = 0x03
POLYNOMIAL: Final = 0x82F63B78  # Castagnoli, reflected (RFC 9260 appendix A)
MOST_PORT: Final = 0xFFFF


class ProxyHeader(NamedTuple):
    """
    A header of ``size`` bytes.

    ``client`` is the address and port that it names; None when it names none that
    could be used, and the connection's own counts.
    """

    size: int
    client: tuple[bytes, int] | None


class BadProxyHeader(NamedTuple):
    """There is none, or it cannot be believed; ``cause`` is counted."""

    cause: str


ProxyVerdict = NeedMore | ProxyHeader | BadProxyHeader

MISSING: Final = BadProxyHeader("proxy_missing")
BAD: Final = BadProxyHeader("proxy_bad")


def sniff_proxy(data: bytes) -> ProxyVerdict:
    """
    Parse the PROXY header at the start of *data*.

    Args:
        data: All bytes peeked so far.
    """
    if data.startswith(SIGNATURE):
        return _binary(data)
    if data.startswith(NAME):
        return _line(data)
    if SIGNATURE.startswith(data) or NAME.startswith(data):
        return NEED_MORE
    return MISSING


def _line(data: bytes) -> ProxyVerdict:
    """Parse a header of version 1 at the start of *data*."""
    end = data.find(b"\n", 0, LONGEST_LINE) + 1
    if not end:
        return BAD if len(data) >= LONGEST_LINE else NEED_MORE
    match = LINE.fullmatch(data, 0, end)
    if match is None:
        return BAD
    if match["four"] is None and match["six"] is None:
        return ProxyHeader(end, None)
    port, port_to = map(int, match[0].split()[-2:])
    if max(port, port_to) > MOST_PORT:
        return BAD
    read = IPv4Address if match["four"] else IPv6Address
    try:
        # Both are parsed, because a header with one bad address is bad.
        client, _ = [read(text.decode()) for text in match[0].split(b" ")[2:4]]
    except ValueError:
        return BAD
    return ProxyHeader(end, (address_text(client), port))


def _binary(data: bytes) -> ProxyVerdict:
    """Parse a header of version 2 at the start of *data*."""
    if len(data) < FIXED.size:
        return NEED_MORE
    _, command, family, length = FIXED.unpack_from(data)
    size = FIXED.size + length
    if command not in {LOCAL, PROXY} or size > LONGEST:
        return BAD
    block = BLOCKS.get(family)
    if command == PROXY and family != UNSPEC:
        if block is None or length < block.size:
            return BAD
    else:
        # The balancer's own health check, or a client of a kind that it cannot name:
        # what follows is discarded unread (section 2.2).
        block = None
    if len(data) < size:
        return NEED_MORE
    if block is None:
        return ProxyHeader(size, None)
    if not _tlvs_are_right(data[:size], FIXED.size + block.size):
        return BAD
    if block is UNIX:  # a path on the balancer's machine is no address here
        return ProxyHeader(size, None)
    source, _, port, _ = block.unpack_from(data, FIXED.size)
    client = IPv4Address(source) if block is INET else IPv6Address(source)
    return ProxyHeader(size, (address_text(client), port))


def _tlvs_are_right(header: bytes, at: int) -> bool:
    """
    Return whether the TLVs from *at* end where *header* does, and its CRC32C is right.

    A checksum need not be there.
    """
    checksum = -1
    while at < len(header):
        if at + TLV.size > len(header):
            return False
        kind, length = TLV.unpack_from(header, at)
        at += TLV.size
        if at + length > len(header):
            return False
        if kind == CRC32C:
            if length != len(ZEROS) or checksum >= 0:
                return False
            checksum = at
        at += length
    if checksum < 0:
        return True
    found = int.from_bytes(header[checksum : checksum + len(ZEROS)], "big")
    rest = header[checksum + len(ZEROS) :]
    return crc32c(header[:checksum] + ZEROS + rest) == found


ZEROS: Final = bytes(4)


def address_text(address: IPv4Address | IPv6Address) -> bytes:
    """Return *address* as text, a mapped one (``::ffff:192.0.2.7``) as IPv4."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address).encode()


def crc32c(data: bytes) -> int:
    """Return the CRC32C of *data* (RFC 9260 appendix A)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (POLYNOMIAL if value & 1 else 0)  # noqa: PLW2901
        table.append(value)
    return tuple(table)


TABLE: Final = _table()
