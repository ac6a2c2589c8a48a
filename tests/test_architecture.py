"""
The architecture, as a test.

Every file of the package is parsed, never imported, and held against the tables
below. When one of these tests fails, move the code, not the table; a change of the
table is a decision, and its commit says why.

Each rule is a function from (path inside the package, source text) to a list of
complaints, so that the second half of this file can show that every rule does catch
what it is there for. A rule sees names, not values: `getattr(os, "ki" + "ll")` gets
past it.
"""

import ast
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import pytest

PACKAGE = "maitred"
SRC = Path(__file__).parents[1] / "src" / PACKAGE
FILES = sorted(path.relative_to(SRC).as_posix() for path in SRC.rglob("*.py"))

# What each top-level unit, module or package, may import of ours. The arrows point
# down; the package's own face and the command line are at the top.
MAY_IMPORT = {
    "errors": set(),
    "logs": {"errors"},
    # What each signal does to each process.
    "signal_effects": {"logs"},
    "sticky_settings": {"errors"},
    # What workers tell uvicorn, in its words.
    "uvicorn_settings": {"errors"},
    "config": {"sticky_settings", "uvicorn_settings", "errors"},
    # Finds the places by name, in what is loaded.
    "failpoints": set(),
    "titles": set(),
    # Whoever gives deadlines asks it.
    "standstill": set(),
    # The master and its workers have to agree on it.
    "grace": set(),
    # Whoever closes a connection that seems idle asks it.
    "unread": set(),
    "crash_stack": set(),
    "accounts": {"errors"},
    "cpus": set(),
    # What stands in front of several machines, in its words.
    "haproxy": {"haproxy_tcp", "errors"},
    "haproxy_tcp": {"errors"},
    # What an application may ask of whoever serves it.
    "connection": set(),
    # A program of its own, which takes nothing of ours with it.
    "sandbox": set(),
    "no_new_privs": set(),
    # What the master checks and the workers use.
    "certificates": {"routing", "errors"},
    "wire": {"errors"},
    "routing": {"errors"},
    "placement": {"errors"},
    "supervision": {"errors"},
    "control": {"config", "logs", "errors"},
    "upgrade": {"wire", "placement", "config", "logs", "errors"},
    "acceptor": {
        *("wire", "routing", "placement", "upgrade", "config", "logs", "errors"),
        "standstill",
    },
    "master": {
        *("acceptor", "upgrade"),
        *("wire", "routing", "placement", "supervision", "control", "certificates"),
        *("config", "accounts", "sandbox", "signal_effects", "logs", "errors"),
        *("standstill", "unread", "grace"),
    },
    "worker": {
        *("wire", "routing", "certificates", "no_new_privs", "connection"),
        *("config", "failpoints", "titles", "signal_effects", "logs", "errors"),
        *("uvicorn_settings", "crash_stack", "standstill", "unread"),
        "grace",
    },
    # Not the worker: the command line must not be able to load the application.
    # It asks the master as anybody could; it must not be able to reach into it.
    "admin": {
        *("control", "routing", "titles", "signal_effects", "logs", "errors"),
        *("crash_stack", "standstill"),
    },
    "cli": {
        *("master", "acceptor", "control", "wire", "routing", "placement"),
        "supervision",
        *("config", "sticky_settings", "accounts", "cpus", "no_new_privs"),
        "haproxy",
        *("failpoints", "titles", "sandbox", "signal_effects", "logs", "errors"),
        *("uvicorn_settings", "crash_stack"),
    },
    "__init__": {"wire", "routing", "errors"},
    "__main__": {"cli"},
}

# These need nothing but Python, so that others can use them as libraries.
STDLIB_ONLY = {"wire", "routing", "placement", "supervision", "sandbox"}

# These decide and never touch the world: time comes in as a number, randomness as a
# random.Random, connections as bytes and ids.
PURE = [
    *("routing/*", "placement/*", "supervision/*"),
    *("wire/messages.py", "wire/codec.py"),
]
WORLD = {
    *("asyncio", "os", "random", "selectors", "signal"),
    *("socket", "subprocess", "threading", "time"),
}

# One door for each dangerous thing: the only file that has to know its traps.
DOORS = {
    # The service manager is sent listeners, by an address and without an answer.
    "*.sendmsg": "wire/channel.py or master/notify.py",
    "*.recvmsg": "wire/channel.py",
    "*.recvmsg_into": "wire/channel.py",
    "socket.send_fds": "wire/channel.py",
    "socket.recv_fds": "wire/channel.py",
    "*.MSG_PEEK": "acceptor/peek.py",
    "subprocess": "master/processes.py",
    "subprocess.*": "master/processes.py",
    "asyncio.create_subprocess_*": "master/processes.py",
    "os.fork": "master/processes.py",
    "os.kill": "master/processes.py",
    "os.killpg": "master/processes.py",
    "os.posix_spawn*": "master/processes.py",
    "os.waitid": "master/processes.py",
    "os.waitpid": "master/processes.py",
    "*.pidfd_*": "master/processes.py",
    "uvicorn": "worker/uvicorn_seam.py or admin/serving.py",
    "uvicorn.*": "worker/uvicorn_seam.py or admin/serving.py",
}


