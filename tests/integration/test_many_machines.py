"""
Three machines with a maitred each, two HAProxies in front, one configuration.

Machines and HAProxies are network namespaces on a bridge, with addresses of their own.
The configuration is what ``maitred haproxy`` prints.
"""

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
import uuid
from collections import Counter

import pytest

from driver import COMMAND, DEADLINE, wait_until
from maitred.control import ask

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("haproxy") or not shutil.which("ip"),
    reason="needs root, haproxy and ip, to make network namespaces",
)
NAMES = ("a", "b", "c")
BALANCERS = ("lb1", "lb2")


def run(*command):
    """Run a command that has to succeed."""
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


class Net:
    """A bridge, and namespaces on it."""

    def __init__(self):
        """Make the bridge."""
        self.id = uuid.uuid4().hex[:6]
        self.bridge = f"mb{self.id}"
        # One of 64 networks, so that several may be there at once.
        self.prefix = f"10.213.{int(self.id[:2], 16)}"
        self.spaces = {}
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "addr", "add", f"{self.prefix}.1/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")

    def add(self, name, number):
        """Make a namespace with address *number*."""
        space, link = f"m{self.id}{name}", f"v{self.id}{name}"
        run("ip", "netns", "add", space)
        self.spaces[name] = space, f"{self.prefix}.{number}"
        run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0",
            "netns", space)  # fmt: skip
        run("ip", "link", "set", link, "master", self.bridge, "up")
        inside = ("ip", "-n", space)
        run(*inside, "addr", "add", f"{self.prefix}.{number}/24", "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "link", "set", "lo", "up")

    def address(self, name):
        """Give the address of *name*."""
        return self.spaces[name][1]

    def inside(self, name):
        """Give the words that run a command in *name*."""
        return ("ip", "netns", "exec", self.spaces[name][0])

    def close(self):
        """Take all of it down."""
        for space, _ in self.spaces.values():
            subprocess.run(["ip", "netns", "del", space], check=False)
        subprocess.run(["ip", "link", "del", self.bridge], check=False)


class Balancer:
    """One HAProxy."""

    def __init__(self, net, name, text, directory):
        """Start it."""
        self.address = net.address(name)
        file = directory / f"{name}.cfg"
        stats = directory / f"{name}.sock"
        file.write_text(text.replace("/run/haproxy-maitred.sock", str(stats)))
        self.stats = str(stats)
        self.log = directory / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*net.inside(name), "haproxy", "-L", name, "-W", "-f", str(file)],
                stdout=log,
                stderr=log,
            )

    def ask(self, command):
        """Ask its runtime socket."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(DEADLINE)
            sock.connect(self.stats)
            sock.sendall(command.encode() + b"\n")
            with sock.makefile() as file:
                return file.read()

    def reloads(self):
        """Say how often it has reloaded, and the worker before is gone."""
        return self.log.read_text().count("Former worker")

    def states(self):
        """Give the state of each machine."""
        with contextlib.suppress(OSError):
            rows = [line.split(",") for line in self.ask("show stat").splitlines()]
            return {
                row[1]: row[17]
                for row in rows
                if row[0] == "machines" and row[1] in NAMES
            }
        return {}

    def close(self):
        """Stop it."""
        self.process.terminate()
        self.process.wait(DEADLINE)


@pytest.fixture
def affinity():
    """Where the name of a session stands, which its server makes."""
    return "header:x-session,learn"


@pytest.fixture
def cluster(serve, tmp_path, affinity):
    """Give the net, the servers by name, and the two HAProxies."""
    net = Net()
    with contextlib.ExitStack() as stack:
        stack.callback(net.close)
        for number, name in enumerate((*NAMES, *BALANCERS, "client")):
            net.add(name, 11 + number)
        servers = {
            name: serve(
                "probe:app", "--affinity", affinity, "--no-access-log",
                "--proxy-protocol", "required", "--proxy-trust", f"{net.prefix}.0/24",
                "--agent", f"{net.address(name)}:9200",
                bind=f"{net.address(name)}:8000", workers=2, ready=False,
                through=net.inside(name),
            )
            for name in NAMES
        }  # fmt: skip
        for server in servers.values():
            server.ready()
        words = [f"--machine={n}={net.address(n)}:8000" for n in NAMES]
        words += [f"--peer={n}={net.address(n)}:10000" for n in BALANCERS]
        text = run(
            COMMAND, "haproxy", *words, "--bind", ":80", "--agent-port", "9200",
            "--affinity", affinity,
        )  # fmt: skip
        balancers = [Balancer(net, name, text, tmp_path) for name in BALANCERS]
        for balancer in balancers:
            stack.callback(balancer.close)
        for balancer in balancers:
            wait_until(
                "all machines are up",
                lambda b=balancer: (
                    set(b.states().values()) == {"UP"} and len(b.states()) == len(NAMES)
                ),
            )
        yield net, servers, balancers


def request(address, path, headers=(), client=None):
    """Ask HAProxy; give the answer, and what was said."""
    connection = http.client.HTTPConnection(
        address, 80, DEADLINE, source_address=client and (client, 0)
    )
    try:
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        return response, json.loads(response.read())
    finally:
        connection.close()


class Visitor:
    """One session, that its server has made; with *cookies*, as a browser has one."""

    def __init__(self, address, *, header="x-session", cookies=False):
        """Make it."""
        response, said = request(address, f"/learn?header={header}")
        assert response.status == 200
        self.header, self.name = header, response.getheader(header)
        self.pid = said["pid"]
        self.count = 0
        self.headers = {header: self.name}
        for line in response.msg.get_all("set-cookie") if cookies else ():
            if line.startswith("maitred-machine="):
                self.headers["cookie"] = line.partition(";")[0]

    def come_back(self, address):
        """Say whether the session is still where it was, and knows us."""
        path = f"/session?header={self.header}"
        response, said = request(address, path, self.headers)
        assert response.status == 200, said
        self.count += 1
        return (said["pid"], said["count"]) == (self.pid, self.count)


def machines_of(servers):
    """Give the machine of each worker's pid."""
    return {pid: name for name, s in servers.items() for pid in s.worker_pids()}


