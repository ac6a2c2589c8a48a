"""
Stops: what clients read when a server is told to end, maitred's and its peers'.

    script/bench --stops [--peers NAME ...] [--questions QUESTION ...]
                         [--grace SECONDS] [--workers N]

Each peer serves bench/stopping_app.py on two workers. For every question it is started
anew, one client gets as far as the question says, and the main process alone is sent
TERM. What that client then reads, after how many seconds, and how the server ends are a
cell of the table in docs/reference/coming-from.md.
"""

import argparse
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from contenders import Contender, package, python
from servers import Failed, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

GRACE = 5
"Seconds that a request under way is given: shorter than the longest one here."
SETTLED = 0.5
"Seconds until a request is surely with the application."
PATIENCE = 12.0
"Seconds after the grace until a server counts as one that does not end."
UVICORN = package("uvicorn", "uvloop", "httptools", "websockets")
GUNICORN = package("gunicorn")


def peers(grace):
    def uvicorn(site):
        return [
            python("uvicorn", "stopping_app:app", "--port", site.port,
                   "--workers", site.workers, "--timeout-keep-alive", 60,
                   "--timeout-graceful-shutdown", grace)
        ]  # fmt: skip

    def gunicorn(app, *options):
        return lambda site: [
            python("gunicorn", f"stopping_app:{app}", *options,
                   "--workers", site.workers,
                   "--bind", f"127.0.0.1:{site.port}", "--keep-alive", 60,
                   "--graceful-timeout", grace, "--no-control-socket")
        ]  # fmt: skip

    def hypercorn(site):
        return [
            python("hypercorn", "stopping_app:app", "--workers", site.workers,
                   "--bind", f"127.0.0.1:{site.port}", "--keep-alive", 60,
                   "--graceful-timeout", grace)
        ]  # fmt: skip

    def granian(site):
        return [
            python("granian", "stopping_app:app", "--interface", "asgi",
                   "--workers", site.workers,
                   "--host", "127.0.0.1", "--port", site.port,
                   "--workers-kill-timeout", grace)
        ]  # fmt: skip

    def maitred(site):
        return [
            python("maitred", "serve", "stopping_app:app", "--workers", site.workers,
                   "--bind", f"127.0.0.1:{site.port}", "--timeout-keep-alive", 60,
                   "--drain-timeout", grace,
                   "--control", site.directory / "control.sock")
        ]  # fmt: skip

    beside_gunicorn = package("gunicorn", "uvicorn-worker", "uvicorn")
    table = (
        Contender("uvicorn", "uvicorn", uvicorn, UVICORN),
        Contender("sync", "gunicorn", gunicorn("application"), GUNICORN),
        Contender(
            "gthread",
            "gunicorn -k gthread",
            gunicorn("application", "-k", "gthread", "--threads", 4),
            GUNICORN,
        ),
        Contender(
            "uvicorn-worker",
            "gunicorn -k uvicorn_worker.UvicornWorker",
            gunicorn("app", "-k", "uvicorn_worker.UvicornWorker"),
            beside_gunicorn,
        ),
        Contender("asgi", "gunicorn -k asgi", gunicorn("app", "-k", "asgi"), GUNICORN),
        Contender("hypercorn", "hypercorn", hypercorn, package("hypercorn", "wsproto")),
        Contender("granian", "granian", granian, package("granian")),
        Contender("maitred", "maitred", maitred, package("maitred", "uvicorn")),
    )
    return {each.name: each for each in table}


NOT_ASKED = {
    "sync": ("WebSocket", "sse-starlette", "idle"),
    "gthread": ("WebSocket", "sse-starlette"),
}
"WSGI has no WebSockets, and gunicorn's sync worker keeps no connection."


@dataclass
class Since:
    """When TERM was sent."""

    moment: float = 0.0

    def __str__(self) -> str:
        seconds = time.monotonic() - self.moment
        return "at once" if seconds < 0.5 else f"after {seconds:.1f} s"


