"""``maitred serve`` serves: HTTP/1, WebSocket, addresses, lifespan, logs."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from websockets.asyncio.client import connect as connect_websocket
from websockets.sync.client import connect as connect_websocket_sync

from driver import APPS, wait_until
from maitred.errors import NoMaster
from raw_http import ask, connect, connect_unix, get

STACKS = {
    "uvloop-httptools": ("--loop", "uvloop", "--http", "httptools"),
    "asyncio-h11": ("--loop", "asyncio", "--http", "h11"),
}


@pytest.fixture(params=STACKS)
def server(share, request):
    """Start a server on each loop and parser."""
    return share("probe:app", *STACKS[request.param])


# Requests


def test_connection_is_kept_for_many_requests(server):
    """A connection serves one request after another, from one process."""
    with connect(server.port) as client:
        answers = [client.ask(get(f"/{number}")).json for number in range(50)]
    assert [a["path"] for a in answers] == [f"/{number}" for number in range(50)]
    assert len({a["pid"] for a in answers}) == 1


UNUSUAL = {
    "empty line first": b"\r\n" + get(),
    "empty host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "address with a zone": b"GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]:80\r\n\r\n",
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_unusual_and_allowed_is_served(server, name):
    """As the first request of a connection, and as the next one."""
    with connect(server.port) as client:
        for _ in range(2):
            assert client.ask(UNUSUAL[name]).status == 200
        client.send(get(method="POST") + UNUSUAL[name])
        assert [client.answer().status for _ in "ab"] == [200, 200]


def test_pipelined_requests_are_answered_in_order(server):
    """Three requests in one segment get three answers in order."""
    with connect(server.port) as client:
        client.send(get("/a") + get("/b") + get("/c"))
        assert [client.answer().json["path"] for _ in "abc"] == ["/a", "/b", "/c"]
        assert client.ask(get("/d")).json["path"] == "/d"


def test_request_body_arrives_whole(server):
    """A body much longer than what the master looks at reaches the application."""
    body = b"x" * 3_000_000
    with connect(server.port) as client:
        client.send(get("/", f"content-length: {len(body)}", method="POST") + body)
        assert client.answer().json["body"] == len(body)


def test_chunked_request_body_arrives_whole(server):
    """A chunked body, with extension and trailer, reaches the application."""
    with connect(server.port) as client:
        client.send(get("/", "transfer-encoding: chunked", method="POST"))
        client.send(b"5\r\nhello\r\n10;name=value\r\n0123456789abcdef\r\n")
        client.send(b"0\r\nx-trailer: 1\r\n\r\n")
        assert client.answer().json["body"] == 21
        assert client.ask(get("/next")).json["path"] == "/next"


def test_client_that_waits_for_100_is_told_to_continue(server):
    """A client that expects 100 gets it before it sends its body."""
    with connect(server.port) as client:
        client.send(
            get("/", "content-length: 4", "expect: 100-continue", method="POST")
        )
        assert client.answer(body=False).status == 100
        assert client.ask(b"body").json["body"] == 4


def test_streamed_response_arrives_in_chunks(server):
    """A response without a length is sent in chunks and ends properly."""
    with connect(server.port) as client:
        answer = client.ask(get("/stream?n=100"))
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.body.split() == [b"%d" % number for number in range(100)]
        assert client.ask(get("/next")).json["path"] == "/next"


def test_http_1_0_is_answered_and_closed(server):
    """A request of HTTP/1.0, without a Host, is answered, then the server closes."""
    with connect(server.port) as client:
        client.send(b"GET /old HTTP/1.0\r\n\r\n")
        answer = client.answer()
        assert answer.json["version"] == "1.0"
        assert answer.json["path"] == "/old"
        assert client.at_end()


def test_head_has_no_body(server):
    """The answer to HEAD has the length of the body and not the body."""
    with connect(server.port) as client:
        client.send(get("/", method="HEAD"))
        assert int(client.answer(body=False).headers["content-length"]) > 0
        assert client.ask(get("/next")).json["path"] == "/next"


def test_connection_close_is_honoured(server):
    """The server closes after the answer when it is asked to."""
    with connect(server.port) as client:
        assert client.ask(get("/", "connection: close")).status == 200
        assert client.at_end()


@pytest.mark.parametrize("target", ["/%41%2fb?q=%20+", "//x//", "/?a?b", "/;x=%25"])
def test_path_and_query_are_those_that_were_sent(share, target):
    """The path is decoded once, the query not at all."""
    server = share("probe:app")
    said = ask(server.port, target).json
    path, _, query = target.partition("?")
    assert said["path"] == unquote(path)
    assert said["query"] == query


def test_head_may_come_one_byte_at_a_time(share):
    """A head in more than 100 segments is recognised when it is complete."""
    server = share("probe:app", "--affinity", "header:x-session")
    request = get("/slowly", "x-session: drip", "x-filler: " + "y" * 60)
    assert len(request) > 100
    with connect(server.port) as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request:
            client.send(bytes([byte]))
        pid = client.answer().json["pid"]
    assert ask(server.port, "/", "x-session: drip").json["pid"] == pid


def test_an_ordinary_client_is_served(server):
    """httpx, with its pool, finds nothing to complain about."""
    with httpx.Client(base_url=server.url) as client:
        for number in range(20):
            assert client.post("/", content=b"x" * number).json()["body"] == number


# WebSocket


def test_websocket_echoes(server):
    """A WebSocket is upgraded and carries messages both ways."""
    with connect_websocket_sync(f"ws://127.0.0.1:{server.port}/") as websocket:
        for text in ("one", "two", "x" * 100_000):
            websocket.send(text)
            pid, _, echo = websocket.recv().partition(" ")
            assert (int(pid) in server.worker_pids(), echo) == (True, text)


def test_websocket_and_requests_of_a_session_meet(share):
    """A WebSocket goes to the worker that its session's requests go to."""
    server = share("probe:app", "--affinity", "header:x-session", workers=4)
    for name in ("ann", "bob", "cyd", "dan"):
        pid = ask(server.port, "/", f"x-session: {name}").json["pid"]
        with connect_websocket_sync(
            f"ws://127.0.0.1:{server.port}/", additional_headers={"x-session": name}
        ) as websocket:
            websocket.send("hello")
            assert websocket.recv() == f"{pid} hello"


