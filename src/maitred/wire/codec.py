"""
Packets: messages to bytes and back. Pure.

    0        1        2        3        4        5        6        7
    +--------+--------+--------+--------+--------+--------+--------+--------+
    |version | type   | descriptors     | records         | zero            |
    +--------+--------+--------+--------+--------+--------+--------+--------+
    | length of all that follows        | records, all of one size ...
    +--------+--------+--------+--------+--------+--------+--------+--------+
    ... then the bytes of the blobs: those of the first record in the order of its
    fields, then those of the second, and so on.

Integers are unsigned and in network byte order. A packet holds one or more
messages of ONE type. A field is an integer, the length of a blob, or a
descriptor, which takes no room here: descriptor n rides as the n-th of the
packet's single SCM_RIGHTS and belongs to record n.

Invariant: decoding accepts exactly what encoding can produce. Everything else
raises PeerMisbehaved, whatever the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain, pairwise
from typing import Final, NamedTuple, cast, get_type_hints

from maitred.errors import MessageTooLarge, PeerMisbehaved

from .messages import BLOB, DESCRIPTOR, VERSION, Kind, Owner

HEADER: Final = struct.Struct("!BBHHHI")
MAX_PACKET: Final = 128 * 1024
"""
Bytes in a packet, header included, checked on both sides. Holds a returned
connection with 64 KiB of unread bytes; the default send buffer of a Unix socket
(212,992 bytes) holds it too, without which SEQPACKET would answer EMSGSIZE.
"""
MAX_DESCRIPTORS: Final = 253
"""
Descriptors in a packet: the kernel's SCM_MAX_FD (net/core/scm.h; unix(7)). With
room for this many the control buffer cannot be what truncates a packet.
"""
MAX_RECORDS: Final = 0xFFFF


Message = tuple[object, ...]
"""A message is a NamedTuple; to the codec it is the tuple of its fields."""


class Header(NamedTuple):
    """The first 12 bytes of a packet."""

    version: int
    type: int
    descriptors: int
    records: int
    zero: int
    length: int


class Layout(NamedTuple):
    """How one message type stands on the wire; derived from its annotations."""

    number: int
    message: type[Message]
    record: struct.Struct
    in_record: tuple[int, ...]  # indexes of the fields that stand in the record
    blobs: tuple[int, ...]  # of those, the blobs
    descriptor: int | None  # index of the descriptor, if one rides along


def layout(number: int, message: type[Message]) -> Layout:
    """
    Derive how *message*, a NamedTuple of annotated fields, stands on the wire.

    Raises:
        TypeError: It is no NamedTuple, a field is not one of the wire's kinds,
            there is more than one descriptor, or *number* does not fit one byte.
    """
    name = message.__name__
    if number not in range(256):
        raise TypeError(f"{name}: number {number} does not fit one byte")
    hints = get_type_hints(message, include_extras=True)
    if tuple(hints) != getattr(message, "_fields", None):
        raise TypeError(f"{name} is not a NamedTuple")
    kinds = []
    for field, hint in hints.items():
        marks = getattr(hint, "__metadata__", ())
        kind = next((mark for mark in marks if isinstance(mark, Kind)), None)
        if kind is None:
            raise TypeError(f"{name}.{field} is not U8 to U64, Blob or Passed")
        kinds.append(kind)
    descriptors = [i for i, kind in enumerate(kinds) if kind is DESCRIPTOR]
    if len(descriptors) > 1:
        raise TypeError(f"{name} has {len(descriptors)} descriptors, 1 is the most")
    return Layout(
        number=number,
        message=message,
        record=struct.Struct("!" + "".join(kind.code for kind in kinds)),
        in_record=tuple(i for i, kind in enumerate(kinds) if kind is not DESCRIPTOR),
        blobs=tuple(i for i, kind in enumerate(kinds) if kind is BLOB),
        descriptor=descriptors[0] if descriptors else None,
    )


class Codec:
    """
    Encodes the messages of one table and decodes those of another.

    Both work on columns (all values of one field) instead of single messages:
    the loops then run inside zip and map, which is what makes a packet of 64
    handoffs cheap.
    """

    def __init__(
        self,
        *,
        sends: Mapping[int, type[Message]],
        receives: Mapping[int, type[Message]],
    ) -> None:
        """
        Derive all layouts.

        Args:
            sends: Number (0 to 255) to message type, for what we may send.
            receives: The same for what the peer may send.

        Raises:
            TypeError: A message cannot stand on the wire (see ``layout``).
        """
        self._sends = {message: layout(n, message) for n, message in sends.items()}
        self._receives = {n: layout(n, message) for n, message in receives.items()}

    def encode(self, messages: Sequence[Message]) -> tuple[bytes, list[Owner]]:
        """
        Make one packet of *messages*, which are all of one type.

        Returns:
            The bytes, and the owners of the descriptors that ride along. The
            owners stay owners; their numbers are not looked at here.

        Raises:
            MessageTooLarge: They do not fit one packet.
            TypeError: Not one type, not in our table, or a value that does not
                fit its field.
        """
        form = self._form(messages)
        columns: list[Sequence[object]] = list(zip(*messages, strict=True))
        passed = [] if form.descriptor is None else columns[form.descriptor]
        owners = cast("list[Owner]", list(passed))
        _check("records", len(messages), MAX_RECORDS)
        _check("descriptors", len(owners), MAX_DESCRIPTORS)
        contents = cast("list[Sequence[bytes]]", [columns[i] for i in form.blobs])
        try:
            for i, column in zip(form.blobs, contents, strict=True):
                columns[i] = list(map(len, column))
            in_record = [columns[i] for i in form.in_record]
            records = map(form.record.pack, *in_record) if in_record else ()
            blobs = chain.from_iterable(zip(*contents, strict=True))
            body = b"".join((*records, *blobs))
        except (struct.error, TypeError) as exc:
            raise TypeError(f"{form.message.__name__}: {exc}") from exc
        _check("bytes", HEADER.size + len(body), MAX_PACKET)
        header = (VERSION, form.number, len(owners), len(messages), 0, len(body))
        return HEADER.pack(*header) + body, owners

    def _form(self, messages: Sequence[Message]) -> Layout:
        """Find the layout that all of *messages* have."""
        types = set(map(type, messages))
        if len(types) != 1:
            names = " and ".join(sorted(each.__name__ for each in types)) or "nothing"
            raise TypeError(f"a packet holds messages of one type, not {names}")
        message_type = types.pop()
        form = self._sends.get(message_type)
        if form is None:
            raise TypeError(f"{message_type.__name__} is not for us to send")
        return form

    def decode_header(self, data: bytes | memoryview) -> Header:
        """
        Read and check the first bytes of a packet.

        Raises:
            PeerMisbehaved: Fewer than 12 bytes, another version, a type that the
                peer may not send, or counts that cannot be.
        """
        if len(data) < HEADER.size:
            raise PeerMisbehaved(f"{len(data)} bytes are no header")
        header = Header._make(HEADER.unpack_from(data))
        if header.version != VERSION:
            raise PeerMisbehaved(f"version {header.version}, we speak {VERSION}")
        form = self._receives.get(header.type)
        if form is None:
            raise PeerMisbehaved(f"type {header.type} is not for it to send")
        due = 0 if form.descriptor is None else header.records
        name = form.message.__name__
        if header.records < 1:
            raise PeerMisbehaved(f"{name} without a record")
        if header.descriptors != due or due > MAX_DESCRIPTORS:
            raise PeerMisbehaved(
                f"{name} with {header.descriptors} descriptors"
                f" for {header.records} records"
            )
        if header.zero:
            raise PeerMisbehaved(f"{name} with {header.zero} where 0 must stand")
        room = MAX_PACKET - HEADER.size
        if not header.records * form.record.size <= header.length <= room:
            raise PeerMisbehaved(
                f"{name} of {header.length} bytes for {header.records} records"
            )
        return header

    def decode_body(
        self,
        header: Header,
        body: bytes | memoryview,
        owners: Sequence[Owner | None],
    ) -> list[Message]:
        """
        Make the messages of one packet whose *header* was checked.

        Args:
            header: What ``decode_header`` returned.
            body: The ``header.length`` bytes after it.
            owners: One owner (or None) for each descriptor the header announces.

        Returns:
            The messages, which own what *owners* owned.

        Raises:
            PeerMisbehaved: The body is not as long as its header and its blobs
                say. The owners still belong to the caller.
        """
        form = self._receives[header.type]
        name = form.message.__name__
        if len(body) != header.length:
            raise PeerMisbehaved(
                f"{name} of {len(body)} bytes whose header says {header.length}"
            )
        records, blobs = body[: header.records * form.record.size], len(form.blobs)
        # Without a field there is nothing to iterate over: iter_unpack refuses.
        rows = form.record.iter_unpack(records) if form.in_record else ()
        columns: list[Sequence[object]] = list(zip(*rows, strict=True))
        if form.descriptor is not None:
            columns.insert(form.descriptor, owners)
        by_blob = cast("list[Sequence[int]]", [columns[i] for i in form.blobs])
        lengths = chain.from_iterable(zip(*by_blob, strict=True))
        ends = list(accumulate(lengths, initial=len(records)))
        if ends[-1] != header.length:
            raise PeerMisbehaved(
                f"{name} whose parts are {ends[-1]} bytes, not {header.length}"
            )
        contents = [bytes(body[start:end]) for start, end in pairwise(ends)]
        for n, i in enumerate(form.blobs):
            columns[i] = contents[n::blobs]
        if not columns:
            return [form.message() for _ in range(header.records)]
        return list(map(form.message, *columns))


def _check(what: str, size: int, limit: int) -> None:
    if size > limit:
        raise MessageTooLarge(what, size, limit)
