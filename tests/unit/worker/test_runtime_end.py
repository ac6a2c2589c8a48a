"""What a worker makes of TERM when its event loop is over."""

import asyncio
from types import SimpleNamespace

from maitred.worker.runtime import Worker


def test_term_after_the_end_does_nothing():
    """Whoever raises in a signal handler then interrupts the wait for threads."""
    loop = asyncio.new_event_loop()
    worker = SimpleNamespace(
        _loop=loop, _drain=print, settings=SimpleNamespace(drain_timeout=1.0)
    )
    Worker._on_exit(worker)
    loop.close()
    Worker._on_exit(worker)
