"""The master becomes another program: what stays, and what happens if it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import pytest

import maitred
from driver import COMMAND, DEADLINE, Maitred, descriptors, is_alive, wait_until
from maitred import control
from maitred.errors import CommandFailed
from raw_http import Answer, ask, connect, connect_unix, get

UPGRADES = 20
VERSION = version("maitred")
PATIENT = ("--timeout-keep-alive", "600", "--head-timeout", "600")
"Options with which nothing is closed because a slow machine took its time."


class Ledger:
    """What clients under load sent whole, and what was answered whole."""

    def __init__(self, port: int) -> None:
        """Begin with nothing."""
        self._port = port
        self.sent: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.counted: dict[str, int] = {}
        self.enough = False

    @property
    def total(self) -> int:
        """How many requests were answered."""
        return sum(self.answered.values())

    async def client(self) -> None:
        """
        Make a session and use it until it is enough, kept and new connections in turn.

        The application counts the requests of each session: one that was run
        twice, or in another worker, breaks the count.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        name = (await self._ask(reader, writer, "", get("/learn"))).json["name"]
        while not self.enough:
            if not self.answered[name] % 10:
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            request = get("/session", f"x-session: {name}")
            answer = await self._ask(reader, writer, name, request)
            self.counted[name] = answer.json["count"]
            await asyncio.sleep(0.01)
        writer.close()

    async def _ask(self, reader, writer, name, request):
        writer.write(request)
        await writer.drain()
        self.sent[name] += 1
        answer = await read_answer(reader)
        assert answer.status == 200, answer
        self.answered[name] += 1
        return answer