class Http:
    """A client's connection with one request on it, or none that is not answered."""

    def __init__(self, port: int, *paths: str, idle: bool = False) -> None:
        """Ask for each of *paths*, and read all answers (the last one if *idle*)."""
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=5)
        for path in paths:
            self.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            if idle or path != paths[-1]:
                self.read_answer()

    def read_answer(self) -> None:
        data = b""
        while not data.endswith((b"done\n", b"0\r\n\r\n")):
            if not (some := self.sock.recv(65536)):
                raise Failed("no answer")
            data += some

    def rest(self, since: Since, timeout: float) -> str:
        """Return what was read until the end, and when that came."""
        self.sock.settimeout(timeout)
        data, last = b"", "nothing"
        try:
            while some := self.sock.recv(65536):
                data += some
                last = str(since)
            end = "end of file"
        except ConnectionResetError:
            end = "reset"
        except TimeoutError:
            end = "still open"
        ended = str(since)
        self.sock.close()
        return describe(data, last, end, ended)


def describe(data: bytes, last: str, end: str, ended: str) -> str:
    if not data:
        return f"{end} {ended}"
    head, _, body = data.partition(b"\r\n\r\n")
    status = head.split()[1].decode()
    if b"tick" in body:
        whole = "whole" if body.endswith(b"0\r\n\r\n") else "cut"
        return f"{whole}, {end} {ended}"
    close = ", Connection: close" if b"connection: close" in head.lower() else ""
    return f"{status} {last}{close}; {end} {ended}"


class WebSocket:
    def __init__(self, port: int) -> None:
        """Open one, as a client that never says anything."""
        uri = f"ws://127.0.0.1:{port}/"
        self.opened = connect(uri, ping_interval=None, close_timeout=1)
        self.client = self.opened.__enter__()

    def rest(self, since: Since, timeout: float) -> str:
        try:
            with self.opened:
                self.client.recv(timeout)
        except ConnectionClosed as exc:
            code = exc.rcvd.code if exc.rcvd else 1006
            return f"{code} {since}"
        except TimeoutError:
            return "still open"
        raise Failed("a message that nobody sent")


QUESTIONS: dict[str, Callable[[int], Http | WebSocket]] = {
    "WebSocket": WebSocket,
    "stream": lambda port: Http(port, "/stream"),
    "sse-starlette": lambda port: Http(port, "/sse"),
    "request of 1 s": lambda port: Http(port, "/wait/1"),
    "request of 30 s": lambda port: Http(port, "/wait/30"),
    "idle": lambda port: Http(port, "/", idle=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="script/bench --stops", description=__doc__)
    parser.add_argument("--grace", type=int, default=GRACE)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--peers", nargs="+", default=[*peers(0)], choices=[*peers(0)])
    parser.add_argument(
        "--questions", nargs="+", default=[*QUESTIONS], choices=[*QUESTIONS]
    )
    options = parser.parse_args()
    for name in options.peers:
        peer = peers(options.grace)[name]
        print(f"{peer.title} ({peer.version()})", flush=True)
        for question in options.questions:
            if question in NOT_ASKED.get(name, ()):
                continue
            found = ask(peer, question, options.grace, options.workers)
            print(f"    {question}: {found}", flush=True)


def ask(peer: Contender, question: str, grace: int, workers: int) -> str:
    with (
        tempfile.TemporaryDirectory() as directory,
        serving(peer, workers, Path(directory)) as served,
    ):
        client = QUESTIONS[question](served.port)
        time.sleep(SETTLED)
        main_process = served.processes[0]
        main_process.send_signal(signal.SIGTERM)
        since = Since(time.monotonic())
        said = client.rest(since, grace + PATIENCE)
        try:
            code = main_process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return f"{said}; the server does not end"
        return f"{said}; exit {code} {since}"


if __name__ == "__main__":
    main()
