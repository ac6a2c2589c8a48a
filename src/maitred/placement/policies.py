"""
How a slot is chosen for a connection that no slot owns yet. Pure.

A policy is a function of the slots and the key. POLICIES lists them all; the
command line's choices, their help and the documentation are made from it.

Invariant: a policy gives a slot that has room, or, where the key alone decides, the
key's slot whether it has room or not; None means that nobody has room.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from .pool import Slot

if TYPE_CHECKING:
    from random import Random

Choose = Callable[[Sequence[Slot], bytes | None], Slot | None]


def least(rng: Random, _hash_key: bytes) -> Choose:
    """
    Return a policy that takes the less loaded of two slots chosen at random.

    Two choices come as close to even as asking all, and do not send a whole burst
    to the one slot that looked emptiest a moment ago (Mitzenmacher, "The power of
    two choices", 2001).
    """

    def choose(slots: Sequence[Slot], _key: bytes | None) -> Slot | None:
        able = [slot for slot in slots if slot.takes_new]
        if len(able) <= 1:
            return able[0] if able else None
        one = rng.randrange(len(able))
        two = rng.randrange(len(able) - 1)
        # Shifted past the first, so that the two are never the same slot.
        first, second = able[one], able[two + (two >= one)]
        return first if first.load <= second.load else second

    return choose


def rendezvous(rng: Random, hash_key: bytes) -> Choose:
    """
    Return a policy that takes the slot with the highest keyed hash of slot and key.

    It needs no memory, and a slot that is added or removed moves only its own share of
    the keys (Thaler and Ravishankar, 1998). The hash is keyed so that nobody outside
    can aim at one worker. Without a key the policy chooses as ``least`` does.
    """
    keyless = least(rng, hash_key)

    def score(slot: Slot, key: bytes) -> bytes:
        text = slot.index.to_bytes(2, "big") + key
        return hashlib.blake2b(text, digest_size=8, key=hash_key).digest()

    def choose(slots: Sequence[Slot], key: bytes | None) -> Slot | None:
        if key is None:
            return keyless(slots, None)
        # With or without room, because the key alone decides.
        able = [slot for slot in slots if not slot.closed]
        return max(able, key=lambda slot: score(slot, key))

    return choose


def round_robin(_rng: Random, _hash_key: bytes) -> Choose:
    """Return a policy that takes the slots in turn, leaving out those without room."""
    turn = itertools.count()

    def choose(slots: Sequence[Slot], _key: bytes | None) -> Slot | None:
        for _ in slots:
            slot = slots[next(turn) % len(slots)]
            if slot.takes_new:
                return slot
        return None

    return choose


class Policy(NamedTuple):
    """One line of POLICIES; ``remembers``: a key keeps the slot it was given first."""

    make: Callable[[Random, bytes], Choose]
    remembers: bool
    about: str


POLICIES: Final[Mapping[str, Policy]] = MappingProxyType(
    {
        "least": Policy(least, True, "the less loaded of two workers chosen at random"),
        "hash": Policy(
            rendezvous, False, "by a hash of the key alone; without a key as least"
        ),
        "round-robin": Policy(round_robin, True, "the workers in turn"),
    }
)