def test_a_session_reaches_its_machine_and_its_process(cluster):
    """By either HAProxy: what one has learned, the other knows."""
    _, servers, (one, two) = cluster
    visitors = [Visitor(one.address) for _ in range(30)]
    where = machines_of(servers)
    assert {where[visitor.pid] for visitor in visitors} == set(NAMES)
    for _ in range(3):
        for visitor in visitors:
            assert visitor.come_back(two.address)
            assert visitor.come_back(one.address)


def test_the_client_address_is_right(cluster):
    """For every request, on every machine: it is the client's, not HAProxy's."""
    net, servers, balancers = cluster
    run("ip", "addr", "add", f"{net.prefix}.2/24", "dev", net.bridge)
    seen = Counter()
    for number in range(60):
        client = f"{net.prefix}.{1 + number % 2}"
        balancer = balancers[number % 3 % 2]
        response, said = request(balancer.address, "/", client=client)
        assert (response.status, said["client"][0]) == (200, client)
        seen[machines_of(servers)[said["pid"]]] += 1
    assert set(seen) == set(NAMES)


def test_a_machine_drains(cluster):
    """Nothing fails, its sessions stay, and what is new goes elsewhere."""
    _, servers, (one, two) = cluster
    visitors = [Visitor(one.address) for _ in range(30)]
    where = machines_of(servers)
    answer = ask(servers["b"].control, "machine", state="drain")
    assert answer["state"] == "drain"
    for balancer in (one, two):
        wait_until("it drains", lambda b=balancer: b.states()["b"].startswith("DRAIN"))
    for visitor in visitors:
        assert visitor.come_back(one.address)
    new = [Visitor(balancer.address) for balancer in (one, two) for _ in range(15)]
    assert {where[visitor.pid] for visitor in new} == {"a", "c"}
    ask(servers["b"].control, "machine", state="ready")
    for balancer in (one, two):
        wait_until("it is back", lambda b=balancer: b.states()["b"] == "UP")
    again = [Visitor(two.address) for _ in range(30)]
    assert "b" in {where[visitor.pid] for visitor in again}


@pytest.mark.parametrize("affinity", ["mcp"])
def test_a_name_that_says_its_machine_is_the_servers_to_the_application(cluster):
    """HAProxy takes away what it put there; a machine that drains keeps its own."""
    _, servers, (one, two) = cluster
    header = "mcp-session-id"
    visitors = [Visitor(one.address, header=header) for _ in range(30)]
    where = machines_of(servers)
    for visitor in visitors:
        machine, _, name = visitor.name.partition("~")
        assert (machine, len(name)) == (where[visitor.pid], 32)
    ask(servers["b"].control, "machine", state="drain")
    for balancer in (one, two):
        wait_until("it drains", lambda b=balancer: b.states()["b"].startswith("DRAIN"))
    assert "b" in {where[visitor.pid] for visitor in visitors}
    assert all(visitor.come_back(two.address) for visitor in visitors)
    # A name that says no machine of ours is left as it is.
    for name in (f"x~{'0' * 32}", "~", "a~", "a"):
        response, said = request(
            one.address, f"/session?header={header}", {header: name}
        )
        assert (response.status, said["count"]) == (200, None)


def test_a_machine_that_dies_takes_its_own_sessions_alone(cluster):
    """All others find theirs; whoever was there is served, by another machine."""
    _, servers, (one, two) = cluster
    visitors = [Visitor(one.address) for _ in range(30)]
    where = machines_of(servers)
    victim = servers["c"]
    victim.kill_all()
    # The control socket is what a master leaves behind that was killed.
    os.unlink(victim.control)
    for balancer in (one, two):
        wait_until(
            "its death is known", lambda b=balancer: b.states()["c"].startswith("DOWN")
        )
    for visitor in visitors:
        came_back = visitor.come_back(two.address)
        assert came_back == (where[visitor.pid] != "c")


@pytest.mark.parametrize(
    ("affinity", "has"),
    [
        ("header:x-session,learn", {"cookies": True}),
        ("mcp", {"header": "mcp-session-id"}),
    ],
    ids=["cookie", "mcp"],
)
def test_a_reload_of_haproxy_is_invisible(cluster, has):
    """
    Requests all the while: none fails, and every session is where it was.

    The new process does not know at once what the old one knew; so the clients keep
    the cookie that says their machine, as a browser does, or the name of the session
    says it.
    """
    _, _, (one, _) = cluster
    visitors = [Visitor(one.address, **has) for _ in range(12)]
    done = threading.Event()
    failures, rounds = [], Counter()

    def come(visitor):
        while not done.is_set():
            try:
                if not visitor.come_back(one.address):
                    failures.append("elsewhere")
            except (OSError, AssertionError, http.client.HTTPException) as exc:
                failures.append(repr(exc))
            rounds[visitor.name] += 1

    threads = [threading.Thread(target=come, args=(v,)) for v in visitors]
    for thread in threads:
        thread.start()
    try:
        for number in range(3):
            least = min(rounds.values(), default=0)
            one.process.send_signal(12)  # USR2: the master reloads
            # A master that is still about it hears no signal.
            wait_until("it has reloaded", lambda n=number: one.reloads() == n + 1)
            wait_until(
                f"all came back after reload {number}",
                lambda n=least: len(rounds) == 12 and min(rounds.values()) > n + 3,
            )
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures
