"""
PROXY headers against a running service: what they change, and what they cannot.

Headers of our own cover the cases; curl and HAProxy, which speak for the protocol's
author, show that others mean the same.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from proxyprotocol.result import ProxyResultIPv4, ProxyResultIPv6, ProxyResultLocal
from proxyprotocol.v1 import ProxyProtocolV1
from proxyprotocol.v2 import ProxyProtocolV2

from driver import DEADLINE, Maitred, wait_until
from raw_http import Connection, connect, connect_unix, get

CLIENT, CLIENT6 = "192.0.2.7", "2001:db8::7"
FOUR = ((ip_address(CLIENT), 50123), (ip_address("198.51.100.1"), 443))
SIX = ((ip_address(CLIENT6), 50123), (ip_address("2001:db8::1"), 443))
LINE = ProxyProtocolV1().pack(ProxyResultIPv4(*FOUR))
LINE6 = ProxyProtocolV1().pack(ProxyResultIPv6(*SIX))
UNKNOWN = b"PROXY UNKNOWN\r\n"


def binary(result):
    """Compose a header of version 2, with its checksum."""
    return ProxyProtocolV2().pack(result)


BINARY = binary(ProxyResultIPv4(*FOUR, protocol=socket.SOCK_STREAM))
BINARY6 = binary(ProxyResultIPv6(*SIX, protocol=socket.SOCK_STREAM))
LOCAL = binary(ProxyResultLocal())

HEADERS = {
    "v1": (LINE, CLIENT),
    "v1 IPv6": (LINE6, CLIENT6),
    "v2": (BINARY, CLIENT),
    "v2 IPv6": (BINARY6, CLIENT6),
}
WITHOUT = {"v1 UNKNOWN": UNKNOWN, "v2 LOCAL": LOCAL}


@pytest.fixture
def proxied(share) -> Maitred:
    """Demand a header of everybody; keep sessions by address."""
    return share(
        "probe:app", "--proxy-protocol", "required", "--affinity", "ip",
        "--head-timeout", "5",
    )  # fmt: skip


def closed_unanswered(connection: Connection) -> bool:
    """Say whether the server closes without a word; a reset is one way to do so."""
    try:
        return connection.at_end()
    except ConnectionResetError:
        return True


def refused(server: Maitred, cause: str) -> int:
    """Say how many connections were refused for *cause*."""
    count: int = server.status()["connections"]["refused"].get(cause, 0)
    return count


@pytest.mark.parametrize(("header", "client"), HEADERS.values(), ids=HEADERS)
def test_client_is_whom_the_header_names(proxied, header, client):
    """In the scope of every request of the connection, and in the access log."""
    with connect(proxied.port) as connection:
        said = connection.ask(header + get("/first")).json
        assert said["client"] == [client, 50123]
        assert said["server"] == ["127.0.0.1", proxied.port]
        assert connection.ask(get("/second")).json["client"] == [client, 50123]
    name = f"[{client}]" if ":" in client else client
    proxied.wait_for_log(rf'({client}|{name}):50123 - "GET /second'.replace("[", r"\["))


@pytest.mark.parametrize("header", WITHOUT.values(), ids=WITHOUT)
def test_header_without_an_address_leaves_the_real_one(proxied, header):
    """A balancer's own health check is served as what it is."""
    with connect(proxied.port) as connection:
        mine = list(connection.sock.getsockname())
        assert connection.ask(header + get()).json["client"] == mine


@pytest.mark.parametrize("header", [LINE, BINARY, UNKNOWN], ids=["v1", "v2", "unknown"])
def test_header_may_come_in_pieces(proxied, header):
    """However it is cut, exactly its bytes are taken; the request arrives whole."""
    request = get("/cut", "x-long: " + "x" * 300)
    for cut in range(1, len(header) + 2):
        with connect(proxied.port) as connection:
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.send((header + request)[:cut])
            answer = connection.ask((header + request)[cut:])
            assert (answer.status, answer.json["path"]) == (200, "/cut")


def test_body_and_pipeline_after_a_header_arrive_whole(proxied):
    """Nothing behind the header is eaten."""
    body = os.urandom(50_000)
    request = get("/body", f"content-length: {len(body)}", method="POST") + body
    with connect(proxied.port) as connection:
        connection.send(BINARY + request + get("/next"))
        assert connection.answer().json["body"] == len(body)
        assert connection.answer().json["path"] == "/next"


