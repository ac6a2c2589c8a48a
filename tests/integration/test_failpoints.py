"""
The worst moments: whatever happens at each of the nine failpoints, nothing is lost.

What becomes of a request in each case stands in ``failpoint_promises``. The application
keeps a ledger: no request is ever started twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import resource
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from driver import DEADLINE, Maitred, is_alive, processes_of, wait_until
from failpoint_promises import PROMISES, Action, Outcome
from maitred.errors import NoMaster
from maitred.failpoints import PLACES, VARIABLE
from maitred.worker.parking import TIME
from raw_http import Connection, ask, connect, get
from scenes import names_by_slot, waiting_request

WORKERS = 3
OPTIONS = (
    *("--affinity", "header:x-session", "--no-access-log"),
    *("--timeout-keep-alive", "600"),
)
AGAIN = r"the master was ended by SIGKILL; started again"
EXPECTED = (
    rf"{VARIABLE} is set",
    AGAIN,
    r"worker of slot \d was ended by SIGKILL( .* ready)?; (replaced|next try in)",
    r"not accepting for a moment: Too many open files",
    r"a connection given back could not be received: Too many open files",
    r"connections were refused: .* limit of open files",
)
RETURNS = ("keepalive-return", "return-master")
STRIKES = int(os.environ.get("MAITRED_TESTS_FAILPOINTS", "100")) // 4
"In each of four tests."
RESET = struct.pack("ii", 1, 0)
"SO_LINGER for a close that sends RST."
SAID = {Action.RESET: "wait"}
"What the failpoint is told, where it is not the action's own name."


class Failpoints:
    """The failpoints of one server, and the ledger of its application."""

    def __init__(self, directory: Path) -> None:
        """Be armed nowhere."""
        self.directory = directory
        self.ledger = directory / "ledger"
        self.ledger.touch()

    @property
    def environment(self) -> dict[str, str]:
        """What the server has to be told."""
        return {VARIABLE: str(self.directory), "LEDGER": str(self.ledger)}

    def arm(self, name: str, action: Action) -> None:
        """Have *action* done by whoever comes to failpoint *name* next."""
        (self.directory / name).symlink_to(SAID.get(action, action.value))

    def mark(self, name: str) -> Path | None:
        """Give the mark of who came to failpoint *name*, if somebody did."""
        return next(self.directory.glob(f"{name}.*"), None)

    def wait_for(self, name: str) -> int:
        """Wait until somebody has come to failpoint *name*; give its pid."""
        mark = wait_until(f"somebody is at {name}", lambda: self.mark(name))
        return int(mark.suffix[1:])

    def clear(self, name: str) -> None:
        """Let go on who waits at failpoint *name*; forget who was there."""
        if mark := self.mark(name):
            mark.unlink()

    def noted(self, what: str) -> list[tuple[str, int]]:
        """Give which requests were *what* ("started" or "finished"), and by whom."""
        lines = map(str.split, self.ledger.read_text().splitlines())
        return [(name, int(pid)) for noted, name, pid in lines if noted == what]


@pytest.fixture(scope="module")
def failpoints(tmp_path_factory: pytest.TempPathFactory) -> Failpoints:
    """Make the failpoints of this module's server."""
    return Failpoints(tmp_path_factory.mktemp("failpoints"))


@pytest.fixture
def server(share: Callable[..., Maitred], failpoints: Failpoints) -> Maitred:
    """Give a server with a keeper, which survives everything."""
    server = share(
        "noting:app", *OPTIONS, verb="keep", workers=WORKERS,
        env=failpoints.environment,
    )  # fmt: skip
    server.expected = list(EXPECTED)
    return server


@dataclass
class Seat:
    """Two clients of one worker: one waits for its answer, the other for nothing."""

    pid: int
    session: str
    idle: Connection
    busy: Connection
    gate: Path


