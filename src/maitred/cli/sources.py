"""
Where settings are said: in files, in the environment, on the command line.

    WEB_CONCURRENCY, PORT
    maitred.toml    [tool.maitred] in pyproject.toml    MAITRED_...    options

Each overrides the one before. ``--config FILE`` is read instead of both files.

Invariant: a value that gets out of here is of the kind its setting has, and its origin
is known: the file and the line, the variable, or the option.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from maitred.config import MOST_PORT, option
from maitred.errors import UsageError

from .familiar import FAMILIAR
from .options import KINDS, MANY, OPTIONS

FILE: Final = "maitred.toml"
PROJECT: Final = "pyproject.toml"
TABLE: Final = ("tool", "maitred")
"Where our table is in PROJECT."
VARIABLE: Final = "MAITRED_"
LARGEST: Final = 256 * 1024
"Bytes a file may have."
TARGET: Final = "target"
SETTINGS: Final = (TARGET, *OPTIONS)
CONFIG: Final = "CONFIG"
RESERVED: Final = frozenset(
    {
        *("CHANNEL", "FAILPOINTS", "GENERATION", "KEEPER", "RUNTIME_DIR"),
        *("SCOREBOARD", "SECRET", "SLOT", "STACK", "SUCCESSION", CONFIG),
    }
)
"What processes of ours tell each other after VARIABLE; the places to look in."
NOT_MEANT: Final = re.compile("TEST.*|(.*_)?(SERVICE_(HOST|PORT)|PORT)(_.*)?")
"""
Others after VARIABLE: those of tests, and those that Kubernetes sets where a service is
called maitred.
"""
EXAMPLES: Final[Mapping[str, tuple[str, str]]] = {
    "int": ("a whole number", "3"),
    "float": ("a number", "2.5"),
    "bool": ("true or false", "true"),
    "str": ("a text", '"..."'),
    MANY: ("a text or a list of texts", '["...", "..."]'),
}


FITS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "int": lambda value: type(value) is int,
    "float": lambda value: type(value) in (int, float),
    "bool": lambda value: type(value) is bool,
    "str": lambda value: type(value) is str,
    MANY: lambda value: type(value) is list and all(type(v) is str for v in value),
}
"Whether a value in a file is of a kind."
TEXTS: Final[Mapping[str, Any]] = {
    "int": click.INT,
    "float": click.FLOAT,
    "bool": click.BOOL,
}
"What reads a variable of a kind, as click reads an option."


EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - where gunicorn listens on $PORT
"The host that goes with PLATFORM_PORT: a platform asks from elsewhere."
PLATFORM_PORT: Final = "PORT"
PLATFORM_WORKERS: Final = "WEB_CONCURRENCY"
"What platforms say to every server (Heroku and others), and uvicorn and gunicorn read."
UNREAD: Final = ("UVICORN_", "GUNICORN_CMD_ARGS")
"How variables of other servers begin; nothing in them is read."


class Said(NamedTuple):
    """A value, and where it comes from."""

    value: Any
    origin: str


def gather(
    options: Mapping[str, Any],
    environment: Mapping[str, str],
    directory: str = ".",
    file: str | None = None,
) -> dict[str, Said]:
    """
    Return the value of each setting that is given anywhere.

    Args:
        options: Values from the command line; None and () are not given.
        environment: May have ``MAITRED_WORKERS`` and others, ``MAITRED_CONFIG``, and
            what a platform says.
        directory: Where the files are.
        file: The file to read instead of those.

    Raises:
        UsageError: A file cannot be read, or something in it or in the environment is
            no setting, or of the wrong kind.
    """
    found: dict[str, Said] = {}
    file = file or environment.get(VARIABLE + CONFIG)
    for path in [file] if file else [os.path.join(directory, FILE), project(directory)]:
        if file or os.path.exists(path):
            found |= of_file(path)
    found |= of_environment(environment)
    found |= {
        name: Said(value, option(name) if name in OPTIONS else "the command line")
        for name, value in options.items()
        if value not in (None, ())
    }
    for name, read in PLATFORM.items():
        if name not in found and (said := read(environment)) is not None:
            found[name] = said
    return found


def platform_port(environment: Mapping[str, str]) -> int | None:
    """
    Return the port on which a platform wants the service, if it says one.

    Raises:
        UsageError: The value is no port.
    """
    if not (text := environment.get(PLATFORM_PORT)):
        return None
    if not (text.isascii() and text.isdigit() and int(text) <= MOST_PORT):
        raise UsageError(
            f"${PLATFORM_PORT}: {text!r} is no port from 0 to {MOST_PORT}; unset it, or"
            " say --bind"
        )
    return int(text)


def _platform_bind(environment: Mapping[str, str]) -> Said | None:
    if (port := platform_port(environment)) is None:
        return None
    return Said((f"{EVERYWHERE}:{port}",), f"${PLATFORM_PORT}")


def _platform_workers(environment: Mapping[str, str]) -> Said | None:
    if not (text := environment.get(PLATFORM_WORKERS)):
        return None
    origin = f"${PLATFORM_WORKERS}"
    return Said(_of_text("workers", text, origin), origin)


PLATFORM: Final[Mapping[str, Callable[[Mapping[str, str]], Said | None]]] = {
    "bind": _platform_bind,
    "workers": _platform_workers,
}
"Readers of settings that are given nowhere else."


def project(directory: str) -> str:
    """Return the path of the project's file in *directory*."""
    return os.path.join(directory, PROJECT)


