"""
Workers that others start: they attach, are handed connections, and are held to it.

Two C workers attach and serve; who misbehaves, before or after it has a slot, is cut
off alone.
"""

import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from driver import APPS, COMMAND, DEADLINE, descriptors, wait_until
from limits import at_its_limit, share_of_cpu
from maitred import Channel
from maitred.control import ask
from maitred.errors import CommandFailed
from maitred.wire.messages import (
    FROM_MASTER,
    FROM_WORKER,
    Attach,
    Ready,
    Rejected,
)
from nobody import NOBODY, SYSTEM, needs_nobody

SOURCE = Path(__file__).parents[2] / "examples" / "worker.c"


@pytest.fixture(scope="session")
def c_worker(tmp_path_factory):
    """Give the worker in C."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    program = tmp_path_factory.mktemp("c") / "worker"
    subprocess.run(
        [compiler, "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program,
         SOURCE],
        check=True,
    )  # fmt: skip
    return program


class Service:
    """A service without workers of its own, and what attaches to it."""

    def __init__(self, serve, tmp_path, stack, *options):
        """Serve."""
        self.path = tmp_path / "workers.sock"
        self.stack = stack
        self.processes = []
        self.server = serve(
            "", "--attach", str(self.path), *options, workers=2, ready=False
        )
        # Who was attached may have it noted that it left.
        self.server.expect_log("has left|is rejected|did not attach|is ended")
        self.server.expect_log("closed its channel and did not leave|is killed")
        self.server.wait_for_log("slot 1, generation 1, is for a worker that attaches")

    def attach(self, *command):
        """Start a worker."""
        process = subprocess.Popen(
            [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.stack.callback(process.stdout.close)
        self.stack.callback(process.wait, DEADLINE)
        self.stack.callback(process.kill)
        self.processes.append(process)
        return process

    def attacher(self, name, behaviour):
        """Start a worker in Python that behaves so."""
        return self.attach(
            sys.executable, APPS / "attacher.py", self.path, name, behaviour
        )

    def newcomer(self):
        """Connect, and say nothing."""
        sock = self.stack.enter_context(
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        )
        sock.connect(str(self.path))
        return sock

    def slots(self):
        """Give the pid of each slot's worker that is ready."""
        rows = self.server.status()["slots"]
        return [row.get("pid") if row["state"] == "ready" else None for row in rows]

    def get(self):
        """Ask for a page; give what is said."""
        with self.server.connect() as sock, sock.makefile("rb") as file:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return file.read()


@pytest.fixture
def service(serve, tmp_path):
    """Make services."""
    with ExitStack() as stack:
        yield lambda *options: Service(serve, tmp_path, stack, *options)


def filled(made, *workers):
    """Wait until these processes fill the slots."""
    pids = {worker.pid for worker in workers}
    wait_until("they serve", lambda: set(made.slots()) == pids)


def test_c_workers_attach_and_serve(service, c_worker):
    """One is killed; the other goes on, and a third takes its place."""
    made = service()
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    one = made.attach(c_worker, made.path, "one")
    two = made.attach(c_worker, made.path, "two")
    filled(made, one, two)
    answers = {made.get().split(b"pid ")[1].strip() for _ in range(20)}
    assert answers == {b"%d" % one.pid, b"%d" % two.pid}
    one.kill()
    one.wait()
    wait_until("its end is known", lambda: None in made.slots())
    assert made.get().endswith(b"pid %d\n" % two.pid)
    filled(made, made.attach(c_worker, made.path, "one"), two)
    assert made.server.stop() == 0
    assert two.wait(DEADLINE) == 0
    assert not made.path.exists()


def test_connections_wait_for_a_worker_that_attaches(service, c_worker):
    """Nobody is there yet: they wait, and are served when somebody is."""
    made = service("--wait-timeout", "60")
    url = made.server.status()["listening"][0]
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    with (
        socket.create_connection(address, DEADLINE) as sock,
        sock.makefile("rb") as file,
    ):
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        made.attach(c_worker, made.path, "one")
        made.attach(c_worker, made.path, "two")
        assert file.readline() == b"HTTP/1.1 200 OK\r\n"


def test_a_reload_is_others_taking_over(service, c_worker):
    """It waits for new workers; when all are there, the old ones drain and leave."""
    made = service()
    old = [made.attach(c_worker, made.path, name) for name in ("a", "b")]
    filled(made, *old)
    made.server.tell(1)
    made.server.wait_for_log("slot 1, generation 2, is for a worker that attaches")
    assert made.get()
    new = [made.attach(c_worker, made.path, name) for name in ("c", "d")]
    filled(made, *new)
    assert [worker.wait(DEADLINE) for worker in old] == [0, 0]
    assert made.get().split(b"pid ")[1].strip() in {b"%d" % w.pid for w in new}