class Bystanders:
    """Clients of every worker, on whom nothing of it all may fall."""

    def __init__(
        self, server: Maitred, clients: contextlib.ExitStack, directory: Path
    ) -> None:
        """Connect, and ask."""
        self.seats: list[Seat] = []
        for slot, session in sorted(names_by_slot(server).items()):
            mine = f"x-session: {session}"
            idle = clients.enter_context(connect(server.port))
            pid = idle.ask(get("/", mine)).json["pid"]
            gate = directory / f"gate-{slot}"
            busy = clients.enter_context(waiting_request(server, gate, mine))
            self.seats.append(Seat(pid, session, idle, busy, gate))

    def ask(self, *, besides: int = 0) -> None:
        """See every idle one answered by its worker, *besides* those of one."""
        for seat in self.seats:
            if seat.pid != besides:
                assert seat.idle.ask(get()).json["pid"] == seat.pid

    def finish(self, *, killed: int = 0) -> None:
        """See all answered; who was with the *killed* one is told, or has moved."""
        for seat in self.seats:
            seat.gate.touch()
            answer = seat.busy.answer()
            if seat.pid == killed:
                assert answer.status == 502
                assert seat.busy.at_end()
                assert seat.idle.ask(get()).json["pid"] != killed
            else:
                assert answer.json["pid"] == seat.pid
                assert seat.idle.ask(get()).json["pid"] == seat.pid

    def leave(self) -> None:
        """See all answered, and every connection closed after that."""
        for seat in self.seats:
            seat.gate.touch()
            assert seat.busy.answer().json["pid"] == seat.pid
            assert seat.busy.at_end()
            assert seat.idle.at_end()
        self.seats.clear()


@dataclass
class Strike:
    """What happened, and to whom."""

    server: Maitred
    failpoints: Failpoints
    name: str
    client: Connection
    others: Bystanders
    victim: int
    owner: int
    "The worker to which the request belongs, if it is known."

    @property
    def in_master(self) -> bool:
        """Whether it happened to the master."""
        return PLACES[self.name].in_master


# What happens. Each gives its turn to whoever looks what became of the request.


@contextlib.contextmanager
def killed(strike: Strike) -> Iterator[None]:
    """Another one comes; of a dead master's workers each leaves when it can."""
    server, others = strike.server, strike.others
    if not strike.in_master:
        wait_until_replaced(server, strike.victim)
        yield
        others.finish(killed=strike.victim)
        return
    yield
    old = [seat.pid for seat in others.seats]
    others.leave()
    wait_until("a new master serves", lambda: is_up(server))
    wait_until("the old workers have left", lambda: not any(map(is_alive, old)))
    wait_until(
        "nobody else is there", lambda: len(processes_of(server.run)) == 2 + WORKERS
    )
    assert ask(server.port).status == 200


@contextlib.contextmanager
def stopped(strike: Strike) -> Iterator[None]:
    """Who does not need it does not notice."""
    wait_until("it stands still", lambda: state(strike.victim) == "T")
    strike.others.ask(besides=strike.victim)
    os.kill(strike.victim, signal.SIGCONT)
    yield
    strike.others.finish()


@contextlib.contextmanager
def exhausted(strike: Strike) -> Iterator[None]:
    """What needs no descriptor goes on; new connections go elsewhere, or wait."""
    strike.others.ask()
    yield
    with connect(strike.server.port) as late:
        late.send(get())
        if not strike.in_master:
            assert late.answer().status == 200
        _, hard = resource.prlimit(strike.victim, resource.RLIMIT_NOFILE)
        resource.prlimit(strike.victim, resource.RLIMIT_NOFILE, (hard, hard))
        if strike.in_master:
            assert late.answer().status == 200
    strike.others.finish()


@contextlib.contextmanager
def left(strike: Strike) -> Iterator[None]:
    """Nobody else notices."""
    reset(strike.client)
    strike.others.ask(besides=strike.victim)
    strike.failpoints.clear(strike.name)
    yield
    strike.others.finish()


