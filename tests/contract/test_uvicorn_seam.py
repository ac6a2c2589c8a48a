"""
What the worker's seam takes from uvicorn, held against the uvicorn that is installed.

One test for each thing of uvicorn that worker/uvicorn_seam.py reaches into, and behind
them the same things as the seam uses them: real sockets, both parsers, both loops.
"""

import asyncio
import contextlib
import functools
import inspect
import logging
import os
import signal
import socket
import struct
import time

import pytest
import uvloop
from uvicorn.config import Config
from uvicorn.lifespan.on import LifespanOn
from uvicorn.server import Server

from heads import GOOD
from maitred.routing.http1 import sniff_head
from maitred.wire.scoreboard import Scoreboard
from maitred.worker.claims import ScopeHead
from maitred.worker.gate import Asked, Elsewhere
from maitred.worker.marks import READ_SIZE, UNMARKED, Unmarked
from maitred.worker.uvicorn_seam import (
    MOST_UNREAD,
    PROTOCOLS,
    GatedConnection,
    Serving,
    StartupFailed,
    shut_down,
)

DEADLINE = 10.0
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture(autouse=True)
def _log_is_as_before():
    """What a serving changes of uvicorn's log, it changes in its own process."""
    logger = logging.getLogger("uvicorn.error")
    before = list(logger.filters)
    yield
    logger.filters[:] = before


@pytest.fixture(params=PROTOCOLS)
def http(request):
    """Every parser."""
    return request.param


def on_every_loop(test):
    """Make a test of the coroutine function *test*: run on asyncio, run on uvloop."""

    def run(loop_factory, **fixtures):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(asyncio.wait_for(test(**fixtures), DEADLINE))

    functools.update_wrapper(run, test)
    signature = inspect.signature(test)
    ours = inspect.Parameter("loop_factory", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = signature.replace(
        parameters=[ours, *signature.parameters.values()]
    )
    return pytest.mark.parametrize("loop_factory", LOOPS.values(), ids=LOOPS)(run)


@pytest.fixture
def board():
    """A scoreboard."""
    fd = Scoreboard.create()
    board = Scoreboard(fd)
    os.close(fd)
    yield board
    board.close()


class App:
    """An application that notes what it is asked, and answers when it may."""

    def __init__(self):
        self.scopes = []
        self.events = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, scope, receive, send):
        """Serve one scope."""
        self.scopes.append(scope)
        self.events.append(scope["type"])
        match scope["type"]:
            case "lifespan":
                await self.lifespan(scope, receive, send)
            case "http":
                await self.answer(receive, send)
            case "websocket":
                await self.echo(receive, send)

    async def lifespan(self, scope, receive, send):
        """Start and stop."""
        scope["state"]["shared"] = "by the lifespan"
        while True:
            event = (await receive())["type"]
            self.events.append(event)
            await send({"type": f"{event}.complete"})
            if event == "lifespan.shutdown":
                return

    async def answer(self, receive, send):
        """Answer with the request's body, when allowed."""
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.events.append("cancelled")
            raise
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})
        self.events.append("answered")

    async def echo(self, receive, send):
        """Accept a WebSocket and echo its text."""
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})


def make(app, board, http="httptools", **details):
    """Make the seam with *app*."""
    details = {
        "wrap": lambda wrapped: wrapped,
        "on_exit": lambda: None,
        "loop": "auto",
        "lifespan": "on",
        "access_log": False,
        "timeout_keep_alive": 5.0,
    } | details
    return Serving(app, board, http=http, **details)


@contextlib.asynccontextmanager
async def started(serving):
    """Let *serving* run, and end it without ceremony."""
    running = asyncio.ensure_future(serving.run())
    waiting = asyncio.ensure_future(serving.wait_started())
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield running
    finally:
        serving.parking.clear()
        for connection in list(serving._server.server_state.connections):
            connection.transport.abort()
        await until(lambda: not serving.open)
        for task in (running, waiting):
            task.cancel()
        await asyncio.wait({running, waiting})


async def until(condition):
    """Let the loop turn until *condition* holds."""
    while not condition():
        await asyncio.sleep(0.001)


def tcp_pair():
    """Make a TCP connection: the client's end and the accepted one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        return client, listener.accept()[0]


class Visit:
    """A stay in which every request belongs here, but those in ``elsewhere``."""

    id = 1
    head_limit = 1000
    idle = False
    mark = UNMARKED
    sni = None

    def __init__(self, *, client=None, prefix=b"", head_timeout=DEADLINE):
        self.client, self.prefix, self.head_timeout = client, prefix, head_timeout
        self.peer, self.ends = client[0].encode() if client else b"", None
        self.elsewhere = {}
        self.said = []
        self.back = None

    def taken(self):
        """Note it."""
        self.said.append("taken")

    def closed(self):
        """Note it."""
        self.said.append("closed")

    def belongs(self, head):
        """Say what the test said."""
        return self.elsewhere.get(head.path)

    def returned(self, sock, to, unread, sent):
        """Keep what is given back, as a channel does, a moment later."""
        self.said.append("returned")

        def send():
            """Do what a channel does."""
            self.back = sock.dup(), to, unread
            sent()

        asyncio.get_running_loop().call_soon(send)


class Client:
    """The far end of an adopted connection."""

    def __init__(self, pair=None):
        self.sock, self.theirs = pair or socket.socketpair()
        self.sock.setblocking(False)
        self.theirs.setblocking(False)
        self.visit = Visit()

    async def adopt(self, serving, **details):
        """Bring the accepted end to *serving*."""
        self.visit = Visit(**details)
        await serving.adopt(self.theirs, self.visit)
        return self

    @property
    def taken(self):
        """How often it was taken."""
        return self.visit.said.count("taken")

    async def send(self, data):
        """Send *data*."""
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def receive(self, end=b"\r\n\r\n"):
        """Read until *end*, or until there is no more."""
        data = b""
        while not data.endswith(end):
            try:
                piece = await asyncio.get_running_loop().sock_recv(self.sock, 65536)
            except ConnectionResetError:
                break
            if not piece:
                break
            data += piece
        return data

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()


def text_frame(text):
    """Make the WebSocket frame of a client that says *text*."""
    mask = b"\1\2\3\4"
    masked = bytes(b ^ mask[i % 4] for i, b in enumerate(text))
    return struct.pack("BB", 0x81, 0x80 | len(text)) + mask + masked


# Attributes of uvicorn.


async def app3(scope, receive, send):
    """Be an ASGI 3 application."""


def app2(scope):
    """Be an ASGI 2 application."""


def loaded(app=app3, **details):
    """Make a loaded Config as the seam does."""
    config = Config(app, log_config=None, workers=1, **details)
    config.load()
    return config


@pytest.mark.parametrize(("name", "path"), PROTOCOLS.items(), ids=PROTOCOLS)
def test_config_takes_a_protocol_by_its_path(name, path):
    """Config(http="module:Class") gives that class as config.http_protocol_class."""
    module, _, attribute = path.partition(":")
    protocol = loaded(http=path).http_protocol_class
    assert (protocol.__module__, protocol.__name__) == (module, attribute)
    assert name in module


def test_config_chooses_one_of_our_protocols():
    """Config(http="auto") gives a class that the seam knows how to extend."""
    protocol = loaded(http="auto").http_protocol_class
    assert f"{protocol.__module__}:{protocol.__name__}" in PROTOCOLS.values()


@pytest.mark.parametrize("app", [app2, app3])
def test_config_loads_an_asgi_3_application(app):
    """config.loaded_app takes (scope, receive, send), whatever the user's takes."""
    called = loaded(app).loaded_app
    assert asyncio.iscoroutinefunction(type(called).__call__)


@pytest.mark.parametrize(
    ("loop", "module"),
    [("asyncio", "asyncio."), ("uvloop", "uvloop"), ("auto", "uvloop")],
)
def test_config_gives_a_loop_factory(loop, module):
    """config.get_loop_factory() makes the loop that was named."""
    made = loaded(loop=loop).get_loop_factory()()
    try:
        assert type(made).__module__.startswith(module)
    finally:
        made.close()


def test_config_keeps_what_may_change_while_serving():
    """config.timeout_graceful_shutdown can be set later, and takes fractions."""
    config = loaded(timeout_keep_alive=0.5)
    assert config.timeout_keep_alive == 0.5
    assert config.timeout_graceful_shutdown is None
    config.timeout_graceful_shutdown = 0.5


def test_config_leaves_logging_alone():
    """Config(log_config=None) configures no logger: ours are set already."""
    logger = logging.getLogger("uvicorn.error")
    before = (logger.level, list(logger.handlers), logger.propagate)
    loaded()
    assert (logger.level, list(logger.handlers), logger.propagate) == before


def test_config_access_log_reaches_the_protocol():
    """Config(access_log=False) takes the handlers off the logger the protocols ask."""
    loaded(access_log=False)
    assert not logging.getLogger("uvicorn.access").handlers


def test_server_state_is_what_protocols_share():
    """server.server_state has total_requests, and connections, to be replaced."""
    state = Server(loaded()).server_state
    assert state.connections == set()
    assert state.total_requests == 0
    state.connections = mine = set()
    protocol = loaded().http_protocol_class(
        config=loaded(),
        server_state=state,
        app_state={},
        _loop=asyncio.new_event_loop(),
    )
    assert protocol.connections is mine
    protocol.loop.close()


def test_server_announces_startup_and_ticks():
    """server._serve(sockets=[]) awaits startup(sockets=), then on_tick to its end."""
    events = []

    class Watched(Server):
        async def startup(self, sockets=None):
            """Note what was given."""
            events.append(("startup", sockets))
            await super().startup(sockets=sockets)
            events.append(("started", self.started, self.servers))

        async def on_tick(self, counter):
            """Note the tick; leave after the second."""
            events.append(("tick", counter))
            self.should_exit = counter == 1
            return await super().on_tick(counter)

    server = Watched(loaded(lifespan="off"))
    asyncio.run(server._serve(sockets=[]))
    assert events == [
        ("startup", []),
        ("started", True, []),
        ("tick", 0),
        ("tick", 1),
    ]


@on_every_loop
async def test_server_leaves_signals_to_us():
    """server._serve installs no signal handler."""
    seen = []

    class Watched(Server):
        """Looks at the handlers when it has started."""

        async def on_tick(self, _counter):
            """Look at the handlers, then leave."""
            seen.extend(map(signal.getsignal, (signal.SIGINT, signal.SIGTERM)))
            return True

    before = [*map(signal.getsignal, (signal.SIGINT, signal.SIGTERM))]
    await Watched(loaded(lifespan="off"))._serve(sockets=[])
    assert seen == before


def test_server_has_the_lifespans_state():
    """server.lifespan.state is what the application left there, from startup on."""

    class Watched(Server):
        async def on_tick(self, _counter):
            """Look, then leave."""
            assert isinstance(self.lifespan, LifespanOn)
            assert self.lifespan.state == {"shared": "by the lifespan"}
            return True

    app = App()
    asyncio.run(Watched(loaded(app, lifespan="on"))._serve(sockets=[]))
    assert app.events == ["lifespan", "lifespan.startup", "lifespan.shutdown"]


async def failing(_scope, receive, send):
    """Fail to start."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def raising(_scope, _receive, _send):
    """Raise while starting."""
    raise OSError("no disk")


@pytest.mark.parametrize(
    ("app", "text"), [(failing, "no database"), (raising, "OSError: no disk")]
)
def test_lifespan_failure_is_an_exit_and_an_error(caplog, app, text):
    """A failed startup is SystemExit, its reason an error of logger "uvicorn.error"."""
    with pytest.raises(SystemExit):
        asyncio.run(Server(loaded(app, lifespan="on"))._serve(sockets=[]))
    errors = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert {each.name for each in errors} == {"uvicorn.error"}
    assert text in "\n".join(logging.Formatter().format(each) for each in errors)


@on_every_loop
async def test_protocol_enters_and_leaves_the_connections(http):
    """connection_made adds to server_state.connections, connection_lost takes away."""
    config = loaded(http=PROTOCOLS[http], lifespan="off")
    loop, state = asyncio.get_running_loop(), Server(config).server_state
    protocol = config.http_protocol_class(
        config=config, server_state=state, app_state={}, _loop=loop
    )
    ours, theirs = tcp_pair()
    name = ours.getsockname()
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, theirs)
    assert state.connections == {protocol}
    assert protocol.transport is transport
    assert protocol.client == name
    protocol.client = ("192.0.2.7", 1)  # which the seam does
    ours.close()
    await until(lambda: not state.connections)


@on_every_loop
async def test_protocol_reads_through_data_received(http, board):
    """Every byte comes through data_received; client and state reach the scope."""
    app = App()
    serving = make(app, board, http)
    async with started(serving):
        with Client(tcp_pair()) as client:
            peer = client.sock.getsockname()
            await client.adopt(serving)
            await client.send(GET)
            assert (await client.receive()).startswith(b"HTTP/1.1 200 OK\r\n")
            scope = app.scopes[-1]
            assert scope["client"] == peer
            assert scope["state"] == {"shared": "by the lifespan"}
            assert scope["raw_path"] == b"/"


@on_every_loop
async def test_shutdown_closes_what_is_idle_and_waits_for_the_rest(http, board):
    """protocol.shutdown() ends idle connections at once, busy ones after the answer."""
    app = App()
    app.may_answer.clear()
    serving = make(app, board, http)
    async with started(serving) as running:
        with Client() as idle, Client() as busy:
            for client in (idle, busy):
                await client.adopt(serving)
                await client.send(GET if client is busy else b"")
            await until(lambda: "http" in app.events)
            serving.finish(DEADLINE)
            assert await idle.receive() == b""
            assert serving.open == 1
            app.may_answer.set()
            assert (await busy.receive(b"never")).startswith(b"HTTP/1.1 200 OK")
            await running
            assert app.events[-2:] == ["answered", "lifespan.shutdown"]


@on_every_loop
async def test_shutdown_cancels_what_takes_too_long(board, caplog):
    """After timeout_graceful_shutdown, tasks are cancelled; connections stay for us."""
    app = App()
    app.may_answer.clear()
    serving = make(app, board)
    async with started(serving) as running:
        with Client() as client:
            await client.adopt(serving)
            await client.send(GET)
            await until(lambda: "http" in app.events)
            serving.finish(0.01)
            await running
            await until(lambda: "cancelled" in app.events)
            serving.cut()
            await until(lambda: not serving.open)
    # Who is cut, the master says; uvicorn's words for it are left out.
    assert "Cancel " not in caplog.text
    assert '"Cancel %s running task(s)' in inspect.getsource(Server)


# The seam as the worker uses it.


@on_every_loop
async def test_taken_is_said_before_the_application_starts(http, board):
    """The first bytes say TAKEN, once, before the parser can make a task of them."""
    app = App()
    serving = make(app, board, http)
    tasks = serving._server.server_state.tasks
    async with started(serving):
        with Client() as client:
            visit = Visit()
            visit.taken = lambda: app.events.append(("taken", len(tasks)))
            await serving.adopt(client.theirs, visit)
            assert len(serving.untaken) == 1
            await client.send(GET)
            await client.receive()
            assert app.events[2:] == [("taken", 0), "http", "answered"]
            assert len(serving.untaken) == 0
            await client.send(GET)
            await client.receive()
            assert app.events[5:] == ["http", "answered"]


@on_every_loop
async def test_taken_is_said_for_half_a_request(http, board):
    """A connection that was read from cannot go anywhere else any more."""
    serving = make(App(), board, http)
    async with started(serving):
        with Client() as client:
            await client.adopt(serving)
            await client.send(GET[:9])
            await until(lambda: client.taken)
            assert len(serving.untaken) == 0


@on_every_loop
async def test_taken_is_said_for_a_client_that_leaves(http, board):
    """A connection that ends unread is answered for all the same, once."""
    serving = make(App(), board, http)
    async with started(serving):
        with Client() as client:
            await client.adopt(serving)
            client.sock.close()
            await until(lambda: client.taken)
            await until(lambda: not serving.open)
            assert client.taken == 1
            assert len(serving.untaken) == 0


class Watching(Unmarked):
    """A mark that looks at the client's end whenever it is told of an end."""

    def __init__(self, client):
        self.client = client
        self.ends = []

    def ended(self, written):
        """Note how much was written, and whether any of it is out."""
        try:
            self.ends.append((written, self.client.recv(1, socket.MSG_PEEK)))
        except BlockingIOError:
            self.ends.append((written, None))


@pytest.mark.parametrize("line", [b"Connection: close", b"Content-Length: x"])
@on_every_loop
async def test_end_is_marked_before_the_last_answer_is_out(http, board, line):
    """A worker that dies between the two owes nothing: the mark says how much."""
    serving = make(App(), board, http)
    async with started(serving):
        with Client() as client:
            client.visit.mark = mark = Watching(client.sock)
            await serving.adopt(client.theirs, client.visit)
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % line)
            answer = await client.receive(b"never")
    assert mark.ends[0] == (len(answer), None)


class Beginning(Unmarked):
    """A mark that notes when it is told of a beginning."""

    def __init__(self, events):
        self.events = events

    def started(self):
        """Note it among the application's events."""
        self.events.append("marked")


