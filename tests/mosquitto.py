"""A mosquitto for tests, gone when the block ends."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from driver import DEADLINE, wait_until


def free_port() -> int:
    """Return a port that is free at all addresses now."""
    with socket.create_server(("", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def is_open(port: int) -> bool:
    """Return whether something listens on *port*."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def broker(directory: Path, *lines: str) -> Iterator[int]:
    """Run a broker whose configuration has *lines* too; yield its port."""
    port = free_port()
    config = directory / f"{port}.conf"
    own = (f"listener {port} 127.0.0.1", "allow_anonymous true", "log_type none")
    config.write_text("".join(f"{line}\n" for line in (*own, *lines)))
    process = subprocess.Popen(
        ["mosquitto", "-c", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until("the broker listens", lambda: is_open(port))
        yield port
    finally:
        process.terminate()
        process.wait(DEADLINE)