# Reading source.


def unit_of(path: str) -> str:
    """Say which top-level unit a file belongs to."""
    return PurePosixPath(path).parts[0].removesuffix(".py")


def imports(tree: ast.Module, path: str) -> Iterator[tuple[int, str, bool]]:
    """
    List every import as (line, absolute dotted name, was it relative).

    `from a import b` is listed as "a.b", whether b is a module or a name in one.
    """
    package = (PACKAGE, *PurePosixPath(path).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, False
        elif isinstance(node, ast.ImportFrom):
            # One dot is the package of this file, each further dot one package up.
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}", node.level > 0


def our_unit(name: str) -> str | None:
    """Say which of our units an absolute dotted name is in, if it is ours at all."""
    root, *rest = name.split(".")
    if root != PACKAGE:
        return None
    # What is no unit is a name in the package's own face.
    return rest[0] if rest and rest[0] in MAY_IMPORT else "__init__"


def uses(tree: ast.Module, path: str) -> Iterator[tuple[int, str]]:
    """
    List every import and every attribute, as (line, dotted name).

    A module that was imported under another name is listed under its own.
    """
    for line, name, _ in imports(tree, path):
        yield line, name
    aliases = {
        alias.asname: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.asname
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.lineno, dotted(node, aliases)


def dotted(node: ast.expr, aliases: dict[str, str]) -> str:
    """Spell `a.b.c` as text; what is neither name nor attribute becomes a `?`."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, aliases)}.{node.attr}"
    return aliases.get(node.id, node.id) if isinstance(node, ast.Name) else "?"


class WithoutTypeChecking(ast.NodeTransformer):
    """Leaves out what stands below `if TYPE_CHECKING:`; it never runs."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        """Keep only the else branch of such an `if`."""
        self.generic_visit(node)
        test = dotted(node.test, {})
        return node.orelse if test.endswith("TYPE_CHECKING") else node


# The rules.


def upward_arrows(path: str, source: str) -> list[str]:
    """Complain about imports of units that this one may not import."""
    unit = unit_of(path)
    if unit not in MAY_IMPORT:
        return [f"{unit} is not in MAY_IMPORT: decide what it may import"]
    return [
        f"line {line}: {unit} may not import {target} ({name})"
        for line, name, _ in imports(ast.parse(source), path)
        if (target := our_unit(name)) not in {None, unit} | MAY_IMPORT[unit]
    ]


def wrong_import_form(path: str, source: str) -> list[str]:
    """Complain unless imports are relative inside a unit and absolute across."""
    complaints = []
    for line, name, relative in imports(ast.parse(source), path):
        target = our_unit(name)
        if target == unit_of(path) and not relative:
            complaints.append(f"line {line}: {name} is ours: import relatively")
        elif target not in {None, unit_of(path)} and relative:
            complaints.append(f"line {line}: across packages, say {name}")
    return complaints


def third_party_imports(path: str, source: str) -> list[str]:
    """Complain about other people's packages where only Python's are allowed."""
    if unit_of(path) not in STDLIB_ONLY:
        return []
    return [
        f"line {line}: {unit_of(path)} needs nothing but Python ({name})"
        for line, name, _ in imports(ast.parse(source), path)
        if name.split(".")[0] not in {PACKAGE, *sys.stdlib_module_names}
    ]


def impure_imports(path: str, source: str) -> list[str]:
    """Complain about a pure file that imports a piece of the world."""
    if not any(fnmatchcase(path, pattern) for pattern in PURE):
        return []
    tree = WithoutTypeChecking().visit(ast.parse(source))
    return [
        f"line {line}: {path} is pure ({name})"
        for line, name, _ in imports(tree, path)
        if name.split(".")[0] in WORLD
    ]


def ways_into_the_worker(path: str, source: str) -> list[str]:
    """Complain where the master could load the worker, and with it the application."""
    if unit_of(path) != "master":
        return []
    return [
        f"line {line}: the master may not load the worker ({name})"
        for line, name in uses(ast.parse(source), path)
        if our_unit(name) == "worker" or fnmatchcase(name, "importlib.import_module")
    ]


def wrong_doors(path: str, source: str) -> list[str]:
    """Complain about a dangerous thing used outside the file that knows its traps."""
    return sorted(
        {
            f"line {line}: {name} belongs in {door}"
            for line, name in uses(ast.parse(source), path)
            for pattern, door in DOORS.items()
            if fnmatchcase(name, pattern) and path not in door.split(" or ")
        }
    )


RULES = [
    upward_arrows,
    wrong_import_form,
    third_party_imports,
    impure_imports,
    ways_into_the_worker,
    wrong_doors,
]

Rule = Callable[[str, str], list[str]]


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_source_keeps_rule(rule: Rule, path: str):
    """Every file of the package keeps every rule of the architecture."""
    complaints = rule(path, (SRC / path).read_text(encoding="utf-8"))
    assert not complaints, "\n".join([f"src/{PACKAGE}/{path}:", *complaints])


def test_arrows_have_no_cycle():
    """The table itself points down only: whatever a unit may import is below it."""
    settled: set[str] = set()
    while ready := {u for u, below in MAY_IMPORT.items() if below <= settled} - settled:
        settled |= ready
    assert settled == set(MAY_IMPORT)


# The rules do catch what they are there for.


@pytest.mark.parametrize(
    ("rule", "path", "source", "complaint"),
    [
        (upward_arrows, "wire/a.py", "import maitred.master", "not import master"),
        (upward_arrows, "wire/a.py", "from maitred import master", "not import master"),
        (upward_arrows, "wire/a.py", "from maitred import Channel", "import __init__"),
        (upward_arrows, "wire/a.py", "from ..routing import b", "not import routing"),
        (upward_arrows, "cli/a.py", "import maitred.worker.b", "not import worker"),
        (upward_arrows, "logs.py", "from . import config", "not import config"),
        (upward_arrows, "__main__.py", "import maitred.master", "not import master"),
        (upward_arrows, "wire/a.py", "def f():\n import maitred.logs", "line 2"),
        (upward_arrows, "novelty/a.py", "", "novelty is not in MAY_IMPORT"),
        (wrong_import_form, "wire/a.py", "from maitred.wire.b import c", "relatively"),
        (wrong_import_form, "wire/a.py", "import maitred.wire.b", "relatively"),
        (wrong_import_form, "wire/a.py", "from ..errors import B", "maitred.errors.B"),
        (wrong_import_form, "logs.py", "from .errors import B", "maitred.errors.B"),
        (wrong_import_form, "__init__.py", "from . import wire", "maitred.wire"),
        (third_party_imports, "routing/a.py", "import httptools", "(httptools)"),
        (third_party_imports, "wire/a.py", "from click.a import b", "(click.a.b)"),
        (impure_imports, "routing/a.py", "import time", "is pure (time)"),
        (impure_imports, "wire/codec.py", "from os.path import b", "(os.path.b)"),
        (
            impure_imports,
            "placement/deep/a.py",
            "if not TYPE_CHECKING:\n from random import Random",
            "(random.Random)",
        ),
        (
            impure_imports,
            "placement/a.py",
            "if TYPE_CHECKING:\n import b\nelse:\n import socket",
            "line 4",
        ),
        (ways_into_the_worker, "master/a.py", "import maitred.worker", "the worker"),
        (ways_into_the_worker, "master/a.py", "from ..worker import b", "the worker"),
        (
            ways_into_the_worker,
            "master/a.py",
            "from importlib import import_module",
            "the worker",
        ),
        (wrong_doors, "master/a.py", "self._sock.sendmsg([b''])", "wire/channel.py"),
        (wrong_doors, "worker/a.py", "receive = f().recvmsg", "wire/channel.py"),
        (wrong_doors, "wire/a.py", "from socket import MSG_PEEK", "acceptor/peek.py"),
        (wrong_doors, "wire/a.py", "x = socket.MSG_PEEK", "acceptor/peek.py"),
        (wrong_doors, "cli/a.py", "import subprocess", "master/processes.py"),
        (wrong_doors, "cli/a.py", "from os import kill", "master/processes.py"),
        (wrong_doors, "cli/a.py", "import os as o\no.kill(1, 2)", "line 2: os.kill"),
        (wrong_doors, "cli/a.py", "signal.pidfd_send_signal(3, 4)", "processes.py"),
        (wrong_doors, "cli/a.py", "import uvicorn", "worker/uvicorn_seam.py"),
        (wrong_doors, "worker/a.py", "from uvicorn.config import B", "uvicorn_seam.py"),
    ],
)
def test_rule_catches_violation(rule: Rule, path: str, source: str, complaint: str):
    """A rule complains about what breaks it, and says where and why."""
    assert any(complaint in line for line in rule(path, source)), rule(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("errors.py", "import os, time, click"),
        ("wire/codec.py", "import struct\nfrom .messages import Handoff"),
        ("wire/codec.py", "from maitred.errors import ProtocolError"),
        ("wire/channel.py", "import socket\nsock.sendmsg([b''])"),
        ("worker/adapters/asgi.py", "from ..connection import Connection"),
        ("worker/uvicorn_seam.py", "from uvicorn.config import Config"),
        ("acceptor/peek.py", "import socket\nsock.recv(9, socket.MSG_PEEK)"),
        ("master/processes.py", "import os, subprocess\nos.kill(1, 2)"),
        ("master/loop.py", "process.kill(); spawn(['python', '-m', 'maitred.worker'])"),
        ("master/master.py", "from maitred.wire.channel import Channel"),
        ("placement/a.py", "if TYPE_CHECKING:\n from random import Random"),
        ("placement/a.py", "if typing.TYPE_CHECKING:\n import random"),
        ("__init__.py", "from maitred.wire import Channel"),
        ("__main__.py", "from maitred.cli.main import main"),
    ],
)
def test_rules_accept_clean_source(path: str, source: str):
    """No rule complains about code that keeps them all."""
    assert [line for rule in RULES for line in rule(path, source)] == []
