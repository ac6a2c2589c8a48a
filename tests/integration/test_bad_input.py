"""What cannot work is refused: one sentence, an exit code, nothing left running."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import maitred
from driver import APPS, COMMAND, DEADLINE, RUN, Maitred, processes_of
from maitred.cli.main import run as run_here
from maitred.control import places
from raw_http import ask

FREE = ("--bind", "127.0.0.1:0")
USAGE, APP, SYSTEM, NO_MASTER = 2, 3, 4, 6
PRIVILEGES = ("net_bind_service", "dac_override")


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


def run_command(
    *arguments: str, privileged: bool = True, cwd: Path = APPS, **details: Any
) -> Outcome:
    """Run a command that ends by itself, and check that nothing is left running."""
    name = uuid.uuid4().hex
    command = [COMMAND, *arguments]
    if not privileged and os.geteuid() == 0:
        without = ",".join(f"-{privilege}" for privilege in PRIVILEGES)
        command = ["setpriv", "--bounding-set", without, "--", *command]
    ended = subprocess.run(
        command,
        cwd=cwd,
        # As many as are said: how many there are by default is logged, too.
        env={**os.environ, "MAITRED_WORKERS": "2", RUN: name},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        **details,
    )
    assert not processes_of(name)
    return Outcome(ended.returncode, ended.stdout, ended.stderr)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run commands whose default control socket is this test's own."""
    monkeypatch.setenv("MAITRED_RUNTIME_DIR", str(tmp_path))
    return run_command


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Run all commands of the tables below, several at a time."""
    commands = {
        **{f"usage {case}": USAGES[case][0] for case in USAGES},
        **{
            f"affinity {spec}": ["probe:app", "--affinity", spec] for spec in AFFINITIES
        },
        **{f"bind {bind}": ["probe:app", "--bind", bind] for bind in BINDS},
    }
    control = ("--control", str(tmp_path_factory.mktemp("refused") / "control.sock"))
    with ThreadPoolExecutor(4) as pool:
        outcomes = pool.map(
            lambda arguments: run_command("serve", *arguments, *control),
            commands.values(),
        )
        return dict(zip(commands, outcomes, strict=True))


def sentence(outcome: Outcome, code: int) -> str:
    """Give the one sentence of *outcome*, which must have ended with *code*."""
    assert outcome.code == code, outcome
    assert not outcome.out
    [line] = outcome.err.splitlines()
    assert re.fullmatch(r"maitred: \S.{15,}[^.\s]", line), line
    return line


# The command line

USAGES = {
    "unknown option": (["probe:app", "--wrokers", "2"], ["--wrokers", "--workers"]),
    "unknown policy": (["probe:app", "--policy", "lest"], ["lest", "round-robin"]),
    "unknown loop": (["probe:app", "--loop", "trio"], ["trio", "uvloop"]),
    "unknown level": (["probe:app", "--log-level", "loud"], ["loud", "debug"]),
    "no acceptor": (["probe:app", "--acceptors", "0"], ["--acceptors 0"]),
    "too many acceptors": (["probe:app", "--acceptors", "65"], ["65", "64"]),
    "acceptors for a program": (
        ["--exec", "--acceptors", "2", "probe"],
        ["--exec", "--acceptors 2", "one acceptor"],
    ),
    "acceptors and elders": (
        ["probe:app", "--acceptors", "2", "--drain", "sessions"],
        ["--drain sessions", "--acceptors 2"],
    ),
    "no target": ([], ["there is no target", "maitred serve app:app"]),
    "two targets": (["probe:app", "other:app"], ["other:app"]),
    "target without colon": (["probe"], ["probe", "module:attribute"]),
    "target with a file's name": (["probe.py"], ["probe.py", "module:attribute"]),
    "target without attribute": (["probe:"], ["module:attribute"]),
    "target without module": ([":app"], ["module:attribute"]),
    "target with arguments": (["probe:app(1)"], ["module:attribute"]),
    "no worker": (["probe:app", "--workers", "0"], ["--workers 0", "1"]),
    "fewer than none": (["probe:app", "--workers", "-3"], ["--workers -3"]),
    "too many workers": (["probe:app", "--workers", "100000"], ["100000"]),
    "a word for a number": (["probe:app", "--workers", "many"], ["many"]),
    "negative time": (["probe:app", "--drain-timeout", "-1"], ["--drain-timeout -1"]),
    "no time": (["probe:app", "--head-timeout", "0"], ["--head-timeout 0"]),
    "endless time": (["probe:app", "--key-ttl", "inf"], ["--key-ttl inf"]),
    "time that is none": (["probe:app", "--key-ttl", "nan"], ["--key-ttl nan"]),
    "no room": (["probe:app", "--window", "0"], ["--window 0"]),
}

AFFINITIES = {
    "mpc": ["mpc", "did you mean mcp"],
    "socket.io": ["socket.io", "socketio"],
    "headerz:x": ["headerz:x", "header"],
    "nonsense": ["nonsense", "header:NAME"],
    "header:": ["header:", "needs a name"],
    "header:a b": ["header:a b", "needs a name"],
    "cookie:": ["cookie:", "needs a name"],
    "query:": ["query:", "needs a name"],
    "path:": ["path:", "segment"],
    "path:0": ["path:0", "segment"],
    "path:x": ["path:x", "segment"],
    "query:room,learn": ["query:room,learn", "header and cookie"],
    "header:x,learnt": ["learnt", "`learn`"],
    "path:1,learn": ["path:1,learn"],
    "host,learn": ["host,learn"],
    "mcp,learn": ["mcp,learn"],
    "ip:1": ["ip:1"],
    "": ["header:NAME"],
    "no_such_module:thing": ["no_such_module"],
    "own_affinity:missing": ["own_affinity", "missing"],
    "own_affinity:not_an_affinity": ["own_affinity:not_an_affinity", "str"],
}

BINDS = {
    "8000": ["8000", "host:port"],
    "localhost": ["localhost", "host:port"],
    "localhost:http": ["localhost:http", "host:port"],
    "127.0.0.1:99999": ["127.0.0.1:99999"],
    "127.0.0.1:-1": ["127.0.0.1:-1"],
    "::1:8000": ["::1:8000", "[v6]:port"],
    "[::1:8000": ["[::1:8000", "[v6]:port"],
    "http://127.0.0.1:80": ["http://127.0.0.1:80", "host:port"],
    "unix:": ["unix:", "path"],
    "fd://": ["fd://", "number"],
    "fd://three": ["fd://three", "number"],
    "": ["host:port"],
}


@pytest.mark.parametrize("case", USAGES)
def test_unusable_option_is_refused(refusals, case):
    """An option or target that cannot be used is named, with what would do."""
    line = sentence(refusals[f"usage {case}"], USAGE)
    assert all(word in line for word in USAGES[case][1]), line


@pytest.mark.parametrize("spec", AFFINITIES)
def test_unreadable_affinity_is_refused(refusals, spec):
    """An affinity that cannot be read is named, with what would do."""
    line = sentence(refusals[f"affinity {spec}"], USAGE)
    assert all(word in line for word in AFFINITIES[spec]), line


def test_no_affinity_and_one_contradict_each_other(run):
    """``none`` besides another affinity is refused."""
    options = ("--affinity", "none", "--affinity", "host")
    assert "none" in sentence(run("serve", "probe:app", *options), USAGE)


@pytest.mark.parametrize("bind", BINDS)
def test_unreadable_bind_is_refused(refusals, bind):
    """An address that cannot be read is named, with what would do."""
    line = sentence(refusals[f"bind {bind}"], USAGE)
    assert all(word in line for word in BINDS[bind]), line


def test_unknown_command_is_refused(run):
    """A command that does not exist is named."""
    assert "statsu" in sentence(run("statsu"), USAGE)


def test_command_alone_shows_its_help(run):
    """Without anything, the commands are listed."""
    outcome = run()
    assert outcome.code == USAGE
    assert "serve" in outcome.out + outcome.err
    assert "status" in outcome.out + outcome.err


@pytest.mark.parametrize(
    "arguments", [["--help"], ["serve", "-h"], ["status", "--help"]]
)
def test_help_is_there(run, arguments):
    """Help is printed on request, and that is a success."""
    outcome = run(*arguments)
    assert outcome.code == 0
    assert "maitred" in outcome.out
    assert not outcome.err


def test_version_is_said(run):
    """``--version`` says the version of the package."""
    assert run("--version") == (0, f"maitred, version {version('maitred')}\n", "")


# What the system refuses


def test_port_in_use_is_refused(run):
    """A port on which another program listens is named."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        bind = f"127.0.0.1:{other.getsockname()[1]}"
        line = sentence(run("serve", "probe:app", "--bind", bind), SYSTEM)
    assert bind in line
    assert "listens there" in line


