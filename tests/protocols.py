"""
First words of MQTT, PostgreSQL and RTMP clients, made byte by byte for tests.

Invariant: made from the specifications, and not with the code that reads them.
"""

import struct


def text(value):
    """Return *value* as MQTT has texts."""
    return struct.pack("!H", len(value)) + value


def varint(number):
    """Return *number* as MQTT has lengths."""
    out = b""
    while True:
        number, low = divmod(number, 128)
        out += bytes([low | (0x80 if number else 0)])
        if not number:
            return out


def mqtt_connect(
    client=b"lamp",
    user=None,
    *,
    level=4,
    flags=None,
    will=None,
    properties=b"",
    name=b"MQTT",
    password=None,
    more=b"",
):
    """Return a CONNECT packet."""
    if flags is None:
        flags = 0x02 | (0x80 if user is not None else 0)
        flags |= (0x04 if will is not None else 0) | (0x40 if password else 0)
    body = text(name) + bytes([level, flags]) + b"\x00\x3c"
    if level == 5:
        body += varint(len(properties)) + properties
    body += text(client)
    if will is not None:
        body += (b"\x00" if level == 5 else b"") + text(will[0]) + text(will[1])
    if user is not None:
        body += text(user)
    if password:
        body += text(password)
    body += more
    return b"\x10" + varint(len(body)) + body


def pg_startup(version=0x30000, **parameters):
    """Return a StartupMessage."""
    body = b"".join(
        name.encode() + b"\0" + value.encode() + b"\0"
        for name, value in parameters.items()
    )
    body = struct.pack("!I", version) + body + b"\0"
    return struct.pack("!I", len(body) + 4) + body


SSL = struct.pack("!II", 8, 80877103)
GSSENC = struct.pack("!II", 8, 80877104)


def pg_cancel(process=4711, secret=b"abcd"):
    """Return a CancelRequest."""
    return struct.pack("!III", 12 + len(secret), 80877102, process) + secret


C1 = bytes(range(256)) * 6


def amf_text(value):
    """Return *value* as AMF 0 has strings."""
    return b"\x02" + struct.pack("!H", len(value)) + value


def amf_object(**members):
    """Return *members*, texts and numbers, as an object of AMF 0."""
    out = b"\x03"
    for name, value in members.items():
        out += struct.pack("!H", len(name)) + name.encode()
        number = isinstance(value, float)
        out += b"\x00" + struct.pack("!d", value) if number else amf_text(value)
    return out + b"\x00\x00\x09"


def chunks(message, kind=20, stream=3, size=128):
    """Return *message* as RTMP chunks of *size*."""
    first, *rest = [message[at : at + size] for at in range(0, len(message), size)]
    header = b"\0\0\0" + struct.pack("!I", len(message))[1:] + bytes([kind]) + bytes(4)
    out = bytes([stream]) + header + first
    for part in rest:
        out += bytes([0xC0 | stream]) + part
    return out


def rtmp_connect(app=b"live", **more):
    """Return the command ``connect``, in chunks."""
    command = amf_text(b"connect") + b"\x00" + struct.pack("!d", 1.0)
    return chunks(
        command + amf_object(app=app, flashVer=b"FMLE/3.0", capabilities=15.0, **more)
    )
