"""
Plain data: what a master writes down of itself, and reads again as another program.

Plain are None, numbers, texts, bytes, lists, and dicts with texts as names; on paper it
is JSON, with bytes as ``{"bytes": latin-1}``. Dataclasses and enums are flattened, and
revived by their annotations.

Invariant: nothing is guessed. What is not plain, or not what the annotation says, is
refused with TypeError; a field that is not on paper keeps the value it begins with, and
one that the code does not have any more is left out.
"""

from __future__ import annotations

import json
import types
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from random import Random
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

MARK: Final = "bytes"


def write(value: Any) -> bytes:
    """
    Return *value*, plain data, as JSON.

    Raises:
        TypeError: It is not plain data.
    """
    return json.dumps(value, default=_marked, separators=(",", ":")).encode()


def read(paper: bytes) -> Any:
    """
    Return what ``write`` has written.

    Raises:
        ValueError: It is no JSON.
    """
    return json.loads(paper, object_hook=_unmarked)


def _marked(value: object) -> dict[str, str]:
    if isinstance(value, bytes):
        return {MARK: value.decode("latin-1")}
    raise TypeError(f"{value!r} is not plain data")


def _unmarked(found: dict[str, Any]) -> Any:
    text = found.get(MARK)
    # One of a name that somebody gave may be called so, too; its value is bytes by now.
    return text.encode("latin-1") if isinstance(text, str) else found


def flatten(value: Any, *, without: Iterable[str] = ()) -> Any:
    """Return *value* as plain data; of a dataclass *without* those fields."""
    match value:
        case Enum():
            return value.name
        case Mapping():
            return [[flatten(key), flatten(each)] for key, each in value.items()]
        case list() | tuple() | set() | deque():
            return [flatten(each) for each in value]
        case _ if is_dataclass(value):
            return {
                field.name: flatten(getattr(value, field.name))
                for field in fields(value)
                if field.name not in set(without)
            }
    return value


def refill(thing: Any, state: Mapping[str, Any]) -> None:
    """Set the fields of *thing*, a dataclass, to the values they have in *state*."""
    hints = get_type_hints(type(thing), localns={"Random": Random})
    for name in hints.keys() & state.keys():
        setattr(thing, name, revive(hints[name], state[name]))


def revive(hint: Any, value: Any) -> Any:
    """
    Return *value*, which was flattened, as the type that *hint* names.

    Raises:
        TypeError: It is no such value.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        return _revive_one_of(inner, value)
    if hint is Counter or origin is Counter:
        return Counter({key: count for key, count in value})  # noqa: C416 - typed
    if origin is dict:
        return {revive(inner[0], key): revive(inner[1], each) for key, each in value}
    if origin in {list, set, deque, tuple}:  # tuples of one kind, of any length
        return origin(revive(inner[0], each) for each in value)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint[value]
    if is_dataclass(hint) and isinstance(hint, type):
        return _revive_dataclass(hint, value)
    if hint is float and type(value) is int:
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise TypeError(f"{value!r} is not {hint}")


def _revive_one_of(hints: Iterable[Any], value: Any) -> Any:
    if value is None and type(None) in hints:
        return None
    (hint,) = (each for each in hints if each is not type(None))
    return revive(hint, value)


def _revive_dataclass(kind: type, value: Mapping[str, Any]) -> Any:
    hints = get_type_hints(kind)
    known = hints.keys() & value.keys()
    return kind(**{name: revive(hints[name], value[name]) for name in known})
