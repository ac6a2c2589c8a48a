"""
The entry of the admin process: ``python -P -m maitred.admin PAPER``, by a master.

The paper says in JSON where the control socket is, and which descriptors are the
listeners, the lifeline and the token, and through which one a predecessor leaves what
it remembers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from typing import Any, Final

from maitred import crash_stack, logs, signal_effects, titles
from maitred.errors import NoMaster

from .app import App
from .asking import Asker
from .collector import Exposition
from .history import EVERY, History
from .serving import serve

POLITENESS: Final = 10
"How much less of a busy processor we want than the service does (nice(2))."


def main() -> None:
    """Run the admin process, and end with the master."""
    logs.heed_reopen()
    signal_effects.be_helper()
    crash_stack.lend()
    os.nice(POLITENESS)  # the service comes first
    paper: dict[str, Any] = json.loads(sys.argv[1])
    level, form, path = paper["log"]
    name = paper["name"]
    logs.configure(
        level, access_log=False, form=form, path=path, service=name, role="admin"
    )
    titles.show(f"admin {titles.served(paper['target'])}", name)
    token = b""
    if paper["token"] is not None:
        with open(paper["token"], "rb") as file:
            token = file.read()
    asyncio.run(run(paper, token))
    logs.flush()
    # A thread may still wait for the master; nobody waits for it.
    os._exit(0)


async def run(paper: dict[str, Any], token: bytes) -> None:
    """Serve, and sample, until the master is gone."""
    listeners = [socket.socket(fileno=number) for number in paper["listeners"]]
    lifeline = socket.socket(fileno=paper["lifeline"])
    for sock in (*listeners, lifeline):
        sock.setblocking(False)
    asker, history, exposition = Asker(paper["control"]), History(), Exposition()
    app = App(asker, history, exposition, token=token, names=frozenset(paper["names"]))
    sampling = asyncio.create_task(sample(asker, history, exposition))
    inheriting = asyncio.create_task(inherit(history, paper["past"]))
    await serve(app, listeners, lifeline, lambda: json.dumps(history.leave()).encode())
    sampling.cancel()
    inheriting.cancel()


async def inherit(history: History, past: int | None) -> None:
    """Take over the history that a predecessor sends through descriptor *past*."""
    if past is None:
        return
    # It may be dead, or of a version that leaves nothing.
    with contextlib.suppress(OSError, ValueError):
        sock = socket.socket(fileno=past)
        reader, writer = await asyncio.open_connection(sock=sock)
        history.inherit(json.loads(await reader.read()))
        writer.close()


async def sample(asker: Asker, history: History, exposition: Exposition) -> None:
    """Ask the master again and again, and record its answers."""
    while True:
        exposition.bury()
        with contextlib.suppress(NoMaster):  # it starts, or becomes another program
            snapshot = await asker.snapshot()
            history.add(snapshot)
        await asyncio.sleep(EVERY)


if __name__ == "__main__":
    main()
