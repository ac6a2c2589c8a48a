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
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat, starmap
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
    """The layout of one message type on the wire, derived from its annotations."""

    number: int
    message: type[Message]
    record: struct.Struct
    in_record: tuple[int, ...]  # indexes of the fields that stand in the record
    blobs: tuple[int, ...]  # of those, the blobs
    descriptor: int | None  # index of the descriptor, if one rides along


def layout(number: int, message: type[Message]) -> Layout:
    """
    Derive the layout of *message*, a NamedTuple, from the annotations of its fields.

    Raises:
        TypeError: *message* is no NamedTuple, a field is not one of the wire's kinds,
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

    A message without blobs is its record, so whole packets of those are written and
    read inside map and zip, without a step of ours for each message.
    """

    def __init__(
        self,
        *,
        sends: Mapping[int, type[Message]],
        receives: Mapping[int, type[Message]],
    ) -> None:
        """
        Derive the layouts of all messages, once.

        Args:
            sends: Number (0 to 255) to message type, for what this end may send.
            receives: The same for what the peer may send.

        Raises:
            TypeError: A message type has no layout (see ``layout``).
        """
        self._sends = {message: layout(n, message) for n, message in sends.items()}
        self._receives = {n: layout(n, message) for n, message in receives.items()}

    def encode(self, messages: Sequence[Message]) -> tuple[bytes, list[Owner]]:
        """
        Encode *messages*, which are all of one type, as one packet.

        Returns:
            The bytes, and the owners of the descriptors to pass with them. The owners
            keep their descriptors; the numbers are not looked up here.

        Raises:
            MessageTooLarge: The messages do not fit one packet.
            TypeError: The messages are of several types or of one that is not in the
                table, or a value does not fit its field.
        """
        form = self._form(messages)
        owners: list[Owner] = []
        try:
            write = _with_blobs if form.blobs else _without_blobs
            body = b"".join(write(form, messages, owners))
        except (struct.error, TypeError) as exc:
            raise TypeError(f"{form.message.__name__}: {exc}") from exc
        count, size, riding = len(messages), len(body), len(owners)
        if count > MAX_RECORDS:
            raise MessageTooLarge("records", count, MAX_RECORDS)
        if riding > MAX_DESCRIPTORS:
            raise MessageTooLarge("descriptors", riding, MAX_DESCRIPTORS)
        if HEADER.size + size > MAX_PACKET:
            raise MessageTooLarge("bytes", HEADER.size + size, MAX_PACKET)
        return HEADER.pack(VERSION, form.number, riding, count, 0, size) + body, owners

    def _form(self, messages: Sequence[Message]) -> Layout:
        """Return the layout that all of *messages* have; raise TypeError if none."""
        types = set(map(type, messages))
        form = self._sends.get(next(iter(types))) if len(types) == 1 else None
        if form is not None:
            return form
        names = " and ".join(sorted(each.__name__ for each in types)) or "nothing"
        if len(types) == 1:
            raise TypeError(f"{names} is not for us to send")
        raise TypeError(f"a packet holds messages of one type, not {names}")

    def decode_header(self, data: bytes | memoryview) -> Header:
        """
        Decode and check the first 12 bytes of *data*.

        Raises:
            PeerMisbehaved: *data* is shorter, or the header has another version, a type
                that the peer may not send, or counts that no encoder writes.
        """
        if len(data) < HEADER.size:
            raise PeerMisbehaved(f"{len(data)} bytes are no header")
        header = Header(*HEADER.unpack_from(data))
        version, number, descriptors, records, zero, length = header
        if version != VERSION:
            raise PeerMisbehaved(f"version {version}, we speak {VERSION}")
        form = self._receives.get(number)
        if form is None:
            raise PeerMisbehaved(f"type {number} is not for it to send")
        # One for each record, because a message has one descriptor or none.
        due = 0 if form.descriptor is None else records
        name = form.message.__name__
        if records < 1:
            raise PeerMisbehaved(f"{name} without a record")
        if descriptors != due or due > MAX_DESCRIPTORS:
            raise PeerMisbehaved(
                f"{name} with {descriptors} descriptors for {records} records"
            )
        if zero:
            raise PeerMisbehaved(f"{name} with {zero} where 0 must stand")
        if not records * form.record.size <= length <= MAX_PACKET - HEADER.size:
            raise PeerMisbehaved(f"{name} of {length} bytes for {records} records")
        return header

    def decode_body(
        self,
        header: Header,
        body: bytes | memoryview,
        owners: Sequence[Owner | None],
    ) -> list[Message]:
        """
        Decode the messages of one packet whose *header* was checked.

        Args:
            header: What ``decode_header`` returned.
            body: The ``header.length`` bytes after it.
            owners: One owner (or None) for each descriptor the header announces.

        Returns:
            The messages, whose fields the *owners* now are.

        Raises:
            PeerMisbehaved: The length of the body is not the one that its header and
                its blobs add up to. The owners still belong to the caller.
        """
        form = self._receives[header.type]
        if len(body) != header.length:
            raise PeerMisbehaved(
                f"{form.message.__name__} of {len(body)} bytes"
                f" whose header says {header.length}"
            )
        # Without a field there is nothing to iterate over: iter_unpack refuses.
        end = header.records * form.record.size
        rows: Iterable[Sequence[object]] = repeat((), header.records)
        if form.in_record:
            rows = form.record.iter_unpack(body[:end])
        if form.blobs:
            rows, end = _join(form, rows, owners, bytes(body), end)
        elif form.descriptor is not None:
            columns: list[Sequence[object]] = list(zip(*rows, strict=True))
            columns.insert(form.descriptor, owners)
            rows = zip(*columns, strict=True)
        if end != header.length:
            raise PeerMisbehaved(
                f"{form.message.__name__} whose parts are {end} bytes,"
                f" not {header.length}"
            )
        # What the NamedTuple's own __new__ does, without a call for each message.
        return list(map(tuple.__new__, repeat(form.message), rows))


