#!/usr/bin/env bash
# An accepted TCP connection has the options that its listener had when the handshake was
# complete, not those that it has at accept. A server that is started by socket activation
# and sets an option on the listener it was passed therefore misses its first clients: the
# very ones for whom it was started.
#
# Expected: what accept returns after setsockopt has the option.
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
with_packages <<'PYTHON'
import platform
import socket
import sys

listener = socket.create_server(("127.0.0.1", 0))
waiting = socket.create_connection(listener.getsockname())
listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
later = socket.create_connection(listener.getsockname())
found = []
for _ in range(2):
    accepted, _ = listener.accept()
    found.append(
        (
            bool(accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)),
            bool(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)),
        )
    )
print(f"Linux {platform.release()}; SO_KEEPALIVE and TCP_NODELAY of what accept returns")
print(f"connected before they were set on the listener: {found[0]}; after: {found[1]}")
sys.exit(found != [(False, False), (True, True)])
PYTHON
