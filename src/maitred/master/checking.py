"""
Loading all that a service needs, and serving nothing (``maitred check``).

Invariant: what is refused here is refused by a start, in the same words. Nothing is
listened on, no file is made, and no service that runs is disturbed.
"""

from __future__ import annotations

import os
import select
import shlex
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from maitred.acceptor.listeners import TCP
from maitred.accounts import group_of
from maitred.config import MOST_PORT, PROXY_MARK, Settings
from maitred.errors import AppFailed, ChannelClosed, SystemRefused, UsageError
from maitred.routing import Seal
from maitred.wire.messages import Failed

from .attendant import load_token
from .processes import how_it_ended
from .program import checked_router, command_of
from .secret import load_keys
from .starting import demand_program, refused_for_good
from .workers import Worker

LOAD: Final = "load"
"The argument of a worker that only loads its application."


def look(settings: Settings) -> dict[str, bytes]:
    """
    Read what a master reads; return the keys that seal slots.

    Raises:
        UsageError: A setting cannot be used.
        SystemRefused: The system refuses what a setting needs.
    """
    keys = load_keys(settings.sticky_key_file, settings.user)
    checked_router(settings, Seal(keys, settings.slots))
    load_token(settings.admin_token_file, settings.user)
    if settings.control_group:
        group_of("--control-group", settings.control_group)
    for bind in settings.bind:
        _look_at_bind(bind.removesuffix(PROXY_MARK))
    for bind in filter(None, (settings.admin, settings.agent)):
        _look_at_bind(bind)
    for option, path in (("--pid", settings.pid), ("--log-file", settings.log_file)):
        place = path if os.path.exists(path) else os.path.dirname(path)
        if path and not os.access(place, os.W_OK):
            raise SystemRefused(f"{option} {path} cannot be written")
    return keys


def load(settings: Settings, keys: dict[str, bytes]) -> None:
    """
    Run what comes before the first worker is ready; errors are those of a start.

    Raises:
        AppFailed: The application cannot be loaded, with its own traceback.
        SystemRefused: A worker cannot be started.
    """
    try:
        _load(settings, keys)
    except SystemRefused as exc:
        raise (refused_for_good(exc) or exc) from exc.__cause__


def _load(settings: Settings, keys: dict[str, bytes]) -> None:
    """
    Load the application in a process of its own, as a worker does; run no lifespan.

    Raises:
        AppFailed: It cannot be loaded, with its own traceback.
        SystemRefused: A worker cannot be started.
    """
    if settings.attach:
        return
    if settings.exec:
        demand_program(shlex.split(settings.target)[0], settings.chdir)
        return
    # What it says goes to standard error, and no file is made.
    quiet = replace(settings, log_file="")
    command = command_of(quiet, LOAD)
    worker = Worker.start(0, 0, 1, command, keys, directory=settings.chdir)
    ended = select.poll()
    ended.register(worker.process.pidfd, select.POLLIN)
    if not ended.poll(settings.ready_timeout * 1000):
        worker.process.kill()
        ended.poll()
        worker.process.reap()
        raise AppFailed(
            f"{settings.target} was not loaded within --ready-timeout"
            f" {settings.ready_timeout:g} s",
            "",
        )
    code = worker.process.reap()
    failures = list(_failures(worker))
    worker.channel.close()
    if failures:
        why, traceback = failures[0]
        raise AppFailed(why.decode(), traceback.decode(errors="replace"))
    if worker.process.refused is not None:
        raise worker.process.refused
    if code:
        raise AppFailed(
            f"the process that loaded {settings.target} {how_it_ended(code)}",
            worker.process.stack,
        )


def _failures(worker: Worker) -> Iterator[Failed]:
    try:
        while messages := worker.channel.receive_nowait():
            yield from (each for each in messages if isinstance(each, Failed))
    except ChannelClosed:
        pass


def _look_at_bind(bind: str) -> None:
    """
    Check that *bind* can be an address of this machine; listen on nothing.

    Raises:
        UsageError: It is no address.
        SystemRefused: It cannot be listened on.
    """
    if bind.startswith("unix:"):
        path = bind.removeprefix("unix:")
        place = os.path.dirname(path) or "."
        if not path:
            raise UsageError(f"--bind {bind} needs a path, as in unix:/run/app.sock")
        if not path.startswith("@") and not os.path.isdir(place):
            raise SystemRefused(f"cannot listen on {bind}: there is no {place}")
        return
    if bind.startswith("fd://"):
        if not bind.removeprefix("fd://").isdigit():
            raise UsageError(f"--bind {bind}: fd:// needs a number, as in fd://3")
        return
    _look_at_address(bind)


def _look_at_address(bind: str) -> None:
    match = TCP.fullmatch(bind)
    if match is None or int(match["port"]) > MOST_PORT:
        raise UsageError(
            f"--bind {bind} is not host:port, [v6]:port, :port, unix:/path or fd://N"
        )
    host = match["v6"] or match["host"] or None
    try:
        # Port 0: whoever listens there now is not in the way.
        found = socket.getaddrinfo(
            host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as exc:
        raise SystemRefused(
            f"cannot listen on {bind}: {host!r} is not a known host ({exc.strerror})"
        ) from exc
    failures = []
    for family, _, _, _, address in found:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            try:
                sock.bind(address)
            except OSError as exc:
                failures.append(exc)
    if len(failures) == len(found):
        raise SystemRefused(f"cannot listen on {bind}: {failures[0].strerror}")
