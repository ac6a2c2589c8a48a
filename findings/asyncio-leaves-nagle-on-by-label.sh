#!/usr/bin/env bash
# A TCP connection that came as a descriptor is a socket object with the protocol that
# its maker named, usually 0. asyncio sets TCP_NODELAY only where that label is 6; uvloop
# sets it whatever the label. So the same program answers in two writes at once, or after
# a delayed ACK (40 ms).
#
# Expected: the loop asks the kernel what the socket is, or both loops do the same.
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
with_packages uvloop==0.22.1 <<'PYTHON'
import asyncio
import socket
import sys

import uvloop


async def nodelay(protocol):
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    passed = socket.socket(
        socket.AF_INET, socket.SOCK_STREAM, protocol, fileno=accepted.detach()
    )
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, passed)
    value = transport.get_extra_info("socket").getsockopt(
        socket.IPPROTO_TCP, socket.TCP_NODELAY
    )
    transport.abort()
    client.close()
    return bool(value)


found = {}
for name, new_loop in (("asyncio", asyncio.new_event_loop), ("uvloop", uvloop.new_event_loop)):
    for protocol in (0, socket.IPPROTO_TCP):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            found[name, protocol] = runner.run(nodelay(protocol))
print(f"Python {sys.version.split()[0]}, uvloop {uvloop.__version__}")
for (name, protocol), value in found.items():
    print(f"{name}, socket labelled with protocol {protocol}: TCP_NODELAY {value}")
sys.exit(list(found.values()) != [False, True, True, True])
PYTHON