def test_affinity_is_by_the_named_address(proxied):
    """One client stays on one worker; the balancer's address says nothing."""
    pids: dict[str, set[int]] = {}
    for number in range(40):
        address = f"192.0.2.{number % 20}"
        line = f"PROXY TCP4 {address} 198.51.100.1 {number + 1000} 443\r\n".encode()
        with connect(proxied.port) as connection:
            said = connection.ask(line + get()).json
            assert said["client"] == [address, number + 1000]
            pids.setdefault(address, set()).add(said["pid"])
    assert all(len(each) == 1 for each in pids.values())
    assert len(set.union(*pids.values())) == 2


@pytest.mark.parametrize(
    ("data", "cause"),
    {
        "request": (get(), "proxy_missing"),
        "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "proxy_missing"),
        "broken line": (b"PROXY TCP4 1.2.3.4\r\n" + get(), "proxy_bad"),
        "LF only": (LINE.replace(b"\r\n", b"\n") + get(), "proxy_bad"),
        "endless line": (b"PROXY UNKNOWN " + b"x" * 200, "proxy_bad"),
        "wrong checksum": (
            BINARY[:-1] + bytes([BINARY[-1] ^ 1]) + get(),
            "proxy_bad",
        ),
        "longer than it may be": (
            BINARY[:14] + struct.pack("!H", 0xFFFF) + bytes(100),
            "proxy_bad",
        ),
    }.values(),
    ids=str,
)
def test_wrong_start_is_closed_and_counted(proxied, data, cause):
    """A trusted source that does not keep to the agreement gets no answer."""
    before = refused(proxied, cause)
    with connect(proxied.port) as connection:
        connection.send(data)
        assert closed_unanswered(connection)
    assert refused(proxied, cause) == before + 1


def test_second_header_is_a_request_and_a_bad_one(proxied):
    """One header describes a connection; behind it there are requests only."""
    for second in (LINE, BINARY, LINE6):
        with connect(proxied.port) as connection:
            assert connection.ask(LINE + second + get()).status == 400
        with connect(proxied.port) as connection:
            assert connection.ask(LINE + get()).json["client"] == [CLIENT, 50123]
            assert connection.ask(second + get()).status == 400


def test_half_a_header_is_no_client(proxied):
    """Who leaves within the header is counted as gone, and nothing is answered."""
    before = proxied.status()["connections"]["client_left"]
    for part in (LINE[:-1], BINARY[:20], b"P", LINE):
        with connect(proxied.port) as connection:
            connection.send(part)
            connection.sock.shutdown(socket.SHUT_WR)
            assert closed_unanswered(connection)
    assert proxied.status()["connections"]["client_left"] == before + 4


def test_forwarded_header_does_not_count_beside_a_proxy_header(proxied):
    """Not even from an address that uvicorn trusts by itself: one truth is enough."""
    local = b"PROXY TCP4 127.0.0.1 127.0.0.1 50123 80\r\n"
    with connect(proxied.port) as connection:
        said = connection.ask(local + get("/", "x-forwarded-for: 203.0.113.9")).json
    assert said["client"] == ["127.0.0.1", 50123]


def test_websocket_knows_the_named_client(proxied):
    """The upgraded connection has the same client."""
    key = base64.b64encode(bytes(16)).decode()
    upgrade = get(
        "/socket", "upgrade: websocket", "connection: upgrade",
        f"sec-websocket-key: {key}", "sec-websocket-version: 13",
    )  # fmt: skip
    with connect(proxied.port) as connection:
        connection.send(BINARY + upgrade)
        assert connection.head()[0] == 101
        connection.send(b"\x81\x87\0\0\0\0client?")  # masked with zeros
        kind, length = connection._file.read(2)
        assert kind == 0x81
        assert connection._file.read(length).split()[1].decode() == CLIENT
        connection.send(b"\x88\x82\0\0\0\0\x03\xe8")


# What is not required, not trusted, or trusted by its path


@pytest.mark.parametrize("header", [LINE, BINARY], ids=["v1", "v2"])
def test_on_an_ordinary_listener_bytes_are_just_bytes(share, header):
    """Nobody who connects to a listener without the protocol can change his address."""
    server = share()
    with connect(server.port) as connection:
        assert connection.ask(header + get()).status == 400
    with connect(server.port) as connection:
        mine = list(connection.sock.getsockname())
        assert connection.ask(get()).json["client"] == mine
        assert connection.ask(header + get()).status == 400