async def read_answer(reader):
    """Read one answer that has a length."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:-2])
    body = await reader.readexactly(int(headers["content-length"]))
    return Answer(int(lines[0].split()[1]), headers, body)


@contextlib.contextmanager
def load(port: int) -> Iterator[Ledger]:
    """Be forty clients until the end of the block; fail if one of them does."""
    ledger = Ledger(port)
    ended: list[BaseException | None] = []

    async def crowd() -> None:
        """Be all of them."""
        async with asyncio.TaskGroup() as clients:
            for _ in range(40):
                clients.create_task(ledger.client())

    def run() -> None:
        """Be it, and remember how it ended."""
        try:
            asyncio.run(crowd())
        except BaseException as exc:  # noqa: BLE001 - it is raised below
            ended.append(exc)
        else:
            ended.append(None)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_until("there is load", lambda: ended or len(ledger.counted) == 40)
        yield ledger
    finally:
        ledger.enough = True
        thread.join(DEADLINE)
        if ended != [None]:
            raise AssertionError(f"a client failed: {ended}")


def test_twenty_upgrades_under_load_lose_nothing(serve):
    """Of requests during 20 upgrades each is answered, once, where its session is."""
    server = serve(
        *("probe:app", "--affinity", "header:x-session,learn"),
        *("--no-access-log", *PATIENT),
    )
    workers = server.worker_pids()
    idle = [connect(server.port) for _ in range(20)]
    homes = [connection.ask(get("/")).json["pid"] for connection in idle]
    silent = [connect(server.port) for _ in range(5)]
    away = []
    with load(server.port) as ledger:
        for number in range(1, UPGRADES + 1):
            away.append(upgrade_while_peeking(server, number))
            seen = ledger.total
            wait_until("the load goes on", lambda n=seen: ledger.total > n + 40)
    print("away (s):", sorted(away), "requests:", ledger.total)
    assert ledger.sent == ledger.answered
    del ledger.answered[""]
    assert ledger.counted == dict(ledger.answered)
    assert server.worker_pids() == workers
    for connection, home in zip(idle, homes, strict=True):
        assert connection.ask(get("/")).json["pid"] == home
        connection.close()
    for connection in silent:
        assert connection.ask(get("/")).status == 200
        connection.close()
    wait_until(
        "its descriptors are as before",
        lambda: descriptors(server.pid) == server.descriptors_at_start,
    )
    status = server.status()
    assert (status["pid"], status["upgrades"]) == (server.pid, UPGRADES)


def upgrade_while_peeking(server: Maitred, number: int) -> float:
    """Upgrade for the *number*-th time between the halves of a head."""
    head = get("/")
    with connect(server.port) as peeked:
        peeked.send(head[:20])
        wait_until("it is peeked at", lambda: server.status()["peeking"])
        said = server.upgrade()
        assert said["upgrades"] == number
        assert said["held"] >= 1
        assert peeked.ask(head[20:]).status == 200
    away: float = said["away"]
    return away


def is_replaced(server: Maitred, slot: int, dead: int) -> bool:
    """Say whether another worker than *dead* is ready in *slot*."""
    status = server.status()["slots"][slot]
    return status["state"] == "ready" and status["pid"] != dead


def test_upgrade_keeps_what_waits_for_a_worker(serve):
    """What was handed to a worker, placed or queued for it is served afterwards."""
    server = serve("probe:app", "--window", "4", *PATIENT, workers=1)
    (worker,) = server.worker_pids()
    os.kill(worker, signal.SIGSTOP)
    try:
        waiting = [connect(server.port) for _ in range(20)]
        for connection in waiting:
            connection.send(get("/"))
        wait_until(
            "all are accepted or wait",
            lambda: server.status()["waiting"] and server.total("in_flight") == 4,
        )
        assert server.upgrade()["held"] >= 5
        assert server.total("in_flight") == 4
    finally:
        os.kill(worker, signal.SIGCONT)
    for connection in waiting:
        assert connection.answer().json["pid"] == worker
        connection.close()


def test_workers_are_children_as_before(serve):
    """A worker that dies after an upgrade is reaped and replaced."""
    server = serve(workers=2)
    server.upgrade()
    dead = server.kill_worker(0)
    server.expect_log("worker of slot 0 was ended by SIGKILL; replaced")
    server.wait_for_log("worker of slot 0 was ended by SIGKILL; replaced")
    wait_until("it is reaped", lambda: not Path(f"/proc/{dead}").exists())
    wait_until("it is replaced", lambda: is_replaced(server, 0, dead))
    server.reload()
    assert ask(server.port).status == 200


def test_copies_of_connections_are_still_kept(serve):
    """Idle connections of a worker that is killed after an upgrade live on."""
    server = serve("probe:app", *PATIENT, workers=2)
    kept = [connect(server.port) for _ in range(20)]
    homes = [connection.ask(get("/")).json["pid"] for connection in kept]
    server.upgrade()
    dead = server.kill_worker(0)
    server.expect_log("worker of slot 0 was ended by SIGKILL; replaced")
    assert dead in homes
    for connection, home in zip(kept, homes, strict=True):
        pid = connection.ask(get("/")).json["pid"]
        assert pid != dead
        assert home in {dead, pid}
        connection.close()


@pytest.mark.parametrize("surge", ["1", "all"])
def test_reload_that_is_under_way_goes_on(serve, surge):
    """It comes to its end after the upgrade, and who waits for it hears of that."""
    server = serve("probe:app", "--surge", surge, workers=2)
    old = server.worker_pids()
    with ThreadPoolExecutor(1) as pool:
        reload = pool.submit(control.ask, server.control, "reload")
        server.wait_for_log("starting generation 2")
        server.upgrade()
        assert reload.result(DEADLINE) == {"generation": 2}
    wait_until("the old ones left", lambda: not any(map(is_alive, old)))
    assert ask(server.port).status == 200


def test_everything_else_stays_as_well(serve, tmp_path):
    """Unix sockets, PROXY facts, the key of our cookie and client-made keys stay."""
    path = tmp_path / "app.sock"
    server = serve(
        *("probe:app", "--bind", f"unix:{path},proxy", "--policy", "hash"),
        *("--affinity", "sticky", "--affinity", "header:x-session", *PATIENT),
    )
    names = [f"x-session: {name}" for name in range(20)]
    homes = [ask(server.port, "/", name).json["slot"] for name in names]
    cookie = ask(server.port).headers["set-cookie"].partition(";")[0]
    home = ask(server.port, "/", f"cookie: {cookie}").json["slot"]
    with connect_unix(str(path)) as peeked:
        peeked.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\nGET / HT")
        wait_until("it is peeked at", lambda: server.status()["peeking"])
        server.upgrade()
        peeked.send(b"TP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
        assert peeked.answer().json["client"] == ["192.0.2.7", 4711]
    for _ in range(5):
        assert ask(server.port, "/", f"cookie: {cookie}").json["slot"] == home
    assert [ask(server.port, "/", name).json["slot"] for name in names] == homes
    assert path.exists()


def test_new_version_of_the_package_takes_over(serve, tmp_path):
    """The program that runs afterwards is the one on disk, and says so."""
    new = tmp_path / "new"
    new.mkdir()
    server = serve(env=with_first(new), workers=1)
    shutil.copytree(Path(maitred.__file__).parent, new / "maitred")
    metadata = new / "maitred-99.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: maitred\nVersion: 99.0\n")
    said = server.upgrade()
    assert (said["from"], said["to"]) == (VERSION, "99.0")
    server.wait_for_log(rf"upgraded from {VERSION} to 99\.0")
    assert server.status()["version"] == "99.0"


def with_first(directory: Path) -> dict[str, str]:
    """Make an environment in which modules are looked for in *directory* first."""
    path = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(directory), path]))}


IN_REHEARSAL = """
import os, socket, sys, time
if os.environ.get("MAITRED_SUCCESSION", "").endswith(":rehearsal"):
"""

AT_DESCRIPTOR = """
    begin, made = socket.socket.__init__, [0]
    def count(self, family=-1, type=-1, proto=-1, fileno=None):
        made[0] += fileno is not None
        if made[0] == {number}:
            os._exit(9)
        begin(self, family, type, proto, fileno)
    socket.socket.__init__ = count
