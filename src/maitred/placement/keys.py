"""
Which slot owns which key. Pure.

Invariant: never more than ``limit`` keys; the least recently used goes first. A key
that was not used for its time to live is gone, whether or not it was purged yet.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(slots=True)
class Owned:
    """Who owns a key, for how long after each use, until when, and who made it."""

    slot: int
    ttl: float
    expires: float
    claimed: bool


class Contents(NamedTuple):
    """
    The contents of a table in columns: the keys as text, and the fields of ``Owned``.

    A hundred thousand keys are written and read again while clients wait, and lists of
    plain values are what is fastest to write and read.
    """

    keys: list[str]
    slots: list[int]
    ttls: list[float]
    expires: list[float]
    claimed: list[bool]


class KeyTable:
    """A bounded map from key to slot, in order of use."""

    def __init__(self, slots: int, *, limit: int, ttl: float) -> None:
        """
        Begin empty.

        Args:
            slots: How many slots there are.
            limit: Keys kept at most.
            ttl: Seconds a key lives after its last use, where nothing else is said.
        """
        self._owned: OrderedDict[bytes, Owned] = OrderedDict()
        self._limit = limit
        self.ttl = ttl
        # What all keys take together: a name as affinities make it has some 160 bytes.
        self.most_bytes = 512 * limit
        self._claimed = [0] * slots
        self._lost: list[tuple[bytes, int]] = []

    def __len__(self) -> int:
        return len(self._owned)

    def resize(self, slots: int) -> None:
        """Know of *slots* slots, no fewer than before."""
        self._claimed.extend([0] * (slots - len(self._claimed)))

    def counts(self, first: int) -> tuple[int, int]:
        """Say how many keys of slot *first* and later ones are not claimed, and are."""
        claims = [o.claimed for o in self._owned.values() if o.slot >= first]
        return len(claims) - sum(claims), sum(claims)

    def claimed_by(self, slot: int) -> int:
        """Say how many keys the worker of *slot* has claimed."""
        return self._claimed[slot]

    def use(self, key: bytes, now: float) -> int | None:
        """Give the slot that owns *key*, None if none does, and count this as a use."""
        owned = self._owned.get(key)
        if owned is None:
            return None
        if owned.expires <= now:
            self.release(key)
            return None
        owned.expires = now + owned.ttl
        self._owned.move_to_end(key)
        return owned.slot

    def find(self, key: bytes, now: float) -> Owned | None:
        """Say who owns *key*, if anybody does; this is no use of it."""
        owned = self._owned.get(key)
        return None if owned is None or owned.expires <= now else owned

    def alive(self, now: float) -> Iterator[tuple[bytes, Owned]]:
        """
        Give every key that is alive and who owns it, the last used first.

        However long that takes, keys may come and go meanwhile: those are walked that
        are here at this moment, and still are when it is their turn.
        """
        # Not the items: a hundred thousand new tuples keep the garbage collector busy.
        for key in reversed([*self._owned]):
            owned = self.find(key, now)
            if owned is not None:
                yield key, owned

    def own(
        self,
        key: bytes,
        slot: int,
        now: float,
        ttl: float | None = None,
        *,
        claimed: bool = False,
    ) -> None:
        """
        Make *slot* the owner of *key*.

        Args:
            key: The key.
            slot: Its owner from now on, whoever owned it before.
            now: The time in seconds.
            ttl: Seconds it lives after its last use; the table's own if None.
            claimed: The application in the slot's worker made it.
        """
        previous = self._owned.get(key)
        if previous is not None and previous.slot != slot:
            self._lost.append((key, previous.slot))
        self.release(key)
        ttl = self.ttl if ttl is None else ttl
        self._owned[key] = Owned(slot, ttl, now + ttl, claimed)
        self._claimed[slot] += claimed
        while self._owned and (
            len(self._owned) > self._limit
            or next(iter(self._owned.values())).expires <= now
        ):
            oldest, owned = next(iter(self._owned.items()))
            self._lost.append((oldest, owned.slot))
            self.release(oldest)

    def take_lost(self) -> list[tuple[bytes, int]]:
        """Give the keys that went, unasked, from the slots that owned them, once."""
        lost, self._lost = self._lost, []
        return lost

    def contents(self) -> Contents:
        """Write down every key and who owns it, the least recently used first."""
        texts = [key.decode("latin-1") for key in self._owned]
        owned = self._owned.values()
        return Contents(
            texts,
            [each.slot for each in owned],
            [each.ttl for each in owned],
            [each.expires for each in owned],
            [each.claimed for each in owned],
        )

    def fill(self, contents: Contents) -> None:
        """Know, in addition, the *contents* that another table had."""
        texts, slots, ttls, expires, claims = contents
        keys = [text.encode("latin-1") for text in texts]
        self._owned.update(
            zip(keys, map(Owned, slots, ttls, expires, claims), strict=True)
        )
        for slot, claimed in zip(slots, claims, strict=True):
            self._claimed[slot] += claimed

    def release(self, key: bytes, slot: int | None = None) -> None:
        """Forget *key*; where *slot* is given, only if that is its owner."""
        owned = self._owned.get(key)
        if owned is not None and slot in {None, owned.slot}:
            del self._owned[key]
            self._claimed[owned.slot] -= owned.claimed

    def count(self, slot: int, now: float) -> int:
        """Say how many keys of *slot* are alive."""
        return sum(o.slot == slot and o.expires > now for o in self._owned.values())

    def release_all(self, slot: int) -> None:
        """Forget every key of *slot*."""
        self.take_all(slot)

    def take_all(self, slot: int) -> list[bytes]:
        """Forget every key of *slot*, and give them."""
        keys = [k for k, o in self._owned.items() if o.slot == slot]
        for key in keys:
            self.release(key)
        return keys

    def release_claimed(self, slot: int) -> None:
        """Forget every key that the worker of *slot* has claimed."""
        if self._claimed[slot]:
            for key in [
                k for k, o in self._owned.items() if o.slot == slot and o.claimed
            ]:
                self.release(key)
