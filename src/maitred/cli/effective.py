"""
From what was said to settings, and what each comes from.

Invariant: an error about a setting names who said so, if that was not the command line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any, Final, NamedTuple

from maitred.config import Settings, option
from maitred.errors import UsageError

from .options import OPTIONS
from .sources import TARGET, Said, gather, platform_port

DEFAULT: Final = "default"
HOST: Final = "127.0.0.1"
PORT: Final = 8000
NAMED: Final = re.compile(r"--([a-z][a-z-]*)|\btarget\b")
"What a sentence says of an option, or of the target."


class Effective(NamedTuple):
    """The settings, and where the value of each comes from, in words."""

    settings: Settings
    origins: dict[str, str]


def effective(
    *,
    config: str | None = None,
    host: str | None = None,
    port: int | None = None,
    uds: tuple[str, ...] = (),
    fd: tuple[int, ...] = (),
    bind: tuple[str, ...] = (),
    use_colors: bool | None = None,
    **options: Any,
) -> Effective:
    """
    Return the settings that hold here, and where each comes from.

    Args:
        config: The file to read instead of the usual ones.
        host: With *port* one more ``bind``, as in uvicorn.
        port: See *host*.
        uds: Paths of Unix sockets, each one more ``bind``.
        fd: Numbers of descriptors, each one more ``bind``.
        bind: The values of --bind.
        use_colors: Another way to choose ``log_format``; None: not given.
        **options: Values from the command line; None and () are not given.

    Raises:
        UsageError: A value cannot be used.
    """
    binds = [*bind, *(f"unix:{path}" for path in uds), *(f"fd://{n}" for n in fd)]
    binds += _host_and_port(host, port)
    if use_colors is not None and options.get("log_format") is None:
        options["log_format"] = "pretty" if use_colors else "plain"
    said = gather({"bind": tuple(binds), **options}, os.environ, file=config)
    if TARGET not in said and "attach" not in said:
        raise UsageError(
            "there is no target: say what to serve, as in `maitred serve app:app`, or"
            ' target = "app:app" in maitred.toml'
        )
    _call(said)
    values = {TARGET: "", **{name: each.value for name, each in said.items()}}
    for name in ("certfile", "keyfile", "sandbox_write"):
        values[name] = tuple(map(os.path.abspath, values.get(name, ())))
    for name in ("pid", "env_file", "log_config"):
        if values.get(name):
            values[name] = os.path.abspath(values[name])
    if path := values.get("log_file"):
        values["log_file"] = "" if path == "-" else os.path.abspath(path)
    if values.get("chdir"):
        values["chdir"] = os.path.abspath(values["chdir"])
    try:
        decided = {
            name: row.decide(values)
            for name, row in OPTIONS.items()
            if row.decide is not None and name not in said
        }
        settings = Settings(**decided | values)
    except UsageError as exc:
        raise UsageError(f"{exc}{_elsewhere(str(exc), said)}") from exc
    _check_directories("--chdir", [settings.chdir], said)
    _check_directories("--sandbox-write", settings.sandbox_write, said)
    if settings.log_config:
        _check_log_config(settings.log_config, said)
    names = (field.name for field in fields(Settings))
    return Effective(
        settings, {n: said[n].origin if n in said else DEFAULT for n in names}
    )


def _host_and_port(host: str | None, port: int | None) -> Iterator[str]:
    """Yield the bind of --host and --port, if one of them is given."""
    if host is None and port is None:
        return
    name = HOST if host is None else host
    if port is None:
        port = platform_port(os.environ)
    number = PORT if port is None else port
    yield f"{f'[{name}]' if ':' in name else name}:{number}"


def _call(said: dict[str, Said]) -> None:
    """Change ``app:create_app()``, as others spell it, into a factory."""
    if TARGET not in said or ("exec" in said and said["exec"].value):
        return
    target, origin = said[TARGET]
    if target.endswith("()"):
        said[TARGET] = Said(target.removesuffix("()"), origin)
        said["factory"] = Said(True, origin)


def _check_directories(
    name: str, paths: Iterable[str], said: Mapping[str, Said]
) -> None:
    for path in paths:
        if path and not os.path.isdir(path):
            text = f"{name} {path}: there is no such directory"
            raise UsageError(f"{text}{_elsewhere(name, said)}")


def _check_log_config(path: str, said: Mapping[str, Said]) -> None:
    # Few have such a file, and logging.config takes its time to load.
    from maitred.logs import config_file  # noqa: PLC0415

    try:
        config_file.load(path)
    except UsageError as exc:
        raise UsageError(f"{exc}{_elsewhere('--log-config', said)}") from exc


def _elsewhere(sentence: str, said: Mapping[str, Said]) -> str:
    """Return where the options that *sentence* names come from, if not from there."""
    names = [
        (match[1] or TARGET).replace("-", "_") for match in NAMED.finditer(sentence)
    ]
    told = [
        f"{name.replace('_', '-')}: {said[name].origin}"
        for name in dict.fromkeys(names)
        if name in said and said[name].origin not in (option(name), "the command line")
    ]
    return f" ({', '.join(told)})" if told else ""