@on_every_loop
async def test_websocket_is_marked_when_its_application_begins(http, board):
    """A handshake that was read, and nothing more, may go to another worker."""
    app = App()
    serving = make(app, board, http)
    held = asyncio.Event()
    run_asgi = serving.websocket.run_asgi

    async def run_when_let(self):
        """Begin when the test says so."""
        app.events.append("read")
        await held.wait()
        await run_asgi(self)

    serving.websocket.run_asgi = run_when_let
    async with started(serving):
        app.events.clear()
        with Client() as client:
            client.visit.mark = Beginning(app.events)
            await serving.adopt(client.theirs, client.visit)
            await client.send(UPGRADE)
            await until(lambda: app.events)
            assert app.events == ["read"]
            held.set()
            assert (await client.receive()).startswith(b"HTTP/1.1 101 ")
            assert app.events == ["read", "marked", "websocket"]


@on_every_loop
async def test_answer_that_is_cut_is_not_marked_as_an_end(http, board):
    """It owes the rest."""

    async def breaks(_scope, _receive, send):
        """Fail in the middle of an answer."""
        length = (b"content-length", b"100")
        start = {"type": "http.response.start", "status": 200, "headers": [length]}
        await send(start)
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        raise OSError("in the middle")

    serving = make(breaks, board, http, lifespan="off")
    async with started(serving):
        with Client() as client:
            client.visit.mark = mark = Watching(client.sock)
            await serving.adopt(client.theirs, client.visit)
            await client.send(GET)
            assert (await client.receive(b"never")).endswith(b"\r\n\r\na")
    assert not mark.ends


@on_every_loop
async def test_prefix_comes_before_the_socket(http, board):
    """What was read from a connection before is parsed first, and counts as taken."""
    app = App()
    serving = make(app, board, http)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n"
    async with started(serving):
        with Client() as client:
            await client.send(b"def")
            await client.adopt(serving, prefix=head + b"abc")
            assert (await client.receive(b"abcdef")).endswith(b"\r\n\r\nabcdef")
            assert client.taken == 1
            await client.send(GET)
            assert (await client.receive()).startswith(b"HTTP/1.1 200 OK\r\n")


@on_every_loop
async def test_client_address_is_the_one_handed_over(http, board):
    """What the master saw counts, where the socket knows nothing or less."""
    app = App()
    serving = make(app, board, http)
    async with started(serving):
        for client_address in (("192.0.2.7", 1234), None):
            with Client() as client:
                await client.adopt(serving, client=client_address)
                await client.send(GET)
                await client.receive()
                assert app.scopes[-1]["client"] == client_address


@on_every_loop
async def test_board_shows_connections_and_requests(http, board):
    """The scoreboard follows what opens, closes and is answered."""
    serving = make(App(), board, http)
    async with started(serving):
        assert (board.connections, serving.open) == (0, 0)
        with Client() as one, Client() as two:
            await one.adopt(serving)
            await two.adopt(serving)
            assert (board.connections, serving.open) == (2, 2)
            for _ in range(3):
                await one.send(GET)
                await one.receive()
        await until(lambda: board.connections == 0)
        await until(lambda: board.requests == 3)


@on_every_loop
async def test_websocket_stays_one_connection(http, board):
    """An upgrade changes the protocol and not the count; its end is noted."""
    app = App()
    serving = make(app, board, http)
    async with started(serving):
        with Client() as client:
            await client.adopt(serving, client=("192.0.2.7", 1234))
            await client.send(UPGRADE)
            assert (await client.receive()).startswith(b"HTTP/1.1 101 ")
            assert app.scopes[-1]["type"] == "websocket"
            assert (board.connections, serving.open) == (1, 1)
            await client.send(text_frame(b"hello"))
            assert await client.receive(b"hello") == b"\x81\x05hello"
        await until(lambda: board.connections == 0)
        assert client.taken == 1


@on_every_loop
async def test_cut_ends_every_kind_of_connection(http, board):
    """connection.transport.abort() ends HTTP and WebSocket; the number is told."""
    serving = make(App(), board, http)
    async with started(serving):
        with Client() as plain, Client() as ws:
            for client in (plain, ws):
                await client.adopt(serving)
            await ws.send(UPGRADE)
            await ws.receive()
            assert serving.cut() == 2
            await until(lambda: not serving.open)
            assert await plain.receive() == b""
            assert await ws.receive(b"never") == b""


@on_every_loop
async def test_finish_ends_every_kind_of_connection(http, board):
    """WebSockets are closed with their closing frame, and run() returns."""
    app = App()
    serving = make(app, board, http)
    async with started(serving) as running:
        with Client() as ws:
            await ws.adopt(serving)
            await ws.send(UPGRADE)
            await ws.receive()
            serving.finish(DEADLINE)
            assert (await ws.receive(b"never"))[:2] == b"\x88\x02"
            ws.sock.close()
            await running
            assert app.events[-1] == "lifespan.shutdown"
            assert serving.open == 0


class Noting:
    """Wraps an application, and notes what it is called for."""

    def __init__(self, inner, seen):
        self.inner, self.seen = inner, seen

    async def __call__(self, scope, receive, send):
        """Note, then serve."""
        self.seen.append(scope["type"])
        await self.inner(scope, receive, send)


@on_every_loop
async def test_application_is_wrapped_for_all_it_is_called_for(board):
    """What wraps the application sees lifespan, requests and WebSockets."""
    app, seen = App(), []
    serving = make(app, board, wrap=lambda inner: Noting(inner, seen))
    async with started(serving):
        for data in (GET, UPGRADE):
            with Client() as client:
                await client.adopt(serving)
                await client.send(data)
                await client.receive()
    assert seen[:3] == ["lifespan", "http", "websocket"]