HAPPENS: Final[dict[Action, Callable[[Strike], AbstractContextManager[None]]]] = {
    Action.KILL: killed,
    Action.STOP: stopped,
    Action.EMFILE: exhausted,
    Action.RESET: left,
}


# What becomes of the request. Each says how often it was started: from, to.


def answered(strike: Strike) -> tuple[int, int]:
    """See it answered, and the connection go on."""
    assert strike.client.answer().status == 200
    assert strike.client.ask(get()).status == 200
    return 1, 1


def answered_by_the_same(strike: Strike) -> tuple[int, int]:
    """See it answered by the worker it was with, and the connection stay there."""
    assert strike.client.answer().json["pid"] == strike.victim
    assert strike.client.ask(get()).json["pid"] == strike.victim
    return 1, 1


def answered_by_another(strike: Strike) -> tuple[int, int]:
    """See it answered by another worker, and the connection go on."""
    answer = strike.client.answer()
    assert answer.status == 200
    assert answer.json["pid"] != strike.victim
    assert strike.client.ask(get()).status == 200
    return 1, 1


def answered_by_its_owner(strike: Strike) -> tuple[int, int]:
    """See it answered where it belongs, and the connection stay there."""
    assert strike.client.answer().json["pid"] == strike.owner
    assert strike.client.ask(get()).json["pid"] == strike.owner
    return 1, 1


def told(strike: Strike) -> tuple[int, int]:
    """See its client told that it was started and cannot be answered."""
    assert strike.client.answer().status == 502
    assert is_closed(strike.client)
    return 1, 1


def not_started(strike: Strike) -> tuple[int, int]:
    """See the connection closed without a word."""
    assert is_closed(strike.client)
    return 0, 0


def nobody_is_there(_strike: Strike) -> tuple[int, int]:
    """See nothing: the client is gone, and the application may not know."""
    return 0, 1


COMES_OF_IT: Final[dict[Outcome, Callable[[Strike], tuple[int, int]]]] = {
    Outcome.ANSWERED: answered,
    Outcome.SAME: answered_by_the_same,
    Outcome.OTHER: answered_by_another,
    Outcome.OWNER: answered_by_its_owner,
    Outcome.TOLD: told,
    Outcome.CLOSED: not_started,
    Outcome.LEFT: nobody_is_there,
}


def is_closed(client: Connection) -> bool:
    """Wait for the next byte of *client*; say whether its connection ended instead."""
    try:
        return client.at_end()
    except ConnectionResetError:
        return True


def state(pid: int) -> str:
    """Say what process *pid* does, in the kernel's letter."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def reset(client: Connection) -> None:
    """Part with *client* by RST."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()


def is_up(server: Maitred) -> bool:
    """Say whether there is a master whose workers are all ready."""
    try:
        return all(slot["state"] == "ready" for slot in server.status()["slots"])
    except NoMaster:
        return False


def wait_until_replaced(server: Maitred, victim: int) -> None:
    """Wait until every slot has a worker that is ready, and none is *victim*."""

    def replaced() -> bool:
        slots = server.status()["slots"]
        return all(s["state"] == "ready" and s["pid"] != victim for s in slots)

    wait_until("the worker is replaced", replaced)


