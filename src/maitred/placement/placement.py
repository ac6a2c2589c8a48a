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
    """The choice of a slot: by the table first, by the policy second."""

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
            keys: The table of keys and their owners.
            remembers: Whether a key keeps the slot that the policy chose first.
            named: Returns the slot that a key names by itself, if it does.
        """
        self.slots = slots
        self.keys = keys
        self._choose = choose
        self._remembers = remembers
        self._named = named

    def owner(self, key: bytes, now: float) -> Slot | None:
        """Return the slot that owns *key*, if one does, and renew the key."""
        index = self._named(key)
        if index is None:
            index = self.keys.use(key, now)
        # Nobody's, because that slot is not there any more: the key is placed anew.
        elif index >= len(self.slots) or self.slots[index].closed:
            return None
        elif self.slots[index].elder and not self.slots[index].ready:
            # Its generation has left; in the other, the slot of the same number
            # succeeds it.
            index = (index + len(self.slots) // 2) % len(self.slots)
        return None if index is None else self.slots[index]

    @property
    def remembers(self) -> bool:
        """Whether a key that the client makes keeps the slot that it was given."""
        return self._remembers

    def strays(self, key: bytes, slot: int) -> bool:
        """Return whether *key* names a slot by itself, and another one than *slot*."""
        named = self._named(key)
        return named is not None and named != slot

    def claim(self, key: bytes, slot: int, now: float, ttl: float) -> None:
        """Make *slot* the owner of *key*, which its application made."""
        self.keys.own(key, slot, now, ttl, claimed=True)

    def renew(self, key: bytes, slot: int, now: float) -> bool:
        """
        Renew *key*, which *slot* uses, and return whether *slot* may keep it.

        A key that nobody owns becomes the slot's.
        """
        if not self._remembers:
            return True  # the key alone decides, always alike
        owner = self.keys.use(key, now)
        if owner is None:
            self.keys.own(key, slot, now)
        return owner in {None, slot}

    def concede(self, key: bytes, slot: int, now: float, *, learned: bool) -> bool:
        """
        Return whether *slot*, where a request with *key* already is, may serve it.

        Args:
            key: The key.
            slot: Where the request is; it owns a key that nobody owned from now on, if
                the client makes such keys.
            now: The time in seconds.
            learned: Whether the server makes keys of this kind.
        """
        owner = self.owner(key, now)
        if owner is None and not learned:
            if self._remembers:
                self.keys.own(key, slot, now)
            else:
                # Asked, because the hash of the key may have it elsewhere.
                owner = self._choose(self.slots, key)
        return owner is None or owner.index == slot

    def choose(self, key: bytes | None, *, learned: bool, now: float) -> Slot | None:
        """
        Choose a slot for a connection whose key nobody owns.

        Args:
            key: The key, which the slot then owns if it is remembered; or None.
            learned: Whether the server makes keys of this kind.
            now: The time in seconds.

        Returns:
            The slot; None if none has room.
        """
        slot = self._choose(self.slots, key)
        if slot is not None and key is not None and self._remembers and not learned:
            self.keys.own(key, slot.index, now)
        return slot
