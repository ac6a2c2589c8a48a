"""
The text of ``--affinity`` and what it means.

    header:NAME[,learn]  cookie:NAME[,learn]  query:NAME  path:N  host  ip  sni  none
    sticky[:NAME]  a preset's name  module:attribute

Invariant: an affinity that cannot be read is refused with a sentence that says
what would be understood; nothing is guessed.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final, TypeVar

from maitred.errors import UsageError

from .affinity import (
    Affinity,
    Find,
    Learn,
    cookie,
    header,
    host,
    ip,
    path,
    query,
    response_header,
    set_cookie,
    sni,
)
from .presets import PRESETS
from .seal import NO_SEAL, Seal
from .sticky import STICKY, sticky

NAMED: Final[dict[str, Callable[[str], Find]]] = {
    "header": header,
    "cookie": cookie,
    "query": query,
}
"Places that need a name, and how to find its value in a request."

LEARNED: Final[dict[str, Callable[[str], Learn]]] = {
    "header": response_header,
    "cookie": set_cookie,
}
"Those that a response has too, and how to learn the value there."

PLAIN: Final[dict[str, Find]] = {"host": host, "ip": ip, "sni": sni}
"Places that need nothing more."

OF_CONNECTION: Final = frozenset({"ip", "sni"})
"Those that are known before there is a request."

FORMS: Final = (
    "header:NAME, cookie:NAME, query:NAME (,learn after header or cookie: the server"
    " makes it), path:N, host, ip, sni, none, sticky, a preset"
    f" ({', '.join(PRESETS)}), or module:attribute"
)

PLACES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "header:NAME": "request header NAME; with ,learn made by the server",
        "cookie:NAME": "cookie NAME; with ,learn made by the server",
        "query:NAME": "query parameter NAME, percent-decoded once",
        "path:N": "path segment N, from 1, percent-decoded once",
        "host": "the host name: lower case, without port and trailing dot",
        "ip": "the client's address",
        "sni": "the host name in the TLS hello",
        "sticky[:NAME]": f"a cookie of our own, {STICKY} or NAME, that names the slot",
        "module:attribute": "an Affinity of your own",
        "none": "nothing: every connection is placed by the policy",
    }
)
"What each form that is no preset looks at."
TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def affinities(specs: Sequence[str], seal: Seal = NO_SEAL) -> tuple[Affinity, ...]:
    """
    Parse every one of *specs*, in order; ``none`` stands for no affinity.

    Args:
        specs: The values of ``--affinity``.
        seal: Signs and verifies the slots that clients carry.

    Raises:
        UsageError: One of *specs* cannot be read.
    """
    if "none" in specs and len(specs) > 1:
        raise UsageError("--affinity none cannot be combined with another --affinity")
    return tuple(affinity(spec, seal) for spec in specs if spec != "none")


def affinity(spec: str, seal: Seal = NO_SEAL) -> Affinity:
    """
    Parse one *spec*; *seal* as for ``affinities``.

    Raises:
        UsageError: *spec* cannot be read, or its module or attribute is not there.
    """
    found = _read(spec, seal)
    if found.stampable and seal is not NO_SEAL:
        return replace(found, slot=seal.stamped_slot)
    return found


def _read(spec: str, seal: Seal) -> Affinity:
    text, _, option = spec.partition(",")
    place, _, rest = text.partition(":")
    if option not in {"", "learn"}:
        raise UsageError(
            f"--affinity {spec}: after the comma only `learn` can stand, not {option!r}"
        )
    if option and place not in LEARNED:
        raise UsageError(
            f"--affinity {spec}: only {' and '.join(LEARNED)} can be learned;"
            f" a response has no {place}"
        )
    if text in PRESETS:
        return _preset(PRESETS[text], seal)
    if text in PLAIN:
        return Affinity(
            name=text, find=PLAIN[text], of_connection=text in OF_CONNECTION
        )
    if place in NAMED:
        return _named(spec, place, rest, learn=bool(option))
    if place == "path":
        return _path(spec, rest)
    if place == "sticky":
        return _sticky(spec, text, rest, seal)
    # Not `ip:x` or `mcp:x`, because those are mistakes and no modules.
    if place and rest and place not in PLAIN and place not in PRESETS:
        return _imported(spec, place, rest)
    near = get_close_matches(
        place, [*PRESETS, *NAMED, *PLAIN, "path", "sticky", "none"], n=1
    )
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise UsageError(f"--affinity {spec} is not understood{hint}; known are: {FORMS}")


def _preset(preset: Affinity, seal: Seal) -> Affinity:
    """Return *preset*; if it sets our own cookie, a copy that uses *seal*."""
    if not preset.sets:
        return preset
    sealed = sticky(preset.sets.decode(), seal)
    return sealed.called(preset.name, about=preset.about)


def _named(spec: str, place: str, name: str, *, learn: bool) -> Affinity:
    if not TOKEN.fullmatch(name):
        raise UsageError(
            f"--affinity {spec}: {place} needs a name, as in {place}:session"
        )
    label = name.lower() if place == "header" else name
    return Affinity(
        name=f"{place}:{label}",
        find=NAMED[place](name),
        learn=LEARNED[place](name) if learn else None,
        cookie=name.encode() if place == "cookie" else b"",
    )


def _path(spec: str, number: str) -> Affinity:
    if not re.fullmatch(r"[1-9][0-9]?", number):
        raise UsageError(
            f"--affinity {spec}: path needs a segment number from 1 to 99, as in path:2"
        )
    return Affinity(name=f"path:{number}", find=path(int(number)))


def _sticky(spec: str, text: str, name: str, seal: Seal) -> Affinity:
    name = STICKY if text == "sticky" else name
    if not TOKEN.fullmatch(name):
        raise UsageError(
            f"--affinity {spec}: sticky takes the cookie's name, as in sticky:{STICKY}"
        )
    return sticky(name, seal)


def _imported(spec: str, module: str, attribute: str) -> Affinity:
    return imported(
        f"--affinity {spec}", module, attribute, Affinity, f"; known are: {FORMS}"
    )


Kind = TypeVar("Kind")


def imported(
    option: str, module: str, attribute: str, kind: type[Kind], known: str = ""
) -> Kind:
    """
    Import *module* and return its *attribute*, which the user has named by *option*.

    Args:
        option: The option with its value, for errors.
        module: The name of the module.
        attribute: The name of the attribute; with dots, one of an attribute.
        kind: The class that the value has to be an instance of.
        known: The end of an error's sentence, about what else could have been meant.

    Raises:
        UsageError: The module cannot be imported, or has no such attribute, or the
            attribute is of another class.
    """
    # Any exception, because importing runs code of the user's.
    try:
        value = importlib.import_module(module)
    except Exception as exc:
        raise UsageError(
            f"{option} is no known form, and module {module!r} cannot be imported"
            f" ({type(exc).__name__}: {exc}){known}"
        ) from exc
    for name in attribute.split("."):
        if not hasattr(value, name):
            raise UsageError(
                f"{option}: module {module!r} has no attribute {attribute!r}"
            )
        value = getattr(value, name)
    if not isinstance(value, kind):
        raise UsageError(
            f"{option} is a {type(value).__name__}, not a"
            f" maitred.routing.{kind.__name__}"
        )
    return value