@pytest.mark.parametrize("action", Action, ids=lambda action: action.name.lower())
@pytest.mark.parametrize("name", PLACES)
def test_failpoint(server, failpoints, tmp_path, name, action):
    """Whoever is struck at the worst moment loses nothing, and harms nobody else."""
    outcome = PROMISES[name].of(action)
    request = f"{name}-{action.name}"
    lines, owner = [f"x-id: {request}"], 0
    lost = server.status()["connections"]["lost"]
    with contextlib.ExitStack() as clients:
        others = Bystanders(server, clients, tmp_path)
        if name in RETURNS:
            # It comes with one session's request, and goes on with another's.
            here, there, *_ = others.seats
            client = clients.enter_context(connect(server.port))
            assert client.ask(get("/", f"x-session: {here.session}")).status == 200
            lines.append(f"x-session: {there.session}")
            owner = there.pid
            failpoints.arm(name, action)
        else:
            failpoints.arm(name, action)
            client = clients.enter_context(connect(server.port))
        client.send(get("/", *lines))
        victim = failpoints.wait_for(name)
        strike = Strike(server, failpoints, name, client, others, victim, owner)
        with HAPPENS[action](strike):
            least, most = COMES_OF_IT[outcome](strike)
        failpoints.clear(name)
    # Counts are a master's own, and those of a dead one are gone.
    restarted = action is Action.KILL and strike.in_master
    server.expected_lost = 0 if restarted else lost
    server.check_at_rest()
    started, finished = (failpoints.noted(what) for what in ("started", "finished"))
    assert least <= [name for name, _ in started].count(request) <= most
    assert sorted(started) == sorted(finished)


# The same, at random and under load.


@dataclass
class Request:
    """What a client knows of one request that it has sent whole."""

    name: str
    previous: int
    "Who answered the one before it on the same connection; 0: there was none."
    connected_at: float
    status: int = 0
    "Of the answer, if there was a whole one."
    ended_at: float = 0.0
    was_reset: bool = False


class Caller:
    """A client that asks all the while, on one connection after the other."""

    def __init__(self, number: int, port: int) -> None:
        """Ask nothing yet."""
        self.requests: list[Request] = []
        self._number = number
        self._port = port
        self._random = random.Random(number)
        self._writer: asyncio.StreamWriter | None = None
        self._resets = 0

    async def run(self, over: asyncio.Event) -> None:
        """Ask until it is *over*."""
        while not over.is_set():
            reader, self._writer = await asyncio.open_connection(
                "127.0.0.1", self._port
            )
            try:
                await self._talk(reader, self._writer)
            finally:
                self._writer.transport.abort()

    def reset(self) -> None:
        """Part with the connection of the moment by RST."""
        self._resets += 1
        if self._writer is not None:
            sock = self._writer.get_extra_info("socket")
            if sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._writer.transport.abort()

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        previous, resets, since = 0, self._resets, time.monotonic()
        for _ in range(self._random.randint(1, 8)):
            name = f"{self._number}-{len(self.requests)}"
            request = Request(name, previous, since)
            self.requests.append(request)
            one = f"x-session: s{self._random.randrange(7)}"
            session = self._random.choice([[], [one]])
            writer.write(get("/", f"x-id: {request.name}", *session))
            try:
                async with asyncio.timeout(DEADLINE):
                    head = await reader.readuntil(b"\r\n\r\n")
                    [size] = re.findall(rb"(?i)content-length: (\d+)", head)
                    body = await reader.readexactly(int(size))
            except (OSError, asyncio.IncompleteReadError):
                return
            finally:
                request.ended_at = time.monotonic()
                request.was_reset = self._resets != resets
            request.status = int(head.split()[1])
            if request.status != 200:
                return
            previous = json.loads(body)["pid"]


@dataclass
class Struck:
    """Who was struck, and when, as far as it excuses anything."""

    killed: set[int]
    "Workers."
    without_master: list[tuple[float, float]]
    "From when to when there was none, or it had no descriptors."
    at_limit: list[float]
    "When the master had no descriptors, and may have given up copies."

    def excuse(self, request: Request, started_by: int | None) -> bool:
        """Say whether *request* may have failed."""
        if request.was_reset or started_by in self.killed:
            return True
        if started_by is not None:
            return False
        # The master had it or could not have it back, or its worker left with it. While
        # a worker has parked a copy, its client does not hear of it (decision 14).
        if any(a <= request.ended_at <= b + TIME for a, b in self.without_master):
            return True
        # Its worker died, and there was no copy.
        without_copy = any(
            request.connected_at <= at <= request.ended_at for at in self.at_limit
        )
        return without_copy and request.previous in {0, *self.killed}


