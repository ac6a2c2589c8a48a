"""
The entry of a deputy: ``python -P -m maitred.cli.acceptor``, started by a master.

The environment says which descriptors are the channel to the master and the file for
its stack; all else comes over the channel.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys

from maitred import crash_stack, failpoints, logs, signal_effects, titles
from maitred.errors import ChannelClosed
from maitred.master.deputy import Deputy


def main() -> None:
    """Run one deputy, and end."""
    logs.heed_reopen()
    signal_effects.be_helper()
    failpoints.arm(os.environ)
    crash_stack.lend()
    sock = socket.socket(fileno=int(os.environ.pop("MAITRED_CHANNEL")))
    try:
        deputy = Deputy(sock)
    except ChannelClosed:  # the master was gone before it could say what we are
        return
    settings = deputy.settings
    what = f"acceptor {deputy.number} {titles.served(settings.target)}"
    titles.show(what, settings.name)
    logs.begin(settings, "acceptor", acceptor=deputy.number)
    # An affinity of the user's own is found where the application is.
    sys.path.insert(0, os.path.abspath(deputy.settings.code))
    asyncio.run(deputy.run())
    # Whatever is still open is closed by the kernel, and nobody waits for it.
    logs.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