def test_whoever_is_too_many_is_told(service, c_worker):
    """In a sentence, there and in the log."""
    made = service()
    filled(made, *(made.attach(c_worker, made.path, name) for name in ("a", "b")))
    third = made.attach(c_worker, made.path, "c")
    assert third.wait(DEADLINE) == 3
    assert b"rejected: every slot has its worker" in third.stdout.read()
    made.server.wait_for_log("worker 'c', process .* is rejected: every slot has")


@needs_nobody
def test_another_user_gets_nothing(service, tmp_path):
    """The mode keeps it out; where somebody has opened that, the credentials do."""
    made = service()
    program = (
        "import socket,sys;"
        "s=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET);"
        "s.connect(sys.argv[1]);print(s.recv(500)[16:].decode())"
    )

    def try_it():
        return subprocess.run(
            [SYSTEM[0], "-c", program, made.path],
            user=NOBODY.pw_uid, group=NOBODY.pw_gid, extra_groups=[], cwd="/",
            capture_output=True, text=True, check=False, timeout=DEADLINE,
        )  # fmt: skip

    for directory in (tmp_path, *tmp_path.parents[:-2]):
        directory.chmod(0o755)
    assert "PermissionError" in try_it().stderr
    made.path.chmod(0o666)
    assert f"user {NOBODY.pw_uid} is not the master's" in try_it().stdout
    made.server.wait_for_log(rf"process \d+ is rejected: user {NOBODY.pw_uid} is not")


def say(made, *messages):
    """Connect and say *messages*; give the sentence with which one is rejected."""
    sock = made.newcomer()
    channel = Channel(
        socket.socket(fileno=os.dup(sock.fileno())),
        sends=FROM_WORKER,
        receives=FROM_MASTER,
    )
    with channel:
        for message in messages:
            channel.send(message)
        (answer,) = channel.receive(DEADLINE)
        assert isinstance(answer, Rejected)
        return answer.why.decode()


def test_what_is_no_attach_is_rejected(service, c_worker):
    """A bad name, nonce, capacity or first word; a name or a nonce that is used."""
    made = service()
    nonce = b"12345678"
    assert "name is not" in say(made, Attach(b"No Name", nonce, 1))
    assert "nonce" in say(made, Attach(b"one", b"short", 1))
    assert "nonce" in say(made, Attach(b"one", bytes(65), 1))
    assert "capacity" in say(made, Attach(b"one", nonce, 0))
    assert "not ATTACH" in say(made, Ready(1))
    made.attach(c_worker, made.path, "one")
    wait_until("it serves", lambda: any(made.slots()))
    assert "of that name" in say(made, Attach(b"one", nonce, 1))


def test_newcomers_that_say_nonsense_are_dropped(service, c_worker):
    """Garbage, descriptors, silence: nothing of it is left, and others may attach."""
    made = service()
    made.server.status()  # it has all open that it will have
    before = descriptors(made.server.pid)
    for said in (b"\xff" * 50, b"\x04\x14", struct.pack("!BBHHHI", 9, 20, 0, 1, 0, 0)):
        sock = made.newcomer()
        sock.sendall(said)
        assert sock.recv(100) == b""
    flood = made.newcomer()
    null = os.open("/dev/null", os.O_RDONLY)
    socket.send_fds(flood, [struct.pack("!BBHHHI", 4, 5, 2, 1, 0, 0)], [null] * 200)
    os.close(null)
    assert flood.recv(100) == b""
    silent = made.newcomer()
    silent.settimeout(DEADLINE)
    assert b"it did not say ATTACH in time" in silent.recv(500)
    wait_until("nothing is left", lambda: descriptors(made.server.pid) == before)
    filled(made, *(made.attach(c_worker, made.path, name) for name in ("a", "b")))


@pytest.mark.parametrize("behaviour", ["garbage", "flood", "twice", "leave"])
def test_who_misbehaves_is_cut_off_alone(service, c_worker, behaviour):
    """Its process is ended, and the other worker serves on."""
    made = service()
    good = made.attach(c_worker, made.path, "good")
    wait_until("it serves", lambda: good.pid in made.slots())
    bad = made.attacher("bad", behaviour)
    assert bad.wait(DEADLINE) == -9
    made.server.wait_for_log("is for a worker that attaches", 3)
    assert made.get().endswith(b"pid %d\n" % good.pid)
    filled(made, good, made.attach(c_worker, made.path, "bad"))


def test_nobody_cuts_the_shared_memory_short(service, c_worker):
    """The master, which has it mapped, would die of it."""
    made = service()
    bad = made.attacher("bad", "shrink")
    assert bad.wait(DEADLINE) == 1
    assert b"PermissionError" in bad.stdout.read()
    made.server.wait_for_log("is for a worker that attaches", 3)
    filled(made, *(made.attach(c_worker, made.path, name) for name in ("a", "b")))


