"""Running a command on a terminal of 80x24, as an operator does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Sequence

from driver import wait_until

SIZE = struct.pack("4H", 24, 80, 0, 0)


def in_terminal(
    command: Sequence[str], *, until: bytes = b"", keys: bytes = b""
) -> tuple[bytes, int]:
    """
    Run *command*; return what it wrote and its exit code.

    Args:
        command: Program and arguments.
        until: What has to be there before keys are pressed.
        keys: What is pressed then.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, SIZE)
    with subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color"},
    ) as process:
        os.close(theirs)
        os.set_blocking(ours, False)
        shown = bytearray()

        def look() -> None:
            # Nothing now, or, when the command is gone, never more (EIO).
            with contextlib.suppress(BlockingIOError, OSError):
                while chunk := os.read(ours, 65536):
                    shown.extend(chunk)

        def there() -> bool:
            look()
            return until in shown or process.poll() is not None

        def over() -> bool:
            ended = process.poll() is not None
            look()
            return ended

        try:
            wait_until(f"{until!r} is there", there)
            os.write(ours, keys)
            wait_until("it ends", over)
        finally:
            process.kill()
            os.close(ours)
    return bytes(shown), process.wait()
