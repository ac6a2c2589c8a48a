"""
Which slot a connection goes to. Pure.

    key names a slot    that slot, even while it has no room; nothing is remembered
    known key           its slot, likewise
    new key, keyless    the policy's choice; the key is remembered if the client made it
    nobody has room     None: the connection waits

Invariant: a key that the server makes enters the table by a claim and in no other
way, so that names nobody made cannot fill it.
"""

from __future__ import annotations

from collections.abc import Callable

from .keys import KeyTable
from .policies import Choose
from .pool import Slot


def _no_slot(_key: bytes) -> int | None:
    return None


class Placement:
    """Decides by table first, by policy second."""

    def __init__(
        self,
        slots: list[Slot],
        choose: Choose,
        keys: KeyTable,
        *,
        remembers: bool,
        named: Callable[[bytes], int | None] = _no_slot,
    ) -> None:
        """
        Decide among *slots*.

        Args:
            slots: All slots in order of their index; the caller keeps them up to date.
            choose: The policy.
            keys: Who owns which key.
            remembers: Whether a key keeps the slot that the policy chose first.
            named: Says which slot a key names by itself, if it does.
        """
        self.slots = slots
        self.keys = keys
        self._choose = choose
        self._remembers = remembers
        self._named = named

    def owner(self, key: bytes, now: float) -> Slot | None:
        """Give the slot that owns *key*, if one does."""
        index = self._named(key)
        if index is None:
            index = self.keys.use(key, now)
        elif index >= len(self.slots) or self.slots[index].closed:
            return None
        elif self.slots[index].elder and not self.slots[index].ready:
            # Its generation is gone; the same place in the other one has its place.
            index = (index + len(self.slots) // 2) % len(self.slots)
        return None if index is None else self.slots[index]

    @property
    def remembers(self) -> bool:
        """Whether a key that the client makes keeps the slot that it was given."""
        return self._remembers

    def strays(self, key: bytes, slot: int) -> bool:
        """Say whether *key* names another slot than *slot*, where it is to go."""
        named = self._named(key)
        return named is not None and named != slot

    def claim(self, key: bytes, slot: int, now: float, ttl: float) -> None:
        """Make *slot* the owner of *key*, which its application made."""
        self.keys.own(key, slot, now, ttl, claimed=True)

    def renew(self, key: bytes, slot: int, now: float) -> bool:
        """Count a use of *key* by *slot*; say whether it may keep it."""
        if not self._remembers:
            return True  # the key alone decides, always alike
        owner = self.keys.use(key, now)
        if owner is None:
            self.keys.own(key, slot, now)
        return owner in {None, slot}

    def concede(self, key: bytes, slot: int, now: float, *, learned: bool) -> bool:
        """
        Say whether *slot*, where a request with *key* already is, may serve it.

        Args:
            key: The key.
            slot: Owns it from now on if nobody did and the client makes such keys.
            now: The time in seconds.
            learned: The server makes keys of this kind.
        """
        owner = self.owner(key, now)
        if owner is None and not learned:
            if self._remembers:
                self.keys.own(key, slot, now)
            else:  # the key alone decides, so it may be decided elsewhere
                owner = self._choose(self.slots, key)
        return owner is None or owner.index == slot

    def choose(self, key: bytes | None, *, learned: bool, now: float) -> Slot | None:
        """
        Choose a slot for a connection whose key nobody owns.

        Args:
            key: The key, or None.
            learned: The server makes keys of this kind.
            now: The time in seconds.

        Returns:
            The slot; None when nobody has room.
        """
        slot = self._choose(self.slots, key)
        if slot is not None and key is not None and self._remembers and not learned:
            self.keys.own(key, slot.index, now)
        return slot
