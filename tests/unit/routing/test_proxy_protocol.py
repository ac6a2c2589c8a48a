"""
The PROXY header: what is one, what it names, and where it ends.

The package proxy-protocol, written by others, encodes and decodes beside us.
"""

from __future__ import annotations

import re
import struct
from ipaddress import ip_address
from socket import SOCK_STREAM

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxyprotocol.result import (
    ProxyResultIPv4,
    ProxyResultIPv6,
    ProxyResultLocal,
    ProxyResultUnix,
)
from proxyprotocol.tlv import ProxyProtocolTLV
from proxyprotocol.v1 import ProxyProtocolV1
from proxyprotocol.v2 import ProxyProtocolV2

from maitred.routing import NEED_MORE
from maitred.routing.proxy_protocol import (
    BAD,
    LONGEST,
    LONGEST_LINE,
    MISSING,
    SIGNATURE,
    ProxyHeader,
    address_text,
    crc32c,
    sniff_proxy,
)

V1, V2 = ProxyProtocolV1(), ProxyProtocolV2()


def binary(version_command: int, family: int, block: bytes, length=None) -> bytes:
    """Compose a header of version 2."""
    size = len(block) if length is None else length
    return SIGNATURE + struct.pack("!BBH", version_command, family, size) + block


def tlv(kind: int, value: bytes) -> bytes:
    """Compose a TLV."""
    return struct.pack("!BH", kind, len(value)) + value


def checked(family: int, addresses: bytes, before: bytes = b"", after: bytes = b""):
    """Compose a header of version 2 with its checksum."""
    block = addresses + before + tlv(3, bytes(4)) + after
    header = binary(0x21, family, block)
    at = len(SIGNATURE) + 4 + len(addresses) + len(before) + 3
    return header[:at] + struct.pack("!I", crc32c(header)) + header[at + 4 :]


INET = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack("!HH", 50123, 443)
INET6 = ip_address("2001:db8::7").packed + bytes(16) + struct.pack("!HH", 50123, 443)
UNIX = b"/run/client".ljust(108, b"\0") + b"/run/server".ljust(108, b"\0")
FOUR, SIX = (b"192.0.2.7", 50123), (b"2001:db8::7", 50123)