def test_a_master_without_descriptors_is_attached_to_later(service, c_worker):
    """It does not spin meanwhile."""
    made = service()
    with at_its_limit(made.server.pid):
        workers = [made.attach(c_worker, made.path, name) for name in ("a", "b")]
        assert share_of_cpu(made.server.pid) < 0.5
    filled(made, *workers)


def test_a_worker_that_cannot_be_watched_takes_no_slot(service, c_worker):
    """With one descriptor left it is heard, and told why; both slots stay free."""
    made = service()
    made.server.status()
    with at_its_limit(made.server.pid, spare=1):
        assert "Too many open files" in say(made, Attach(b"one", b"12345678", 1))
    filled(made, *(made.attach(c_worker, made.path, name) for name in ("one", "b")))


def test_who_never_is_ready_is_ended(service):
    """--ready-timeout counts from the moment it has attached."""
    made = service("--ready-timeout", "1")
    mute = made.attacher("mute", "mute")
    assert mute.wait(DEADLINE) == -9
    made.server.wait_for_log("worker mute of slot . did not say READY in time")


def test_capacity_bounds_what_is_on_its_way(service):
    """A worker that takes nothing is handed three, as it said; the fourth waits."""
    made = service("--wait-timeout", "60")
    holders = [made.attacher(name, "hold") for name in ("a", "b")]
    wait_until("they serve", lambda: None not in made.slots())
    with ExitStack() as stack:
        for _ in range(8):
            sock = stack.enter_context(made.server.connect())
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(
            "some wait", lambda: made.server.status()["connections"]["accepted"] >= 7
        )
        rows = made.server.status()["slots"]
        assert [row["in_flight"] for row in rows] == [3, 3]
        for holder in holders:
            holder.kill()
            holder.wait()
    made.server.expected_lost = 0
    made.server.descriptors_at_start = None


def test_an_upgrade_is_refused(service):
    """Workers of others cannot be passed on."""
    made = service()
    made.server.expect_log("upgrade refused")
    with pytest.raises(CommandFailed, match="--attach: workers that others started"):
        ask(made.server.control, "upgrade")


SENTENCES = {
    ("probe:app", "--attach", "/tmp/w.sock"): "--attach with TARGET probe:app",
    ("--attach", "w.sock"): "an absolute path is needed",
    ("--attach", "/tmp/w.sock", "--acceptors", "2"): "--attach with --acceptors",
    ("--attach", "/nowhere/w.sock"): "cannot listen on --attach /nowhere/w.sock",
    (): "there is no target",
}


@pytest.mark.parametrize("options", SENTENCES, ids=" ".join)
def test_what_cannot_be_is_told_in_a_sentence(options, tmp_path):
    """And nothing runs."""
    done = subprocess.run(
        [COMMAND, "serve", *options, "--bind", "127.0.0.1:0",
         "--control", str(tmp_path / "c.sock")],
        check=False, capture_output=True, text=True, timeout=DEADLINE, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode != 0, done
    assert SENTENCES[options] in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_socket_that_somebody_listens_on_stays(service, tmp_path):
    """A second service says so, and the first serves on."""
    made = service()
    done = subprocess.run(
        [COMMAND, "serve", "--attach", str(made.path), "--bind", "127.0.0.1:0",
         "--control", str(tmp_path / "other.sock")],
        check=False, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert "something listens there" in done.stderr
    assert made.path.exists()


def test_who_lets_no_descriptors_in_costs_no_slot(service):
    """It is rejected, or ended when it is handed something; the slot is for others."""
    attached = service("--agent", "127.0.0.1:0")
    first = attached.attacher("first", "closed")
    assert b"it cannot be told its slot" in first.communicate(timeout=DEADLINE)[0]
    second = attached.attacher("second", "hold")
    wait_until("it has a slot", lambda: second.pid in attached.slots())
    third = attached.attacher("third", "closes")
    wait_until("both have slots", lambda: None not in attached.slots())
    with ExitStack() as clients:
        # One of them is handed the first of these, and the other the next.
        for _ in range(4):
            client = clients.enter_context(attached.server.connect())
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert third.wait(DEADLINE) == -9
        attached.server.wait_for_log("is ended: the system refuses to pass messages")
    fourth = attached.attacher("fourth", "hold")
    wait_until("the slot is for others", lambda: fourth.pid in attached.slots())


def test_who_comes_while_a_slot_waits_is_told_when_to_come(service):
    """A slot whose workers fail is for a worker again after a while, and says so."""
    attached = service()
    attached.attacher("held", "hold")
    # The wait grows with each failure, so a slow machine is told sooner or later too.
    for number in range(12):
        wait_until(
            "one slot is empty", lambda: sum(p is None for p in attached.slots()) == 1
        )
        failing = attached.attacher(f"failing{number}", "desert")
        said = failing.communicate(timeout=DEADLINE)[0]
        if b"Attached" not in said:
            break
    assert b"the empty slot is for a worker again in " in said
