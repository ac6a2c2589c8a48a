"""
Our own cookie: a token that names the slot, for applications that name no session.

    Set-Cookie: maitred=AmsxAAL...; Path=/; HttpOnly; SameSite=Lax; Secure

The worker that answers a client without a valid one sets it; from then on the cookie
alone says where the client's requests belong. Pure.

Invariant: a cookie that is forged, of a slot that is not there, signed with a key that
is gone, or no token at all, is as good as none. Two of them are nobody's.
"""

from __future__ import annotations

import functools
from typing import Final

from .affinity import Affinity, cookie_values, only
from .http1 import Head
from .seal import Seal

STICKY: Final = "maitred"
"The cookie's name where nothing else is said."
CACHED: Final = 256


def sticky(name: str, seal: Seal) -> Affinity:
    """Place by the cookie *name*, whose values *seal* makes."""
    values_in = cookie_values(name)

    # A browser sends the same line with every request.
    @functools.lru_cache(CACHED)
    def values_of(lines: tuple[bytes, ...]) -> list[bytes]:
        return [value for line in lines for value in values_in(line)]

    def values(head: Head) -> list[bytes]:
        return values_of(tuple(head.values(b"cookie")))

    def find(head: Head) -> bytes | None:
        value = only(values(head))
        return value if value and seal.slot_in(value) is not None else None

    return Affinity(
        name=f"sticky:{name}",
        find=find,
        slot=seal.slot_in,
        ambiguous=lambda head: len(values(head)) > 1,
        sets=name.encode(),
    )


def set_cookie_line(name: bytes, token: bytes, *, secure: bool) -> bytes:
    """Write the value of the Set-Cookie header that gives *token* to a client."""
    end = b"; Secure" if secure else b""
    return b"%b=%b; Path=/; HttpOnly; SameSite=Lax%b" % (name, token, end)