@pytest.mark.parametrize(
    ("app", "text"), [(failing, "no database"), (raising, "OSError: no disk")]
)
@on_every_loop
async def test_failed_startup_is_told_and_not_logged(board, caplog, app, text):
    """The master shows why an application did not start; nobody else has to."""
    serving = make(app, board)
    with pytest.raises(StartupFailed, match=text):
        await serving.run()
    # In a worker the filter ends with the process.
    logging.getLogger("uvicorn.error").removeFilter(serving._startup_errors)
    assert text not in caplog.text


@on_every_loop
async def test_errors_after_the_start_are_logged(board, caplog):
    """What goes wrong while serving is an ordinary line of the log."""
    serving = make(App(), board)
    async with started(serving):
        logging.getLogger("uvicorn.error").error("later")
    assert "later" in caplog.text


async def plain(scope, _receive, send):
    """Be an application that knows nothing of lifespan."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@pytest.mark.parametrize("lifespan", ["auto", "off"])
@on_every_loop
async def test_application_without_lifespan_starts(board, lifespan):
    """An application that knows nothing of lifespan is served."""
    serving = make(plain, board, lifespan=lifespan)
    async with started(serving):
        with Client() as client:
            await client.adopt(serving)
            await client.send(GET)
            assert (await client.receive()).startswith(b"HTTP/1.1 204 ")


@on_every_loop
async def test_idle_connection_is_closed_in_time(http, board):
    """The keep-alive timeout is ours, and may be a fraction of a second."""
    serving = make(App(), board, http, timeout_keep_alive=0.05)
    async with started(serving):
        with Client() as client:
            await client.adopt(serving)
            await client.send(GET)
            await client.receive()
            assert await client.receive(b"never") == b""


@pytest.mark.parametrize(
    ("loop", "module"), [("asyncio", "asyncio."), ("uvloop", "uvloop")]
)
def test_loop_is_the_one_asked_for(board, loop, module):
    """The worker's event loop is made by uvicorn's own choice."""
    made = make(app3, board, loop=loop).loop_factory()()
    try:
        assert type(made).__module__.startswith(module)
    finally:
        made.close()


# Requests that belong elsewhere.

ELSEWHERE = Elsewhere(b"key", learned=False)
AWAY = b"GET /there HTTP/1.1\r\nHost: a\r\n\r\n"
GREETING = b"HTTP/1.1 200 OK\r\n\r\nfrom elsewhere"


async def returned(client):
    """Wait until the connection is given back; give it, and what was unread."""
    await until(lambda: client.visit.back)
    sock, to, unread = client.visit.back
    assert to == ELSEWHERE
    return sock, unread


@on_every_loop
async def test_idle_time_begins_when_the_client_can_know(http, board):
    """A process that stands still before its answer leaves takes no time from it."""

    async def stands_still(_scope, _receive, send):
        """Answer, and keep the loop from turning for longer than it may be idle."""
        length = (b"content-length", b"2")
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": b"ok"})
        time.sleep(1)

    serving = make(stands_still, board, http, lifespan="off", timeout_keep_alive=0.5)
    async with started(serving):
        with Client() as client:
            await client.adopt(serving)
            for _ in range(2):
                await client.send(GET)
                assert (await client.receive(b"ok")).startswith(b"HTTP/1.1 200 ")


@on_every_loop
async def test_connection_is_returned_alive(http, board):
    """Whoever gets it reads on where the gate stopped, and can answer."""
    serving = make(App(), board, http)
    async with started(serving):
        with Client(tcp_pair()) as client:
            await client.adopt(serving)
            client.visit.elsewhere[b"/there"] = ELSEWHERE
            await client.send(GET)
            await client.receive()
            await client.send(AWAY)
            sock, unread = await returned(client)
            with sock:
                assert unread == AWAY
                await until(lambda: not serving.open)
                await client.send(b"more")
                loop = asyncio.get_running_loop()
                assert await loop.sock_recv(sock, 100) == b"more"
                await loop.sock_sendall(sock, GREETING)
                assert await client.receive(GREETING) == GREETING
                sock.shutdown(socket.SHUT_RDWR)
            assert await client.receive(b"never") == b""
        assert client.visit.said == ["taken", "returned"]
        assert (board.connections, len(serving.untaken)) == (0, 0)


@on_every_loop
async def test_what_served_a_connection_serves_it_again(http, board):
    """It was parked, and heard nothing of what others said and were told meanwhile."""
    app = App()
    serving = make(app, board, http)
    loop = asyncio.get_running_loop()
    async with started(serving):
        with Client(tcp_pair()) as client:
            await client.adopt(serving)
            for number in range(3):
                client.visit.elsewhere[b"/there"] = ELSEWHERE
                await client.send(AWAY)
                sock, unread = await returned(client)
                with sock:
                    assert unread == AWAY
                    assert client.visit.said == ["taken", "returned"]
                    assert (board.connections, len(serving.parking)) == (0, 1)
                    await client.send(b"for another worker")
                    assert await loop.sock_recv(sock, 100) == b"for another worker"
                    await loop.sock_sendall(sock, GREETING)
                    assert await client.receive(GREETING) == GREETING
                client.visit = Visit(prefix=GET)
                serving.parking.take(client.visit.id).resume(client.visit)
                await client.receive()
                await client.send(GET)
                await client.receive()
                assert app.events.count("answered") == 2 * (number + 1)
                assert board.connections == 1
            client.sock.shutdown(socket.SHUT_WR)
            assert await client.receive(b"never") == b""
        assert client.visit.said == ["taken", "closed"]
        assert (board.connections, len(serving.untaken)) == (0, 0)


@on_every_loop
async def test_request_may_belong_elsewhere_again(http, board):
    """What is handed over to be given back at once is given back."""
    serving = make(App(), board, http)
    async with started(serving):
        with Client(tcp_pair()) as client:
            await client.adopt(serving)
            for _ in range(3):
                client.visit.elsewhere[b"/there"] = ELSEWHERE
                if client.visit.prefix:
                    serving.parking.take(client.visit.id).resume(client.visit)
                else:
                    await client.send(AWAY)
                sock, unread = await returned(client)
                sock.close()
                assert unread == AWAY
                assert client.visit.said == ["taken", "returned"]
                client.visit = Visit(prefix=AWAY)
            await client.send(GET)
            for _ in range(10):
                await asyncio.sleep(0)
            assert len(serving.parking) == 1
            with pytest.raises(BlockingIOError):
                client.sock.recv(1)


@on_every_loop
async def test_idle_connection_waits_again(board):
    """One that comes between two requests is closed when it has been idle too long."""
    serving = make(App(), board, timeout_keep_alive=0.05)
    async with started(serving):
        with Client(tcp_pair()) as client:
            await client.adopt(serving)
            client.visit.elsewhere[b"/there"] = ELSEWHERE
            await client.send(AWAY)
            sock, _ = await returned(client)
            sock.close()
            client.visit = Visit()
            client.visit.idle = True
            serving.parking.take(1).resume(client.visit)
            assert client.visit.said == ["taken"]
            assert await client.receive(b"never") == b""
            assert client.visit.said == ["taken", "closed"]


@on_every_loop
async def test_worker_that_leaves_parks_nobody(board):
    """What is parked is abandoned, without a word to the client."""
    serving = make(App(), board)
    async with started(serving):
        with Client(tcp_pair()) as client:
            await client.adopt(serving)
            client.visit.elsewhere[b"/there"] = ELSEWHERE
            await client.send(AWAY)
            sock, _ = await returned(client)
            with sock:
                serving.hand_back()
                assert not len(serving.parking)
                await until(lambda: client.theirs.fileno() < 0)
                with pytest.raises(BlockingIOError):
                    client.sock.recv(1)


@on_every_loop
async def test_connection_can_be_returned_before_it_begins(http, board):
    """The bytes it was handed over with may belong elsewhere already."""
    app = App()
    serving = make(app, board, http)
    async with started(serving):
        with Client() as client:
            client.visit.elsewhere[b"/there"] = ELSEWHERE
            visit = Visit(prefix=AWAY)
            visit.elsewhere[b"/there"] = ELSEWHERE
            client.visit = visit
            await serving.adopt(client.theirs, visit)
            sock, unread = await returned(client)
            with sock:
                assert unread == AWAY
                # Nothing more is read here.
                await client.send(b"for the next worker")
                for _ in range(10):
                    await asyncio.sleep(0)
                assert sock.recv(100) == b"for the next worker"
    assert "http" not in app.events
    assert client.visit.said == ["taken", "returned"]


@on_every_loop
@pytest.mark.parametrize("rest", [b"more", AWAY])
async def test_what_follows_the_first_bytes_is_not_lost(http, board, rest):
    """A connection is given back at once, while its client sends on."""
    serving = make(App(), board, http)
    async with started(serving):
        with Client() as client:
            await client.send(rest)
            visit = client.visit = Visit(prefix=AWAY)
            visit.elsewhere[b"/there"] = ELSEWHERE
            await serving.adopt(client.theirs, visit)
            sock, unread = await returned(client)
            with sock:
                await client.send(b"!")
                assert unread + sock.recv(100) == AWAY + rest + b"!"


@on_every_loop
async def test_first_bytes_with_the_end_behind_them_are_answered(http, board):
    """A client may end its half before the connection is handed over."""
    serving = make(App(), board, http)
    async with started(serving):
        with Client(tcp_pair()) as client:
            client.sock.shutdown(socket.SHUT_WR)
            await client.adopt(serving, prefix=GET)
            assert (await client.receive()).startswith(b"HTTP/1.1 ")
            assert await client.receive(b"never") == b""


@on_every_loop
async def test_first_bytes_are_answered_when_the_server_shuts_down(
    http, board, monkeypatch
):
    """The end comes in the very turn in which the connection does."""
    look = GatedConnection._begin_to_read

    def late(connection):
        """Begin to read when the end has come."""
        connection.shutdown()
        look(connection)

    monkeypatch.setattr(GatedConnection, "_begin_to_read", late)
    serving = make(App(), board, http)
    async with started(serving):
        with Client(tcp_pair()) as client:
            await client.adopt(serving, prefix=GET)
            assert (await client.receive()).startswith(b"HTTP/1.1 ")
            assert await client.receive(b"never") == b""


@on_every_loop
async def test_end_behind_first_bytes_goes_elsewhere_with_them(http, board):
    """Whoever is handed such a connection next reads its end, too, and can answer."""
    serving = make(App(), board, http)
    async with started(serving):
        with Client(tcp_pair()) as client:
            client.sock.shutdown(socket.SHUT_WR)
            visit = client.visit = Visit(prefix=AWAY)
            visit.elsewhere[b"/there"] = ELSEWHERE
            await serving.adopt(client.theirs, visit)
            sock, unread = await returned(client)
            with sock:
                assert unread == AWAY
                for _ in range(10):
                    await asyncio.sleep(0)
                assert sock.recv(1) == b""
                sock.sendall(GREETING)
                assert await client.receive(GREETING) == GREETING


@on_every_loop
async def test_request_that_waits_for_the_master_outlives_the_end(http, board):
    """The client said all it has to say; whose the request is, is not known yet."""
    serving = make(App(), board, http)
    async with started(serving):
        with Client(tcp_pair()) as client:
            await client.adopt(serving)
            client.visit.elsewhere[b"/there"] = Asked()
            await client.send(AWAY)
            client.sock.shutdown(socket.SHUT_WR)
            await until(lambda: client.taken)
            for _ in range(10):
                await asyncio.sleep(0)
            del client.visit.elsewhere[b"/there"]
            client.visit.told(True)
            assert (await client.receive()).startswith(b"HTTP/1.1 ")


@on_every_loop
async def test_connection_is_returned_after_the_last_answer(http, board):
    """As long as the client has not read it, it is ours."""
    app = App()
    size = 8_000_000
    serving = make(app, board, http)
    async with started(serving):
        with Client(tcp_pair()) as client:
            await client.adopt(serving)
            client.visit.elsewhere[b"/there"] = ELSEWHERE
            head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
            await client.send(head + b"x" * size + AWAY)
            await until(lambda: "answered" in app.events)
            assert client.visit.back is None
            data = b""
            while len(data.partition(b"\r\n\r\n")[2]) < size:
                data += await asyncio.get_running_loop().sock_recv(client.sock, 1 << 20)
            sock, unread = await returned(client)
            with sock:
                assert unread == AWAY


@on_every_loop
async def test_time_in_which_the_process_was_stopped_does_not_count(http, board):
    """Who reads as soon as the worker writes again is not parted with."""
    app = App()
    size = 8_000_000
    serving = make(app, board, http)
    async with started(serving):
        with Client(tcp_pair()) as client:
            await client.adopt(serving, head_timeout=1.0)
            client.visit.elsewhere[b"/there"] = ELSEWHERE
            head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
            await client.send(head + b"x" * size + AWAY)
            await until(lambda: "answered" in app.events)
            await asyncio.sleep(0.02)
            time.sleep(1.1)  # as if by SIGSTOP: no turn of the loop meanwhile
            data = b""
            while len(data.partition(b"\r\n\r\n")[2]) < size:
                data += await asyncio.get_running_loop().sock_recv(client.sock, 1 << 20)
            sock, unread = await returned(client)
            with sock:
                assert unread == AWAY


@on_every_loop
async def test_answer_that_nobody_reads_cannot_travel(http, board):
    """After the time for a head, the request is misdirected: the connection ends."""
    app = App()
    size = 8_000_000
    serving = make(app, board, http)
    async with started(serving):
        with Client(tcp_pair()) as client:
            await client.adopt(serving, head_timeout=0.05)
            client.visit.elsewhere[b"/there"] = ELSEWHERE
            head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
            await client.send(head + b"x" * size + AWAY)
            await until(lambda: "answered" in app.events)
            await until(lambda: board.refused)
            data = await client.receive(b"never")
            assert b"x" * 100 + b"HTTP/1.1 421 Misdirected Request\r\n" in data
            assert client.visit.back is None
        await until(lambda: not serving.open)
        assert client.visit.said == ["taken", "closed"]


@on_every_loop
async def test_who_reads_nothing_and_asks_nothing_is_told_nothing(http, board):
    """A worker that leaves closes behind the answer: there is no other request."""
    app = App()
    size = 8_000_000
    serving = make(app, board, http)
    async with started(serving):
        with Client(tcp_pair()) as client:
            await client.adopt(serving, head_timeout=0.05)
            head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
            await client.send(head + b"x" * size)
            await until(lambda: "answered" in app.events)
            (connection,) = serving._server.server_state.connections
            serving.hand_back()
            await until(connection.transport.is_closing)
            data = await client.receive(b"never")
            assert data.endswith(b"x" * 100)
            assert client.visit.back is None
        await until(lambda: not serving.open)
        assert client.visit.said == ["taken", "closed"]


@on_every_loop
async def test_connection_on_its_way_out_is_not_shut_down(board):
    """A worker that leaves lets a return finish."""
    app = App()
    size = 8_000_000
    serving = make(app, board)
    async with started(serving):
        with Client(tcp_pair()) as client:
            await client.adopt(serving)
            client.visit.elsewhere[b"/there"] = ELSEWHERE
            head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
            await client.send(head + b"x" * size + AWAY)
            await until(lambda: "answered" in app.events)
            serving.finish(DEADLINE)
            read = 0
            while client.visit.back is None:
                with contextlib.suppress(BlockingIOError):
                    read += len(client.sock.recv(1 << 20))
                await asyncio.sleep(0)
            sock, _ = client.visit.back[:2]
            with sock:
                assert client.visit.said == ["taken", "returned"]


async def eager(_scope, receive, send):
    """Ask again and again whether the client has left; answer after a while."""
    await receive()
    for _ in range(200):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(receive(), 0.0001)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@on_every_loop
async def test_what_waits_for_an_answer_is_bounded(http, board):
    """However often the application listens, a client cannot fill our memory."""
    serving = make(eager, board, http, lifespan="off")
    async with started(serving):
        with Client(tcp_pair()) as client:
            await client.adopt(serving)
            loop = asyncio.get_running_loop()
            ahead = GET * 100_000
            sending = asyncio.ensure_future(loop.sock_sendall(client.sock, ahead))
            [connection] = serving._server.server_state.connections
            most = 0

            async def watch():
                """Note how much waits."""
                nonlocal most
                while True:
                    most = max(most, len(connection._gate.pending))
                    await asyncio.sleep(0)

            watching = asyncio.ensure_future(watch())
            await client.receive(b"\r\n\r\n")
            for task in (sending, watching):
                task.cancel()
            assert 0 < most <= MOST_UNREAD


@on_every_loop
async def test_no_more_is_read_at_once_than_can_be_returned(http, board):
    """Both loops let the reading side say how much comes in one piece."""
    serving = make(App(), board, http)
    async with started(serving):
        with Client(tcp_pair()) as client:
            head = b"POST /there HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n"
            sending = asyncio.ensure_future(client.send(head + b"x" * 900_000))
            await asyncio.sleep(0.01)
            visit = client.visit = Visit()
            visit.elsewhere[b"/there"] = ELSEWHERE
            await serving.adopt(client.theirs, visit)
            sock, unread = await returned(client)
            with sock:
                assert len(unread) <= READ_SIZE
            sending.cancel()
            await asyncio.wait([sending])


@on_every_loop
async def test_websocket_that_is_refused_by_a_response_is_no_error(http, board, caplog):
    """The server would log that the application has said nothing."""
    kind = "websocket.http.response"

    async def app(scope, _receive, send):
        assert scope["type"] == "websocket"
        await send({"type": f"{kind}.start", "status": 503, "headers": []})
        await send({"type": f"{kind}.body", "body": b"no room"})

    serving = make(app, board, http, lifespan="off")
    async with started(serving):
        with Client() as client:
            await client.adopt(serving)
            await client.send(UPGRADE)
            answer = await client.receive(b"no room")
            assert answer.startswith(b"HTTP/1.1 503 ")
            await until(lambda: not serving.open)
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]


# What the application is told, and what the master saw.


@pytest.mark.parametrize("prefix", ["", "/shop"])
@pytest.mark.parametrize("name", GOOD)
@on_every_loop
async def test_worker_reads_what_the_router_read(http, board, name, prefix):
    """Method, path, query and host of the scope are those of the peeked bytes."""
    app = App()
    serving = make(app, board, http, root_path=prefix)
    async with started(serving):
        with Client() as client:
            await client.adopt(serving)
            await client.send(GOOD[name])
            if http == "httptools" and "method" in name:
                # It knows its methods and takes no other: refused, not misread.
                assert b" 400 " in await client.receive(b"never")
                return
            await until(lambda: len(app.scopes) == 2)
    raw, head = sniff_head(GOOD[name]), ScopeHead(app.scopes[1])
    for field in ("method", "path", "query", "host"):
        assert getattr(head, field) == getattr(raw, field), field


@on_every_loop
async def test_empty_line_alone_is_no_request(http, board):
    """Some clients send one behind a body: the connection ends as an idle one does."""
    serving = make(plain, board, http, lifespan="off")
    async with started(serving):
        with Client() as client:
            await client.adopt(serving, head_timeout=0.05)
            await client.send(GET)
            assert (await client.receive()).startswith(b"HTTP/1.1 204 ")
            await client.send(b"\r\n")
            assert await client.receive() == b""
            assert board.refused == {}


# A stop finishes what can be finished, whatever one of the connections does.

CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"
"The frame of a client that closes with 1000, in a mask of zeros."
MUCH = 1 << 23
BUSY = b"GET /busy HTTP/1.1\r\nHost: a\r\n\r\n"


class Flooding(App):
    """Says more over a WebSocket than a connection holds."""

    async def echo(self, receive, send):
        """Accept, and say much."""
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": b"x" * MUCH})
        await receive()


@on_every_loop
async def test_websocket_that_closes_and_does_not_read_holds_up_nobody(http, board):
    """It is in the middle of its end, where uvicorn cannot say goodbye to it."""
    app = Flooding()
    serving = make(app, board, http)
    async with started(serving) as running:
        with Client() as deaf, Client() as busy:
            await deaf.adopt(serving)
            await deaf.send(UPGRADE)
            await until(lambda: "websocket" in app.events)
            [websocket] = serving._server.server_state.connections
            await until(lambda: websocket.transport.get_write_buffer_size() > 0)
            await deaf.send(CLOSE)
            await until(websocket.transport.is_closing)
            app.may_answer.clear()
            await busy.adopt(serving)
            await busy.send(BUSY)
            await until(lambda: "http" in app.events)
            assert serving.open == 2
            serving.finish(60.0)
            await asyncio.sleep(0.3)  # longer than uvicorn waits between two looks
            assert not running.done()
            app.may_answer.set()
            assert (await busy.receive()).startswith(b"HTTP/1.1 200 ")
            deaf.sock.close()
            await until(running.done)
            assert running.exception() is None


@pytest.mark.parametrize("is_closing", [False, True])
def test_connection_that_cannot_be_shut_down_is_aborted(is_closing):
    """Alone, and not if it is at its end already: what was written still leaves."""
    said = []

    class Transport:
        def is_closing(self):
            return is_closing

        def abort(self):
            said.append("aborted")

    def fail():
        raise ValueError("it cannot be")

    shut_down(fail, Transport())
    assert said == ([] if is_closing else ["aborted"])


@on_every_loop
async def test_what_came_before_the_end_is_answered(http, board):
    """A connection that looks idle is not closed while its next request is unread."""
    app = App()
    serving = make(app, board, http)
    async with started(serving):
        with Client(tcp_pair()) as client:
            await client.adopt(serving)
            await client.send(GET)
            await client.receive()
            await until(lambda: "answered" in app.events)
            (connection,) = serving._server.server_state.connections
            # In this order, in one turn of the loop: nobody can have read it.
            client.sock.send(GET)
            connection.timeout_keep_alive_handler()
            connection.shutdown()
            answer = await client.receive(b"the end")
    assert answer.startswith(b"HTTP/1.1 200 ")
    # uvicorn's h11 protocol closes without announcing it.
    assert http == "h11" or b"connection: close\r\n" in answer.lower()


@on_every_loop
async def test_end_is_announced_before_it_comes(board):
    """Server.handle_exit is called when the drain begins, once; all goes on."""
    serving = make(App(), board)
    server = serving._server
    calls = []
    theirs = Server.handle_exit

    def handle_exit(self, sig, frame):
        calls.append(sig)
        theirs(self, sig, frame)

    async with started(serving) as running:
        Server.handle_exit = handle_exit
        try:
            serving.leaving()
            assert (calls, server.should_exit) == ([signal.SIGTERM], True)
            await asyncio.sleep(0.3)  # longer than a tick
            assert not running.done()
            serving.finish(DEADLINE)
            await running
        finally:
            Server.handle_exit = theirs
    assert calls == [signal.SIGTERM]
