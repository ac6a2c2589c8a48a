"""
Put a contender up, see that it answers rightly, take it down.

Invariant: leaving ``serving`` leaves none of its processes behind. Nothing is measured
before every worker has answered and every answer was the expected one.
"""

import contextlib
import http.client
import itertools
import os
import signal
import socket
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app import BODY, LARGE
from contenders import ENVIRONMENT, Site
from generators import sessions

HERE = Path(__file__).parent
CHECKING, STARTING = 100_000, 200_000
"""The first of the sessions that are used to check, and to start."""
START = 30.0
STOP = 10.0


class Failed(Exception):
    """A contender did not start, or did not do what was expected of it."""


@contextlib.contextmanager
def serving(contender, workers, directory):
    """Serve the application with *contender*; give its ``Served``."""
    ports = free_ports(1 + workers)
    site = Site(ports[0], tuple(ports[1:]), workers, directory)
    directory.mkdir(parents=True, exist_ok=True)
    served = Served(site)
    try:
        for command in contender.commands(site):
            served.start(command)
        served.wait_for_workers()
        yield served
    finally:
        served.stop()


class Served:
    """The processes of one contender. What they print is in ``log``, a file."""

    def __init__(self, site):
        self.port = site.port
        self.workers = site.workers
        self.processes = []
        self.numbers = itertools.count(STARTING, 32)
        self.log = site.directory / "log"

    def start(self, command):
        with self.log.open("ab") as out:
            self.processes.append(
                subprocess.Popen(
                    command,
                    cwd=HERE,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    env=ENVIRONMENT,
                    start_new_session=True,
                )
            )

    def wait_for_workers(self):
        """
        Wait until as many processes as there are workers have answered.

        Gives for each pid how many WebSockets it has open.
        """
        end = time.monotonic() + START
        seen = {}
        with ThreadPoolExecutor(16) as pool:
            while len(seen) < self.workers:
                if time.monotonic() > end:
                    raise Failed(f"{len(seen)} workers in {START:g} s: {self.tail()}")
                if any(each.poll() is not None for each in self.processes):
                    raise Failed(f"ended while it started: {self.tail()}")
                # At once, or one worker could be quick enough to answer them all.
                names = sessions(32, next(self.numbers))
                seen.update(each for each in pool.map(self.try_pid, names) if each)
                time.sleep(0.05)
        return seen

    def try_pid(self, name):
        try:
            with self.client() as client:
                return ask_pid(client, name)
        except (OSError, http.client.HTTPException, Failed):
            return None

    def tail(self):
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:])

    def client(self):
        return contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        )

    def check(self, *, affinity):
        """See that the answers are right and, with *affinity*, that sessions stay."""
        with self.client() as client:
            expect(client, "/", BODY)
            expect(client, "/large", LARGE)
        if not affinity:
            return
        # Not those that will be measured: they are placed when their connections come.
        names = sessions(32, CHECKING)
        home = {}
        with self.client() as one:
            for name in names:
                with self.client() as client:
                    home[name] = pid_of(client, name)
            for name in names * 2:
                with self.client() as client:
                    found = {pid_of(client, name), pid_of(one, name)}
                if found != {home[name]}:
                    raise Failed(f"session {name} of {home[name]} was in {found}")
        if len(set(home.values())) < self.workers:
            raise Failed("all sessions are in one worker")

    def split(self, names):
        """Give how many of the sessions *names* each worker has."""
        with self.client() as client:
            return sorted(Counter(pid_of(client, name) for name in names).values())

    def stop(self):
        for process in reversed(self.processes):
            signal_group(process, signal.SIGTERM)
        end = time.monotonic() + STOP
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0, end - time.monotonic()))
            signal_group(process, signal.SIGKILL)
            process.wait()


def expect(client, path, body):
    client.request("GET", path)
    response = client.getresponse()
    found = response.read()
    if (response.status, found) != (200, body):
        raise Failed(f"GET {path} gave {response.status} and {len(found)} bytes")


def ask_pid(client, session):
    """Ask for the process that serves *session*, and its open WebSockets."""
    client.request("GET", "/pid", headers={"x-session": session})
    response = client.getresponse()
    response.read()
    if response.status != 200:
        raise Failed(f"GET /pid gave {response.status}")
    return int(response.headers["x-pid"]), int(response.headers.get("x-open", 0))


def pid_of(client, session):
    return ask_pid(client, session)[0]


def signal_group(process, number):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def free_ports(count):
    """Find *count* ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        found = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            for _ in range(count)
        ]
        return [each.getsockname()[1] for each in found]
