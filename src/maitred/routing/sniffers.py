"""
Sniffers of other protocols than HTTP and TLS, and how a connection is placed by them.

A sniffer is a value made of small functions, as an affinity is. ``sniff`` looks at the
first bytes and gives what they name, by field: ``{"client": b"lamp-7"}``. Where the
server has to speak before the client says who it is, ``sniff`` gives a ``Reply``; it is
said, and the next function looks at what comes then. Users write their own in the same
way (docs/howto/own-protocol.md). Pure.

Invariant: the same bytes give the same answer however they arrive, and whatever a
sniffer does, one that is wrong included, the router gives a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from .affinity import Affinity, only
from .verdict import NEED_MORE, Match, NeedMore, NoMatch, Verdict

LIMIT: Final = 16 * 1024
"Bytes that may come before a connection is decided, where a sniffer says nothing else."
MOST_REPLIES: Final = 16
"Times that a sniffer may speak before it decides."


class Reply(NamedTuple):
    """
    The server speaks first.

    The first ``drop`` bytes were understood: they are consumed, and no worker sees
    them. ``say`` is said to the client; then what comes is looked at.
    """

    drop: int
    say: bytes


Fields = Mapping[str, bytes]
Sniff = Callable[[bytes], NeedMore | NoMatch | Reply | Fields]
Refusal = Callable[[str, bytes], bytes]


def in_silence(_cause: str, _heard: bytes) -> bytes:
    """Return nothing to send: the refusal of a protocol that has no word for it."""
    return b""


def refused(cause: str) -> NoMatch:
    """Return the verdict that refuses a connection and counts it under *cause*."""
    return NoMatch(status=400, cause=cause)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sniffer:
    """
    A reader of the first bytes of one protocol.

    Args:
        name: The protocol's name in errors and logs.
        sniff: Returns what the first bytes name, by field. ``NEED_MORE`` while they
            decide nothing; ``refused(cause)`` where they never will; a ``Reply`` if the
            server has to speak. A field that is not there is left out or empty.
        fields: The names of all fields; ``--affinity`` takes these words, and without
            one, connections are placed by the first of them.
        made: The names of further fields, whose values the application makes and claims
            (``maitred.connection.current().claim``); a connection that has one is
            placed by it.
        then: The functions that read what comes next, one after each reply; the last
            one, or ``sniff``, does so after all further ones.
        limit: Number of bytes that may come before the decision; 0: none are awaited.
        refuse: Returns the bytes to send to a client that is refused, for the cause and
            the bytes that it sent; empty: nothing is sent.
        about: One line for the documentation.
    """

    name: str
    sniff: Sniff
    fields: tuple[str, ...]
    made: tuple[str, ...] = ()
    then: tuple[Sniff, ...] = ()
    limit: int = LIMIT
    refuse: Refusal = in_silence
    about: str = ""

    def at(self, stage: int) -> Sniff:
        """Return the function that reads the bytes after *stage* replies."""
        stages = (self.sniff, *self.then)
        return stages[min(stage, len(stages) - 1)]


class FieldsHead:
    """A head (``Head``) that consists of the fields a sniffer found."""

    method = path = query = host = sni = b""

    def __init__(self, peer: bytes, fields: Fields) -> None:
        """Store the client's address *peer* and the *fields* that it named."""
        self.peer = peer
        self._fields = fields

    def values(self, name: bytes) -> list[bytes]:
        """Return the value of field *name* in a list, which is empty if it has none."""
        value = self._fields.get(name.decode())
        return [value] if value else []

    alike = values


def field(name: str) -> Affinity:
    """Return the affinity that places by field *name*."""
    wanted = name.encode()
    return Affinity(name=name, find=lambda head: only(head.values(wanted)))


def made_field(name: str) -> Affinity:
    """Return the affinity that places by field *name*, whose values workers claim."""
    wanted = name.encode()
    # With a ``learn``, because that is what marks values as made by the server; workers
    # claim them by themselves, so it learns nothing.
    return Affinity(
        name=name,
        find=lambda head: only(head.values(wanted)),
        learn=lambda _response: None,
    )


class FieldsRouter:
    """Sniffs with a ``Sniffer``, and looks for a name in the fields it finds."""

    server_made = False

    def __init__(self, sniffer: Sniffer, affinities: Sequence[Affinity]) -> None:
        """
        Place by the fields that the application makes, then by *affinities*, in order.

        Args:
            sniffer: Reads the first bytes.
            affinities: Without any, the policy alone decides.
        """
        self.sniffer = sniffer
        self.affinities = tuple(affinities)
        self.limit = sniffer.limit
        self._made = tuple(map(made_field, sniffer.made))
        # The last exception of the sniffer, as text; empty: there was none.
        self.failure = ""

    def sniff(self, data: bytes, peer: bytes = b"", stage: int = 0) -> Verdict | Reply:
        """
        Return the verdict about a connection that starts with *data*, or a reply to it.

        Args:
            data: All bytes peeked so far that no reply has dropped.
            peer: The client's address as text.
            stage: Number of replies that were sent.
        """
        data = data[: self.limit]
        try:
            found = self.sniffer.at(stage)(data)
            return self._verdict(found, data, peer, stage)
        except Exception as exc:  # noqa: BLE001 - users write sniffers too
            self.failure = f"{type(exc).__name__}: {exc}"
            return refused("sniffer_failed")

    def _verdict(
        self,
        found: NeedMore | NoMatch | Reply | Fields,
        data: bytes,
        peer: bytes,
        stage: int,
    ) -> Verdict | Reply:
        if isinstance(found, NeedMore):
            if self.limit and len(data) == self.limit:
                return refused("too_large")
            return NEED_MORE
        if isinstance(found, NoMatch):
            return found
        if isinstance(found, Reply):
            if stage >= MOST_REPLIES or not 0 <= found.drop <= len(data):
                raise ValueError(f"reply {stage + 1} drops {found.drop} bytes")
            return Reply(found.drop, bytes(found.say))
        # Checked, because a key that is no bytes would fail on its way to a worker.
        for value in found.values():
            memoryview(value)  # raises where it is no bytes
        head = FieldsHead(peer, found)
        for affinity in (*self._made, *self.affinities):
            if key := affinity.key(head):
                return Match(key, affinity.server_made)
        return Match(None)
