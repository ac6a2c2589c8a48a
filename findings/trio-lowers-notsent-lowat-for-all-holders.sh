#!/usr/bin/env bash
# trio.SocketStream sets TCP_NOTSENT_LOWAT to 16 KiB and TCP_NODELAY on the socket it is
# given, even before a byte is sent. Both are options of the connection, not of the
# descriptor: every other process that holds a copy of it has them from then on.
#
# Expected: wrapping a passed connection changes nothing that others can see.
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
with_packages trio==0.35.0 <<'PYTHON'
import os
import socket
import sys

import trio

TCP_NOTSENT_LOWAT = 25
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
kept, _ = listener.accept()


def options():
    return tuple(
        kept.getsockopt(socket.IPPROTO_TCP, option)
        for option in (TCP_NOTSENT_LOWAT, socket.TCP_NODELAY)
    )


before = options()
if os.fork() == 0:

    async def wrap():
        trio.SocketStream(trio.socket.from_stdlib_socket(kept.dup()))

    trio.run(wrap)
    os._exit(0)
os.wait()
after = options()
print(f"trio {trio.__version__}, TCP_NOTSENT_LOWAT and TCP_NODELAY of our copy")
print(f"before another process wrapped its copy: {before}; after: {after}")
sys.exit(not (before == (0, 0) and after[0] == 16384 and after[1] != 0))
PYTHON
