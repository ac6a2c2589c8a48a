"""
Pauses: how long a client waits at most while the master does what takes it long.

    script/bench --pauses [--keys N ...] [--probes SECONDS]

For each number of keys a master is started whose two workers have so many sessions.
Then it is upgraded, a worker is killed that has half of the sessions, and it is
reloaded. Meanwhile a client connects every 10 ms, from a process of its own, and notes
how long its answer took. What is shown is the longest of them: no other number says
whether everybody stood still.
"""

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maitred.control import ask
from maitred.errors import NoMaster

ROOT = Path(__file__).parents[1]
SIZES = (1_000, 100_000, 1_000_000)
EVERY = 0.01
"Seconds between two probes."
PATIENCE = 60.0
"Seconds after which a probe, or a whole step, counts as lost."
REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\nx-session: %d\r\n\r\n"


class Prober:
    """Connects again and again, each time from a thread of its own."""

    def __init__(self, port: int) -> None:
        """Probe nothing yet."""
        self._port = port
        self._number = 0
        self._goes_on = True
        self._threads: list[threading.Thread] = []
        self.waits: list[float] = []
        self.failures: list[OSError] = []

    def _probe(self, number: int) -> None:
        began = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", self._port), PATIENCE) as sock:
                sock.sendall(REQUEST % number)
                answer = sock.recv(100)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise OSError(f"the answer was {answer!r}")
        except OSError as exc:
            self.failures.append(exc)
        else:
            self.waits.append(time.monotonic() - began)

    def _run(self) -> None:
        due = time.monotonic()
        while self._goes_on:
            self._number += 1
            thread = threading.Thread(target=self._probe, args=(self._number,))
            thread.start()
            self._threads.append(thread)
            due += EVERY
            time.sleep(max(due - time.monotonic(), 0.0))

    def during(self, act: Callable[[], None], seconds: float) -> tuple[float, float]:
        """Probe while *act* runs and *seconds* more; return median and longest."""
        self.waits.clear()
        self._goes_on = True
        running = threading.Thread(target=self._run)
        running.start()
        try:
            time.sleep(seconds / 4)
            act()
            time.sleep(seconds)
        finally:
            self._goes_on = False
            running.join()
            for thread in self._threads:
                thread.join()
            self._threads.clear()
        if self.failures:
            raise self.failures[0]
        waits = sorted(self.waits)
        return waits[len(waits) // 2], waits[-1]


class Service:
    """A master whose two workers have many sessions."""

    def __init__(self, keys: int, directory: str) -> None:
        """Start it, and wait until all sessions are known."""
        self.control = os.path.join(directory, f"{keys}.sock")
        program = str(ROOT / "bench" / "claimer.py")
        worker = [sys.executable, program, str(keys // 2), directory]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "maitred", "serve", shlex.join(worker)),
                *("--exec", "--workers", "2", "--bind", "127.0.0.1:0"),
                *(
                    "--affinity",
                    "header:x-session",
                    "--max-keys",
                    str(2 * keys + 10_000),
                ),
                *("--control", self.control, "--log-level", "warning"),
            ]
        )
        self.wait(lambda: self.status()["state"] == "ready")
        where = self.status()["listening"][0]
        self.port = int(where.rpartition(":")[2].strip("/"))
        self.wait(lambda: self.has_claimed(keys // 2 * 2))

    def has_claimed(self, keys: int) -> bool:
        """Send a request, which has a worker claim what it has; tell if all has."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as sock:
            sock.sendall(REQUEST % time.monotonic_ns())
            sock.recv(100)
        return bool(self.status()["keys"] >= keys)

    def status(self) -> dict[str, Any]:
        """Ask how it stands."""
        answer: dict[str, Any] = ask(self.control, "status")
        return answer

    def wait(self, done: Callable[[], bool]) -> None:
        """Wait until *done*."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                if done():
                    return
            except NoMaster:
                if self.process.poll() is not None:
                    raise
            if time.monotonic() > end:
                raise TimeoutError
            time.sleep(0.1)

    def upgrade(self) -> None:
        """Have it become another program."""
        ask(self.control, "upgrade")

    def kill_worker(self) -> None:
        """Kill the worker of slot 0, and wait for its successor."""
        pid = self.status()["slots"][0]["pid"]
        os.kill(pid, signal.SIGKILL)
        self.wait(lambda: self.status()["slots"][0].get("pid") not in {pid, None})

    def reload(self) -> None:
        """Replace both workers."""
        ask(self.control, "reload")

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(PATIENCE)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, nargs="+", default=SIZES)
    parser.add_argument("--probes", type=float, default=4.0, metavar="SECONDS")
    options = parser.parse_args()
    print(f"{'keys':>9}  {'':22}{'median':>9}{'longest':>9}   keys after, memory")
    for keys in options.keys:
        with tempfile.TemporaryDirectory() as directory:
            service = Service(keys, directory)
            prober = Prober(service.port)
            try:
                for name, act in (
                    ("nothing", lambda: None),
                    ("upgrade", service.upgrade),
                    ("death of a worker", service.kill_worker),
                    ("reload", service.reload),
                ):
                    median, longest = prober.during(act, options.probes)
                    now = service.status()
                    memory = now["acceptors"][0]["memory"] / 1e6
                    print(
                        f"{keys:>9}  {name:22}{1000 * median:>6.0f} ms"
                        f"{1000 * longest:>6.0f} ms   {now['keys']}, {memory:.0f} MB",
                        flush=True,
                    )
            finally:
                service.stop()


if __name__ == "__main__":
    main()