def test_nothing_is_left_when_the_second_bind_fails(run, tmp_path):
    """If one address is refused, what was made for the others is taken away."""
    path = tmp_path / "app.sock"
    with socket.create_server(("127.0.0.1", 0)) as other:
        bind = f"127.0.0.1:{other.getsockname()[1]}"
        options = ("--bind", f"unix:{path}", "--bind", bind)
        assert bind in sentence(run("serve", "probe:app", *options), SYSTEM)
    assert not path.exists()


def test_missing_permission_for_a_port_is_refused(run):
    """A port that needs a privilege we lack is named."""
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first <= 1:
        pytest.skip("on this machine everybody may listen on every port")
    line = sentence(
        run("serve", "probe:app", "--bind", "127.0.0.1:1", privileged=False), SYSTEM
    )
    assert "127.0.0.1:1" in line
    assert "ermission" in line


def test_missing_permission_for_a_directory_is_refused(run, tmp_path):
    """A directory in which we may not write is named."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.geteuid() == 0:
        os.chown(closed, 65534, 65534)
        closed.chmod(0o700)
    for option in ("--bind", f"unix:{closed}/app.sock"), ("--control", f"{closed}/c"):
        outcome = run("serve", "probe:app", *FREE, *option, privileged=False)
        line = sentence(outcome, SYSTEM)
        assert str(closed) in line
        assert "ermission" in line


def test_unknown_host_is_refused(run):
    """A host that does not exist is named."""
    line = sentence(run("serve", "probe:app", "--bind", "no.such.invalid:80"), SYSTEM)
    assert "no.such.invalid" in line


def test_address_of_another_machine_is_refused(run):
    """An address that this machine does not have is named."""
    line = sentence(run("serve", "probe:app", "--bind", "192.0.2.1:8000"), SYSTEM)
    assert "192.0.2.1:8000" in line
    assert "does not have" in line


def test_regular_file_is_never_replaced(run, tmp_path):
    """A file where a Unix socket is to be stays what it is."""
    file = tmp_path / "precious"
    file.write_text("data")
    for option in ("--bind", f"unix:{file}"), ("--control", str(file)):
        line = sentence(run("serve", "probe:app", *FREE, *option), SYSTEM)
        assert str(file) in line
        assert "exists and is not a socket" in line
    assert file.read_text() == "data"


@pytest.mark.parametrize("path", ["missing/app.sock", "x" * 200])
def test_impossible_path_is_refused(run, tmp_path, path):
    """A Unix socket that cannot be made is named."""
    bind = f"unix:{tmp_path}/{path}"
    assert bind in sentence(run("serve", "probe:app", "--bind", bind), SYSTEM)


def test_control_socket_that_cannot_be_is_refused(run):
    """A control socket that cannot be made is named."""
    outcome = run("serve", "probe:app", *FREE, "--control", "/proc/no/control")
    assert "/proc/no" in sentence(outcome, SYSTEM)


def test_descriptor_that_does_not_listen_is_refused(run, tmp_path):
    """``fd://N`` must be a listening stream socket."""
    with socket.socket() as idle, (tmp_path / "file").open("w") as file:
        for descriptor in (idle.fileno(), file.fileno()):
            outcome = run(
                "serve",
                "probe:app",
                "--bind",
                f"fd://{descriptor}",
                pass_fds=[descriptor],
            )
            assert outcome.code in {USAGE, SYSTEM}
            assert f"fd://{descriptor}" in sentence(outcome, outcome.code)


