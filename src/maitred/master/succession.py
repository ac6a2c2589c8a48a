"""
How a master goes on as another program: new code, in the same process.

    snapshot    all it knows as plain data, and a table of the descriptors it owns
    rehearsal   the program that is on disk now, in a process of its own, makes a master
                of the snapshot and leaves: no loop turns, nothing is read or sent
    takeover    a new snapshot, then execve: the process, its children and what it has
                open stay, the program is another

The snapshot travels in an anonymous file (memfd), whose number stands in the
environment.

Invariants: what cannot be rebuilt is found out in the rehearsal, while the old program
serves. Until execve succeeds everything can be put back, and is. Of what is open only
the descriptors of the table survive it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn

from maitred import logs
from maitred.errors import SystemRefused, UpgradeRefused
from maitred.upgrade import serialize as plain
from maitred.upgrade.snapshot import REHEARSAL, TAKEOVER, VARIABLE, Kind

from .processes import Process, how_it_ended

TURNS: Final = 4
"""
Turns of the loop from blocking all signals until none is under way any more: asyncio
reads that it came, then queues its handler, then calls it.
"""
LONGEST_REPORT: Final = 64 * 1024
"Bytes of what a failed rehearsal printed that are shown: the last."


def command() -> list[str]:
    """Return the command line of the program as it is on disk now."""
    return [sys.executable, *sys.orig_argv[1:]]


def paper(snapshot: dict[str, Any]) -> int:
    """
    Write *snapshot* into an anonymous file; the caller owns the descriptor.

    Raises:
        UpgradeRefused: It is not plain data, or the system refuses the memory.
    """
    try:
        text = plain.write(snapshot)
        fd = os.memfd_create("maitred-snapshot", os.MFD_CLOEXEC)
    except (TypeError, ValueError, OSError) as exc:
        raise UpgradeRefused(f"no snapshot could be made ({exc})") from exc
    try:
        with open(fd, "wb", closefd=False) as out:
            out.write(text)
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError as exc:
        os.close(fd)
        raise UpgradeRefused(f"no snapshot could be made ({exc})") from exc
    return fd


async def rehearse(
    snapshot: dict[str, Any], seconds: float, given_up: asyncio.Future[None]
) -> None:
    """
    Check that the program on disk can make a master of *snapshot*.

    Args:
        snapshot: What would be left to it.
        seconds: How long it may take.
        given_up: Done when the answer is of no use any more.

    Raises:
        UpgradeRefused: It cannot.
    """
    with contextlib.ExitStack() as undo:
        fd = paper(snapshot)
        undo.callback(os.close, fd)
        own = [fd for fd, kind in snapshot["descriptors"] if kind == Kind.OWN]
        try:
            report = os.memfd_create("maitred-rehearsal", os.MFD_CLOEXEC)
            undo.callback(os.close, report)
            process = Process(
                command(),
                {VARIABLE: f"{fd}:{REHEARSAL}"},
                (fd, *own),
                output=report,
                seconds=int(seconds) + 1,
            )
        except (SystemRefused, OSError) as exc:
            raise UpgradeRefused(f"the new code could not be started ({exc})") from exc
        code = await _end_of(process, seconds, given_up)
        if code:
            said = os.pread(report, LONGEST_REPORT, _start_of_end(report))
            raise _failed(code, said.decode(errors="replace").strip())


async def _end_of(
    process: Process, seconds: float, given_up: asyncio.Future[None]
) -> int:
    """
    Wait for the end of *process*, kill it if it is late; return its exit code.

    Raises:
        UpgradeRefused: It took longer than *seconds*, or was *given_up*.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def note() -> None:
        loop.remove_reader(process.pidfd)
        ended.set_result(None)

    loop.add_reader(process.pidfd, note)
    try:
        await asyncio.wait(
            {ended, given_up}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        loop.remove_reader(process.pidfd)
        if not ended.done():
            process.kill()
        code = process.reap()
    if given_up.done():
        raise UpgradeRefused("the service is stopping")
    if not ended.done():
        raise UpgradeRefused(f"the new code was not ready within {seconds:g} s")
    return code


def _start_of_end(report: int) -> int:
    return max(os.fstat(report).st_size - LONGEST_REPORT, 0)


def _failed(code: int, said: str) -> UpgradeRefused:
    """Return the error of a rehearsal that printed *said* and ended with *code*."""
    last = said.rpartition("\n")[2].removeprefix("maitred: ")
    why = f"the new code cannot take over: it {how_it_ended(code)}"
    return UpgradeRefused(f"{why}: {last}" if last else why, said)


async def take_over(write: Callable[[], dict[str, Any]]) -> NoReturn:
    """
    Exec the program that is on disk now. Never returns if that succeeds.

    A signal that comes meanwhile stays pending for the successor. One that came before
    is still handled here. (The thread of the log handles none.)

    Args:
        write: Returns the snapshot.

    Raises:
        UpgradeRefused: The system refuses it; nothing has changed.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        _become(write())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _become(snapshot: dict[str, Any]) -> NoReturn:
    fd = paper(snapshot)
    numbers = [fd, *(fd for fd, _ in snapshot["descriptors"])]
    try:
        for number in numbers:
            os.set_inheritable(number, True)
        logs.flush()
        environment = {**os.environ, VARIABLE: f"{fd}:{TAKEOVER}"}
        os.execve(sys.executable, command(), environment)  # noqa: S606 - no shell
    except OSError as exc:
        raise UpgradeRefused(
            f"the new code could not be started ({exc.strerror})"
        ) from exc
    finally:
        for number in numbers:
            os.set_inheritable(number, False)
        os.close(fd)
    raise AssertionError("execve came back")
