"""
``--reload``: a thread that looks at files, and sends this process a HUP.

Invariant: it knows nothing of the master, which reloads as at any other HUP: what
cannot be loaded is told, and what serves serves on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from maitred import logs
from maitred.errors import UsageError


@contextlib.contextmanager
def watched(directories: Sequence[str]) -> Iterator[None]:
    """
    Reload whenever a file in *directories* changes, until this is left.

    What watchfiles ignores by itself is ignored: caches, version control, editors'
    temporary files.

    Raises:
        UsageError: One of *directories* is none.
    """
    for directory in directories:
        if not Path(directory).is_dir():
            raise UsageError(f"--reload-dir {directory}: there is no such directory")
    # Until the master listens for it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    enough = threading.Event()
    thread = threading.Thread(
        target=_watch, args=(directories, enough), name="watch", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


def _watch(directories: Sequence[str], enough: threading.Event) -> None:
    import watchfiles  # noqa: PLC0415 - only for those who develop

    logs.master.info("watching %s", ", ".join(map(os.path.abspath, directories)))
    for changes in watchfiles.watch(
        *directories,
        watch_filter=watchfiles.PythonFilter(),
        stop_event=enough,
        raise_interrupt=False,
    ):
        names = sorted({os.path.relpath(path) for _, path in changes})
        logs.master.info("changed: %s", ", ".join(names))
        signal.raise_signal(signal.SIGHUP)