@pytest.fixture
def mixed(share, tmp_path_factory) -> tuple[Maitred, str]:
    """Listen twice: whoever likes, and marked balancers at a network that is not us."""
    path = str(tmp_path_factory.getbasetemp() / "proxied.sock")
    server = share(
        "probe:app", "--bind", f"unix:{path},proxy", "--bind", "127.0.0.2:0,proxy",
        "--proxy-trust", "10.0.0.0/8", "--forwarded-allow-ips", "192.0.2.0/24",
    )  # fmt: skip
    return server, path


def test_untrusted_source_is_closed_and_counted(mixed):
    """With a header or without: no source that is not trusted gets through."""
    server, _ = mixed
    port = int(server.wait_for_log(r"http://127\.0\.0\.2:(\d+)")[1])
    before = refused(server, "proxy_untrusted")
    for data in (LINE, BINARY, LOCAL, b""):
        with connect(port, "127.0.0.2") as connection:
            connection.send(data + get())
            assert closed_unanswered(connection)
    assert refused(server, "proxy_untrusted") == before + 4


def test_unmarked_listener_expects_no_header(mixed):
    """The mark is for one bind."""
    server, _ = mixed
    with connect(server.port) as connection:
        assert connection.ask(get()).status == 200


def test_unix_socket_is_trusted(mixed):
    """Its directory says who may connect; it too must send a header."""
    server, path = mixed
    with connect_unix(path) as connection:
        assert connection.ask(BINARY + get()).json["client"] == [CLIENT, 50123]
    with connect_unix(path) as connection:
        assert connection.ask(LOCAL + get()).json["client"] is None
    before = refused(server, "proxy_missing")
    with connect_unix(path) as connection:
        connection.send(get())
        assert closed_unanswered(connection)
    assert refused(server, "proxy_missing") == before + 1


def test_named_forwarders_are_believed(mixed):
    """The list is compared with the client that the PROXY header names."""
    _, path = mixed
    believed = get("/", "x-forwarded-for: 203.0.113.9")
    with connect_unix(path) as connection:
        said = connection.ask(LINE + believed).json
        assert said["client"] == ["203.0.113.9", 0]
    with connect_unix(path) as connection:
        said = connection.ask(LINE6 + believed).json
        assert said["client"] == [CLIENT6, 50123]


# Those who speak for the protocol


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl_is_understood(proxied):
    """Version 1, as curl sends it; it names itself."""
    out = subprocess.run(
        ["curl", "-sS", "--haproxy-protocol", f"{proxied.url}/curl"],
        capture_output=True,
        timeout=DEADLINE,
        check=True,
    ).stdout
    said = json.loads(out)
    assert said["path"] == "/curl"
    assert said["client"][0] == "127.0.0.1"


CONFIGURATION = """\
global
    maxconn 100
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen front
    bind 127.0.0.1:{front}
    server one 127.0.0.1:{back} {options}
"""


@pytest.fixture
def haproxy(tmp_path: Path, proxied: Maitred) -> Iterator[Callable[[str], int]]:
    """Put HAProxy before the service; give the port to connect to."""
    running: list[subprocess.Popen[bytes]] = []

    def start(options: str) -> int:
        with socket.create_server(("127.0.0.1", 0)) as free:
            front: int = free.getsockname()[1]
        file = tmp_path / "haproxy.cfg"
        file.write_text(
            CONFIGURATION.format(front=front, back=proxied.port, options=options)
        )
        running.append(subprocess.Popen(["haproxy", "-db", "-q", "-f", str(file)]))
        wait_until("HAProxy listens", lambda: _listens(front))
        return front

    yield start
    for process in running:
        process.terminate()
        process.wait(timeout=DEADLINE)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.skipif(
    shutil.which("haproxy") is None,
    reason="there is no haproxy; script/bootstrap installs it where it may",
)
@pytest.mark.parametrize(
    "options",
    [
        *("send-proxy", "send-proxy-v2"),
        "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority",
        "send-proxy-v2 check inter 50ms",
    ],
)
def test_haproxy_is_understood(proxied, haproxy, options):
    """The client's own address comes through it; so do its health checks."""
    front = haproxy(options)
    # 127.0.0.3 is the client, who is not the balancer at 127.0.0.1.
    for number in range(5):
        with connect(front, source="127.0.0.3") as connection:
            port = connection.sock.getsockname()[1]
            said = connection.ask(get(f"/{number}")).json
            assert said["client"] == ["127.0.0.3", port]
            again = connection.ask(get("/again")).json
            assert again["client"] == ["127.0.0.3", port]
    wait_until("all have left", lambda: not proxied.total("open"))