"""
"Listener, control socket, two of the event loop, two channels, and who is peeked at."

FAILURES = {
    "import": (
        "maitred/__init__.py",
        "raise ImportError('half installed')",
        "exited with code 1: ImportError: half installed",
    ),
    "settings": (
        "sitecustomize.py",
        IN_REHEARSAL
        + "    import maitred.config\n    maitred.config.MOST_WORKERS = 1\n",
        "exited with code 2: --workers 2: between 1 and 1 are possible",
    ),
    "hang": (
        "sitecustomize.py",
        IN_REHEARSAL + "    time.sleep(600)\n",
        "the new code was not ready within 3 s",
    ),
    "killed": (
        "sitecustomize.py",
        IN_REHEARSAL + "    os.kill(os.getpid(), 11)\n",
        "was ended by SIGSEGV",
    ),
    **{
        f"descriptor {number}": (
            "sitecustomize.py",
            IN_REHEARSAL + AT_DESCRIPTOR.format(number=number),
            "exited with code 9",
        )
        for number in (1, 2, 5, 6, 7)
    },
}
"What is broken in the new code, by file, its text, and what is said of it."


@pytest.mark.parametrize("failure", FAILURES)
def test_old_code_serves_on_where_new_code_fails(serve, tmp_path, failure):
    """A successor that cannot take over is refused, and nobody notices."""
    file, text, why = FAILURES[failure]
    broken = tmp_path / "broken" / file
    broken.parent.mkdir(parents=True)
    server = serve(
        *("probe:app", "--upgrade-timeout", "3", "--no-access-log", *PATIENT),
        env=with_first(tmp_path / "broken"),
        workers=2,
    )
    workers = server.worker_pids()
    broken.write_text(text)
    server.expect_log("upgrade refused|Traceback|ImportError: half installed")
    half = get("/")
    with connect(server.port) as kept, connect(server.port) as peeked:
        kept.ask(get("/"))
        peeked.send(half[:10])
        wait_until("it is peeked at", lambda: server.status()["peeking"])
        before = descriptors(server.pid)
        with pytest.raises(CommandFailed) as refused:
            server.upgrade()
        assert refused.value.exit_code == 7
        assert why in str(refused.value)
        assert str(refused.value).endswith("; the old code serves on")
        wait_until("it is as before", lambda: descriptors(server.pid) == before)
        assert kept.ask(get("/")).status == 200
        assert peeked.ask(half[10:]).status == 200
    server.wait_for_log(re.escape(why))
    assert (server.worker_pids(), server.status()["upgrades"]) == (workers, 0)
    broken.unlink()
    assert server.upgrade()["upgrades"] == 1


def test_second_upgrade_is_refused_while_one_runs(serve, tmp_path):
    """While the new code rehearses nobody can start another upgrade, or stop this."""
    server = serve(env=with_first(tmp_path), workers=1)
    go = tmp_path / "go"
    (tmp_path / "sitecustomize.py").write_text(
        IN_REHEARSAL
        + f"    while not os.path.exists({str(go)!r}):\n        time.sleep(0.01)\n"
    )
    server.tell(signal.SIGUSR2)
    server.wait_for_log("the new code rehearses")
    server.expect_log("upgrade refused: another upgrade is under way")
    with pytest.raises(CommandFailed, match="another upgrade is under way"):
        server.upgrade()
    server.tell(signal.SIGUSR2)
    server.wait_for_log("another upgrade is under way", 2)
    go.touch()
    server.wait_for_log("upgraded from")
    assert server.status()["upgrades"] == 1


def test_old_code_serves_on_where_exec_fails(serve, tmp_path):
    """When the interpreter is gone at the last moment, everything is put back."""
    bin_, site = tmp_path / "bin", tmp_path / "site"
    bin_.mkdir()
    site.mkdir()
    python = bin_ / "python"
    python.symlink_to(os.path.realpath(sys.executable))
    paths = [str(site), *(p for p in sys.path if "site-packages" in p or "src" in p)]
    server = serve(
        env={"PYTHONPATH": os.pathsep.join(paths)},
        command=(str(python), "-m", "maitred"),
        workers=1,
    )
    assert server.upgrade()["upgrades"] == 1
    (site / "sitecustomize.py").write_text(
        IN_REHEARSAL + f"    os.unlink({str(python)!r})\n"
    )
    server.expect_log("upgrade refused")
    before = ask(server.port, "/fds").json["fds"]
    with connect(server.port) as kept:
        kept.ask(get("/"))
        with pytest.raises(CommandFailed, match=r"could not be started .No such file"):
            server.upgrade()
        assert kept.ask(get("/")).status == 200
    assert ask(server.port).status == 200
    (site / "sitecustomize.py").unlink()
    python.symlink_to(os.path.realpath(sys.executable))
    dead = server.kill_worker(0)  # what is started now inherits what it should
    server.expect_log("was ended by SIGKILL; replaced")
    server.wait_for_log("was ended by SIGKILL; replaced")
    wait_until("it is replaced", lambda: is_replaced(server, 0, dead))
    assert ask(server.port, "/fds").json["fds"] == before
    assert server.upgrade()["upgrades"] == 2


def test_stop_during_a_rehearsal_is_obeyed(serve, tmp_path):
    """TERM while the new code rehearses stops the service in order, at once."""
    server = serve(env=with_first(tmp_path), workers=1)
    (tmp_path / "sitecustomize.py").write_text(IN_REHEARSAL + "    time.sleep(600)\n")
    server.expect_log("upgrade refused: the service is stopping")
    refused: list[BaseException] = []

    def upgrade() -> None:
        """Ask for it, and remember the answer."""
        try:
            server.upgrade()
        except CommandFailed as exc:
            refused.append(exc)

    thread = threading.Thread(target=upgrade)
    thread.start()
    server.wait_for_log("the new code rehearses")
    assert server.stop() == 0
    thread.join(DEADLINE)
    assert "the service is stopping" in str(refused[0])


@pytest.mark.parametrize("seed", range(4))
def test_signals_around_an_upgrade_are_heard(serve, seed):
    """A HUP at any moment of an upgrade reloads, and a TERM stops in order."""
    server = serve("probe:app", "--no-access-log", workers=1)
    rng = random.Random(seed)
    for number in range(1, 6):
        before = server.status()["generation"]
        server.tell(signal.SIGUSR2)
        time.sleep(rng.uniform(0, 0.8))
        server.tell(signal.SIGHUP)
        server.wait_for_log("upgraded from", number)
        wait_until(
            "it is reloaded",
            lambda before=before: server.status()["generation"] == before + 1,
        )
    server.expect_log("upgrade refused: the service is stopping")
    server.tell(signal.SIGUSR2)
    time.sleep(rng.uniform(0, 0.8))
    assert server.stop() == 0


def test_command_line_reports(serve, tmp_path):
    """`maitred upgrade` says what was done, or why not, with the new code's words."""
    server = serve(env=with_first(tmp_path), workers=1)
    words = [COMMAND, "upgrade", "--control", server.control]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"upgraded from {VERSION} to {VERSION}: away for ")
    (tmp_path / "maitred").mkdir()
    (tmp_path / "maitred" / "__init__.py").write_text("raise ImportError('no')")
    (tmp_path / "maitred" / "__main__.py").write_text("")
    server.expect_log("upgrade refused|Traceback|ImportError: no")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 7
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "maitred: upgrade refused: the new code cannot take over: it exited with code"
        " 1: ImportError: no; the old code serves on"
    )


def test_master_below_a_keeper_upgrades_as_well(serve):
    """The keeper sees the same child, and still restarts it when it dies."""
    server = serve("probe:app", verb="keep", workers=1)
    master = server.status()["pid"]
    assert master != server.pid
    server.upgrade()
    server.tell(signal.SIGUSR2)
    wait_until("it is upgraded again", lambda: server.status()["upgrades"] == 2)
    assert server.status()["pid"] == master
    assert ask(server.port).status == 200
    server.expect_log("was ended by SIGKILL|WARNING")
    os.kill(master, signal.SIGKILL)
    server.wait_for_log("workers of generation 1 ready", 2)
    assert ask(server.port).status == 200