def test_descriptor_that_is_not_open_is_refused(run):
    """``fd://N`` must be open."""
    assert "fd://99" in sentence(run("serve", "probe:app", "--bind", "fd://99"), SYSTEM)


# The application

FAILING = {
    "no module": ("no_such_module:app", "no_such_module"),
    "no attribute": ("probe:missing", "missing"),
    "no deep attribute": ("probe:app.missing", "missing"),
    "a number": ("broken:number", "int"),
    "WSGI": ("broken:wsgi", "--kind wsgi"),
    "WSGI object": ("broken:wsgi_object", "--kind wsgi"),
}


@pytest.mark.parametrize("case", FAILING)
def test_target_that_is_no_application_is_refused(run, case):
    """A target that is not there, or is something else, is named, with the reason."""
    target, word = FAILING[case]
    outcome = run("serve", target, *FREE, "--workers", "4")
    *before, line = outcome.err.splitlines()
    assert outcome.code == APP, outcome
    assert line.startswith("maitred: ")
    assert target in line
    assert word in line
    assert case == "no module" or not before, outcome.err


@pytest.mark.parametrize(
    ("mood", "error", "why"),
    [
        ("raise", "LookupError: not today", "cannot import 'moody'"),
        ("refuse", "LookupError: no startup today", "lifespan startup"),
        ("stumble", "LookupError: no startup today", "lifespan startup"),
    ],
)
def test_application_that_fails_to_start_shows_its_own_traceback(
    run, tmp_path, monkeypatch, mood, error, why
):
    """Its traceback is shown once, without our frames, then one sentence."""
    file = tmp_path / "mood"
    file.write_text(mood)
    monkeypatch.setenv("MOOD", str(file))
    outcome = run("serve", "moody:app", *FREE, "--workers", "4", "--lifespan", "on")
    assert outcome.code == APP
    lines = outcome.err.splitlines()
    assert sum(line.startswith("Traceback") for line in lines) == 1, outcome.err
    assert lines.count(error) == 1
    assert lines[-1].startswith("maitred: ")
    assert why in lines[-1]
    assert sum(line.startswith("maitred: ") for line in lines) == 1
    assert str(Path(maitred.__file__).parent) not in outcome.err
    assert "importlib" not in outcome.err
    assert "moody.py" in outcome.err


