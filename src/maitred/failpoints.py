"""
Failpoints: the nine places on the way of a connection at which a test may strike.

    accept-queue         the master has accepted it, and notes it nowhere yet
    queue-sendmsg        the master has placed it, and is about to hand it over
    sendmsg-recvmsg      it is in the channel, and its worker is about to read that
    recvmsg-ack          the worker has it, and has not said TAKEN
    ack-read             the worker has said TAKEN, and is about to read a request
    read-app             a request was read, and the application is about to begin
    response-keepalive   the answer is made, and the worker has not noted that
    keepalive-return     the next request belongs elsewhere: about to be given back
    return-master        it is in the channel again, and the master is about to read

With MAITRED_FAILPOINTS=DIR in the environment when a process starts, each of these
functions looks for the symbolic link DIR/NAME whenever it is called. Who finds it
renames it to DIR/NAME.PID and does what it names, once; a link is read without a
descriptor. The wrappers are put on at the start: without the variable there are none,
and the functions are as they were written.

Invariant: only for tests. Nothing is wrapped, looked for or done without the variable.
"""

from __future__ import annotations

import functools
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

VARIABLE: Final = "MAITRED_FAILPOINTS"
LONGEST_WAIT: Final = 60.0
PAUSE: Final = 0.002


class Place(NamedTuple):
    """A function; the failpoint is where it begins."""

    module: str
    function: str

    @property
    def in_master(self) -> bool:
        """Whether the function runs in the master."""
        return not self.module.startswith("maitred.worker.")


PLACES: Final = {
    "accept-queue": Place("maitred.acceptor.accept_loop", "accepted"),
    "queue-sendmsg": Place("maitred.master.workers", "handoff"),
    "sendmsg-recvmsg": Place("maitred.worker.links", "Links._on_readable"),
    "recvmsg-ack": Place("maitred.worker.runtime", "Worker._take_over"),
    "ack-read": Place("maitred.worker.uvicorn_seam", "Intake.get_buffer"),
    "read-app": Place("maitred.worker.uvicorn_seam", "GatedConnection._begin"),
    "response-keepalive": Place(
        "maitred.worker.uvicorn_seam", "GatedConnection.on_response_complete"
    ),
    "keepalive-return": Place(
        "maitred.worker.uvicorn_seam", "GatedConnection.give_back"
    ),
    "return-master": Place("maitred.master.dispatcher", "Dispatcher._on_channels"),
}


def kill(_mark: Path) -> None:
    """Send KILL to this process."""
    signal.raise_signal(signal.SIGKILL)


def stop(_mark: Path) -> None:
    """Stop this process until somebody sends CONT."""
    signal.raise_signal(signal.SIGSTOP)


def exhaust(_mark: Path) -> None:
    """Lower the limit of descriptors so far that the next one cannot be opened."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first_free = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.close(first_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, hard))


def wait(mark: Path) -> None:
    """Wait until somebody has removed *mark*, at most LONGEST_WAIT seconds."""
    deadline = time.monotonic() + LONGEST_WAIT
    while os.path.lexists(mark) and time.monotonic() < deadline:
        time.sleep(PAUSE)


ACTIONS: Final[Mapping[str, Callable[[Path], None]]] = {
    "kill": kill,
    "stop": stop,
    "EMFILE": exhaust,
    "wait": wait,
}


def arm(environment: Mapping[str, str]) -> bool:
    """
    Wrap the places in modules that are loaded, if *environment* asks for it.

    Returns:
        Whether the environment does.
    """
    directory = environment.get(VARIABLE, "")
    if not directory:
        return False
    for name, place in PLACES.items():
        if place.module in sys.modules:
            owner, attribute, function = find(place)
            wrapped = _watched(function, Path(directory) / name)
            setattr(owner, attribute, wrapped)
    return True


def find(place: Place) -> tuple[Any, str, Callable[..., Any]]:
    """Return the object whose attribute *place* is, the attribute's name and value."""
    *path, attribute = place.function.split(".")
    owner = functools.reduce(getattr, path, sys.modules[place.module])
    return owner, attribute, getattr(owner, attribute)


def _watched(function: Callable[..., Any], link: Path) -> Callable[..., Any]:
    """Return *function* with a call of ``reached`` for *link* before it."""

    @functools.wraps(function)
    def watched(*args: Any, **kwargs: Any) -> Any:
        reached(link)
        return function(*args, **kwargs)

    return watched


def reached(link: Path) -> None:
    """Run the action that *link* names, if it is there and nobody was faster."""
    mark = link.with_name(f"{link.name}.{os.getpid()}")
    try:
        action = os.readlink(link)
        # Renamed before the action, because only one process succeeds in that.
        link.rename(mark)
    except FileNotFoundError:
        return
    ACTIONS[action](mark)
