r"""
gunicorn's corpus of requests (tests/data/gunicorn), read as its own tests read it.

A ``.http`` file is text: line ends are dropped, then ``\r \n \t \0 \xHH`` are expanded.
The ``.py`` beside it says what a server must read in it, or which error it is. Those
are run with stand-ins for gunicorn's names, so that gunicorn need not be there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

DIRECTORY = Path(__file__).parent / "data" / "gunicorn"


# What does not go as the corpus says, each with its reason.

NO_HOST = "HTTP/1.1 without Host must be refused (RFC 9112 section 3.2)"
CODING = "a transfer coding beside chunked, which the workers' parsers read differently"
OPTION = "valid for gunicorn with an option only, and bad in every other server"
CONNECT = "after CONNECT there is no HTTP to route"
PROXY = "begins with a PROXY header, which a listener takes off first"
SECOND = "the first request is served; what follows is no request that has one reading"

REFUSED = {
    **dict.fromkeys(
        [
            *("004", "006", "007", "010", "011", "012", "013", "014", "018", "021"),
            *("023", "031", "031compat", "031compat2", "100"),
        ],
        NO_HOST,
    ),
    "005": "a fragment is never sent (RFC 9112 section 3.2), and no Host",
    "019": f"{SECOND}: {NO_HOST}",
    "022": f"{SECOND}: {NO_HOST}",
    "024": "its head is longer than --head-limit",
    **dict.fromkeys(["025", "025_line", "029", "030"], CODING),
    "rfc9112_smuggle_gzip_chunked_01": CODING,
    "rfc9112_smuggle_te_identity_chunked_01": CODING,
    "028": OPTION,
    "compat_obs_fold": OPTION,
    "compat_obs_fold_huge": OPTION,
    "040": SECOND,
    "040_compat": SECOND,
    "099": "gunicorn's test reads no further: the file holds less than its length says",
    **dict.fromkeys(["pp_01", "pp_02", "pp_04", "pp_05"], PROXY),
    "rfc9112_target_absolute_userinfo_01": "the target has a user, and Host has none",
    "rfc9112_target_authority_connect_01": CONNECT,
    "rfc9112_target_authority_ipv6_01": CONNECT,
}
"Valid files that do not pass as they are, and why not."

LIMITS = "valid; only over a limit of gunicorn's (ours is --head-limit)"
TRAILER = "the trailer is read past and reaches no application"
PASSED = {
    **dict.fromkeys(
        ["006", "007", "008", "009", "011", "012", "limit_header_default_01"], LIMITS
    ),
    "040": "valid up to its bytes; only gunicorn's header_map=refuse says otherwise",
    "041": "two Content-Type: nothing is routed or framed by it, the application's own",
    "rfc9110_trailer_forbidden_cl_01": TRAILER,
    "rfc9110_trailer_forbidden_host_01": TRAILER,
    "rfc9110_trailer_forbidden_te_01": TRAILER,
}
"Invalid files whose (first) request passes, and why it may."


@dataclass(frozen=True)
class Wanted:
    """One request as it must be read."""

    method: str
    uri: str
    version: tuple[int, int]
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True)
class Item:
    """One file of the corpus."""

    name: str
    data: bytes
    requests: list[Wanted]
    error: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


class Config:
    """Stands in for gunicorn's configuration: remembers what was set."""

    def __init__(self) -> None:
        """Start with nothing set."""
        self.settings: dict[str, Any] = {}

    def set(self, name: str, value: Any) -> None:
        """Record *value* for *name*."""
        self.settings[name] = value


class Names(dict[str, Any]):
    """What a ``.py`` file may name; any other name is that of an error of gunicorn."""

    def __missing__(self, name: str) -> str:
        return name


def expand(text: bytes) -> bytes:
    """Return the bytes that are sent, for the *text* of a ``.http`` file."""
    data = text.replace(b"\n", b"").replace(b"\\r\\n", b"\r\n")
    data = data.replace(b"\\0", b"\0").replace(b"\\n", b"\n").replace(b"\\t", b"\t")
    data = re.sub(
        rb"\\x([0-9A-Fa-f]{2})", lambda match: bytes([int(match[1], 16)]), data
    )
    assert b"\\" not in data
    return data


def load(kind: str) -> dict[str, Item]:
    """Return all files of *kind*, valid or invalid, by name."""
    items = {}
    for path in sorted((DIRECTORY / kind).glob("*.http")):
        source = path.with_suffix(".py").read_text()
        code = re.sub(r"(?m)^(?:from|import) .*$", "", source)
        names = Names(
            Config=Config, cfg=Config(), uri=lambda data: data, bytes=bytes, len=len
        )
        exec(compile(code, str(path), "exec"), {}, names)
        found = names["request"]
        requests = found if isinstance(found, list) else [found]
        items[f"{kind}/{path.stem}"] = Item(
            f"{kind}/{path.stem}",
            expand(path.read_bytes()),
            [wanted(each) for each in requests if isinstance(each, dict)],
            "" if isinstance(requests[-1], dict) else requests[-1],
            names["cfg"].settings,
        )
    return items


def wanted(request: dict[str, Any]) -> Wanted:
    """Return what one request of a ``.py`` file has to be."""
    body = request.get("body", b"")
    return Wanted(
        request["method"],
        request["uri"],
        request["version"],
        request.get("headers", []),
        body.encode() if isinstance(body, str) else body,
    )


def path_and_query(uri: str) -> str:
    """Return what of *uri* names a resource, without scheme and authority."""
    if not uri.lower().startswith(("http://", "https://")):
        return uri
    parts = urlsplit(uri)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
