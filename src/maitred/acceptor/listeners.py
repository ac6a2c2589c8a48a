"""
Where connections come from: ``--bind`` and the sockets it opens.

    host:port   [v6]:port   :port (all addresses)   unix:/path   unix:@name   fd://N

with ``,proxy`` behind where connections begin with a PROXY header.

What whoever started us has opened there already is taken instead of opened again.

Invariants: a path is only ever unlinked if the socket there is the one we bound (by
inode), or nobody answers on it. Port 0 asks for a free port, the same one for every
address of that bind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from maitred.config import MOST_PORT, PROXY_MARK
from maitred.errors import SystemRefused, UsageError
from maitred.upgrade.snapshot import Past, Table

from .collision import hint_for
from .socket_activation import Inherited
from .socket_options import keep_alive
from .socket_places import MAPPED, unix_address

TCP: Final = re.compile(
    r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})"
)
DEFER_ACCEPT_SECONDS: Final = 1
"""
The kernel holds a new connection back until its first bytes are there, or about this
long (tcp(7), TCP_DEFER_ACCEPT): then the first peek nearly always succeeds.
"""

NO_SUCH_ADDRESS: Final = frozenset(
    {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}
)
NEVER_MIND: Final = frozenset(
    # The client left between its connect and our accept (accept(2), "Error handling").
    {errno.ECONNABORTED, errno.EINTR, errno.EPROTO, errno.ENETDOWN, errno.EHOSTUNREACH,
     errno.ENETUNREACH, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.EOPNOTSUPP,
     errno.EPERM}
)  # fmt: skip
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclass(slots=True, eq=False)
class Listener:
    """
    One listening socket we own.

    Args:
        sock: Listening, non-blocking.
        name: As the operator would write it.
        local: Its address and port, where every connection has the same; a Unix
            socket has none; None: ask the connection.
        path: The file we bound, for a Unix socket of ours.
        inode: The file's device and inode, by which it is known to be ours.
        proxy: Whether its connections begin with a PROXY header.
        kept: Whether somebody else holds the socket too, for the next master.
        bind: The option and the text that it was opened for, if that says port 0: the
            address alone does not say it.
        accepted: How many connections this process accepted from it.
    """

    sock: socket.socket
    name: str
    local: tuple[bytes, int] | None
    path: str | None = None
    inode: tuple[int, int] | None = None
    proxy: bool = False
    kept: bool = False
    bind: str = ""
    accepted: int = 0
    _kind: tuple[int, int, int] = field(init=False)

    def __post_init__(self) -> None:
        """Set TCP_NODELAY, and record the kind of its connections for ``accept``."""
        # As numbers, because Python's names for them cost time with each connection.
        self._kind = int(self.sock.family), int(self.sock.type), self.sock.proto
        if self.sock.family != socket.AF_UNIX:
            # Accepted connections inherit it, whoever serves them. Without it, the
            # second write of an answer waits until the client has acknowledged the
            # first, which takes Linux 40 ms.
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def accept(self) -> tuple[socket.socket, Any]:
        """
        Accept one connection, which the caller owns; return its client's address too.

        As ``socket.accept`` does, in half the time.

        Raises:
            OSError: There is none, or no descriptor for it (accept(2)).
        """
        fd, address = self.sock._accept()  # type: ignore[attr-defined]  # noqa: SLF001
        return socket.socket(*self._kind, fileno=fd), address

    def close(self) -> None:
        """Close the socket, and remove its file if that is ours alone."""
        self.sock.close()
        if self.path is not None and not self.kept:
            with contextlib.suppress(OSError):
                if inode_of(self.path) == self.inode:
                    os.unlink(self.path)

    def state(self, table: Table) -> dict[str, Any]:
        """Return the state for a successor."""
        return {
            "sock": table.own(self.sock.fileno()),
            "name": self.name,
            "local": self.local,
            "path": self.path,
            "inode": self.inode,
            "proxy": self.proxy,
            "kept": self.kept,
        }


def restored(state: dict[str, Any], past: Past) -> Listener:
    """Return the listener that ``state`` wrote, with its socket."""
    sock = socket.socket(fileno=past.take(state["sock"]))
    sock.setblocking(False)
    pairs = {name: state[name] and tuple(state[name]) for name in ("local", "inode")}
    return Listener(**state | pairs | {"sock": sock})


def open_listeners(
    binds: tuple[str, ...],
    backlog: int,
    *,
    uds_mode: int = 0o666,
    proxy: bool = False,
    inherited: Inherited | None = None,
    option: str = "--bind",
) -> list[Listener]:
    """
    Listen on every one of *binds*.

    Args:
        binds: Texts of the forms above.
        backlog: Connections the kernel may hold for us (listen(2)).
        uds_mode: The mode of the file of a Unix socket: who may connect.
        proxy: Whether all connections, and not those of marked binds alone, begin
            with a PROXY header.
        inherited: Sockets that were passed to us; each that a bind is for is taken
            out.
        option: The option in which the operator gave *binds*.

    Raises:
        UsageError: One of them cannot be read.
        SystemRefused: One of them cannot be listened on. None is left open.
    """
    given = inherited or Inherited()
    opened: dict[int, list[Listener]] = {}
    with contextlib.ExitStack() as undo:
        # Port 0 is last: it takes any port that was passed and is no other bind's.
        asked = [f"{option} {bind}" for bind in binds]
        for index in sorted(range(len(binds)), key=lambda i: _order(asked[i], given)):
            ours = [each.sock for found in opened.values() for each in found]
            opened[index] = _open(binds[index], backlog, uds_mode, given, option, ours)
            for listener in opened[index]:
                listener.proxy = proxy or asked[index].endswith(PROXY_MARK)
                listener.bind = asked[index] if _port_is_free(asked[index]) else ""
                undo.callback(listener.close)
        undo.pop_all()
    return [listener for index in sorted(opened) for listener in opened[index]]


def accept_at_once(listeners: Iterable[Listener]) -> None:
    """Accept on *listeners* before bytes come: the server may have to speak first."""
    for listener in listeners:
        if listener.sock.family != socket.AF_UNIX:
            listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 0)


def _order(asked: str, given: Inherited) -> tuple[bool, bool]:
    return _port_is_free(asked), not given.knows(asked)


def _port_is_free(bind: str) -> bool:
    return bind.removesuffix(PROXY_MARK).endswith(":0")


def _open(
    marked: str,
    backlog: int,
    uds_mode: int,
    given: Inherited,
    option: str,
    ours: list[socket.socket],
) -> list[Listener]:
    bind = marked.removesuffix(PROXY_MARK)
    asked = f"{option} {marked}"
    passed = [sock for _, sock in given.sockets]
    try:
        if bind.startswith("unix:"):
            path = bind.removeprefix("unix:")
            address = unix_address(path)
            if (sock := given.take(socket.AF_UNIX, address, asked)) is not None:
                sock.listen(backlog)
                return [Listener(sock, bind, (b"", 0), kept=True)]
            return [_unix(bind, path, backlog, uds_mode)]
        if bind.startswith("fd://"):
            return [_inherited(bind, bind.removeprefix("fd://"), backlog, given)]
        return _tcp(bind, asked, backlog, given)
    except OSError as exc:
        hint = hint_for(exc, bind, option, passed, ours)
        raise SystemRefused(
            f"cannot listen on {bind}: {exc.strerror or exc}{hint}"
        ) from exc


def _tcp(bind: str, asked: str, backlog: int, given: Inherited) -> list[Listener]:
    match = TCP.fullmatch(bind)
    if match is None or int(match["port"]) > MOST_PORT:
        raise UsageError(
            f"--bind {bind} is not host:port, [v6]:port, :port, unix:/path or fd://N"
        )
    host, port = match["v6"] or match["host"] or None, int(match["port"])
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as exc:
        raise SystemRefused(
            f"cannot listen on {bind}: {host!r} is not a known host ({exc.strerror})"
        ) from exc
    listeners: list[Listener] = []
    absent: OSError | None = None
    with contextlib.ExitStack() as undo:
        for family, _, _, _, address in dict.fromkeys(found):
            if listeners:  # port 0: the others take what the first was given
                port = listeners[0].sock.getsockname()[1]
            place = (address[0], port, *address[2:])
            if (taker := given.taker(family, place)) is not None:
                # One socket of IPv6 listens at all addresses of IPv4 too.
                _check_shared(asked, taker)
                continue
            try:
                listener = _listen_tcp(family, place, backlog, given, asked)
            except OSError as exc:
                # A machine without IPv6 still resolves to its addresses.
                if exc.errno not in NO_SUCH_ADDRESS | {errno.EACCES}:
                    raise
                absent = exc
                continue
            undo.callback(listener.close)
            listeners.append(listener)
        # Whoever passed us one of several decides of those that we may not open.
        may_lack = any(listener.kept for listener in listeners)
        is_denied = absent is not None and absent.errno == errno.EACCES
        if absent is not None and (not listeners or (is_denied and not may_lack)):
            raise absent
        undo.pop_all()
    return listeners


def _check_shared(asked: str, taker: str) -> None:
    """
    Check that one socket has not two purposes, nor two ways to begin a connection.

    Raises:
        UsageError: It has.
    """
    if asked.partition(" ")[0] != taker.partition(" ")[0]:
        rest = "leave one of them out"
    elif asked.endswith(PROXY_MARK) != taker.endswith(PROXY_MARK):
        rest = f"either both have {PROXY_MARK}, or none"
    else:
        return
    raise UsageError(
        f"{asked} and {taker} are one socket, which was passed to us: {rest}"
    )


def _listen_tcp(
    family: socket.AddressFamily,
    address: tuple[Any, ...],
    backlog: int,
    given: Inherited,
    asked: str,
) -> Listener:
    if (sock := given.take(family, address, asked)) is not None:
        sock.listen(backlog)
        keep_alive(sock)
        listener = _describe(sock)
        listener.kept = True
        return listener
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if hasattr(socket, "TCP_DEFER_ACCEPT"):
            sock.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_ACCEPT_SECONDS
            )
        keep_alive(sock)
        sock.bind(address)
        sock.listen(backlog)
        sock.setblocking(False)
        undo.pop_all()
    return _describe(sock)


def _unix(bind: str, path: str, backlog: int, mode: int) -> Listener:
    if not path:
        raise UsageError(f"--bind {bind} needs a path, as in unix:/run/app.sock")
    if path.startswith("@"):
        return _abstract(bind, unix_address(path), backlog)
    remove_stale(path)
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        sock.bind(path)
        listener = Listener(sock, bind, (b"", 0), path=path, inode=inode_of(path))
        undo.callback(listener.close)
        # Nobody can connect before it listens, whatever the mode is until then.
        os.chmod(path, mode)
        sock.listen(backlog)
        sock.setblocking(False)
        undo.pop_all()
    return listener


def _abstract(bind: str, name: str, backlog: int) -> Listener:
    """Listen on a Unix socket that has a name and no file (unix(7), abstract)."""
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        sock.bind(name)
        sock.listen(backlog)
        sock.setblocking(False)
        undo.pop_all()
    return Listener(sock, bind, (b"", 0))


def _inherited(bind: str, number: str, backlog: int, given: Inherited) -> Listener:
    if not number.isdecimal():
        raise UsageError(f"--bind {bind}: fd:// needs a number, as in fd://3")
    given.release(int(number))
    sock = socket.socket(fileno=int(number))
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(
        socket.SOL_SOCKET, socket.SO_ACCEPTCONN
    ):
        sock.detach()
        raise UsageError(
            f"--bind {bind}: descriptor {number} is not a listening stream socket"
        )
    sock.set_inheritable(False)
    keep_alive(sock)
    sock.listen(backlog)
    sock.setblocking(False)
    listener = _describe(sock, bind)
    listener.kept = True
    return listener


def _describe(sock: socket.socket, name: str = "") -> Listener:
    if sock.family == socket.AF_UNIX:
        return Listener(sock, name, (b"", 0))
    host, port = sock.getsockname()[:2]
    any_address = host in {"0.0.0.0", "::"}  # noqa: S104 - a comparison
    text = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    local = host.removeprefix(MAPPED).encode(), port
    return Listener(sock, text, None if any_address else local)


def inode_of(path: str) -> tuple[int, int]:
    """Return device and inode of *path* itself."""
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def remove_stale(path: str) -> None:
    """
    Unlink the socket at *path* if nobody listens on it.

    Raises:
        OSError: EADDRINUSE: a process listens on it, or it is not a socket.
    """
    try:
        is_socket = stat.S_ISSOCK(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise OSError(errno.EADDRINUSE, f"{path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        except FileNotFoundError:
            pass
        else:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
