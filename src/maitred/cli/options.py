"""
What ``maitred serve`` can be told, once, in one table: names, kinds and help.

The command line, its help and the reference are made from OPTIONS. To add a setting,
give ``Settings`` a field, with its default, and this table a row.

Invariant: OPTIONS has a row for every field of ``Settings`` but the target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import click

from maitred import logs, sticky_settings
from maitred.config import KINDS as KINDS_OF_APPLICATIONS
from maitred.config import Settings, option
from maitred.control import path_of
from maitred.cpus import usable
from maitred.placement import POLICIES
from maitred.routing import PRESETS, SNIFFERS
from maitred.uvicorn_settings import WS

from .completion import COMPLETED
from .familiar import aliases

DEFAULTS: Final = {field.name: field.default for field in fields(Settings)}
KINDS: Final[Mapping[str, Any]] = MappingProxyType(
    {field.name: field.type for field in fields(Settings)}
)
"What each setting is, as its annotation says."
MANY: Final = "tuple[str, ...]"
SHORT_DRAIN: Final = 1.0
"Seconds; see --drain-timeout."
CLICK_KINDS: Final[Mapping[str, type]] = MappingProxyType(
    {"int": int, "float": float, "str": str, MANY: str}
)
FILES: Final = frozenset({"PATH", "PEM", "DIR"})
"Values that a shell completes as names of files."
POLICY_HELP: Final = "; ".join(
    f"{name}: {policy.about}" for name, policy in POLICIES.items()
)


PROTOCOLS: Final = [
    f"{name}: {', '.join(each.fields) or 'nothing is looked at'}"
    for name, each in SNIFFERS.items()
]


class Option(NamedTuple):
    """
    A row of OPTIONS.

    Args:
        about: The help.
        metavar: The name of the value in the help.
        choices: The possible values, if they are few.
        default: The default in words, where the value does not say it.
        decide: Returns the default from the values that were given, where it depends
            on the machine.
    """

    about: str
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    default: str = ""
    decide: Callable[[Mapping[str, Any]], Any] | None = None


OPTIONS: Final[Mapping[str, Option]] = MappingProxyType(
    {
        "bind": Option(
            "Where to listen: host:port, [v6]:port, :port (every address), unix:/path,"
            " unix:@name (abstract), or fd://N for an inherited socket. `,proxy` after"
            " it is `--proxy-protocol required` for that one. May be given several"
            " times.",
            "ADDR",
            default="127.0.0.1:8000",
        ),
        "workers": Option(
            "How many worker processes.",
            "N",
            default="one per CPU that may be used, by affinity mask and quota",
            decide=lambda _: usable().number,
        ),
        "acceptors": Option(
            "How many processes accept connections and find their workers. The first is"
            " the master; more help where one core cannot accept fast enough"
            " (see docs/explanation/acceptors.md).",
            "N",
        ),
        "affinity": Option(
            "Where a request says which session it belongs to, so that all of a session"
            " reaches one worker: header:NAME, cookie:NAME, query:NAME, path:N (N-th"
            " segment, from 1), host, ip, sni (the name in the TLS hello), none;"
            " sticky, a cookie of our own (sticky:NAME: its name); a preset"
            f" ({', '.join(PRESETS)}); or module:attribute, an Affinity of your own."
            " `,learn` after header:NAME or cookie:NAME says that the server makes the"
            " name. Given several times, they are tried in order.",
            "SPEC",
            default="none",
        ),
        "certfile": Option(
            "Serve TLS, on every listener, with this certificate and its chain. Given"
            " several times, each client is shown the one that has the name it asks"
            " for, and the first if none has.",
            "PEM",
            default="plain HTTP",
        ),
        "keyfile": Option(
            "The key of each --certfile, in the same order, without a password.",
            "PEM",
            default="none",
        ),
        "policy": Option(
            f"How a worker is chosen for a session that has none yet. {POLICY_HELP}.",
            choices=tuple(POLICIES),
        ),
        "app_dir": Option("Directory in which TARGET's module is looked for.", "DIR"),
        "factory": Option("TARGET is a function that makes the application."),
        "chdir": Option(
            "Directory in which the workers run, and from which --app-dir counts. All"
            " other paths count from where maitred is started.",
            "DIR",
            default="where maitred is started",
        ),
        "exec": Option(
            "TARGET is a command to run as the worker, in any language, instead of"
            " module:attribute (see docs/reference/channel.md)."
        ),
        "attach": Option(
            "Start no worker: whoever attaches at this Unix socket, as the same user,"
            " fills a slot and is handed connections (see docs/howto/attach.md). There"
            " is no TARGET then.",
            "PATH",
            default="none",
        ),
        "kind": Option(
            "What TARGET is. asgi and wsgi: an application; websocket: an async"
            " function of a WebSocket; handler: an async function of a reader and a"
            " writer; protocol: what makes an asyncio.Protocol; socket: a function of a"
            " socket, called in a thread (see docs/howto/kinds.md).",
            choices=KINDS_OF_APPLICATIONS,
        ),
        "protocol": Option(
            "What clients speak, and what --affinity is taken from: http;"
            f" {'; '.join(PROTOCOLS)}; or module:attribute, a Sniffer of your own. With"
            " all but http, --affinity takes a field of the protocol (the first one is"
            " the default), ip or none.",
            "P",
            default="http, and raw for --kind handler, protocol and socket",
        ),
        "threads": Option(
            "Threads of a worker of --kind wsgi or socket: what it serves at once.", "N"
        ),
        "loop": Option(
            "The workers' event loop.", choices=("auto", "uvloop", "asyncio")
        ),
        "http": Option(
            "The workers' HTTP parser.", choices=("auto", "httptools", "h11")
        ),
        "lifespan": Option("ASGI lifespan.", choices=("auto", "on", "off")),
        "root_path": Option(
            "The path under which a proxy in front serves the application, which it"
            " takes away.",
            "PATH",
            default="none",
        ),
        "limit_concurrency": Option(
            "Requests and WebSockets that a worker serves at once; those beyond are"
            " answered 503. 0: no limit.",
            "N",
        ),
        "max_requests": Option(
            "Replace a worker when it has served about so many requests, one worker at"
            " a time: its successor is ready before it leaves, and connections go to"
            " that one, but sessions in its memory end. 0: never.",
            "N",
        ),
        "max_requests_jitter": Option(
            "Up to so many requests more, drawn anew for each worker, so that not all"
            " are due at the same time.",
            "N",
        ),
        "access_log": Option("Log every request."),
        "access_log_format": Option(
            "How requests are logged; auto: as --log-format says.",
            choices=logs.ACCESS_FORMATS,
        ),
        "log_level": Option("How much to log.", "L", choices=logs.LEVELS),
        "log_format": Option(
            "How the log is spelled: pretty for people, plain, logfmt or json; auto:"
            " pretty on a terminal, plain elsewhere. NO_COLOR is respected.",
            choices=(logs.AUTO, *logs.FORMATS),
        ),
        "log_file": Option(
            "Append the log to this file, - for standard error; USR1 has it opened"
            " anew, after it was renamed.",
            "PATH",
            default="standard error",
        ),
        "log_config": Option(
            "How the application's loggers log: a file for Python's logging.config,"
            " .json, .yaml (needs maitred[yaml]), or INI, which each worker applies"
            " before it loads TARGET. maitred's own log is not concerned.",
            "PATH",
            default="as the application says",
        ),
        "name": Option(
            "What the service is called, where several run on one machine: `maitred"
            " list` shows them, and every command takes the same --name.",
            "NAME",
            default="none",
        ),
        "control": Option(
            "The control socket, on which `maitred status` and `maitred reload` ask;"
            " none: there is none, for where no file can be made, and only signals"
            " steer the service.",
            "PATH",
            default="control.sock, or control-NAME.sock, in $XDG_RUNTIME_DIR/maitred,"
            " for root in /run/maitred",
            decide=lambda said: path_of(said.get("name", "")),
        ),
        "control_group": Option(
            "Members of this group may ask on the control socket what is read-only;"
            " otherwise only the master's own user and root may ask at all.",
            "GROUP",
            default="none",
        ),
        "admin": Option(
            "Where metrics, health and what a page needs are served, by a process of"
            " its own: host:port, [v6]:port or unix:/path (see docs/howto/metrics.md).",
            "ADDR",
            default="none",
        ),
        "admin_token_file": Option(
            "A file, mode 0600, with what must be shown to --admin from elsewhere than"
            " this machine.",
            "PATH",
            default="none",
        ),
        "agent": Option(
            "Where HAProxy's agent check is answered, host:port: what this machine can"
            " take, or that it drains (see `maitred machine` and"
            " docs/howto/haproxy.md).",
            "ADDR",
            default="none",
        ),
        "uds_permissions": Option(
            "Who may connect to a unix:/path: the mode of its file, in octal.", "MODE"
        ),
        "proxy_protocol": Option(
            "Whether every connection begins with a PROXY header, version 1 or 2, that"
            " names the client. It is never guessed.",
            choices=("off", "required"),
        ),
        "proxy_trust": Option(
            "From where a PROXY header is believed; all others are closed. A Unix"
            " socket is trusted. May be given several times.",
            "CIDR",
            default="loopback",
        ),
        "forwarded_allow_ips": Option(
            "From where X-Forwarded-For and -Proto are believed: addresses and networks"
            " with commas between, *, or none. Left empty, as uvicorn does (127.0.0.1"
            " and ::1), but from nowhere if PROXY headers name the clients.",
            "LIST",
        ),
        "backlog": Option("Connections the kernel may hold for us."),
        "window": Option("Connections handed to a worker and not yet answered for."),
        "max_keys": Option("Sessions remembered; the least recently used goes first."),
        "max_key_bytes": Option(
            "Bytes that the sessions remembered may take, each its name and 256; the"
            " least recently used goes first. 0: 512 for each of `--max-keys`."
        ),
        "key_ttl": Option("Seconds a session is remembered after its last use."),
        "sticky_key_file": Option(
            "Keys that sign our own cookie and stamps, one id:base64 a line, mode 0600;"
            " the first signs, all are believed.",
            "PATH",
            default="one made at every start",
        ),
        "sticky_same_site": Option(
            "From which sites our own cookie is sent: this one, and by links to it"
            " (lax), this one (strict), or all (none), as an application in another"
            " site's iframe needs it; it is Secure then.",
            choices=sticky_settings.SAME_SITE,
        ),
        "sticky_secure": Option(
            "Whether our own cookie is sent over TLS only: auto, where the request came"
            " by https or wss.",
            choices=sticky_settings.SECURE,
        ),
        "sticky_domain": Option(
            "The domain whose hosts get our own cookie.",
            "DOMAIN",
            default="the host that the client asked",
        ),
        "sticky_path": Option("The path under which our own cookie is sent.", "P"),
        "sticky_max_age": Option(
            "Seconds for which a browser keeps our own cookie. 0: until it is closed."
        ),
        "head_timeout": Option("Seconds a client has to send a request's head."),
        "head_limit": Option(
            "Bytes the head of a request may have; at most half of the largest receive"
            " buffer, the last number of net.ipv4.tcp_rmem."
        ),
        "max_waiting": Option("Connections that may wait to be decided or for room."),
        "max_per_source": Option(
            "Connections that a client may have open, by its address; of IPv6, by the"
            " first 64 bits. One more is answered 429. Behind a proxy, give it"
            " `--proxy-protocol required` too. 0: no limit."
        ),
        "keep_copies": Option(
            "Keep a descriptor of every connection that a worker serves, so that those"
            " it has not begun to answer outlive it when it is killed."
        ),
        "drain": Option(
            "What the old workers keep at a reload: open requests (connections), or the"
            " sessions they have, until these end or the drain timeout is over"
            " (sessions).",
            choices=("connections", "sessions"),
        ),
        "wait_timeout": Option(
            "Seconds a connection waits for its worker before it gets 503."
        ),
        "ready_timeout": Option("Seconds a worker has to start."),
        "drain_timeout": Option(
            "Seconds a leaving worker has to finish its connections. A request that is"
            " not answered by then gets 503, an answer that has begun is cut.",
            default="30, or 1 with --reload",
            # Who edits a file waits for what is open at each save.
            decide=lambda said: (
                SHORT_DRAIN if said.get("reload") else DEFAULTS["drain_timeout"]
            ),
        ),
        "grace_period": Option(
            "Seconds between asking a worker to leave and ending it."
        ),
        "hang_timeout": Option(
            "Seconds of silence of a worker's event loop after which the worker is"
            " aborted, its stack is logged, and it is replaced; 0: never. A worker that"
            " is silent for a second gets no new connection."
        ),
        "surge": Option(
            "How many workers a reload starts at a time. With a number, each takes over"
            " when it is ready, and the next follow when the old ones have left; with"
            " `all`, all take over together, or none.",
            "N|all",
        ),
        "upgrade_timeout": Option(
            "Seconds new code has, in an upgrade, to show that it can take over."
        ),
        "timeout_keep_alive": Option("Seconds an idle connection is kept open."),
        "ws": Option(
            "What speaks WebSocket in workers of --kind asgi: a library that is"
            " installed there. none: a handshake is an ordinary request.",
            choices=WS,
        ),
        "ws_max_size": Option(
            "Bytes that a message of a WebSocket may have; a longer one closes it with"
            " 1009. For --kind asgi, as are the next four.",
            "N",
        ),
        "ws_max_queue": Option(
            "Messages of a WebSocket that wait for the application (--ws websockets).",
            "N",
        ),
        "ws_ping_interval": Option(
            "Seconds between two pings to a WebSocket; 0: none are sent."
        ),
        "ws_ping_timeout": Option(
            "Seconds a WebSocket has to answer a ping before it is closed; 0: no limit."
        ),
        "ws_per_message_deflate": Option(
            "Compress a WebSocket's messages where the client can, too."
        ),
        "header": Option(
            "A header for every answer of the application, as in 'X-Served-By: a'. May"
            " be given several times.",
            "NAME:VALUE",
            default="none",
        ),
        "server_header": Option(
            "Send the header Server: uvicorn, unless --header gives another."
        ),
        "date_header": Option("Send the header Date."),
        "user": Option(
            "Become this user, by name or number, when all is open that takes root;"
            " workers too.",
            "USER",
            default="nobody else",
        ),
        "group": Option(
            "Become this group as well.", "GROUP", default="that of --user"
        ),
        "umask": Option(
            "Permissions that files made from now on lack, in octal.",
            "MODE",
            default="as it is",
        ),
        "pid": Option(
            "A file for the master's pid; it is removed at the end.",
            "PATH",
            default="none",
        ),
        "env_file": Option(
            "A file with variables for the application, NAME=VALUE a line; those that"
            " are set already stay.",
            "PATH",
            default="none",
        ),
        "allow_new_privileges": Option(
            "Let workers, and what they run, gain privileges by set-user-ID programs:"
            " sudo, ping. Otherwise maitred promises the kernel that they never do"
            " (no_new_privs)."
        ),
        "sandbox": Option(
            "Let workers, and all that they start, write only below where they run and"
            " in directories for temporary files; they read what they could before"
            " (Landlock, Linux 6.2).",
        ),
        "sandbox_write": Option(
            "With --sandbox, a directory below which workers may write, instead of"
            " where they run. May be given several times.",
            "DIR",
            default="where workers run",
        ),
        "reload": Option(
            "Reload when a source file changes; for development.",
        ),
        "reload_dir": Option(
            "Where files are watched for --reload. May be given several times.",
            "DIR",
            default="--app-dir",
        ),
    }
)


def spelling(name: str) -> str:
    """Return the command line's spelling of setting *name*: two words for a switch."""
    word = option(name)
    return f"{word}/--no-{word[2:]}" if KINDS[name] == "bool" else word


