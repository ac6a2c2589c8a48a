"""
The sandbox of a worker: it reads what it could before, and writes in a few places only.

The master starts this file in the worker's place, as a program of its own. It confines
itself (Landlock, landlock(7)), and becomes the worker (execve(2)): what holds for it
holds for the worker, in any language, and for whatever that starts.

    python -I -S sandbox.py PAPER COMMAND...

Invariants: nothing of maitred is imported, and nothing that is installed. What cannot
be confined is not started, and the master is told why. Nothing that was confined is
ever set free.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final, NoReturn

PR_SET_NO_NEW_PRIVS: Final = 38
CREATE_RULESET: Final = 444
ADD_RULE: Final = 445
RESTRICT_SELF: Final = 446
"System calls, by the same numbers on all machines but Alpha."
VERSION: Final = 1
PATH_BENEATH: Final = 1
OLDEST: Final = 3
"The first version that keeps files outside from being truncated (Linux 6.2)."

WRITE_FILE: Final = 1 << 1
REMOVE_DIR: Final = 1 << 4
REMOVE_FILE: Final = 1 << 5
MAKE: Final = 0b1111111 << 6
"Devices, directories, files, sockets, pipes, block devices and links."
MAKE_REG: Final = 1 << 8
REFER: Final = 1 << 13
"To move a file from one directory to another."
TRUNCATE: Final = 1 << 14
OF_FILES: Final = WRITE_FILE | TRUNCATE
ALL: Final = OF_FILES | REMOVE_DIR | REMOVE_FILE | MAKE | REFER
OF_LOGS: Final = WRITE_FILE | MAKE_REG
"To append, and to begin anew when the file was renamed."

SINKS: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/tty")
SHARED: Final = ("/var/tmp", "/dev/shm")  # noqa: S108 - where others write, too
TEMPORARY: Final = "/tmp"  # noqa: S108 - likewise
METRICS: Final = "PROMETHEUS_MULTIPROC_DIR"

STACK: Final = "MAITRED_STACK"
"Names the file that the master reads when this process has ended."
NOT_STARTED: Final = 127
"The exit code of what could not become the command, as a shell has it."
REFUSAL: Final = re.compile(r"not started, errno (\d{1,4}): (.{1,4096})", re.DOTALL)


def version() -> int:
    """Return the kernel's version of Landlock; 0: it has none, or none switched on."""
    found = _libc().syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION)
    return max(int(found), 0)


def lack() -> str:
    """Return a sentence about what the kernel lacks; empty: it lacks nothing."""
    found = version()
    if not found:
        return "this kernel has no Landlock, or it is switched off"
    if found < OLDEST:
        return f"this kernel has Landlock {found}, and {OLDEST} (Linux 6.2) is needed"
    return ""


def confined(
    command: Sequence[str], *, write: Sequence[str], log_file: str
) -> list[str]:
    """
    Return the command that runs *command* in a sandbox.

    Args:
        command: The program and its arguments.
        write: Directories below which the program may write, besides those for
            temporary files; none: its working directory.
        log_file: The file to which the program may append, and which it may create;
            empty: none.
    """
    logs = os.path.dirname(log_file)
    paper = json.dumps({"write": list(write), "logs": [logs] if logs else []})
    return [sys.executable, "-I", "-S", __file__, paper, *command]


def confine(write: Iterable[str], logs: Iterable[str]) -> None:
    """
    Restrict this process, for ever, to writing in these places and to its rights.

    Args:
        write: Directories below which everything may be written.
        logs: Directories in which files may be written and created, but not removed.

    Raises:
        OSError: The kernel refuses, or a directory is not there.
    """
    handled = ctypes.c_uint64(ALL)
    size = ctypes.c_size_t(ctypes.sizeof(handled))
    rules = _call(CREATE_RULESET, ctypes.byref(handled), size, 0)
    temporary = (os.environ.get("TMPDIR") or TEMPORARY, *SHARED)
    perhaps = (*temporary, os.environ.get(METRICS, ""))
    for paths, rights in (
        (write, ALL),
        (filter(os.path.isdir, perhaps), ALL),
        (logs, OF_LOGS),
        (filter(os.path.exists, SINKS), OF_FILES),
    ):
        for path in paths:
            _allow(rules, path, rights)
    # Before the last call, because without this Landlock is for root only.
    if _libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise _error("no_new_privs")
    _call(RESTRICT_SELF, rules, 0)
    os.close(rules)


def _allow(rules: int, path: str, rights: int) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        # struct landlock_path_beneath_attr, which is packed.
        attribute = rights.to_bytes(8, sys.byteorder) + fd.to_bytes(4, sys.byteorder)
        _call(ADD_RULE, rules, PATH_BENEATH, attribute, 0)
    finally:
        os.close(fd)


def _call(number: int, *arguments: Any) -> int:
    found = int(_libc().syscall(number, *arguments))
    if found < 0:
        raise _error("Landlock")
    return found


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), what)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def refusal(code: int, told: str) -> tuple[OSError, str] | None:
    """
    Return why no worker was started, as an error and a sentence; None: one was.

    Args:
        code: The exit code of the process.
        told: The contents of the master's file, to which the process may have written.
    """
    # A signal may come between the words and the exit, as where the start of another
    # worker failed and all are ended.
    ended = code == NOT_STARTED or code < 0
    found = REFUSAL.fullmatch(told) if ended else None
    if found is None:
        return None
    number = int(found[1])
    return OSError(number, os.strerror(number)), found[2]


def _give_up(exc: OSError, why: str) -> NoReturn:
    """Write *why* the system refuses to the master's file, and exit."""
    if STACK not in os.environ:  # somebody tries this file by hand
        sys.exit(f"maitred: {why}")
    told = f"not started, errno {exc.errno or 0}: {why}"
    os.write(int(os.environ[STACK]), told.encode(errors="replace"))
    sys.exit(NOT_STARTED)


def main() -> None:
    """Confine this process and execute the command; never returns."""
    paper, *command = sys.argv[1:]
    said: dict[str, list[str]] = json.loads(paper)
    try:
        confine(said["write"] or [os.getcwd()], said["logs"])
    except OSError as exc:
        where = exc.filename or command[0]
        _give_up(exc, f"no worker in a sandbox: {where}: {exc.strerror}")
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell
    except OSError as exc:
        _give_up(exc, f"cannot start {command[0]}: {exc.strerror}")


if __name__ == "__main__":
    main()
