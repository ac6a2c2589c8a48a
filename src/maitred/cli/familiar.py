"""
What uvicorn, gunicorn and granian call it, and what it is here.

Invariant: a name of theirs is an option of ours under the same name, an alias of one,
or here with a sentence that says what to use instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple


class Familiar(NamedTuple):
    """
    A name of an option of other servers.

    Args:
        of: The servers: "uvicorn", "gunicorn", "granian", or several.
        ours: The setting that it is another name of.
        instead: What to use where there is none.
        wrap: A form of our value with ``{}`` for theirs, where ours says more.
    """

    of: str
    ours: str = ""
    instead: str = ""
    wrap: str = "{}"


NO_WORKER_CLASS: Final = (
    "--kind says what the application is (asgi, wsgi, ...), --loop and --http how it is"
    " served"
)
NO_THREADS: Final = (
    "give --workers instead; --threads is for --kind wsgi and --kind socket"
)
NO_PRELOAD: Final = (
    "leave it out: each worker loads the application itself, so that a reload brings"
    " new code"
)
NO_REUSE_PORT: Final = (
    "leave it out: the master accepts for all workers; --acceptors N where one is too"
    " slow"
)
NO_RELOAD_FILTER: Final = "leave it out: --reload looks at Python files, at once"
NO_HTTP2: Final = "leave it out: HTTP/2 ends in a proxy in front, as in docs/howto"
NO_DAEMON: Final = "leave it out: run it under systemd, as in docs/howto/systemd.md"
NO_CLIENT_CERTIFICATES: Final = "let a proxy in front ask clients for certificates"
NO_PROXY_HEADERS: Final = "--forwarded-allow-ips says whose; `none` is nobody"
NO_ACCESS_LOGFILE: Final = "leave it out: requests are logged to --log-file too"
NO_ACCESS_PATTERN: Final = "--access-log-format chooses one of a few"

FAMILIAR: Final[Mapping[str, Familiar]] = MappingProxyType(
    {
        "-b": Familiar("gunicorn", "bind"),
        "--host": Familiar("uvicorn, granian", "bind", wrap="HOST:PORT"),
        "--port": Familiar("uvicorn, granian", "bind", wrap="HOST:PORT"),
        "--uds": Familiar("uvicorn, granian", "bind", wrap="unix:{}"),
        "--fd": Familiar("uvicorn", "bind", wrap="fd://{}"),
        "-w": Familiar("gunicorn", "workers"),
        "-t": Familiar("gunicorn", "hang_timeout"),
        "--timeout": Familiar("gunicorn", "hang_timeout"),
        "--timeout-worker-healthcheck": Familiar("uvicorn", "hang_timeout"),
        "--graceful-timeout": Familiar("gunicorn", "drain_timeout"),
        "--timeout-graceful-shutdown": Familiar("uvicorn", "drain_timeout"),
        "--workers-kill-timeout": Familiar("granian", "drain_timeout"),
        "--keep-alive": Familiar("gunicorn", "timeout_keep_alive"),
        "--ssl-certfile": Familiar("uvicorn", "certfile"),
        "--ssl-certificate": Familiar("granian", "certfile"),
        "--ssl-keyfile": Familiar("uvicorn, granian", "keyfile"),
        "--pythonpath": Familiar("gunicorn", "app_dir"),
        "--asgi-loop": Familiar("gunicorn", "loop"),
        "--asgi-lifespan": Familiar("gunicorn", "lifespan"),
        "--http-parser": Familiar("gunicorn", "http"),
        "--h11-max-incomplete-event-size": Familiar("uvicorn", "head_limit"),
        "--control-socket": Familiar("gunicorn", "control"),
        "--proxy-allow-from": Familiar("gunicorn", "proxy_trust"),
        "-u": Familiar("gunicorn", "user"),
        "-g": Familiar("gunicorn", "group"),
        "-m": Familiar("gunicorn", "umask"),
        "-p": Familiar("gunicorn", "pid"),
        "--pidfile": Familiar("granian", "pid"),
        "--url-path-prefix": Familiar("granian", "root_path"),
        "--working-dir": Familiar("granian", "chdir"),
        "--limit-max-requests": Familiar("uvicorn", "max_requests"),
        "--limit-max-requests-jitter": Familiar("uvicorn", "max_requests_jitter"),
        "--reload-include": Familiar("uvicorn", instead=NO_RELOAD_FILTER),
        "--reload-exclude": Familiar("uvicorn", instead=NO_RELOAD_FILTER),
        "--reload-delay": Familiar("uvicorn", instead=NO_RELOAD_FILTER),
        "-k": Familiar("gunicorn", instead=NO_WORKER_CLASS),
        "--worker-class": Familiar("gunicorn", instead=NO_WORKER_CLASS),
        "--interface": Familiar("uvicorn, granian", instead=NO_WORKER_CLASS),
        "--runtime-threads": Familiar("granian", instead=NO_THREADS),
        "--blocking-threads": Familiar("granian", "threads"),
        "--worker-connections": Familiar(
            "gunicorn",
            instead="--window says how many a worker is handed ahead, --max-waiting how"
            " many wait",
        ),
        "--backpressure": Familiar(
            "granian",
            instead="--window says how many a worker is handed ahead, --max-waiting how"
            " many wait",
        ),
        "--preload": Familiar("gunicorn", instead=NO_PRELOAD),
        "--reuse-port": Familiar("gunicorn", instead=NO_REUSE_PORT),
        "--daemon": Familiar("gunicorn", instead=NO_DAEMON),
        "-D": Familiar("gunicorn", instead=NO_DAEMON),
        "--limit-request-line": Familiar(
            "gunicorn", instead="--head-limit bounds the whole head"
        ),
        "--limit-request-fields": Familiar(
            "gunicorn", instead="--head-limit bounds the whole head"
        ),
        "--worker-tmp-dir": Familiar(
            "gunicorn", instead="leave it out: heartbeats are in shared memory"
        ),
        "--print-config": Familiar("gunicorn", instead="ask `maitred config`"),
        "--check-config": Familiar("gunicorn", instead="run `maitred check`"),
        "--statsd-host": Familiar(
            "gunicorn", instead="read /metrics, or `maitred status --json`"
        ),
        "--error-logfile": Familiar("gunicorn", "log_file"),
        "--log-config-json": Familiar("gunicorn", "log_config"),
        "--access-logfile": Familiar("gunicorn", instead=NO_ACCESS_LOGFILE),
        "--access-logformat": Familiar("gunicorn", instead=NO_ACCESS_PATTERN),
        "--access-log-fmt": Familiar("granian", instead=NO_ACCESS_PATTERN),
        "--use-colors": Familiar("uvicorn", "log_format", wrap="pretty"),
        "--no-use-colors": Familiar("uvicorn", "log_format", wrap="plain"),
        "--http2-cleartext": Familiar("gunicorn", instead=NO_HTTP2),
        "--http2": Familiar("uvicorn", instead=NO_HTTP2),
        "--http-protocols": Familiar("gunicorn", instead=NO_HTTP2),
        "--ssl-keyfile-password": Familiar(
            "uvicorn, granian", instead="use a key without a password, mode 0600"
        ),
        "--ssl-version": Familiar(
            "uvicorn, gunicorn", instead="leave it out: TLS 1.2 and newer are spoken"
        ),
        "--ssl-cert-reqs": Familiar("uvicorn", instead=NO_CLIENT_CERTIFICATES),
        "--ssl-ca-certs": Familiar("uvicorn", instead=NO_CLIENT_CERTIFICATES),
        "--ca-certs": Familiar("gunicorn", instead=NO_CLIENT_CERTIFICATES),
        "--cert-reqs": Familiar("gunicorn", instead=NO_CLIENT_CERTIFICATES),
        "--ssl-ciphers": Familiar(
            "uvicorn", instead="leave it out: OpenSSL's configuration decides"
        ),
        "--ciphers": Familiar(
            "gunicorn", instead="leave it out: OpenSSL's configuration decides"
        ),
        "--proxy-headers": Familiar("uvicorn", instead=NO_PROXY_HEADERS),
        "--no-proxy-headers": Familiar("uvicorn", instead=NO_PROXY_HEADERS),
        "--reset-contextvars": Familiar(
            "uvicorn", instead="leave it out: uvicorn's default holds"
        ),
    }
)


def aliases(name: str) -> tuple[str, ...]:
    """Return the other names that the option of setting *name* has."""
    return tuple(
        theirs
        for theirs, familiar in FAMILIAR.items()
        if familiar.ours == name and familiar.wrap == "{}"
    )