async def strike_at_random(
    server: Maitred,
    failpoints: Failpoints,
    callers: list[Caller],
    rng: random.Random,
) -> Struck:
    """Have anything happen anywhere, one thing after the other."""
    struck = Struck(set(), [], [])
    for _ in range(STRIKES):
        name, action = rng.choice(list(PLACES)), rng.choice(list(Action))
        since = time.monotonic()
        workers = set(await asyncio.to_thread(server.worker_pids))
        failpoints.arm(name, action)
        victim = await asyncio.to_thread(failpoints.wait_for, name)
        dies = action is Action.KILL
        if action is Action.STOP:
            await asyncio.to_thread(
                wait_until, "it stands still", lambda pid=victim: state(pid) == "T"
            )
            dies = rng.random() < 0.5
            os.kill(victim, signal.SIGKILL if dies else signal.SIGCONT)
        elif action is Action.EMFILE:
            await asyncio.sleep(rng.random() / 10)
            _, hard = resource.prlimit(victim, resource.RLIMIT_NOFILE)
            resource.prlimit(victim, resource.RLIMIT_NOFILE, (hard, hard))
            if PLACES[name].in_master:
                struck.at_limit.append(time.monotonic())
                struck.without_master.append((since, time.monotonic()))
        elif action is Action.RESET:
            rng.choice(callers).reset()
        failpoints.clear(name)
        if dies and PLACES[name].in_master:
            await asyncio.to_thread(wait_until_gone, server, {victim, *workers})
            struck.without_master.append((since, time.monotonic()))
        elif dies:
            struck.killed.add(victim)
            await asyncio.to_thread(wait_until_replaced, server, victim)
        print(
            f"{since:.3f}-{time.monotonic():.3f} {name} {action.name} {victim} {dies}"
        )
    return struck


def wait_until_gone(server: Maitred, old: set[int]) -> None:
    """Wait until nobody of *old* is there, and another master serves."""
    wait_until("the old ones have left", lambda: not any(map(is_alive, old)))
    wait_until("a new master serves", lambda: is_up(server))


@pytest.fixture(scope="module")
def other_failpoints(tmp_path_factory: pytest.TempPathFactory) -> Failpoints:
    """Make the failpoints of another server."""
    return Failpoints(tmp_path_factory.mktemp("failpoints"))


@pytest.mark.parametrize("seed", range(4))
def test_failpoints_at_random(share, other_failpoints, seed):
    """Whatever happens to whom: what fails had been started by the dead, once."""
    failpoints = other_failpoints
    server = share(
        "noting:app", *OPTIONS, "--loop", "asyncio", "--http", "h11",
        verb="keep", workers=4, env=failpoints.environment,
    )  # fmt: skip
    server.expected = list(EXPECTED)
    failpoints.ledger.write_text("")
    callers = [Caller(number, server.port) for number in range(8)]

    async def run() -> Struck:
        """Strike while the callers call."""
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for caller in callers:
                group.create_task(caller.run(over))
            strikes = strike_at_random(server, failpoints, callers, random.Random(seed))
            struck = await strikes
            over.set()
        return struck

    struck = asyncio.run(run())
    started = failpoints.noted("started")
    finished = failpoints.noted("finished")
    requests = [request for caller in callers for request in caller.requests]
    answered = {request.name for request in requests if request.status == 200}
    failed = [request for request in requests if request.status != 200]
    by = dict(started)
    print(f"{len(answered)} requests answered, {len(failed)} failed")
    assert len(by) == len(started)
    assert len(dict(finished)) == len(finished)
    assert answered <= dict(finished).keys()
    lost = [(r, by.get(r.name)) for r in failed if not struck.excuse(r, by.get(r.name))]
    assert not lost, struck
    assert answered
    server.expected_lost = server.status()["connections"]["lost"]
