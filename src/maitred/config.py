"""
What the operator decides, as one frozen value. Reads no file and no environment.

Invariant: a ``Settings`` that exists is usable; everything else was refused with a
sentence that names the option.
"""

from __future__ import annotations

import os.path
import re
from dataclasses import dataclass, fields, replace
from ipaddress import ip_address, ip_network
from typing import Final, NamedTuple

from maitred import sticky_settings
from maitred.errors import UsageError
from maitred.uvicorn_settings import UvicornSettings, check

TARGET: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
NAME: Final = re.compile("[a-z0-9][a-z0-9_-]{0,31}")
ADMIN: Final = re.compile(
    r"unix:(?P<path>/.+)"
    r"|(?:\[(?P<v6>[0-9a-fA-F:.%]+)\]|(?P<host>[^\[\]:/]*)):(?P<port>[0-9]{1,5})"
)
MOST_PORT: Final = 0xFFFF
MOST_WORKERS: Final = 1024
MOST_ACCEPTORS: Final = 64
PROXY_MARK: Final = ",proxy"
"After a bind: connections there begin with a PROXY header."
NOWHERE: Final = "none"
"What --forwarded-allow-ips and --control say when there is to be none of it."
FORGETFUL: Final = frozenset({"hash"})
"Policies that compute the slot of a key each time, and remember none."
SHORTEST_HANG: Final = 2.0
HTTP_KINDS: Final = ("asgi", "wsgi")
"Kinds of applications that are called with requests; all others, with connections."
RAW_KINDS: Final = ("handler", "protocol", "socket")
"Kinds that speak whatever they like."
KINDS: Final = (*HTTP_KINDS, "websocket", *RAW_KINDS)
"What an application can be; ``target`` says how each is called."
HTTP, RAW = "http", "raw"
"What is spoken where --protocol does not say it: by an HTTP server, by others."
MOST_THREADS: Final = 1024
LOOPBACK: Final = ("127.0.0.0/8", "::1/128")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(UvicornSettings):
    """
    Everything ``maitred serve`` can be told. Times are in seconds, sizes in bytes.

    The help of the command line and the reference say what each is for.
    """

    target: str
    exec: bool = False
    attach: str = ""
    kind: str = "asgi"
    protocol: str = ""
    threads: int = 8
    bind: tuple[str, ...] = ("127.0.0.1:8000",)
    workers: int = 1
    acceptors: int = 1
    affinity: tuple[str, ...] = ()
    certfile: tuple[str, ...] = ()
    keyfile: tuple[str, ...] = ()
    policy: str = "least"
    app_dir: str = "."
    factory: bool = False
    chdir: str = ""
    loop: str = "auto"
    http: str = "auto"
    lifespan: str = "auto"
    root_path: str = ""
    limit_concurrency: int = 0
    max_requests: int = 0
    max_requests_jitter: int = 0
    access_log: bool = True
    access_log_format: str = "auto"
    log_level: str = "info"
    log_format: str = "auto"
    log_file: str = ""
    log_config: str = ""
    name: str = ""
    control: str = ""
    control_group: str = ""
    admin: str = ""
    admin_token_file: str = ""
    agent: str = ""
    uds_permissions: str = "666"
    proxy_protocol: str = "off"
    proxy_trust: tuple[str, ...] = ()
    forwarded_allow_ips: str = ""
    backlog: int = 2048
    window: int = 64
    max_keys: int = 100_000
    max_key_bytes: int = 0
    key_ttl: float = 3600.0
    sticky_key_file: str = ""
    sticky_same_site: str = "lax"
    sticky_secure: str = "auto"
    sticky_domain: str = ""
    sticky_path: str = "/"
    sticky_max_age: int = 0
    head_timeout: float = 10.0
    head_limit: int = 16 * 1024
    max_waiting: int = 16_384
    max_per_source: int = 0
    keep_copies: bool = True
    drain: str = "connections"
    wait_timeout: float = 30.0
    ready_timeout: float = 60.0
    drain_timeout: float = 30.0
    grace_period: float = 5.0
    hang_timeout: float = 30.0
    surge: str = "all"
    upgrade_timeout: float = 30.0
    timeout_keep_alive: float = 5.0
    user: str = ""
    group: str = ""
    umask: str = ""
    pid: str = ""
    env_file: str = ""
    reload: bool = False
    reload_dir: tuple[str, ...] = ()
    allow_new_privileges: bool = False
    sandbox: bool = False
    sandbox_write: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """
        Check all settings.

        Raises:
            UsageError: One cannot work, or two do not go together; it names the option.
        """
        self._check_target()
        if not 1 <= self.workers <= MOST_WORKERS:
            raise UsageError(
                f"--workers {self.workers}: between 1 and {MOST_WORKERS} are possible"
            )
        check_name(self.name)
        self._check_kind()
        self._check_acceptors()
        if not re.fullmatch("[0-7]{3,4}", self.uds_permissions):
            raise UsageError(
                f"--uds-permissions {self.uds_permissions}: octal digits are needed,"
                " as in 660"
            )
        if not re.fullmatch("all|[1-9][0-9]{0,3}", self.surge):
            raise UsageError(
                f"--surge {self.surge}: how many workers at a time, from 1 on, or all"
            )
        if not (
            self.hang_timeout == 0 or SHORTEST_HANG <= self.hang_timeout < float("inf")
        ):
            raise UsageError(
                f"--hang-timeout {self.hang_timeout:g}: 0 for never, or at least"
                f" {SHORTEST_HANG:g}: less cannot be told from a busy machine"
            )
        self._check_process()
        self._check_admin()
        self._check_proxy()
        self._check_tls()
        self._check_drain()
        self._check_wear()
        sticky_settings.check(self)
        check(self)
        for name in ("backlog", "window", "max_keys", "head_limit", "max_waiting"):
            if getattr(self, name) < 1:
                raise UsageError(
                    f"{option(name)} {getattr(self, name)}: at least 1 is needed"
                )
        for name in (
            "key_ttl",
            "head_timeout",
            "wait_timeout",
            "ready_timeout",
            "drain_timeout",
            "grace_period",
            "upgrade_timeout",
            "timeout_keep_alive",
        ):
            seconds = getattr(self, name)
            if not 0 < seconds < float("inf"):  # nor is anything true of nan
                raise UsageError(
                    f"{option(name)} {seconds:g}: a number of seconds above 0 is needed"
                )

    def _check_target(self) -> None:
        """Check that there is a target, in the right form, or none with --attach."""
        if self.attach:
            self._check_attach()
        elif not self.exec and not TARGET.fullmatch(self.target):
            hint = "as in app:app for the object `app` in app.py"
            if "(" in self.target:
                hint = (
                    "and a factory is called without arguments: name a function that"
                    " takes none, with --factory"
                )
            raise UsageError(f"target {self.target!r} is not module:attribute, {hint}")

    def _check_attach(self) -> None:
        """Check that no setting is given that needs workers started by the master."""
        if self.target:
            raise UsageError(
                f"--attach with TARGET {self.target}: workers that attach bring what"
                " they serve; leave out one of the two"
            )
        if not os.path.isabs(self.attach):
            raise UsageError(
                f"--attach {self.attach}: an absolute path is needed, as in"
                " /run/maitred/workers.sock"
            )
        others = {
            "exec": self.exec,
            "acceptors": self.acceptors > 1,
            "log-config": bool(self.log_config),
            "certfile": bool(self.certfile),
            "reload": self.reload,
            "sandbox": self.sandbox,
            "max-requests": bool(self.max_requests),
            "drain sessions": self.drain == "sessions",
        }
        for name, is_said in others.items():
            if is_said:
                raise UsageError(
                    f"--attach with --{name}: that is for workers which are started"
                    " here; leave out one of the two"
                )

    def _check_kind(self) -> None:
        """Check that the kind of application can speak the protocol, and TLS."""
        if not 1 <= self.threads <= MOST_THREADS:
            raise UsageError(
                f"--threads {self.threads}: between 1 and {MOST_THREADS} are possible"
            )
        speaks_http = self.kind not in RAW_KINDS and not (self.exec or self.attach)
        if self.spoken != HTTP and speaks_http:
            raise UsageError(
                f"--protocol {self.protocol} with --kind {self.kind}, which speaks"
                f" HTTP: choose --kind {', '.join(RAW_KINDS[:-1])} or {RAW_KINDS[-1]}"
            )
        if not self.certfile:
            return
        if self.spoken != HTTP:
            raise UsageError(
                f"--certfile with --protocol {self.spoken}: nobody could see where a"
                " connection belongs; end TLS in front of maitred"
            )
        if self.kind not in HTTP_KINDS:
            raise UsageError(
                f"--certfile with --kind {self.kind}: only workers of kind"
                f" {' and '.join(HTTP_KINDS)} speak TLS; end it in front of maitred"
            )

    @property
    def spoken(self) -> str:
        """The protocol that clients speak, by --protocol or else by --kind."""
        return spoken(self.protocol, self.kind, exec=self.exec)

    def _check_acceptors(self) -> None:
        """Check the number of acceptors, and that the workers can have several."""
        if not 1 <= self.acceptors <= MOST_ACCEPTORS:
            raise UsageError(
                f"--acceptors {self.acceptors}: between 1 and {MOST_ACCEPTORS} are"
                " possible"
            )
        if self.acceptors == 1:
            return
        if self.exec:
            raise UsageError(
                f"--exec with --acceptors {self.acceptors}: a worker of your own speaks"
                " to one acceptor; leave out --acceptors"
            )
        if self.drain == "sessions":
            raise UsageError(
                f"--drain sessions with --acceptors {self.acceptors}: no acceptor sees"
                " when the last session of a worker ends; leave out one of the two"
            )

    def _check_process(self) -> None:
        """Check the settings of processes: umask, limits, sandbox and the like."""
        if not re.fullmatch("[0-7]{0,4}", self.umask):
            raise UsageError(
                f"--umask {self.umask}: octal digits are needed, as in 027"
            )
        for name, of, what in (
            ("limit_concurrency", "requests", "no limit"),
            ("max_key_bytes", "bytes", "512 for each of --max-keys"),
            ("max_per_source", "connections", "no limit"),
        ):
            if getattr(self, name) < 0:
                raise UsageError(
                    f"{option(name)} {getattr(self, name)}: 0 for {what}, or a number"
                    f" of {of}"
                )
        if not re.fullmatch("(/[!-~]*[^/])?", self.root_path):
            raise UsageError(
                f"--root-path {self.root_path!r}: a path that begins with / and does"
                " not end with it, as in /shop"
            )
        if self.sandbox and self.allow_new_privileges:
            raise UsageError(
                "--sandbox with --allow-new-privileges: the kernel confines nobody who"
                " may gain privileges; leave out one of the two"
            )
        if self.log_config and self.exec:
            raise UsageError(
                "--log-config with --exec: it is for Python's logging; have your worker"
                " read it"
            )
        if self.sandbox_write and not self.sandbox:
            raise UsageError("--sandbox-write needs --sandbox")
        if self.reload_dir and not self.reload:
            raise UsageError("--reload-dir needs --reload")

    def _check_admin(self) -> None:
        """Check --admin, and that it has a token where other machines can reach it."""
        if self.control == NOWHERE and (self.admin or self.control_group):
            name = "admin" if self.admin else "control-group"
            raise UsageError(
                f"--control none with --{name}: nobody could ask; leave out one of the"
                " two"
            )
        if not self.admin:
            if self.admin_token_file:
                raise UsageError("--admin-token-file needs --admin: who would ask?")
            return
        match = ADMIN.fullmatch(self.admin)
        if match is None or int(match["port"] or 0) > MOST_PORT:
            raise UsageError(
                f"--admin {self.admin} is not host:port, [v6]:port or unix:/path"
            )
        if not (self.admin_token_file or match["path"] or self.admin_is_local):
            raise UsageError(
                f"--admin {self.admin} can be reached from elsewhere: give"
                " --admin-token-file, or an address of this machine alone, as in"
                " 127.0.0.1:9900"
            )

    @property
    def admin_host(self) -> str:
        """The host of ``admin``; empty: all addresses, or a Unix socket."""
        match = ADMIN.fullmatch(self.admin)
        return (match["v6"] or match["host"] or "") if match else ""

    @property
    def admin_is_local(self) -> bool:
        """Whether only this machine reaches ``admin``, as far as its text says."""
        if self.admin_host == "localhost":
            return True
        try:
            return ip_address(self.admin_host).is_loopback
        except ValueError:
            return False

    def _check_drain(self) -> None:
        """Check that sessions are remembered where a drain is to keep them."""
        if self.drain == "sessions" and not self.remembers:
            raise UsageError(
                "--drain sessions with --policy hash: a hash remembers no session;"
                " choose --policy least or round-robin"
            )

    def _check_wear(self) -> None:
        """Check the number of requests after which a worker is replaced."""
        for name in ("max_requests", "max_requests_jitter"):
            if getattr(self, name) < 0:
                raise UsageError(
                    f"{option(name)} {getattr(self, name)}: a number of requests is"
                    " needed, or 0 for none"
                )
        if self.max_requests_jitter and not self.max_requests:
            raise UsageError("--max-requests-jitter needs --max-requests")
        if self.max_requests and self.drain == "sessions":
            raise UsageError(
                "--max-requests with --drain sessions: a worker that is replaced alone"
                " does not keep its sessions; leave out one of the two"
            )

    def _check_proxy(self) -> None:
        """Check the networks of --proxy-trust, and that a PROXY header is expected."""
        if self.proxy_trust and not self.expects_proxy:
            raise UsageError(
                "--proxy-trust needs --proxy-protocol required, or a --bind that ends"
                f" in {PROXY_MARK}"
            )
        for network in self.proxy_trust:
            try:
                ip_network(network)
            except ValueError as exc:
                raise UsageError(
                    f"--proxy-trust {network} is no network, as in 10.0.0.0/8 or"
                    f" 2001:db8::1 ({exc})"
                ) from exc

    @property
    def code(self) -> str:
        """The directory of the application's code, seen from the master's directory."""
        return os.path.join(self.chdir, self.app_dir)

    @property
    def remembers(self) -> bool:
        """Whether the policy remembers where a session is, as its table says."""
        # The table itself is not loaded, because workers read their settings here.
        return self.policy not in FORGETFUL

    @property
    def slots(self) -> int:
        """Number of slots: two sets, where two generations can have sessions."""
        return self.workers * (2 if self.drain == "sessions" else 1)

    @property
    def expects_proxy(self) -> bool:
        """Whether connections of any listener begin with a PROXY header."""
        return self.proxy_protocol == "required" or any(
            bind.endswith(PROXY_MARK) for bind in self.bind
        )

    @property
    def forwarded(self) -> str:
        """
        The addresses whose X-Forwarded-For and -Proto the worker believes.

        None by default where PROXY headers are expected, because uvicorn would compare
        the client that such a header names with its list of proxies, and a client must
        not name itself.
        """
        if self.expects_proxy and not self.forwarded_allow_ips:
            return NOWHERE
        return self.forwarded_allow_ips

    def _check_tls(self) -> None:
        """Check that each certificate has a key, and that workers can use TLS."""
        if len(self.certfile) != len(self.keyfile):
            raise UsageError(
                f"{len(self.certfile)} times --certfile and {len(self.keyfile)} times"
                " --keyfile: each certificate needs its key, in the same order"
            )
        if "sni" in self.affinity and not self.certfile:
            raise UsageError(
                "--affinity sni looks at the TLS hello: give --certfile and --keyfile"
            )
        if self.exec and self.certfile:
            raise UsageError(
                "--certfile with --exec: a worker of your own cannot be told of it;"
                " end TLS in front of maitred"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings(UvicornSettings):
    """The settings that travel to a worker, as JSON. Fields as in ``Settings``."""

    target: str
    kind: str
    threads: int
    name: str
    workers: int
    drain: str
    affinity: tuple[str, ...]
    certfile: tuple[str, ...]
    keyfile: tuple[str, ...]
    app_dir: str
    factory: bool
    root_path: str
    limit_concurrency: int
    loop: str
    http: str
    lifespan: str
    access_log: bool
    access_log_format: str
    log_level: str
    log_format: str
    log_file: str
    forwarded_allow_ips: str
    key_ttl: float
    head_timeout: float
    head_limit: int
    timeout_keep_alive: float
    drain_timeout: float
    wait_timeout: float
    allow_new_privileges: bool
    sticky_same_site: str = "lax"
    sticky_secure: str = "auto"
    sticky_domain: str = ""
    sticky_path: str = "/"
    sticky_max_age: int = 0
    log_config: str = ""
    grace_period: float = 5.0


SHARED: Final = frozenset(
    {
        *("kind", "name", "workers", "drain", "affinity", "certfile", "keyfile"),
        *("drain_timeout", "grace_period", "wait_timeout", "key_ttl", "head_timeout"),
        "head_limit",
        *("log_format", "log_file", "access_log_format", "allow_new_privileges"),
    }
)
"What master and workers have to agree on."
RELOADED: Final = frozenset(f.name for f in fields(WorkerSettings)) - SHARED
"What a new generation of workers may be told otherwise."


class Reread(NamedTuple):
    """``settings`` that hold after a reload, and names of others that were changed."""

    settings: Settings
    others: tuple[str, ...]


def reread(before: Settings, now: Settings) -> Reread:
    """
    Return *before* with those changes of *now* that a reload can make.

    The other changes are named; they need a restart.
    """
    names = [f.name for f in fields(Settings)]
    changed = [n for n in names if getattr(before, n) != getattr(now, n)]
    settings = replace(
        before, **{name: getattr(now, name) for name in changed if name in RELOADED}
    )
    return Reread(settings, tuple(n for n in changed if n not in RELOADED))


def spoken(protocol: str, kind: str, *, exec: bool) -> str:  # noqa: A002 - its name
    """Return *protocol*, or what connections speak to *kind* where that is empty."""
    if protocol:
        return protocol
    return RAW if kind in RAW_KINDS and not exec else HTTP


def check_name(name: str) -> None:
    """
    Check *name*, which a service is called by; it may be empty.

    Raises:
        UsageError: A service cannot have this name.
    """
    if name and not NAME.fullmatch(name):
        raise UsageError(
            f"--name {name}: up to 32 lower-case letters, digits, - and _ are possible,"
            " the first of them a letter or digit"
        )


def option(name: str) -> str:
    """Return the option of the setting *name*, as ``--max-keys`` of ``max_keys``."""
    return "--" + name.replace("_", "-")
