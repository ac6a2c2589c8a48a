"""
Keys and who owns them, written down in columns. Pure.

    u32 count, u32 bytes of all names
    u32 x count    hash of each name, ascending
    u32 x count    which entry has that hash
    u32 x count    where its name ends
    u32 x count    its place (``Home``); 0: the key is gone
    f64 x count    until when it lives
    f64 x count    for how long after each use
    the names, one after the other

All numbers are in the machine's byte order: a page is read by the same machine, and
perhaps by another version of this program. A page can be asked for one key before
anything of it is unpacked, which is what a master needs that has a million of them and
a client waiting.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

Entry = tuple[int, float, float]
"The place of a key, until when it lives, and for how long after each use."

HEAD: Final = struct.Struct("=2I")
WHOLE: Final = 4
"Columns of whole numbers."
COLUMNS: Final = WHOLE * 4 + 2 * 8
"Bytes of all columns for one key."
GONE: Final[Entry] = (0, 0.0, 0.0)
"The entry of a key that an older page has, and that is gone."


def written(items: Sequence[tuple[bytes, Entry]]) -> bytes:
    """Return a page of *items*, which ``Page.items`` returns in the same order."""
    names = [name for name, _ in items]
    hashes = list(map(zlib.crc32, names))
    order = sorted(range(len(names)), key=hashes.__getitem__)
    ends, end = array("I"), 0
    for name in names:
        end += len(name)
        ends.append(end)
    columns = (
        array("I", sorted(hashes)),
        array("I", order),
        ends,
        array("I", [entry[0] for _, entry in items]),
        array("d", [entry[1] for _, entry in items]),
        array("d", [entry[2] for _, entry in items]),
    )
    return b"".join((HEAD.pack(len(names), end), *columns, *names))


class Page:
    """One page, as it was written."""

    def __init__(self, data: bytes | memoryview) -> None:
        """
        Map *data*, which ``written`` returned, without copying it.

        *data* must not change as long as the page is in use.

        Raises:
            ValueError: The length of *data* is not that of a page.
        """
        try:
            count, size = HEAD.unpack_from(data)
        except struct.error as exc:
            raise ValueError(f"{len(data)} bytes are no page") from exc
        if len(data) != HEAD.size + count * COLUMNS + size:
            raise ValueError(f"a page of {count} keys in {len(data)} bytes")
        view = memoryview(data)[HEAD.size :]
        short, middle, end = 4 * count, WHOLE * 4 * count, COLUMNS * count
        self._hashes, self._order, self._ends, self._places = (
            view[n * short : (n + 1) * short].cast("I") for n in range(WHOLE)
        )
        self._expires = view[middle : middle + 8 * count].cast("d")
        self._ttls = view[middle + 8 * count : end].cast("d")
        self._names = view[end:]

    def __len__(self) -> int:
        return len(self._places)

    def find(self, key: bytes) -> Entry | None:
        """Return the entry of *key*, perhaps GONE; None if this page has none."""
        wanted = zlib.crc32(key)
        at = bisect_left(self._hashes, wanted)
        while at < len(self._hashes) and self._hashes[at] == wanted:
            index = self._order[at]
            if self._name(index) == key:
                return self._places[index], self._expires[index], self._ttls[index]
            at += 1
        return None

    def _name(self, index: int) -> bytes:
        start = self._ends[index - 1] if index else 0
        return bytes(self._names[start : self._ends[index]])

    def items(self) -> Iterator[tuple[bytes, Entry]]:
        """Return all keys with their entries, in the order they were written in."""
        names = map(self._name, range(len(self)))
        return zip(
            names,
            zip(self._places, self._expires, self._ttls, strict=True),
            strict=True,
        )