def test_open_websockets_are_counted(share):
    """Status counts a WebSocket as one open connection until it closes."""
    server = share("probe:app")

    async def run() -> None:
        """Open some, look, and close them."""
        url = f"ws://127.0.0.1:{server.port}/"
        sockets = await asyncio.gather(*(connect_websocket(url) for _ in range(20)))
        assert await asyncio.to_thread(server.total, "open") == 20
        await asyncio.gather(*(websocket.close() for websocket in sockets))

    asyncio.run(run())
    wait_until("none is open", lambda: server.total("open") == 0)


# Addresses


def test_application_sees_the_addresses_of_tcp(share):
    """On IPv4 the application sees the client's and the server's own address."""
    server = share("probe:app")
    with connect(server.port, source="127.0.0.5") as client:
        said = client.ask(get()).json
        assert said["client"] == list(client.sock.getsockname())
        assert said["client"][0] == "127.0.0.5"
        assert said["server"] == ["127.0.0.1", server.port]


def test_application_sees_the_addresses_of_ipv6(serve):
    """On IPv6 the application sees plain addresses without scope or flow."""
    server = serve(bind="[::1]:0", workers=1)
    port = int(server.wait_for_log(r"listening on http://\[::1\]:(\d+)")[1])
    with connect(port, "::1") as client:
        said = client.ask(get()).json
        assert said["client"] == ["::1", client.sock.getsockname()[1]]
        assert said["server"] == ["::1", port]


def test_every_address_is_served_on_one_port(serve):
    """``:0`` listens on every address, IPv4 and IPv6 on the same port."""
    server = serve(bind=":0", workers=1)
    assert len(server.status()["listening"]) == 2
    with connect(server.port, "127.0.0.3") as client:
        said = client.ask(get()).json
        assert said["client"] == list(client.sock.getsockname())
        assert said["server"] == ["127.0.0.3", server.port]
    with connect(server.port, "::1") as client:
        assert client.ask(get()).json["server"] == ["::1", server.port]


def test_several_binds_are_served_together(serve, tmp_path):
    """TCP and Unix sockets, as many as are named, lead to the same application."""
    path = tmp_path / "app.sock"
    server = serve(
        "probe:app", "--bind", "127.0.0.2:0", "--bind", f"unix:{path}", workers=1
    )
    second = int(server.wait_for_log(r"http://127\.0\.0\.2:(\d+)")[1])
    assert ask(server.port).status == ask(second, host="127.0.0.2").status == 200
    with connect_unix(str(path)) as client:
        assert client.ask(get()).status == 200
    assert server.stop() == 0
    assert not path.exists()