def make(name: str) -> Callable[[Any], Any]:
    """Return the option of setting *name*; its value is None or () if not given."""
    row, kind = OPTIONS[name], KINDS[name]
    details: dict[str, Any] = {"show_default": row.default or said(DEFAULTS[name])}
    if row.choices:
        details["type"] = click.Choice(row.choices)
    elif row.metavar in FILES:
        # Who reads a file says what is wrong with it; an upgrade reads not all of them.
        details["type"] = click.Path(readable=False)
    elif kind != "bool":
        details["type"] = CLICK_KINDS[kind]
    return click.option(
        spelling(name),
        *aliases(name),
        name,
        default=None,
        multiple=kind == MANY,
        metavar=row.metavar,
        help=row.about,
        shell_complete=COMPLETED.get(name),
        **details,
    )


def said(value: Any) -> str:
    """Return *value*, of a setting, as the help and tables have it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return " ".join(value) if isinstance(value, tuple) else str(value)


CONFIG: Final = click.option(
    "--config",
    "-c",
    metavar="FILE",
    default=None,
    help="The TOML file with settings, instead of maitred.toml and [tool.maitred] in"
    " pyproject.toml here.",
)
OTHER_WORDS: Final = (
    click.option(
        "--use-colors/--no-use-colors",
        default=None,
        help="As --log-format pretty, or plain.",
    ),
    click.option("--fd", type=int, multiple=True, help="As --bind fd://N."),
    click.option("--uds", metavar="PATH", multiple=True, help="As --bind unix:PATH."),
    click.option("--port", type=int, default=None, help="As --bind HOST:PORT."),
    click.option("--host", metavar="HOST", default=None, help="As --bind HOST:PORT."),
)
"Other words for settings, as in uvicorn."
