"""
Which acceptor knows a key, where there are several. Pure.

A key is in the table of one acceptor, its home, and in no other: so the tables are
exact without a lock. The home follows from the key alone, so everybody finds it without
asking: each acceptor and each worker.

Invariant: the same answer in every process of a service, for as long as it lives. The
hash is keyed, so that nobody outside can aim at one acceptor.
"""

from __future__ import annotations

import hashlib
from typing import Final

DIGEST: Final = 8
"Bytes of the hash that count."


class Homes:
    """The distribution of keys over the acceptors."""

    def __init__(self, count: int = 1, hash_key: bytes = b"") -> None:
        """
        Distribute keys over *count* acceptors.

        Args:
            count: Number of acceptors.
            hash_key: Up to 64 random bytes, the same in all processes of the service.
        """
        self.count = count
        # Copied for each key, which is cheaper than keying it anew.
        self._keyed = hashlib.blake2b(digest_size=DIGEST, key=hash_key)

    def of(self, key: bytes) -> int:
        """Return the number of the acceptor whose table *key* is in, from 0."""
        if self.count == 1:
            return 0
        digest = self._keyed.copy()
        digest.update(key)
        return int.from_bytes(digest.digest(), "big") % self.count
