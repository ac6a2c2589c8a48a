r"""
How keys are spelled for people. Pure.

A key is bytes, and what a client sent is part of it. It is printed with escapes, so
that no client can write to an operator's terminal: ``\x1b``, ``\xe9``, ``\\``.

Invariant: what is spelled is read as the same key; a text in UTF-8 without backslash is
read as its bytes.
"""

from __future__ import annotations

import re
from typing import Final

from maitred.errors import UsageError

SPECIAL: Final = re.compile(rb"[^ -~]|\\")
ESCAPE: Final = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(\\))?")


def spell(key: bytes) -> str:
    """Return *key* in printable ASCII; ``read_key`` reads it."""
    return SPECIAL.sub(_escaped, key).decode("ascii")


def read_key(text: str) -> bytes:
    """
    Return the key that is spelled *text*.

    Raises:
        UsageError: *text* has a backslash that begins no escape, or is no Unicode.
    """

    def meant(escape: re.Match[bytes]) -> bytes:
        number, backslash = escape.groups()
        if number is None and backslash is None:
            raise UsageError(
                f"key {text!r}: a backslash begins an escape, \\x1b or \\\\"
            )
        return backslash if number is None else bytes.fromhex(number.decode())

    try:
        return ESCAPE.sub(meant, text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError as exc:
        raise UsageError(f"key {text!r} is no text") from exc


def _escaped(special: re.Match[bytes]) -> bytes:
    return b"\\\\" if special[0] == b"\\" else b"\\x%02x" % special[0][0]
