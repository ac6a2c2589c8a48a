"""
Who is compared: one table, a line for each contender.

A contender is a few commands and what may be expected of it. Every one of them gets the
same number of workers, no access log, uvloop and httptools where it has the choice, and
the same time to keep an idle connection. Adding a contender is adding a line.
"""

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


def behind_nginx(site):
    servers = "\n".join(f"server 127.0.0.1:{port};" for port in site.backends)
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
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    text = Template((HERE / "config" / name).read_text()).substitute(
        port=site.port,
        workers=site.workers,
        servers=servers,
        directory=site.directory,
        keep_alive=KEEP_ALIVE,
        descriptors=descriptors,
        connections=descriptors // 2 - 100,
    )
    path = site.directory / name
    path.write_text(text)
    return str(path)


def package(*names):
    return lambda: ", ".join(f"{name} {version(name)}" for name in names)


def program(*command):
    """The first line of what *command* says, wherever it says it."""

    def said():
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return (done.stdout + done.stderr).partition("\n")[0].strip()

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
)
CONTENDERS = {each.name: each for each in TABLE}
OURS = "maitred"

ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": "1"}
