"""
The control socket: a Unix socket, mode 0600, on which the master answers.

Invariants: who is an operator is the kernel's word: the master's own user, and root.
Whoever else the file lets in may ask what changes nothing and tells no secret. A
request has a size and a deadline, and so has the taking of each line of an answer. The
file is removed only if it is still ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import struct
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from typing import Any, Final

from maitred.errors import CommandFailed, SystemRefused, UsageError

from .commands import COMMANDS, Level, Request, encode, read_request
from .places import answers, directories, is_safe

LONGEST_REQUEST: Final = 64 * 1024
DEADLINE: Final = 5.0
MOST_OF_MEMBER: Final = 16
MOST_OF_MEMBERS: Final = 32
"""
Conversations that a user may have at once who may only look, and all such users. They
fit what the master keeps for others than clients (desk.RESERVE), and none lasts: each
line has its deadline, and what takes its time is for operators.
"""
TOO_MANY: Final = (
    f"no more than {MOST_OF_MEMBER} conversations of a user who is no operator, and"
    f" {MOST_OF_MEMBERS} of all, are possible at once; end one and ask again"
)
PAUSE: Final = 0.5
"Seconds without accepting after the system said that it has nothing left."
CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))

WITHOUT: Final = (
    ", such as /dev/shm/maitred/control.sock, or do without one: --control none"
)
"What to do where no file can be made."

Lines = AsyncGenerator[Mapping[str, Any]]
Answer = Callable[[Request], Mapping[str, Any] | Lines]
"Gives the fields of an answer, or, for one that takes time, its lines one by one."


class ControlServer:
    """Listens on the control socket and answers commands."""

    def __init__(
        self,
        path: str,
        answer: Answer,
        ours: tuple[int, int] | None = None,
        *,
        group: int | None = None,
        user: str = "",
    ) -> None:
        """
        Listen on *path*; ``serve`` then answers.

        Args:
            path: The socket's file, mode 0600; its directory is made, 0700, if it is
                missing.
            answer: Answers one command; the values must be JSON.
            ours: The listening descriptor, which this object then owns, and the file's
                inode, if a predecessor has made them; nothing is made then.
            group: The group whose members may connect, too, and ask what is read-only.
            user: The user that the service will run as; empty: this process's.

        Raises:
            SystemRefused: Another master has the socket, or it cannot be made.
        """
        self.path = path
        self._answer = answer
        self._loop: asyncio.AbstractEventLoop | None = None
        self._resume: asyncio.TimerHandle | None = None
        self._conversations: set[asyncio.Task[None]] = set()
        # How many of them each user has who may only look.
        self._members: Counter[int] = Counter()
        # Whose answer takes time, and what they asked.
        self._patient: dict[asyncio.Task[None], tuple[socket.socket, str]] = {}
        if ours is not None:
            fd, self._inode = ours
            self._sock = socket.socket(fileno=fd)
            self._sock.setblocking(False)
            return
        try:
            shared = group is not None or bool(user)
            _make_directory(os.path.dirname(path) or ".", shared=shared)
            self._sock = _listen(path, group)
            self._inode = os.lstat(path).st_ino
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                raise SystemRefused(
                    f"another master answers on control socket {path}; stop it, or give"
                    " this one a name of its own with --name NAME"
                ) from exc
            hint = WITHOUT if exc.errno == errno.EROFS else ""
            raise SystemRefused(
                f"cannot use control socket {path}: {exc.strerror or exc}; choose"
                f" another with --control PATH{hint}"
            ) from exc

    def serve(self) -> None:
        """Start to accept and answer; needs a running event loop."""
        self._loop = loop = asyncio.get_running_loop()
        loop.add_reader(self._sock.fileno(), self._accept, loop)

    def _accept(self, loop: asyncio.AbstractEventLoop) -> None:
        """
        Accept one connection and start its conversation.

        This is not left to asyncio's server, because at the limit of descriptors that
        one asks the kernel for a connection again and again, and logs a traceback each
        time (cpython#151615).
        """
        try:
            sock, _ = self._sock.accept()
        except BlockingIOError:
            return
        except OSError:
            loop.remove_reader(self._sock.fileno())
            self._resume = loop.call_later(PAUSE, self.serve)
            return
        uid = _uid_of(sock)
        if uid in operators():
            self._begin(self._converse(sock))
        elif self._may_begin(uid):
            self._members[uid] += 1
            task = self._begin(self._converse(sock))
            task.add_done_callback(lambda _: self._members.subtract([uid]))
        else:
            with sock, contextlib.suppress(OSError):
                sock.setblocking(False)
                sock.send(encode({"ok": False, "error": TOO_MANY}))

    def _may_begin(self, uid: int) -> bool:
        """Return whether *uid*, no operator, may have one conversation more."""
        # Adding drops users with a count of 0, because they would stay for ever.
        self._members += Counter()
        few = self._members.total() < MOST_OF_MEMBERS
        return few and self._members[uid] < MOST_OF_MEMBER

    def _begin(self, conversation: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(conversation)
        self._conversations.add(task)
        task.add_done_callback(self._conversations.discard)
        return task

    async def fall_silent(self) -> None:
        """
        Stop accepting until ``serve``, and wait until short conversations have ended.

        Those of commands that take their time go on; ``state`` hands them over.
        """
        assert self._loop is not None
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self._sock.fileno())
        while short := self._conversations - self._patient.keys():
            # Only for a moment, because one of them may turn out to take its time.
            await asyncio.wait(short, timeout=PAUSE / 10)

    def state(self, own: Callable[[int], int]) -> dict[str, Any]:
        """
        Return the state for a successor as JSON; call ``fall_silent`` before.

        Args:
            own: Adds a descriptor to a table and returns its index there.
        """
        return {
            "path": self.path,
            "sock": own(self._sock.fileno()),
            "inode": self._inode,
            "patient": [[own(s.fileno()), c] for s, c in self._patient.values()],
        }

    def resume(self, fd: int, command: str, answer: Mapping[str, Any] | Lines) -> None:
        """
        Send *answer* on *fd*, a connection on which a predecessor was asked *command*.

        The descriptor is closed when the answer has been sent.
        """
        self._begin(self._converse_on(socket.socket(fileno=fd), command, answer))

    async def finish(self) -> None:
        """Wait until commands that take their time are answered, at most DEADLINE."""
        if self._patient:
            await asyncio.wait(set(self._patient), timeout=DEADLINE)

    def close(self) -> None:
        """Close the socket, end all conversations, remove the file if it is ours."""
        if self._resume is not None:
            self._resume.cancel()
        if self._loop is not None:
            self._loop.remove_reader(self._sock.fileno())
        for conversation in self._conversations:
            conversation.cancel()
        self._sock.close()
        with contextlib.suppress(OSError):
            if os.lstat(self.path).st_ino == self._inode:
                os.unlink(self.path)

    async def _converse(self, sock: socket.socket) -> None:
        try:
            reader, writer = await asyncio.open_unix_connection(
                sock=sock, limit=LONGEST_REQUEST
            )
        except OSError:
            sock.close()
            return
        try:
            async with asyncio.timeout(DEADLINE):
                line = await reader.readline()
            if line:
                await self._reply(line, writer, sock)
        except (TimeoutError, ValueError, ConnectionError):
            pass  # silence, a line without end, or gone: there is nobody to tell
        finally:
            writer.close()

    async def _converse_on(
        self, sock: socket.socket, command: str, answer: Mapping[str, Any] | Lines
    ) -> None:
        _, writer = await asyncio.open_unix_connection(sock=sock)
        try:
            await self._give(answer, command, writer, sock)
        except (TimeoutError, ConnectionError):
            pass  # as above
        finally:
            writer.close()

    async def _reply(
        self, line: bytes, writer: asyncio.StreamWriter, sock: socket.socket
    ) -> None:
        try:
            request = read_request(line)
            if COMMANDS[request.command].level is not Level.READ:
                _demand_operator(sock, request.command)
            answer = self._answer(request)
        except (UsageError, CommandFailed) as exc:
            await _write(writer, _sorry(exc))
        else:
            await self._give(answer, request.command, writer, sock)

    async def _give(
        self,
        answer: Mapping[str, Any] | Lines,
        command: str,
        writer: asyncio.StreamWriter,
        sock: socket.socket,
    ) -> None:
        if isinstance(answer, Mapping):
            await _write(writer, {"ok": True, **answer})
            return
        task = asyncio.current_task()
        assert task is not None
        try:
            async with contextlib.aclosing(answer) as lines:
                self._patient[task] = (sock, command)
                async for each in lines:
                    await _write(writer, each)
        except (UsageError, CommandFailed) as exc:
            await _write(writer, _sorry(exc))
        finally:
            self._patient.pop(task, None)


def _sorry(exc: UsageError | CommandFailed) -> dict[str, Any]:
    said = {"ok": False, "error": str(exc)}
    return said | (
        {"traceback": exc.traceback} if isinstance(exc, CommandFailed) else {}
    )


async def _write(writer: asyncio.StreamWriter, line: Mapping[str, Any]) -> None:
    """Write *line*; raise TimeoutError if it is not taken within DEADLINE seconds."""
    writer.write(encode(line))
    async with asyncio.timeout(DEADLINE):
        await writer.drain()


def operators() -> set[int]:
    """Return the user ids that may use every command: root, and our own."""
    return {0, os.geteuid()}


def _uid_of(sock: socket.socket) -> int:
    """Return the user id that connected *sock*, as the kernel knows it."""
    credentials = sock.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size
    )
    uid: int
    _, uid, _ = CREDENTIALS.unpack(credentials)
    return uid


def _demand_operator(sock: socket.socket, command: str) -> None:
    """
    Check that *sock* was connected by an operator, who may use *command*.

    Raises:
        UsageError: It was neither root nor our own user.
    """
    if _uid_of(sock) not in operators():
        raise UsageError(
            f"{command} is for operators, the master's own user and root; you may ask"
            " what is read-only"
        )


def _make_directory(directory: str, *, shared: bool) -> None:
    is_made = not os.path.isdir(directory)
    if is_made:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    if not is_safe(directory):
        raise PermissionError(
            errno.EACCES, f"its directory {directory} is open to others"
        )
    ours = os.stat(directory).st_uid == os.geteuid() and directory in directories()
    if shared and (is_made or ours):
        # Open to all, because each file in it says whom it lets in. Not a directory
        # that somebody has chosen, because its mode is their decision.
        os.chmod(directory, 0o755)  # noqa: S103


def _listen(path: str, group: int | None) -> socket.socket:
    """
    Listen on *path*, replacing a socket on which nobody answers.

    The socket has another name until it listens, because whoever sees the file at
    *path* is to be able to connect.

    Raises:
        OSError: EADDRINUSE: somebody answers on *path*. Others: it cannot be made.
    """
    other = os.path.join(os.path.dirname(path), f".{os.getpid()}")
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        old_mask = os.umask(0o177)
        try:
            sock.bind(other)
        finally:
            os.umask(old_mask)
        undo.callback(os.unlink, other)
        if group is not None:
            os.chown(other, -1, group)
            os.chmod(other, 0o660)
        sock.listen()
        sock.setblocking(False)
        try:
            os.link(other, path)
        except FileExistsError:
            if _somebody_answers(path):
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
            os.unlink(path)
            os.link(other, path)
        undo.pop_all()
    os.unlink(other)
    return sock


def _somebody_answers(path: str) -> bool:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        # Whatever it is, it is not ours to remove.
        raise FileExistsError(errno.EEXIST, "it exists and is not a socket")
    return answers(path)