def test_unix_socket_has_no_client_address(serve, tmp_path):
    """On a Unix socket there is no client address, and affinity works all the same."""
    path = tmp_path / "app.sock"
    server = serve(
        "probe:app", "--affinity", "header:x-session", bind=f"unix:{path}", workers=2
    )
    seen: dict[str, set[int]] = {}
    for number in range(20):
        name = f"s{number % 5}"
        with connect_unix(str(path)) as client:
            said = client.ask(get("/", f"x-session: {name}")).json
        assert said["client"] is None
        assert said["server"] == [str(path), None]
        seen.setdefault(name, set()).add(said["pid"])
    assert [len(pids) for pids in seen.values()] == [1] * 5
    assert server.status()["listening"] == [f"unix:{path}"]


@pytest.mark.parametrize(("option", "mode"), [((), 0o666), (("660",), 0o660)])
def test_unix_socket_has_the_mode_that_was_asked_for(serve, tmp_path, option, mode):
    """Everybody may connect to a Unix socket, as behind other servers, or who may."""
    path = tmp_path / "app.sock"
    options = [text for value in option for text in ("--uds-permissions", value)]
    serve("probe:app", *options, bind=f"unix:{path}", workers=1)
    assert path.stat().st_mode & 0o777 == mode


def test_inherited_listener_is_served(serve):
    """``fd://N`` serves a listener that somebody else opened."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = serve(
            bind=f"fd://{listener.fileno()}", workers=1, pass_fds=(listener.fileno(),)
        )
        port = listener.getsockname()[1]
        assert ask(port).json["server"] == ["127.0.0.1", port]
        assert server.stop() == 0


# What is around the application


def test_lifespan_runs_in_every_worker(serve):
    """Each worker begins and ends the application, and its state reaches requests."""
    server = serve("lifespan_app:app", workers=2)
    assert server.log.count("application begins") == 2
    assert ask(server.port).json == {"greeting": "hello"}
    assert server.stop() == 0
    assert server.log.count("application ends") == 2


def test_lifespan_can_be_switched_off(serve):
    """With ``--lifespan off`` the application is not asked."""
    server = serve("lifespan_app:app", "--lifespan", "off", workers=1)
    assert ask(server.port).status == 200
    assert "application begins" not in server.log


def test_application_without_lifespan_is_served(serve):
    """An application that knows of no lifespan is served without a word."""
    server = serve("lifespan_app:without", workers=1)
    assert ask(server.port).status == 200


def test_every_request_is_logged(serve):
    """One line an answered request: client, request line, status."""
    server = serve(workers=1)
    with connect(server.port) as client:
        client.ask(get("/first?a=1"))
        client.ask(get("/second"))
        port = client.sock.getsockname()[1]
    server.wait_for_log(rf'127\.0\.0\.1:{port} - "GET /second HTTP/1\.1" 200')
    assert len(re.findall(r"GET /(first\?a=1|second) ", server.log)) == 2


def test_access_log_can_be_switched_off(serve):
    """With ``--no-access-log`` requests leave no line."""
    server = serve("probe:app", "--no-access-log", workers=1)
    before = server.log
    assert ask(server.port, "/quiet").status == 200
    assert server.stop() == 0
    assert server.log.startswith(before)
    assert "quiet" not in server.log


def test_log_level_debug_says_more_and_error_nothing(serve):
    """``--log-level`` decides how much is said."""
    server = serve("probe:app", "--log-level", "debug", workers=1)
    assert ask(server.port).status == 200
    quiet = serve("probe:app", "--log-level", "error", ready=False, workers=1)
    wait_until("it serves", lambda: quiet.log or state_of(quiet) == "ready")
    assert quiet.log == ""


def state_of(server) -> str:
    """Say how the first slot is, once there is a master."""
    try:
        return server.status()["slots"][0]["state"]
    except NoMaster:
        return ""


def test_master_never_imports_the_application(serve):
    """The application's module is loaded by the workers only."""
    server = serve(workers=2)
    assert ask(server.port).json["pid"] in server.worker_pids()
    assert "httptools" not in mapped(server.pid)
    assert "httptools" in mapped(server.worker_pids()[0])


def mapped(pid: int) -> str:
    """List the libraries that process *pid* has loaded."""
    return Path(f"/proc/{pid}/maps").read_text()


def test_app_dir_says_where_the_application_is(serve, tmp_path):
    """``--app-dir`` is searched instead of the current directory."""
    server = serve("probe:app", "--app-dir", str(APPS), cwd=tmp_path, workers=1)
    assert ask(server.port).status == 200


def test_slot_is_known_to_the_application(share):
    """The environment tells the application which slot it fills."""
    server = share("probe:app")
    slots = {slot["pid"]: str(slot["slot"]) for slot in server.status()["slots"]}
    for _ in range(10):
        said = ask(server.port).json
        assert slots[said["pid"]] == said["slot"]
