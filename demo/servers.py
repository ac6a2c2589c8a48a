"""
The two servers of the demonstration, each with four workers and the same application.

Invariant: leaving the ``with`` block leaves no process behind.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from maitred.control import ask

HERE = Path(__file__).parent
WORKERS = 4
DEADLINE = 30


class Failed(Exception):
    """The demonstration cannot go on, or did not show what it claims."""


class Server:
    """A server's process; what it logs goes to a file."""

    def __init__(self, command, log):
        self.log_file = log
        self.port = 0
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=HERE,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C is for us; we then stop the server
            )

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        """Stop; if that takes too long, kill."""
        pids = self.worker_pids()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        left = [pid for pid in pids if not gone_soon(pid)]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if left and exc == (None, None, None):
            raise Failed(f"workers were left behind: {left}")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self):
        return self.log_file.read_text(errors="replace")

    def wait_for_log(self, pattern, times=1):
        end = time.monotonic() + DEADLINE
        while len(found := list(re.finditer(pattern, self.log))) < times:
            if self.process.poll() is not None or time.monotonic() > end:
                raise Failed(f"the server did not start:\n{self.log}")
            time.sleep(0.02)
        return found[-1]

    def worker_pids(self):
        """The live processes that this one started."""
        try:
            text = Path(
                f"/proc/{self.process.pid}/task/{self.process.pid}/children"
            ).read_text()
        except OSError:
            return []
        return [int(pid) for pid in text.split()]


class Uvicorn(Server):
    """uvicorn: four workers accept from one listener; whoever is first serves."""

    def __init__(self, directory):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        super().__init__(
            [
                "uvicorn",
                "app:app",
                "--port",
                str(port),
                "--workers",
                str(WORKERS),
                "--no-access-log",
            ],
            directory / "uvicorn.log",
        )
        self.port = port

    def __enter__(self):
        try:
            self.wait_for_log("Application startup complete", WORKERS)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self


class Maitred(Server):
    """maitred: the master hands each connection to the worker that owns its session."""

    def __init__(self, directory):
        self.control = str(directory / "control.sock")
        super().__init__(
            ["maitred", "serve", "app:app", "--bind", "127.0.0.1:0",
             "--workers", str(WORKERS), "--affinity", "header:x-session,learn",
             "--no-access-log", "--control", self.control],
            directory / "maitred.log",
        )  # fmt: skip

    def __enter__(self):
        try:
            self.port = int(self.wait_for_log(r"listening on http://\S*?:(\d+)")[1])
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def status(self):
        return ask(self.control, "status")

    def slots(self):
        return self.status()["slots"]


def gone_soon(pid):
    end = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
