"""
The control socket: a Unix socket, mode 0600, on which the master answers.

Invariants: only the master's own user and root are answered, by the kernel's word. A
request has a size and a deadline. The file is removed only if it is still ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from maitred.errors import SystemRefused, UsageError

from .commands import encode, read_request

LONGEST_REQUEST: Final = 64 * 1024
DEADLINE: Final = 5.0
CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))

Answer = Callable[[str], Mapping[str, Any]]


def default_path() -> str:
    """Say where the control socket is when nobody says otherwise."""
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return f"{runtime}/maitred/control.sock"
    if os.geteuid() == 0:
        return "/run/maitred/control.sock"
    # Anybody may make that directory: whose it is is checked before it is used.
    return f"/tmp/maitred-{os.geteuid()}/control.sock"  # noqa: S108


class ControlServer:
    """Listens on the control socket and answers commands."""

    def __init__(self, path: str, answer: Answer) -> None:
        """
        Listen on *path*; ``serve`` then answers.

        Args:
            path: The socket's file; its directory is made, 0700, if it is missing.
            answer: Answers one command; the value must be JSON.

        Raises:
            SystemRefused: Another master has it, or the system will not have it.
        """
        self.path = path
        self._answer = answer
        self._server: asyncio.Server | None = None
        try:
            _make_directory(os.path.dirname(path) or ".")
            self._sock = _listen(path)
            self._inode = os.lstat(path).st_ino
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                raise SystemRefused(
                    f"another master answers on control socket {path}; stop it, or give"
                    " this one its own with --control PATH"
                ) from exc
            raise SystemRefused(
                f"cannot use control socket {path}: {exc.strerror or exc}; choose"
                " another with --control PATH"
            ) from exc

    async def serve(self) -> None:
        """Answer from now on, in the background."""
        self._server = await asyncio.start_unix_server(
            self._converse, sock=self._sock, limit=LONGEST_REQUEST
        )

    def close(self) -> None:
        """Stop answering, and remove the file if it is still ours."""
        if self._server is not None:
            self._server.close()
        self._sock.close()
        with contextlib.suppress(OSError):
            if os.lstat(self.path).st_ino == self._inode:
                os.unlink(self.path)

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            async with asyncio.timeout(DEADLINE):
                if not _may_ask(writer.get_extra_info("socket")):
                    return
                line = await reader.readline()
                if line:
                    writer.write(self._reply(line))
                    await writer.drain()
        except (TimeoutError, ValueError, ConnectionError):
            pass  # silence, a line without end, or gone: there is nobody to tell
        finally:
            writer.close()

    def _reply(self, line: bytes) -> bytes:
        try:
            return encode({"ok": True, **self._answer(read_request(line))})
        except UsageError as exc:
            return encode({"ok": False, "error": str(exc)})


def _may_ask(sock: Any) -> bool:
    credentials = sock.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size
    )
    _, uid, _ = CREDENTIALS.unpack(credentials)
    return uid in {0, os.geteuid()}


def _make_directory(directory: str) -> None:
    if not os.path.isdir(directory):
        os.makedirs(directory, mode=0o700, exist_ok=True)
    status = os.stat(directory)
    if status.st_uid not in {0, os.geteuid()} or (
        status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX
    ):
        raise PermissionError(
            errno.EACCES, f"its directory {directory} is open to others"
        )


def _listen(path: str) -> socket.socket:
    """Bind *path* with mode 0600, replacing a socket on which nobody answers."""
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        old_mask = os.umask(0o177)
        try:
            try:
                sock.bind(path)
            except OSError as exc:
                if exc.errno != errno.EADDRINUSE or _somebody_answers(path):
                    raise
                os.unlink(path)
                sock.bind(path)
        finally:
            os.umask(old_mask)
        sock.listen()
        sock.setblocking(False)
        undo.pop_all()
    return sock


def _somebody_answers(path: str) -> bool:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        # Whatever it is, it is not ours to remove.
        raise FileExistsError(errno.EEXIST, "it exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
    return True
