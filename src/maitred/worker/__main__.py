"""
The worker's entry: ``python -P -m maitred.worker SETTINGS``, started by a master.

With ``load`` after the settings it loads its application, and ends.

The environment says which descriptors are the channel, the scoreboard, the file for
the stack of a worker that is stuck and, where slots are sealed, the keys for that.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import sys
import threading
import time
from typing import Final

from maitred import crash_stack, failpoints, logs, signal_effects, titles
from maitred.config import WorkerSettings
from maitred.errors import AppFailed, SystemRefused, UsageError
from maitred.no_new_privs import gain_no_privileges
from maitred.wire import Channel
from maitred.wire.messages import FROM_MASTER, FROM_WORKER
from maitred.wire.scoreboard import Scoreboard

from . import signals, target
from .runtime import Worker, fail

LAST_MOMENT: Final = 3.0
"Seconds that the application's threads have to end after everything else has."


def main() -> int:
    """Run one worker; return its exit code."""
    signals.pass_over()
    logs.heed_reopen()
    signal_effects.begin()
    failpoints.arm(os.environ)
    # ABRT, and a crash in C, leave the stack of every thread where the master reads it
    # whole; on standard error it would be mixed with what others write.
    crash_stack.lend()
    settings = WorkerSettings(**json.loads(sys.argv[1]))
    if not settings.allow_new_privileges:
        gain_no_privileges()
    slot = int(os.environ["MAITRED_SLOT"])
    title = f"worker {slot} gen {os.environ['MAITRED_GENERATION']}"
    titles.show(title, settings.name)
    signals.drop_in_children(lambda: titles.show(f"child of {title}", settings.name))
    # Close-on-exec before anything of the application runs: a grandchild that kept our
    # end would keep its connections in limbo after our death.
    sock = socket.socket(fileno=int(os.environ.pop("MAITRED_CHANNEL")))
    channel = Channel(sock, sends=FROM_WORKER, receives=FROM_MASTER)
    signals.drop_in_children(sock.close)
    page = int(os.environ.pop("MAITRED_SCOREBOARD"))
    os.set_inheritable(page, False)
    board = Scoreboard(page)
    os.close(page)
    secret = b""
    if lent := os.environ.pop("MAITRED_SECRET", ""):
        with open(int(lent), "rb") as file:
            secret = file.read()
    # From here on, because loading the application may already be stuck.
    patience = settings.drain_timeout + LAST_MOMENT
    threading.Thread(
        target=leave_alone, args=(sock.fileno(), patience), daemon=True
    ).start()
    try:
        logs.begin(
            settings,
            "worker",
            slot=int(os.environ["MAITRED_SLOT"]),
            generation=int(os.environ.get("MAITRED_GENERATION", "0")),
        )
        # Before the application is loaded, because it may log while it is imported.
        if settings.log_config:
            from maitred.logs import config_file  # noqa: PLC0415 - few have one

            target.look_in(settings.app_dir)  # it may name the application's classes
            config_file.apply(settings.log_config)
        worker = Worker(
            settings,
            channel,
            board,
            slot=slot,
            secret=secret,
        )
        if sys.argv[2:] == ["load"]:
            return 0
        signals.drop_in_children(worker.links.drop)
        with asyncio.Runner(loop_factory=worker.serving.loop_factory()) as runner:
            runner.run(worker.run())
        board.beat = 0  # the loop is over, and not stuck
    except AppFailed as failure:
        return fail(channel, failure)
    except (UsageError, SystemRefused) as exc:
        return fail(channel, AppFailed(str(exc), ""))
    return 0


def leave_alone(channel: int, patience: float) -> None:
    """
    End the process if its master is gone and it has not ended after *patience* seconds.

    An event loop that is stuck does not notice, and nobody is left to end it. Runs in a
    thread of its own, and looks at the descriptor *channel* without reading from it.
    """
    end = select.poll()
    end.register(channel, 0)  # nothing but the hang-up, which is always told
    end.poll()
    time.sleep(patience)
    os._exit(1)


def leave_at_last(code: int) -> None:
    """
    End the process after LAST_MOMENT seconds with exit *code*, whatever runs in it.

    Python waits at its end for every thread that the application began, for ever if one
    does not end. Nobody would be left to kill such a worker once its master is dead.
    """
    time.sleep(LAST_MOMENT)
    os._exit(code)


if __name__ == "__main__":
    exit_code = main()
    threading.Thread(target=leave_at_last, args=(exit_code,), daemon=True).start()
    sys.exit(exit_code)
