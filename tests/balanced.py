"""
An HAProxy with what ``maitred haproxy`` printed, before machines that are addresses of
the loopback network.

Invariant: each HAProxy that was started is gone after ``close``.
"""

from __future__ import annotations

import contextlib
import csv
import re
import socket
import subprocess
from pathlib import Path

from driver import COMMAND, DEADLINE, wait_until
from mosquitto import free_port

ADDRESSES = {"a": "127.0.77.1", "b": "127.0.77.2"}
"The machines. All of 127.0.0.0/8 is this machine's own."


def printed(*words: str) -> str:
    """Return what ``maitred haproxy`` prints, which has to succeed."""
    done = subprocess.run(
        [COMMAND, "haproxy", *words],
        check=True, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    return done.stdout


class HAProxy:
    """One HAProxy before the machines of ``ADDRESSES``."""

    def __init__(self, directory: Path, port: int, agent_port: int, *words: str):
        """Start it with the configuration for *words*; machines listen on *port*."""
        self.port = free_port()
        self._stats = directory / "haproxy.sock"
        machines = [f"--machine={n}={at}:{port}" for n, at in ADDRESSES.items()]
        agent = ["--agent-port", str(agent_port)] if agent_port else []
        self.text = printed(
            *machines, *agent, "--bind", f"127.0.0.1:{self.port}", *words
        )
        file = directory / "haproxy.cfg"
        file.write_text(
            self.text.replace("/run/haproxy-maitred.sock", str(self._stats))
        )
        self._log = directory / "haproxy.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["haproxy", "-W", "-f", str(file)], stdout=log, stderr=log
            )
        wait_until("HAProxy answers", self.machines)

    def machines(self) -> dict[str, tuple[str, int]]:
        """Return the state and the weight that it sees of each machine."""
        with contextlib.suppress(OSError):
            lines = self.ask("show stat").removeprefix("# ").splitlines()
            return {
                row["svname"]: (row["status"], int(row["weight"]))
                for row in csv.DictReader(lines)
                if row["pxname"] == "machines" and row["svname"] in ADDRESSES
            }
        return {}

    def wait_for(self, **wanted: tuple[str, int]) -> None:
        """Wait until it sees the machines as *wanted*, without the count of checks."""

        def plain(status: str) -> str:
            return re.sub(r" .*", "", status)

        def seen() -> bool:
            found = {n: (plain(s), w) for n, (s, w) in self.machines().items()}
            return found == wanted

        try:
            wait_until(f"HAProxy sees {wanted}", seen)
        except AssertionError as exc:
            log = self._log.read_text()
            raise AssertionError(f"{exc}: {self.machines()}\n{log}") from None

    def ask(self, command: str) -> str:
        """Send *command* to its runtime socket; return the answer."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(DEADLINE)
            sock.connect(str(self._stats))
            sock.sendall(command.encode() + b"\n")
            with sock.makefile() as file:
                return file.read()

    def close(self) -> None:
        """Stop it, and wait until it has ended."""
        self._process.terminate()
        self._process.wait(DEADLINE)