def test_application_with_a_syntax_error_is_shown(run, tmp_path):
    """Where Python cannot read the application, it says where."""
    (tmp_path / "torn.py").write_text("def app(:\n")
    outcome = run("serve", "torn:app", *FREE, "--workers", "2", cwd=tmp_path)
    assert outcome.code == APP
    assert outcome.err.count("SyntaxError") == 2  # its own word, and our sentence
    assert "torn.py" in outcome.err
    assert str(Path(maitred.__file__).parent) not in outcome.err


def test_application_that_exits_while_imported_is_refused(run, tmp_path):
    """An application that calls ``sys.exit`` at import does not look like a success."""
    (tmp_path / "leaver.py").write_text("import sys\nsys.exit(0)\n")
    outcome = run("serve", "leaver:app", *FREE, "--workers", "2", cwd=tmp_path)
    assert outcome.code == APP
    assert outcome.err.splitlines()[-1].startswith("maitred: cannot import 'leaver'")


# Two masters


def test_second_master_is_refused_and_the_first_serves_on(run, serve, tmp_path):
    """The control socket of a running master is respected."""
    first: Maitred = serve(workers=1)
    options = (*FREE, "--control", first.control)
    line = sentence(run("serve", "probe:app", *options), SYSTEM)
    assert first.control in line
    assert "another master" in line
    assert ask(first.port).status == 200
    assert first.status()["pid"] == first.pid


def test_second_master_does_not_take_a_unix_listener(run, serve, tmp_path):
    """The Unix socket of a running server is respected."""
    path = tmp_path / "app.sock"
    serve(bind=f"unix:{path}", workers=1)
    inode = path.stat().st_ino
    line = sentence(run("serve", "probe:app", "--bind", f"unix:{path}"), SYSTEM)
    assert str(path) in line
    assert path.stat().st_ino == inode


def test_stale_sockets_are_replaced(serve, tmp_path):
    """Sockets on which nobody answers do not stand in the way."""
    directory = tmp_path / "server-0"
    listener = tmp_path / "app.sock"
    for path in (listener, tmp_path / "control.sock"):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    server = Maitred(
        "probe:app", tmp_path=tmp_path, bind=f"unix:{listener}", workers=1
    ).ready()
    assert not directory.exists()
    server.check()


# Asking


@pytest.mark.parametrize("json", [[], ["--json"]], ids=["people", "programs"])
def test_status_without_a_master_says_so(run, tmp_path, json):
    """Without a master, ``maitred status`` names the socket on which nobody answers."""
    path = tmp_path / "control.sock"
    line = sentence(run("status", *json, "--control", str(path)), NO_MASTER)
    assert str(path) in line
    path.write_text("not a socket")
    assert str(path) in sentence(
        run("status", *json, "--control", str(path)), NO_MASTER
    )


def test_status_of_a_dead_master_says_so(run, tmp_path):
    """A control socket that was left behind is no master."""
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert str(path) in sentence(run("status", "--control", str(path)), NO_MASTER)


def test_default_control_socket_is_found_by_both(tmp_path, monkeypatch, capsys):
    """Without ``--control``, serve and status mean the same socket."""
    ours = f"{tmp_path}/maitred"
    monkeypatch.setenv("MAITRED_RUNTIME_DIR", ours)
    assert places.path_of() == f"{ours}/control.sock"
    assert run_here(["status"]) == NO_MASTER
    assert f"{ours}/control.sock" in capsys.readouterr().err