def of_file(path: str) -> dict[str, Said]:
    """
    Return the settings in the file at *path*.

    Raises:
        UsageError: It cannot be read, or a value in it cannot be used.
    """
    shown = os.path.normpath(path)
    if path.endswith(".py"):
        raise UsageError(f"{shown}: a configuration of ours is TOML, not Python")
    try:
        with open(path, "rb") as opened:
            text = opened.read(LARGEST + 1).decode()
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise UsageError(f"{shown}: it cannot be read ({why})") from exc
    if len(text) > LARGEST:
        raise UsageError(f"{shown}: larger than {LARGEST // 1024} KiB")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise UsageError(f"{shown}: it is not TOML: {exc}") from exc
    where = TABLE if Path(path).name == PROJECT else ()
    for key in where:
        table = table.get(key, {})
        if not isinstance(table, dict):
            raise UsageError(f"{shown}: {key} has to be a table, [{'.'.join(where)}]")
    found = {}
    for key, value in table.items():
        origin = f"{shown}, line {line_of((*where, key), text)}"
        name = key.replace("-", "_")
        if name not in SETTINGS:
            raise UsageError(f"{origin}: there is no setting {key!r}{_nearest(key)}")
        found[name] = Said(_of_kind(name, key, value, origin), origin)
    return found


def of_environment(environment: Mapping[str, str]) -> dict[str, Said]:
    """
    Return the settings in the variables of *environment*.

    Raises:
        UsageError: A value cannot be used.
    """
    found = {}
    for name in SETTINGS:
        variable = VARIABLE + name.upper()
        if text := environment.get(variable):
            found[name] = Said(_of_text(name, text, f"${variable}"), f"${variable}")
    return found


