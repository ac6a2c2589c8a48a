"""
The file of ``--log-config``: what an operator says of an application's loggers.

Its kind is seen by its suffix, as uvicorn does: .json, .yaml and .yml are for
``logging.config.dictConfig``, everything else is INI for ``fileConfig``.

Invariant: reading a file runs no code of the application. The master reads it in order
to refuse it; only a worker applies it, and so only a worker finds a class missing.
"""

from __future__ import annotations

import configparser
import json
import logging
import logging.config
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from maitred.errors import UsageError

LARGEST: Final = 256 * 1024
"Characters that a file may have."
Parsed = dict[str, Any] | configparser.ConfigParser
REFERENCES: Final[Mapping[str, Mapping[str, str]]] = {
    "handlers": {"formatter": "formatters", "filters": "filters"},
    "loggers": {"handlers": "handlers", "filters": "filters"},
}
"For each table, the keys of its entries that name entries of another table."
INI_TABLES: Final = {
    "loggers": "logger",
    "handlers": "handler",
    "formatters": "formatter",
}


def load(path: str) -> Parsed:
    """
    Parse the file at *path*, and check all that can be checked without applying it.

    Raises:
        UsageError: The file cannot be read, or logging.config would refuse it.
    """
    parse, check = PARSERS.get(os.path.splitext(path)[1], (_ini, _faults_of_ini))
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise ValueError(f"it is larger than {LARGEST // 1024} KiB")
        parsed: Parsed = parse(text, path)
        for fault in check(parsed):
            raise ValueError(fault)
    except OSError as exc:
        raise UsageError(
            f"--log-config {path}: it cannot be read ({exc.strerror})"
        ) from exc
    except (ValueError, RecursionError, configparser.Error) as exc:
        raise UsageError(f"--log-config {path}: {_one_line(exc)}") from exc
    return parsed


def apply(path: str) -> None:
    """
    Configure this process's loggers as the file at *path* says.

    Raises:
        UsageError: The file cannot be read or applied; a part of it may be in force.
    """
    parsed = load(path)
    try:
        if isinstance(parsed, dict):
            logging.config.dictConfig(parsed)
        else:  # as uvicorn and gunicorn do
            logging.config.fileConfig(parsed, disable_existing_loggers=False)
    # Every exception, because the file names classes and functions, which may raise
    # anything.
    except (Exception, SystemExit) as exc:
        raise UsageError(f"--log-config {path}: {_one_line(exc)}") from exc


def _one_line(exc: BaseException) -> str:
    """Return the texts of *exc* and its cause in one line."""
    text = " ".join(str(exc).split()) or type(exc).__name__
    # dictConfig says which entry it could not configure, and only its cause says why.
    why = _one_line(exc.__cause__) if exc.__cause__ else ""
    return text if why in text else f"{text}: {why}"


def _json(text: str, _path: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as exc:
        raise ValueError(f"it is not JSON: {exc}") from None


def _yaml(text: str, _path: str) -> Any:
    try:
        import yaml  # noqa: PLC0415 - only for those who have such a file
    except ImportError as exc:
        raise ValueError(
            "PyYAML is needed for it: install maitred[yaml], or write JSON into a"
            " .json file"
        ) from exc
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise ValueError(f"it is not YAML: {exc}") from None


def _ini(text: str, path: str) -> configparser.ConfigParser:
    # gunicorn defines these two for what stands in the file.
    known = {"__file__": path, "here": os.path.dirname(path)}
    parser = configparser.ConfigParser(
        {name: value.replace("%", "%%") for name, value in known.items()}
    )
    parser.read_string(text, path)
    return parser


def _faults_of_ini(parsed: configparser.ConfigParser) -> Iterator[str]:
    """Yield a sentence for each section that fileConfig would miss."""
    for table, singular in INI_TABLES.items():
        if not parsed.has_option(table, "keys"):
            yield f"a section [{table}] with `keys` is needed"
            continue
        names = [name.strip() for name in parsed[table]["keys"].split(",")]
        for name in filter(None, names):
            if not parsed.has_section(f"{singular}_{name}"):
                yield f"[{table}] names {name!r}, and there is no [{singular}_{name}]"
    if not parsed.has_section("logger_root"):
        yield "a section [logger_root] is needed"


def _faults_of_dict(parsed: Any) -> Iterator[str]:
    """Yield a sentence for each thing that dictConfig would refuse."""
    if not isinstance(parsed, dict):
        yield "an object is needed, as logging.config.dictConfig takes it"
        return
    if parsed.get("version") != 1:
        yield "`version` has to be 1"
    tables = {name: parsed.get(name, {}) for name in (*REFERENCES, "formatters")}
    tables["filters"] = parsed.get("filters", {})
    for name, table in tables.items():
        if not isinstance(table, dict):
            yield f"`{name}` has to be an object"
            return
    loggers = {**tables["loggers"], "root": parsed.get("root", {})}
    for kind, entries in (("handlers", tables["handlers"]), ("loggers", loggers)):
        for name, entry in entries.items():
            yield from _faults_of_entry(kind, name, entry, tables, parsed)


def _faults_of_entry(
    kind: str, name: str, entry: Any, tables: Mapping[str, Any], parsed: dict[str, Any]
) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong with one handler or logger."""
    who = f"{kind.removesuffix('s')} {name!r}"
    if not isinstance(entry, dict):
        yield f"{who} has to be an object"
        return
    level = entry.get("level", 0)
    if _is_plain(level) and level not in logging.getLevelNamesMapping():
        yield f"{who}: there is no level {level!r}"
    if parsed.get("incremental"):  # it names what exists already
        return
    for key, table in REFERENCES[kind].items():
        named = entry.get(key)
        if key == "formatter":
            named = [named]
        elif _is_plain(named):
            yield f"{who}: `{key}` has to be a list"
        for each in named if isinstance(named, list) else []:
            if _is_plain(each) and each not in tables[table]:
                yield f"{who}: there is no {each!r} in `{table}`"


def _is_plain(value: Any) -> bool:
    """Return whether *value* is a text that means itself, unlike ``ext://...``."""
    return isinstance(value, str) and "://" not in value


PARSERS: Final[
    Mapping[str, tuple[Callable[[str, str], Any], Callable[[Any], Iterator[str]]]]
] = {
    ".json": (_json, _faults_of_dict),
    ".yaml": (_yaml, _faults_of_dict),
    ".yml": (_yaml, _faults_of_dict),
}