GOOD = {
    "v1 tcp4": (b"PROXY TCP4 192.0.2.7 198.51.100.1 50123 443\r\n", FOUR),
    "v1 tcp6": (b"PROXY TCP6 2001:db8::7 ::1 50123 443\r\n", SIX),
    "v1 tcp6 in full": (
        b"PROXY TCP6 2001:0DB8:0000:0000:0000:0000:0000:0007 ::1 50123 443\r\n",
        SIX,
    ),
    "v1 mapped": (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 50123 443\r\n", FOUR),
    "v1 port 0": (b"PROXY TCP4 192.0.2.7 1.1.1.1 0 65535\r\n", (b"192.0.2.7", 0)),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", None),
    "v1 unknown, and more": (b"PROXY UNKNOWN a  b\0 99999\r\n", None),
    "v1 longest": (b"PROXY UNKNOWN ".ljust(LONGEST_LINE - 2, b"f") + b"\r\n", None),
    "v2 inet": (binary(0x21, 0x11, INET), FOUR),
    "v2 inet6": (binary(0x21, 0x21, INET6), SIX),
    "v2 mapped": (
        binary(0x21, 0x21, ip_address("::ffff:192.0.2.7").packed + INET6[16:]),
        FOUR,
    ),
    "v2 datagram": (binary(0x21, 0x12, INET), FOUR),
    "v2 unix": (binary(0x21, 0x31, UNIX), None),
    "v2 local": (binary(0x20, 0x00, b""), None),
    "v2 local with addresses": (binary(0x20, 0x11, INET), None),
    "v2 local with anything": (binary(0x20, 0xFF, b"\0\xff"), None),
    "v2 unspec": (binary(0x21, 0x00, b""), None),
    "v2 unspec with anything": (binary(0x21, 0x00, b"\0\xff"), None),
    "v2 tlvs": (
        binary(0x21, 0x11, INET + tlv(4, b"\0" * 9) + tlv(0xEA, b"vpce")),
        FOUR,
    ),
    "v2 empty tlv": (binary(0x21, 0x11, INET + tlv(1, b"")), FOUR),
    "v2 checksum": (checked(0x11, INET), FOUR),
    "v2 checksum in the middle": (
        checked(0x21, INET6, tlv(1, b"h2"), tlv(4, b"nothing")),
        SIX,
    ),
    "v2 longest": (
        binary(0x21, 0x11, INET + tlv(4, bytes(LONGEST - 16 - len(INET) - 3))),
        FOUR,
    ),
}

BROKEN = {
    "v1 bare LF": b"PROXY TCP4 192.0.2.7 198.51.100.1 50123 443\n",
    "v1 bare CR": b"PROXY TCP4 192.0.2.7 198.51.100.1 50123 443\rG\r\n",
    "v1 one byte too long": b"PROXY UNKNOWN ".ljust(LONGEST_LINE - 1, b"f") + b"\r\n",
    "v1 without end": b"PROXY UNKNOWN ".ljust(LONGEST_LINE, b"f"),
    "v1 nothing": b"PROXY \r\n",
    "v1 lower case": b"PROXY tcp4 192.0.2.7 198.51.100.1 50123 443\r\n",
    "v1 two blanks": b"PROXY TCP4  192.0.2.7 198.51.100.1 50123 443\r\n",
    "v1 blank at the end": b"PROXY TCP4 192.0.2.7 198.51.100.1 50123 443 \r\n",
    "v1 tab": b"PROXY TCP4 192.0.2.7\t198.51.100.1 50123 443\r\n",
    "v1 no ports": b"PROXY TCP4 192.0.2.7 198.51.100.1\r\n",
    "v1 one port": b"PROXY TCP4 192.0.2.7 198.51.100.1 50123\r\n",
    "v1 three ports": b"PROXY TCP4 192.0.2.7 198.51.100.1 50123 443 1\r\n",
    "v1 port too large": b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
    "v1 port to too large": b"PROXY TCP4 192.0.2.7 198.51.100.1 1 70000\r\n",
    "v1 port with zero": b"PROXY TCP4 192.0.2.7 198.51.100.1 050 443\r\n",
    "v1 port with sign": b"PROXY TCP4 192.0.2.7 198.51.100.1 +50 443\r\n",
    "v1 negative port": b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 443\r\n",
    "v1 octal": b"PROXY TCP4 192.0.02.7 198.51.100.1 50123 443\r\n",
    "v1 octet too large": b"PROXY TCP4 192.0.2.256 198.51.100.1 50123 443\r\n",
    "v1 three octets": b"PROXY TCP4 192.0.2 198.51.100.1 50123 443\r\n",
    "v1 bad destination": b"PROXY TCP4 192.0.2.7 198.51.100.999 50123 443\r\n",
    "v1 six as four": b"PROXY TCP4 2001:db8::7 ::1 50123 443\r\n",
    "v1 four as six": b"PROXY TCP6 192.0.2.7 198.51.100.1 50123 443\r\n",
    "v1 zone": b"PROXY TCP6 fe80::1%eth0 ::1 50123 443\r\n",
    "v1 brackets": b"PROXY TCP6 [::1] [::1] 50123 443\r\n",
    "v1 two elisions": b"PROXY TCP6 1::2::3 ::1 50123 443\r\n",
    "v1 name": b"PROXY TCP4 localhost localhost 50123 443\r\n",
    "v1 unix": b"PROXY UNIX /a /b\r\n",
    "v1 unknown and a letter": b"PROXY UNKNOWNX\r\n",
    "v2 version 1": binary(0x11, 0x11, INET),
    "v2 version 3": binary(0x31, 0x11, INET),
    "v2 command 2": binary(0x22, 0x11, INET),
    "v2 family 4": binary(0x21, 0x41, INET),
    "v2 transport 3": binary(0x21, 0x13, INET),
    "v2 family without transport": binary(0x21, 0x10, INET),
    "v2 transport without family": binary(0x21, 0x01, b""),
    "v2 short inet": binary(0x21, 0x11, INET[:-1]),
    "v2 short inet6": binary(0x21, 0x21, INET6[:-1]),
    "v2 short unix": binary(0x21, 0x31, UNIX[:-1]),
    "v2 no addresses": binary(0x21, 0x11, b""),
    "v2 half a tlv": binary(0x21, 0x11, INET + b"\x04\0"),
    "v2 tlv too long": binary(0x21, 0x11, INET + b"\x04\0\2x"),
    "v2 too long": binary(0x21, 0x11, INET, LONGEST - 15),
    "v2 longest length": binary(0x20, 0x00, b"", 0xFFFF),
    "v2 wrong checksum": checked(0x11, INET)[:-1] + b"\0",
    "v2 empty checksum": binary(0x21, 0x11, INET + tlv(3, b"")),
    "v2 long checksum": binary(0x21, 0x11, INET + tlv(3, bytes(5))),
    "v2 two checksums": checked(0x11, INET, after=tlv(3, bytes(4))),
}

ABSENT = {
    "http": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    "lower case": b"proxy TCP4 192.0.2.7 198.51.100.1 50123 443\r\n",
    "a method that is like it": b"PROXYING / HTTP/1.1\r\n\r\n",
    "tab": b"PROXY\tTCP4 192.0.2.7 198.51.100.1 50123 443\r\n",
    "blank first": b" PROXY TCP4 192.0.2.7 198.51.100.1 50123 443\r\n",
    "line first": b"\r\nPROXY TCP4 192.0.2.7 198.51.100.1 50123 443\r\n",
    "signature but for the last": SIGNATURE[:-1] + b"\r",
}

ALL = {
    **{name: data for name, (data, _) in GOOD.items()},
    **BROKEN,
    **ABSENT,
}
TAILS = [b"", b"G", b"\r\n", b"\n", b"\0" * 20, b"GET / HTTP/1.1\r\n\r\n", b"x" * 20000]


@pytest.mark.parametrize(("data", "client"), GOOD.values(), ids=GOOD)
def test_header_names_the_client_and_its_end(data, client):
    """Until its last byte nothing is decided, and nothing behind it matters."""
    for size in range(len(data)):
        assert sniff_proxy(data[:size]) == NEED_MORE
    for tail in TAILS:
        assert sniff_proxy(data + tail) == ProxyHeader(len(data), client)


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_broken_header_is_bad(data):
    """It is neither repaired nor taken for a request."""
    for tail in TAILS:
        assert sniff_proxy(data + tail) == BAD


@pytest.mark.parametrize("data", ABSENT.values(), ids=ABSENT)
def test_what_is_no_header_is_missing(data):
    """A request in its place is not guessed to be one."""
    for tail in TAILS:
        assert sniff_proxy(data + tail) == MISSING


@pytest.mark.parametrize("data", ALL.values(), ids=ALL)
def test_verdict_comes_with_one_byte_and_stays(data):
    """Byte by byte, the verdict is NeedMore, and then one and the same for ever."""
    found = [sniff_proxy(data[:size]) for size in range(len(data) + 1)]
    decided = [each for each in found if each != NEED_MORE]
    assert decided, "a verdict at last"
    assert found[-len(decided) :] == decided
    assert len(set(decided)) == 1


def test_every_bit_of_a_checked_header_counts():
    """No single bit can be flipped in a header with a checksum without its refusal."""
    header = checked(0x11, INET, tlv(1, b"h2"))
    marks = {
        len(SIGNATURE): 0x01,  # LOCAL: the addresses are discarded
        header.rindex(tlv(3, b"")[:1] + b"\0\4"): 0xFF,  # no checksum any more
    }
    for bit in range(len(header) * 8):
        flipped = bytearray(header)
        at, mask = bit // 8, 1 << bit % 8
        flipped[at] ^= mask
        if not marks.get(at, 0) & mask:
            assert sniff_proxy(bytes(flipped)) in {BAD, MISSING, NEED_MORE}, at


def test_checksum_is_the_one_of_the_standard():
    """The check value of CRC-32C, and the first vector of RFC 3720 appendix B.4."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA


addresses4 = st.tuples(st.ip_addresses(v=4), st.integers(0, 65535))
addresses6 = st.tuples(st.ip_addresses(v=6), st.integers(0, 65535))
tlvs = st.builds(
    ProxyProtocolTLV,
    init=st.dictionaries(
        # Not the checksum, which the package adds, and not what has a form of its own.
        st.integers(0xE0, 0xEF),
        st.binary(max_size=40),
        max_size=4,
    ),
)


@given(st.one_of(st.tuples(addresses4, addresses4), st.tuples(addresses6, addresses6)))
def test_line_of_another_encoder_is_read(ends):
    """Version 1, as the package proxy-protocol writes it."""
    (source, port), _ = ends
    make = ProxyResultIPv4 if source.version == 4 else ProxyResultIPv6
    header = V1.pack(make(*ends))
    assert sniff_proxy(header) == ProxyHeader(len(header), (address_text(source), port))


@given(
    st.one_of(st.tuples(addresses4, addresses4), st.tuples(addresses6, addresses6)),
    tlvs,
)
def test_checked_header_of_another_encoder_is_read(ends, more):
    """Version 2 with TLVs and checksum, as the package proxy-protocol writes it."""
    (source, port), _ = ends
    make = ProxyResultIPv4 if source.version == 4 else ProxyResultIPv6
    header = V2.pack(make(*ends, protocol=SOCK_STREAM, tlv=more))
    assert sniff_proxy(header) == ProxyHeader(len(header), (address_text(source), port))


@given(tlvs)
def test_header_without_address_of_another_encoder_is_read(more):
    """LOCAL and AF_UNIX name no address that could be a client."""
    for result in (
        ProxyResultLocal(tlv=more),
        ProxyResultUnix("/a", "/b", protocol=SOCK_STREAM, tlv=more),
    ):
        header = V2.pack(result)
        assert sniff_proxy(header) == ProxyHeader(len(header), None)


NAMES_NONE = re.compile(rb"PROXY UNKNOWN|.{12}(?:\x20|\x21[\0\x31\x32])", re.DOTALL)


def theirs(header: bytes):
    """Read *header* with the package proxy-protocol: client, or None."""
    result = (V1 if header.startswith(b"PROXY ") else V2).unpack(header)
    if not isinstance(result, (ProxyResultIPv4, ProxyResultIPv6)):
        return None
    address, port = result.source
    return address_text(address), port


@given(
    st.sampled_from(list(ALL.values())),
    st.lists(
        st.tuples(st.integers(0, 120), st.integers(0, 2), st.integers(0, 255)),
        max_size=4,
    ),
)
def test_what_we_read_another_decoder_reads_the_same(data, changes):
    """After changes in some bytes, what we still accept means the same to both."""
    changed = bytearray(data)
    for at, kind, byte in changes:
        if kind == 0:
            changed[at : at + 1] = bytes([byte])
        elif kind == 1:
            changed[at:at] = bytes([byte])
        else:
            del changed[at : at + 1]
    verdict = sniff_proxy(bytes(changed))
    if not isinstance(verdict, ProxyHeader):
        return
    header = bytes(changed[: verdict.size])
    if NAMES_NONE.match(header):
        # Here the package looks into what must be ignored.
        assert verdict.client is None
        return
    assert theirs(header) == verdict.client


@given(st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", SIGNATURE]))
def test_no_bytes_raise(data, start):
    """Any bytes have a verdict, and a header never ends behind what there is."""
    verdict = sniff_proxy(start + data)
    if isinstance(verdict, ProxyHeader):
        assert verdict.size <= len(start + data)
