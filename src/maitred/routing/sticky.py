"""
Our own cookie: a token that names the slot, for applications that name no session.

    Set-Cookie: maitred=AmsxAAL...; Path=/; HttpOnly; SameSite=Lax; Secure

The worker that answers a client without a valid one sets it; from then on the cookie
alone says where the client's requests belong. Pure.

Invariant: a cookie that is forged, of a slot that is not there, signed with a key that
is gone, or no token at all, is as good as none. Two valid ones of two slots are
nobody's.
"""

from __future__ import annotations

import functools
from typing import Final

from .affinity import Affinity
from .cookies import COOKIE, Found, cookie_readings, distinct
from .http1 import Head
from .seal import Seal

STICKY: Final = "maitred"
"The cookie's name where nothing else is said."
CACHED: Final = 256


def sticky(name: str, seal: Seal) -> Affinity:
    """Return the affinity that places by the cookie *name*, signed by *seal*."""
    readings = cookie_readings(name)

    # Remembered, because a browser sends the same line with every request.
    @functools.lru_cache(CACHED)
    def tokens_in(lines: tuple[bytes, ...]) -> Found:
        found = readings(lines)
        several = found if isinstance(found, tuple) else (found or b"",)
        return distinct(v for v in several if seal.slot_in(v) is not None)

    def find(head: Head) -> Found:
        lines = head.values(COOKIE)
        return tokens_in(tuple(lines)) if lines else None

    def ambiguous(head: Head) -> bool:
        found = find(head)
        return isinstance(found, tuple) and len(set(map(seal.slot_in, found))) > 1

    return Affinity(
        name=f"sticky:{name}",
        find=find,
        slot=seal.slot_in,
        ambiguous=ambiguous,
        sets=name.encode(),
        cookie=name.encode(),
    )


def attributes(
    *, path: str = "/", same_site: str = "lax", domain: str = "", max_age: int = 0
) -> bytes:
    """
    Return the attributes that follow the cookie's value, but for Secure.

    Args:
        path: The path under which the cookie is sent.
        same_site: With requests from which other sites the cookie is sent.
        domain: The domain whose hosts get the cookie; empty: the host that was asked.
        max_age: Seconds for which the cookie is kept; 0: until the browser is closed.
    """
    text = f"; Path={path}; HttpOnly; SameSite={same_site.capitalize()}"
    if domain:
        text += f"; Domain={domain}"
    if max_age:
        text += f"; Max-Age={max_age}"
    return text.encode()


def set_cookie_line(
    name: bytes, token: bytes, *, secure: bool, rest: bytes = attributes()
) -> bytes:
    """Return the value of the Set-Cookie header that gives *token* to a client."""
    return b"%b=%b%b%b" % (name, token, rest, b"; Secure" if secure else b"")
