"""
Slots that clients carry for us: sealed into a cookie, or into an id that they echo.

    token    base64url( L id slot nonce mac )   a cookie's value, of its own
    stamp    base64url( slot mac )              16 characters behind somebody's id

    L        1 byte, the length of the key's id; id as in the key file
    slot     2 bytes, big-endian
    nonce    12 bytes, so that no two tokens are alike
    mac      HMAC-SHA256 with that key: of PURPOSE and all that stands before it in a
             token, 32 bytes; of PURPOSE, id and slot in a stamp, the first 10 bytes

Whoever carries one cannot make another; that is all it is worth. It brings a request
to a worker and opens nothing there. Pure: the nonce comes in from outside.

Invariants: what does not verify names no slot, whatever is wrong with it; one slot has
one meaning for every process that has the same keys and counts as many slots.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import hmac
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from maitred.errors import UsageError

NONCE: Final = 12
KEY_SIZE: Final = 32
"Bytes a key has at least: what HMAC-SHA256 gives away nothing of (RFC 2104 section 3)."
LONGEST_ID: Final = 16
FILE_LIMIT: Final = 64 * 1024

TOKEN_PURPOSE: Final = b"maitred token 1\0"
STAMP_PURPOSE: Final = b"maitred stamp 1\0"
MAC: Final = hashlib.sha256().digest_size
SHORT_MAC: Final = 10
"Bytes of a stamp's MAC: an id is seen by the one client it was made for."
SLOT: Final = 2
STAMP: Final = (SLOT + SHORT_MAC) * 4 // 3
CACHED: Final = 1024

LONGEST_TOKEN: Final = (1 + LONGEST_ID + SLOT + NONCE + MAC + 2) * 4 // 3
TOKEN: Final = re.compile(rb"[A-Za-z0-9_-]{1,%d}" % LONGEST_TOKEN)
STAMPED: Final = re.compile(rb"[A-Za-z0-9_-]{%d,256}" % (STAMP + 1))
KEY_LINE: Final = re.compile(
    rf"([A-Za-z0-9_-]{{1,{LONGEST_ID}}}):([A-Za-z0-9+/]+={{0,2}})"
)


class Seal:
    """Signs slots with one key, and believes what any of its keys has signed."""

    def __init__(self, keys: Mapping[str, bytes], slots: int) -> None:
        """
        Sign with the first of *keys*, and verify with all.

        Args:
            keys: Id to key, in the order of the key file. Without any, nothing can be
                signed and nothing verifies.
            slots: Number of slots; a token that names a higher one is not valid.
        """
        self._keys = {name.encode(): key for name, key in keys.items()}
        self._first = next(iter(self._keys), b"")
        self._slots = slots
        # Remembered, because a client sends its token with every request.
        self.slot_in = functools.lru_cache(CACHED)(self._slot_in)
        self.stamped_slot = functools.lru_cache(CACHED)(self._stamped_slot)

    def token(self, slot: int, nonce: bytes) -> bytes:
        """Return a token that names *slot*; *nonce* is NONCE bytes of randomness."""
        head = b"%c%b%b%b" % (
            len(self._first),
            self._first,
            slot.to_bytes(SLOT, "big"),
            nonce,
        )
        mac = hmac.digest(self._keys[self._first], TOKEN_PURPOSE + head, "sha256")
        return base64.urlsafe_b64encode(head + mac).rstrip(b"=")

    @property
    def signs(self) -> bool:
        """Whether there is a key to sign with."""
        return bool(self._keys)

    def is_current(self, token: bytes) -> bool:
        """Return whether *token*, which is valid, was signed with the first key."""
        raw = _decoded(token)
        return raw[1 : 1 + raw[0]] == self._first

    def _slot_in(self, token: bytes) -> int | None:
        """Return the slot that *token* names; None if it does not verify."""
        raw = _decoded(token) if TOKEN.fullmatch(token) else b""
        if not raw or len(raw) != 1 + raw[0] + SLOT + NONCE + MAC:
            return None
        key = self._keys.get(raw[1 : 1 + raw[0]])
        if key is None:
            return None
        head, mac = raw[:-MAC], raw[-MAC:]
        if not hmac.compare_digest(
            mac, hmac.digest(key, TOKEN_PURPOSE + head, "sha256")
        ):
            return None
        return self._existing(raw[1 + raw[0] :])

    def stamp(self, id_: bytes, slot: int) -> bytes:
        """Return *id_* followed by the stamp that names *slot* for it."""
        number = slot.to_bytes(SLOT, "big")
        mac = _short_mac(self._keys[self._first], id_, number)
        return id_ + base64.urlsafe_b64encode(number + mac)

    def _stamped_slot(self, id_: bytes) -> int | None:
        """Return the slot whose stamp *id_* ends with; None if none verifies."""
        if not STAMPED.fullmatch(id_):
            return None
        raw = _decoded(id_[-STAMP:])
        number, mac = raw[:SLOT], raw[SLOT:]
        for key in self._keys.values():
            if hmac.compare_digest(mac, _short_mac(key, id_[:-STAMP], number)):
                return self._existing(number)
        return None

    def _existing(self, raw: bytes) -> int | None:
        slot = int.from_bytes(raw[:SLOT], "big")
        return slot if slot < self._slots else None


NO_SEAL: Final = Seal(MappingProxyType({}), 0)
"Believes nothing."


def parse_keys(text: bytes, where: str) -> dict[str, bytes]:
    """
    Parse a key file: lines of ``id:base64``, empty ones, and comments with ``#``.

    Args:
        text: The contents of the file.
        where: The name of the file, for errors.

    Returns:
        Id to key, in the order of the file.

    Raises:
        UsageError: *text* has no key, or a line that is none of these. The error quotes
            no part of *text*, because it is secret.
    """
    keys: dict[str, bytes] = {}
    for number, raw in enumerate(text.decode("ascii", "replace").splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = KEY_LINE.fullmatch(line)
        key = _strictly_decoded(match[2]) if match else None
        if match is None or key is None:
            raise UsageError(f"{where}: line {number} is not id:base64; {HINT}")
        if len(key) < KEY_SIZE:
            raise UsageError(
                f"{where}: the key in line {number} has {len(key)} bytes, {KEY_SIZE}"
                f" are needed; {HINT}"
            )
        if match[1] in keys:
            raise UsageError(
                f"{where}: line {number} has the id of an earlier key; give it another"
            )
        keys[match[1]] = key
    if not keys:
        raise UsageError(f"{where} holds no key; {HINT}")
    return keys


HINT: Final = 'make a line with: echo "k1:$(openssl rand -base64 32)"'


def format_keys(keys: Mapping[str, bytes]) -> bytes:
    """Return *keys* as a key file, which ``parse_keys`` reads."""
    return b"".join(
        b"%b:%b\n" % (name.encode(), base64.b64encode(key))
        for name, key in keys.items()
    )


def _decoded(text: bytes) -> bytes:
    """Decode base64url without padding; empty unless *text* is its only spelling."""
    try:
        raw = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        return b""
    # Compared, because bits at the end of a text do not count in base64, and nobody is
    # to have several spellings of one token.
    return raw if base64.urlsafe_b64encode(raw).rstrip(b"=") == text else b""


def _strictly_decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return None


def _short_mac(key: bytes, id_: bytes, number: bytes) -> bytes:
    return hmac.digest(key, STAMP_PURPOSE + id_ + number, "sha256")[:SHORT_MAC]
