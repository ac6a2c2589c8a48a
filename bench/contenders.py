"""
Who is compared: one table, a line for each contender.

A contender is a few commands and what may be expected of it. Every one of them gets the
same number of workers, no access log, uvloop and httptools where it has the choice, and
the same time to keep an idle connection. Adding a contender is adding a line.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from string import Template

HERE = Path(__file__).parent
KEEP_ALIVE = 600
"""Seconds that an idle connection is kept: longer than any load takes."""
BACKLOG = 2048


@dataclass(frozen=True)
class Site:
    """Where a contender is put up."""

    port: int
    backends: tuple[int, ...]
    "A free port for each worker, for those who need that."
    workers: int
    directory: Path


@dataclass(frozen=True)
class Contender:
    """One way to serve the application on several processes."""

    name: str
    title: str
    commands: Callable[[Site], list[list[str]]]
    version: Callable[[], str]
    affinity: bool = False
    "Whether every request of a session reaches the same process."
    note: str = ""
    "What one has to know to read its figures."


def python(*arguments):
    return [sys.executable, "-m", *map(str, arguments)]


def maitred(*options):
    def commands(site):
        return [
            python("maitred", "serve", "app:app", "--bind", f"127.0.0.1:{site.port}",
                   "--workers", site.workers, "--loop", "uvloop", "--http", "httptools",
                   "--no-access-log", "--timeout-keep-alive", KEEP_ALIVE,
                   "--control", site.directory / "control.sock", *options)
        ]  # fmt: skip

    return commands


def uvicorn(port, *options):
    return python("uvicorn", "app:app", "--port", port, "--loop", "uvloop",
                  "--http", "httptools", "--no-access-log",
                  "--timeout-keep-alive", KEEP_ALIVE, *options)  # fmt: skip


def uvicorn_workers(site):
    return [uvicorn(site.port, "--workers", site.workers)]


def gunicorn(site):
    return [
        python("gunicorn", "app:app", "--worker-class", "asgi",
               "--asgi-loop", "uvloop", "--http-parser", "fast",
               "--bind", f"127.0.0.1:{site.port}", "--workers", site.workers,
               "--keep-alive", KEEP_ALIVE, "--backlog", BACKLOG,
               "--worker-connections", descriptors(), "--no-control-socket")
    ]  # fmt: skip


def granian(site):
    return [
        python("granian", "app:app", "--interface", "asgi", "--loop", "uvloop",
               "--http", "1", "--host", "127.0.0.1", "--port", site.port,
               "--workers", site.workers, "--no-access-log", "--backlog", BACKLOG,
               "--backpressure", descriptors())
    ]  # fmt: skip


def hypercorn(site):
    return [
        python("hypercorn", "app:app", "--worker-class", "uvloop",
               "--bind", f"127.0.0.1:{site.port}", "--workers", site.workers,
               "--keep-alive", KEEP_ALIVE, "--backlog", BACKLOG)
    ]  # fmt: skip


def node(site):
    return [["node", str(HERE / "node" / "app.js"), str(site.port), str(site.workers)]]


def behind_nginx(site):
    servers = "\n".join(
        f"server 127.0.0.1:{port} max_fails=0;" for port in site.backends
    )
    config = configure("nginx.conf", site, servers)
    nginx = ["nginx", "-p", str(site.directory), "-e", "stderr", "-c", config]
    return [*map(uvicorn, site.backends), nginx]


def behind_haproxy(site):
    servers = "\n    ".join(
        f"server worker{i} 127.0.0.1:{port}" for i, port in enumerate(site.backends)
    )
    config = configure("haproxy.cfg", site, servers)
    return [*map(uvicorn, site.backends), ["haproxy", "-db", "-f", config]]


def configure(name, site, servers):
    """Fill in the template *name*; give the path of what came out."""
    text = Template((HERE / "config" / name).read_text()).substitute(
        port=site.port,
        workers=site.workers,
        servers=servers,
        directory=site.directory,
        keep_alive=KEEP_ALIVE,
        backlog=BACKLOG,
        descriptors=descriptors(),
        connections=descriptors() // 2 - 100,
    )
    path = site.directory / name
    path.write_text(text)
    return str(path)


def descriptors():
    """How many descriptors a process may have here."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def package(*names):
    return lambda: ", ".join(f"{name} {version(name)}" for name in names)


def program(*command):
    """The first line of what *command* says, wherever it says it."""

    def said():
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return (done.stdout + done.stderr).partition("\n")[0].strip()

    return said


def npm(*names):
    """The versions that bench/node/package-lock.json asks for."""

    def said():
        lock = json.loads((HERE / "node" / "package-lock.json").read_text())["packages"]
        return ", ".join(f"{name} {lock[f'node_modules/{name}']['version']}"
                         for name in names)  # fmt: skip

    return said


def both(*versions):
    return lambda: ", ".join(each() for each in versions)


UVICORN = package("uvicorn", "uvloop", "httptools")

TABLE = (
    Contender(
        "maitred",
        "maitred",
        maitred("--affinity", "header:x-session"),
        package("maitred", "uvicorn", "uvloop", "httptools"),
        affinity=True,
    ),
    Contender(
        "maitred-no-copies",
        "maitred --no-keep-copies",
        maitred("--affinity", "header:x-session", "--no-keep-copies"),
        package("maitred", "uvicorn", "uvloop", "httptools"),
        affinity=True,
    ),
    Contender("uvicorn", "uvicorn --workers", uvicorn_workers, UVICORN),
    Contender(
        "gunicorn",
        "gunicorn, ASGI worker",
        gunicorn,
        package("gunicorn", "gunicorn_h1c", "uvloop"),
    ),
    Contender("granian", "granian", granian, package("granian", "uvloop")),
    Contender(
        "hypercorn", "hypercorn", hypercorn, package("hypercorn", "h11", "uvloop")
    ),
    Contender(
        "nginx",
        "nginx, hash by header",
        behind_nginx,
        both(program("nginx", "-v"), UVICORN),
        affinity=True,
    ),
    Contender(
        "haproxy",
        "HAProxy, hash by header",
        behind_haproxy,
        both(program("haproxy", "-v"), UVICORN),
        affinity=True,
    ),
    Contender(
        "node",
        "Node cluster, @socket.io/sticky",
        node,
        both(program("node", "--version"), npm("@socket.io/sticky", "ws")),
        affinity=True,
        note="closes the connection after each answer, for the next request may be "
        "of another session",
    ),
)
CONTENDERS = {each.name: each for each in TABLE}
OURS = "maitred"

ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": "1"}
