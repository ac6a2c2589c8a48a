#!/usr/bin/env bash
# While another process holds a copy of a connection, close() alone says nothing to the
# client. Of the usual ways to close a connection in Python's asynchronous libraries only
# Twisted's loseConnection calls shutdown first; after asyncio's, uvloop's, trio's and
# anyio's the client waits on, although the server believes that it has closed.
#
# Expected: a library that flushes and closes tells the peer.
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
with_packages uvloop==0.22.1 trio==0.35.0 anyio==4.16.0 twisted==26.10.0 <<'PYTHON'
import asyncio
import os
import socket
import sys
from importlib.metadata import version


async def close_transport(sock):
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, sock)
    transport.close()
    await asyncio.sleep(0.1)


def by_asyncio(sock):
    asyncio.run(close_transport(sock))


def by_uvloop(sock):
    import uvloop

    uvloop.run(close_transport(sock))


def by_trio(sock):
    import trio

    async def close():
        await trio.SocketStream(trio.socket.from_stdlib_socket(sock)).aclose()

    trio.run(close)


def by_anyio(sock):
    import anyio
    from anyio.abc import SocketStream

    async def close():
        await (await SocketStream.from_socket(sock)).aclose()

    anyio.run(close)


def by_twisted(sock):
    from twisted.internet import reactor
    from twisted.internet.protocol import Factory, Protocol

    class Leaving(Protocol):
        def connectionMade(self):
            self.transport.loseConnection()

        def connectionLost(self, reason):
            reactor.callLater(0, reactor.stop)

    reactor.adoptStreamConnection(
        sock.fileno(), socket.AF_INET, Factory.forProtocol(Leaving)
    )
    reactor.run()


def hears_the_end(close):
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    copy, _ = listener.accept()
    copy.setblocking(False)
    if os.fork() == 0:
        close(copy)
        os._exit(0)
    os.wait()
    client.settimeout(0.5)
    try:
        return client.recv(1) == b""
    except TimeoutError:
        return False


found = {}
for close in (by_asyncio, by_uvloop, by_trio, by_anyio, by_twisted):
    name = close.__name__.removeprefix("by_")
    found[name] = hears_the_end(close)
    about = sys.version.split()[0] if name == "asyncio" else version(name)
    print(f"{name} {about}: the client reads the end: {found[name]}")
sys.exit([name for name, heard in found.items() if heard] != ["twisted"])
PYTHON