def _without_blobs(
    form: Layout, messages: Sequence[Message], owners: list[Owner]
) -> Iterable[bytes]:
    """Return the records of *messages*; append their descriptors to *owners*."""
    if form.descriptor is None:
        return starmap(form.record.pack, messages)
    columns = list(zip(*messages, strict=True))
    owners += cast("Sequence[Owner]", columns.pop(form.descriptor))
    return map(form.record.pack, *columns) if columns else ()


def _with_blobs(
    form: Layout, messages: Sequence[Message], owners: list[Owner]
) -> Iterable[bytes]:
    """Return records, then blobs, of *messages*; append descriptors to *owners*."""
    pack, positions, descriptor = form.record.pack, form.blobs, form.descriptor
    records: list[bytes] = []
    blobs: list[object] = []
    passed: list[object] = []
    for message in messages:
        values = list(message)
        for i in positions:
            blobs.append(blob := values[i])
            values[i] = len(blob)  # type: ignore[arg-type] # or there is a TypeError
        if descriptor is not None:
            passed.append(values.pop(descriptor))
        records.append(pack(*values))
    owners += cast("list[Owner]", passed)
    return records + cast("list[bytes]", blobs)


def _join(
    form: Layout,
    rows: Iterable[Sequence[object]],
    owners: Sequence[Owner | None],
    body: bytes,
    at: int,
) -> tuple[list[Sequence[object]], int]:
    """
    Insert *owners* and the blobs of *body* from *at* into the *rows* of the records.

    Return the complete rows, and where in *body* the last blob ends by the lengths in
    the records. That may be past its end: ``decode_body`` checks it.
    """
    positions, descriptor = form.blobs, form.descriptor
    joined: list[Sequence[object]] = []
    for n, row in enumerate(rows):
        values = list(row)
        if descriptor is not None:
            values.insert(descriptor, owners[n])
        for i in positions:
            end = at + values[i]  # type: ignore[operator] # a number, says the record
            values[i] = body[at:end]
            at = end
        joined.append(values)
    return joined, at
