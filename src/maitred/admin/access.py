"""
Who may read what the admin process tells. Pure.

    a Unix socket           whoever its file lets in (mode 0600)
    the same machine        anybody, if the request names us as we are called there
    through a proxy, or     whoever has the token
    from elsewhere

A page in a browser on this machine is on the same machine, too: one that an attacker
serves from a name that is made to mean 127.0.0.1 (DNS rebinding) could read everything
of it. Its requests say that name in Host, so a name that is none of ours is refused.

Invariant: what comes from elsewhere without the token is never answered, but whether we
are alive and ready, which says nothing else.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from typing import Final

HOST: Final = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[^:\[\]]+))(?::\d+)?")
PROXY_HEADERS: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"Where a proxy says that a request comes from somebody else."


def refusal(
    client: str | None,
    headers: Mapping[str, str],
    token: bytes,
    names: frozenset[str] = frozenset(),
) -> tuple[int, str] | None:
    """
    Return why a request is refused, as status and sentence; None: it is not.

    Args:
        client: The peer's address; None: it came through a Unix socket.
        headers: The headers of the request, names in lower case.
        token: The token that proves the right to ask; empty: there is none.
        names: Our own names, besides those of loopback and all addresses.
    """
    if client is None or _has_token(headers.get("authorization", ""), token):
        return None
    is_local = is_loopback(client) and not any(n in headers for n in PROXY_HEADERS)
    if not is_local:
        return 401, "this needs `Authorization: Bearer TOKEN`, with --admin-token-file"
    if not _is_ours(headers.get("host", ""), names):
        return 421, "the Host of this request is no name of ours"
    return None


def is_loopback(address: str) -> bool:
    """Return whether *address*, a number, is this machine's own."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found.is_loopback


def _has_token(said: str, token: bytes) -> bool:
    scheme, _, given = said.partition(" ")
    # The digest takes as long wherever they differ, and whatever their lengths.
    matches = hmac.compare_digest(
        hmac.digest(b"maitred", given.strip().encode("latin-1"), "sha256"),
        hmac.digest(b"maitred", token, "sha256"),
    )
    return bool(token) and scheme.lower() == "bearer" and matches


def _is_ours(host: str, names: frozenset[str]) -> bool:
    match = HOST.fullmatch(host)
    if match is None:
        return False
    if match["v6"]:
        return True
    name = match["name"].lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost") or name in names:
        return True
    try:
        # A number cannot be made to mean another address.
        ip_address(name)
    except ValueError:
        return False
    return True