def unknown_variables(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each variable that is meant as a setting, and is none."""
    yield from _of_others(environment)
    for variable in sorted(environment):
        name = variable.removeprefix(VARIABLE)
        if name == variable or name in RESERVED or NOT_MEANT.fullmatch(name):
            continue
        if name.lower() not in SETTINGS:
            nearest = difflib.get_close_matches(name.lower(), SETTINGS, 1)
            hints = [f"; the nearest is ${VARIABLE}{n.upper()}" for n in nearest]
            yield f"${variable} is no setting{''.join(hints)}"


def _of_others(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each variable that configures another server."""
    for variable in sorted(environment):
        name = variable.removeprefix(UNREAD[0])
        # Kubernetes sets some where a service is called uvicorn.
        of_kubernetes = (
            NOT_MEANT.fullmatch(name) and not environment[variable].isdigit()
        )
        if not variable.startswith(UNREAD) or of_kubernetes:
            continue
        text = f"${variable} is another server's and is not read"
        familiar = FAMILIAR.get("--" + name.lower().replace("_", "-"))
        ours = name.lower() if familiar is None else familiar.ours
        if ours in SETTINGS:
            yield f"{text}; ours is ${VARIABLE}{ours.upper()}"
        else:
            yield f"{text}; see docs/reference/coming-from.md"


def read_environment(path: str) -> None:
    """
    Set the variables in the file at *path* that are not set yet.

    Raises:
        UsageError: It cannot be read.
    """
    import dotenv  # noqa: PLC0415 - only for those who have such a file

    try:
        with open(path, encoding="utf-8") as file:
            dotenv.load_dotenv(stream=file, override=False)
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"--env-file {path} cannot be read ({exc})") from exc


def line_of(keys: tuple[str, ...], text: str) -> int:
    """
    Return the line of TOML *text* with the value at *keys*, counted from 1.

    A beginning of *text* that ends with a statement can be parsed. So the statement in
    question begins in the last line that has the key in it, and before which all can be
    parsed and lacks the value.
    """
    lines = text.splitlines(keepends=True)
    having = [n for n, line in enumerate(lines) if keys[-1] in line]
    for number in reversed(having or range(len(lines))):
        try:
            value: Any = tomllib.loads("".join(lines[:number]))
        except tomllib.TOMLDecodeError:
            continue
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if value is None:
            return number + 1
    return 1


def _nearest(key: str) -> str:
    """Return a hint which setting may be meant by *key*."""
    dashed = "--" + key.replace("_", "-")
    if (familiar := FAMILIAR.get(dashed)) is not None:
        ours = familiar.ours.replace("_", "-")
        return f"; {familiar.instead}" if familiar.instead else f"; ours is {ours}"
    names = [name.replace("_", "-") for name in SETTINGS]
    nearest = difflib.get_close_matches(key.replace("_", "-"), names, 1)
    return f"; the nearest is {nearest[0]}" if nearest else ", see `maitred config`"


def _of_kind(name: str, key: str, value: Any, origin: str) -> Any:
    """Return *value*, from a file, as its setting has it."""
    kind = KINDS[name]
    if kind == MANY and isinstance(value, str):
        value = [value]
    if not FITS[kind](value):
        what, example = EXAMPLES[kind]
        raise UsageError(f"{origin}: {key} has to be {what}, as in {key} = {example}")
    if kind == MANY:
        value = tuple(value)
    return _chosen(name, float(value) if kind == "float" else value, origin)


def _of_text(name: str, text: str, origin: str) -> Any:
    """Return the value of *text*, from the environment, as its setting has it."""
    kind = KINDS[name]
    if kind == MANY:
        return tuple(text.split())
    if kind == "str":
        return _chosen(name, text, origin)
    try:
        return TEXTS[kind].convert(text, None, None)
    except click.BadParameter as exc:
        what, _ = EXAMPLES[kind]
        raise UsageError(f"{origin}: {text!r} is not {what}") from exc


def _chosen(name: str, value: Any, origin: str) -> Any:
    """Return *value* if it is one of the possible ones."""
    choices = OPTIONS[name].choices if name in OPTIONS else ()
    if choices and value not in choices:
        nearest = difflib.get_close_matches(str(value), choices, 1)
        hint = f"; the nearest is {nearest[0]}" if nearest else ""
        raise UsageError(f"{origin}: {value!r} is none of {', '.join(choices)}{hint}")
    return value
