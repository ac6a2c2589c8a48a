"""Stamps, against the real Engine.IO and the real Socket.IO."""

import asyncio
import re
import subprocess
import sys

import engineio
import pytest
import socketio
from engineio.base_server import BaseServer

from maitred.routing import Seal
from maitred.routing.seal import KEY_SIZE, STAMP
from maitred.worker.stamps import stamp_ids

SEAL = Seal({"k": b"k" * KEY_SIZE}, 4)
ID = re.compile(r"[A-Za-z0-9_-]{20}")


@pytest.fixture
def original(monkeypatch):
    """Put the library's own method back in the end."""
    monkeypatch.setattr(BaseServer, "generate_id", BaseServer.generate_id)
    return BaseServer.generate_id


@pytest.fixture
def stamped(original):
    """Let ids be stamped with slot 3."""
    assert stamp_ids(SEAL, 3)
    return original


SERVERS = {
    "engineio": lambda: engineio.Server(async_mode="threading"),
    "engineio async": lambda: engineio.AsyncServer(async_mode="asgi"),
    "socketio": lambda: socketio.Server(async_mode="threading").eio,
    "socketio async": lambda: socketio.AsyncServer(async_mode="asgi").eio,
}


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.usefixtures("original")
def test_library_makes_ids_as_we_know_them(kind):
    """Without us: 20 characters that need no quoting, and no stamp."""
    made = SERVERS[kind]().generate_id()
    assert ID.fullmatch(made)
    assert SEAL.stamped_slot(made.encode()) is None


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.usefixtures("stamped")
def test_id_names_the_slot(kind):
    """The library's own id with a stamp; no two are alike."""
    server = SERVERS[kind]()
    made = [server.generate_id() for _ in range(100)]
    assert len(set(made)) == 100
    for each in made:
        assert ID.fullmatch(each[:-STAMP])
        assert SEAL.stamped_slot(each.encode()) == 3


@pytest.mark.usefixtures("stamped")
def test_server_that_exists_already_stamps_too():
    """An application makes its server when it is imported, before we look."""
    server = engineio.AsyncServer(async_mode="asgi")
    assert SEAL.stamped_slot(server.generate_id().encode()) == 3


@pytest.mark.usefixtures("stamped")
def test_override_of_the_application_is_left_alone():
    """Its ids are its own; they are claimed as ever."""

    class Own(engineio.AsyncServer):
        def generate_id(self):
            """Make an id of our own."""
            return "own"

    assert Own(async_mode="asgi").generate_id() == "own"


@pytest.mark.usefixtures("stamped")
def test_handshake_carries_the_stamp():
    """What the client is told, and sends back, is the stamped id."""
    server = engineio.AsyncServer(async_mode="asgi")
    app = engineio.ASGIApp(server)
    sent = []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/engine.io/",
        "raw_path": b"/engine.io/",
        "query_string": b"EIO=4&transport=polling",
        "headers": [(b"host", b"a")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }

    async def handshake():
        await app(scope, receive, send)
        await server.shutdown()

    asyncio.run(handshake())
    body = b"".join(message.get("body", b"") for message in sent)
    sid = re.match(rb'0\{"sid":"([A-Za-z0-9_-]+)"', body)
    assert sid is not None
    assert SEAL.stamped_slot(sid[1]) == 3


def test_library_that_is_not_used_is_not_loaded():
    """A worker without Socket.IO pays nothing and has nothing patched."""
    code = (
        "import sys; from maitred.worker.stamps import stamp_ids; "
        "from maitred.routing import Seal; "
        "assert not stamp_ids(Seal({'k': b'k' * 32}, 4), 0); "
        "assert 'engineio' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
