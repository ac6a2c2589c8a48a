"""TLS with real clients: certificates, who serves whom, and what is answered 421."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import socket
import ssl
import subprocess
import time

import pytest
from websockets.asyncio.client import connect as connect_websocket

from driver import DEADLINE, wait_until
from hellos import RECORDED
from raw_http import Connection, get
from tls_kit import NAMES, Pki, secure

INSIDE_TLS = "is inside TLS"


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """Certificates for all names."""
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(params=["uvloop", "asyncio"])
def by_sni(share, pki, request):
    """Four workers, several certificates, placed by name, on each event loop."""
    options = ("--affinity", "sni", "--loop", request.param, "--head-timeout", "3")
    return share("probe:app", *options, *pki.options, workers=4)


@pytest.fixture
def one_loop(share, pki):
    """As ``by_sni``, where the worker's event loop plays no part."""
    options = ("--affinity", "sni", "--loop", "uvloop", "--head-timeout", "3")
    return share("probe:app", *options, *pki.options, workers=4)


def of(host: str, path: str = "/", *lines: str) -> bytes:
    """Compose a request for *host*."""
    return get(path, *lines).replace(b"host: test", b"host: " + host.encode())


def lasts(connection: Connection) -> bool:
    """Say whether another request is answered on *connection*."""
    return connection.ask(of("a.example")).status == 200


def test_connections_for_a_name_reach_one_worker(by_sni, pki):
    """Each name has one worker, however often it comes, and not all have the same."""
    who: dict[str, set[int]] = {}
    for name in NAMES["third"] * 3:
        with secure(by_sni, pki, name) as connection:
            for _ in range(2):  # keep-alive
                answer = connection.ask(of(f"{name.upper()}:{by_sni.port}"))
                assert answer.status == 200
                assert answer.json["scheme"] == "https"
                who.setdefault(name, set()).add(answer.json["pid"])
    assert [len(pids) for pids in who.values()] == [1] * 16
    assert len(set.union(*who.values())) > 1


def test_client_is_shown_the_certificate_with_its_name(one_loop, pki):
    """Exact names, a wildcard, and for others the first."""
    shown = {
        "a.example": "first",
        "B.example": "second",
        "deep.b.example": "second",
        "t7.example": "third",
    }
    for name, file in shown.items():
        with secure(one_loop, pki, name) as connection:
            names = [
                value for _, value in connection.sock.getpeercert()["subjectAltName"]
            ]
            assert set(NAMES[file]) == set(names)
    context = pki.context()
    context.check_hostname = False
    for name in (None, "stranger.example", "too.deep.b.example"):
        with (
            one_loop.connect() as sock,
            context.wrap_socket(sock, server_hostname=name) as tls,
        ):
            assert ("DNS", "a.example") in tls.getpeercert()["subjectAltName"]


@pytest.mark.parametrize(
    ("offers", "agreed"), [(("h2", "http/1.1"), "http/1.1"), ((), None)]
)
def test_only_http_1_1_is_agreed_on(one_loop, pki, offers, agreed):
    """HTTP/2 is not offered; who says nothing speaks HTTP/1."""
    with secure(one_loop, pki, "a.example", *offers) as connection:
        assert connection.sock.selected_alpn_protocol() == agreed
        assert lasts(connection)


def test_who_speaks_only_http_2_gets_an_alert(one_loop, pki):
    """It is told that there is no protocol in common, not left with a broken one."""
    with pytest.raises(ssl.SSLError, match="no application protocol"):
        secure(one_loop, pki, "a.example", "h2")


def test_http_2_without_asking_is_answered_505(one_loop, pki):
    """With prior knowledge too it is refused clearly."""
    with secure(one_loop, pki) as connection:
        answer = connection.ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert answer.status == 505
        assert connection.at_end()


def test_another_host_on_the_connection_is_421(by_sni, pki):
    """A request for a name that is not the connection's is not served, but counted."""

    def counted() -> int:
        counts = by_sni.status()["connections"]["refused_by_workers"]
        return counts.get("misdirected", 0)

    before = counted()
    with secure(by_sni, pki, "a.example") as connection:
        assert connection.ask(of("a.example")).status == 200
        answer = connection.ask(of("b.example"))
        assert (answer.status, answer.headers["connection"]) == (421, "close")
        assert connection.at_end()
    with secure(by_sni, pki, None) as connection:
        assert connection.ask(of("127.0.0.1")).status == 200
        assert connection.ask(of("a.example")).status == 421
    assert counted() == before + 2


def test_bodies_pass_in_both_directions(by_sni, pki):
    """Large bodies, pipelined requests and a stream come through whole."""
    with secure(by_sni, pki) as connection:
        for size in (0, 1, 70_000, 1_000_000):
            head = f"content-length: {size}"
            request = of("a.example", "/", head).replace(b"GET", b"POST")
            assert connection.ask(request + b"x" * size).json["body"] == size
        chunked = of("a.example", "/", "transfer-encoding: chunked")
        connection.send(chunked.replace(b"GET", b"PUT") + b"3\r\nabc\r\n0\r\n\r\n")
        connection.send(of("a.example", "/2") + of("a.example", "/3"))
        assert connection.answer().json["body"] == 3
        assert [connection.answer().json["path"] for _ in range(2)] == ["/2", "/3"]
        connection.send(of("a.example", "/stream?n=2000"))
        assert len(connection.answer().body.splitlines()) == 2000


def test_websocket_over_tls(by_sni, pki):
    """An upgrade works, in the worker of the name."""

    async def run() -> list[str]:
        said = []
        for _ in range(3):
            async with connect_websocket(
                f"wss://t3.example:{by_sni.port}/",
                ssl=pki.context(),
                host="127.0.0.1",
                proxy=None,
            ) as websocket:
                await websocket.send("hello")
                said.append(await websocket.recv())
        return said

    said = asyncio.run(run())
    assert len(set(said)) == 1
    with secure(by_sni, pki, "t3.example") as connection:
        pid = connection.ask(of("t3.example")).json["pid"]
    assert said[0] == f"{pid} hello"


# Other people's clients


def run(*command: str, stdin: str = "") -> str:
    """Run a client to its end; give all it printed."""
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    return done.stdout + done.stderr


def request_of(host: str) -> str:
    """Compose what is typed to a client that speaks no HTTP itself."""
    return of(host, "/", "connection: close").decode()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_is_served(one_loop, pki, version):
    """``openssl s_client`` verifies, is placed and answered."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{one_loop.port}"]
    options = ["-CAfile", pki.ca_file, "-servername", "b.example", "-ign_eof", version]
    said = run(*command, *options, stdin=request_of("b.example"))
    assert "Verify return code: 0 (ok)" in said
    assert "HTTP/1.1 200 OK" in said


@pytest.mark.skipif(not shutil.which("gnutls-cli"), reason="there is no gnutls-cli")
def test_gnutls_is_served(one_loop, pki):
    """``gnutls-cli`` verifies, is placed and answered."""
    command = [
        *("gnutls-cli", "--x509cafile", pki.ca_file, "--port", str(one_loop.port)),
        *("--sni-hostname", "b.example", "--verify-hostname", "b.example", "127.0.0.1"),
    ]
    # It closes the connection when it has nothing more to read from us.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as client:
        client.stdin.write(request_of("b.example"))
        client.stdin.flush()
        said = client.stdout.read()
    assert "The certificate is trusted" in said
    assert "HTTP/1.1 200 OK" in said


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_curl_is_served(one_loop, pki):
    """``curl`` offers HTTP/2 too, and is served with HTTP/1.1."""
    port = one_loop.port
    said = run(
        *("curl", "-sv", "--noproxy", "*", "--cacert", pki.ca_file),
        *("--resolve", f"x.b.example:{port}:127.0.0.1"),
        *(f"https://x.b.example:{port}/1", f"https://x.b.example:{port}/2"),
    )
    assert said.count("HTTP/1.1 200 OK") == 2, said
    assert "sing existing connection" in said  # how it begins depends on the version


# Unusual and hostile clients


def test_hello_may_come_byte_by_byte(one_loop, pki):
    """A hello in as many segments as it has bytes is placed and served."""
    context = pki.context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="t5.example")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    with one_loop.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in outgoing.read():
            sock.send(bytes([byte]))
        while True:
            incoming.write(sock.recv(65536))
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                continue
        tls.write(of("t5.example", "/", "connection: close"))
        sock.sendall(outgoing.read())
        while chunk := sock.recv(65536):
            incoming.write(chunk)
        assert tls.read(65536).startswith(b"HTTP/1.1 200 OK")


def test_plain_http_on_a_tls_port_is_told_so(one_loop):
    """A sentence that a person can read, with 400."""
    with Connection(one_loop.connect()) as connection:
        answer = connection.ask(get("/"))
        assert answer.status == 400
        assert answer.body == b"This port speaks TLS: ask for https://, not http://.\n"
        assert connection.at_end()


def test_broken_hello_gets_an_alert(one_loop):
    """What begins like TLS and is none is answered in TLS: decode_error, fatal."""
    with one_loop.connect() as sock:
        sock.sendall(b"\x16\x03\x01\0\x05\1\0\0\1\0\0")
        sock.sendall(b"\x16\x03\x01\0\x01\0")
        assert sock.recv(100) == b"\x15\x03\x03\0\2\2\x32"
        assert sock.recv(100) == b""


@pytest.mark.parametrize(
    ("said", "answer"),
    [(b"", b""), (RECORDED["openssl"].data[:100], b"\x15\x03\x03\0\2\2\x50")],
    ids=["nothing", "half a hello"],
)
def test_silent_client_is_parted_with(one_loop, said, answer):
    """Who does not finish its hello in time is told so, if it began one."""
    with one_loop.connect() as sock:
        sock.sendall(said)
        assert sock.recv(100) == answer
        assert not answer or sock.recv(100) == b""


def test_handshake_that_is_not_finished_ends(by_sni):
    """After its hello a client has as long again for the rest, and no longer."""
    with by_sni.connect() as sock:
        sock.sendall(RECORDED["openssl"].data)
        assert sock.recv(100_000)[0] == 22
        begun = time.monotonic()
        while sock.recv(100_000):
            pass
        assert time.monotonic() - begun < DEADLINE / 2


def test_silence_after_the_handshake_ends(by_sni, pki):
    """Who never sends a request is closed; who stops in its middle is told 408."""
    with secure(by_sni, pki) as silent, secure(by_sni, pki) as slow:
        slow.send(b"GET / HT")
        assert slow.answer().status == 408
        assert silent.at_end()


@pytest.mark.parametrize("name", ["openssl", "chromium", "gnutls, 1.2"])
def test_client_that_leaves_after_its_hello_is_forgotten(by_sni, name):
    """Nothing of it is left; the check at the end of the test says so."""
    with by_sni.connect() as sock:
        sock.sendall(RECORDED[name].data)
        assert sock.recv(1)
    with by_sni.connect() as sock:
        sock.sendall(RECORDED[name].data)


def test_garbage_after_the_hello_ends_the_connection(by_sni):
    """The handshake fails in the worker, and nobody else notices."""
    with by_sni.connect() as sock:
        sock.sendall(RECORDED["openssl"].data + b"garbage" * 1000)
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(100_000):
                pass


def test_client_address_decides(share, pki):
    """``ip`` is known without the request, and its connections stay together."""
    server = share("probe:app", "--affinity", "ip", *pki.options, workers=4)
    who: dict[str, set[int]] = {}
    for number in range(24):
        source = f"127.0.2.{number % 8 + 1}"
        sock = socket.create_connection(
            ("127.0.0.1", server.port), DEADLINE, (source, 0)
        )
        tls = pki.context().wrap_socket(sock, server_hostname="b.example")
        with Connection(tls) as connection:
            said = connection.ask(of("any.example")).json
        assert said["client"][0] == source
        who.setdefault(source, set()).add(said["pid"])
    assert [len(pids) for pids in who.values()] == [1] * 8
    assert len(set.union(*who.values())) > 1


# Affinities that are inside TLS


@pytest.fixture
def by_cookie(share, pki):
    """Four workers, placed by the client's address, then by what is inside."""
    server = share(
        "probe:app",
        *("--affinity", "header:x-session", "--affinity", "header:x-made,learn"),
        *pki.options[:4],
        workers=4,
    )
    server.expect_log(INSIDE_TLS)
    return server


def statuses(server, pki, *lines: str, times: int = 24) -> dict[int, set[int]]:
    """Make the same request on many connections; give status and pids."""
    found: dict[int, set[int]] = {}
    for _ in range(times):
        with secure(server, pki) as connection:
            answer = connection.ask(of("a.example", "/", *lines))
            pid = answer.json["pid"] if answer.status == 200 else 0
            found.setdefault(answer.status, set()).add(pid)
    return found


def test_session_of_another_worker_is_421(by_cookie, pki):
    """A key is the worker's who had it first; on all others it is never served."""
    assert re.search(INSIDE_TLS, by_cookie.log)
    found = statuses(by_cookie, pki, "x-session: one")
    assert set(found) == {200, 421}
    assert len(found[200]) == 1


def test_connection_serves_many_sessions_that_are_its_workers(by_cookie, pki):
    """Keep-alive: the sessions that began here are served here, others are not."""
    with secure(by_cookie, pki) as first, secure(by_cookie, pki) as second:
        pids = set()
        for _ in range(2):
            for number in range(20):
                lines = (f"x-session: many-{number}",)
                pids.add(first.ask(of("a.example", "/", *lines)).json["pid"])
        assert len(pids) == 1
        there = second.ask(of("a.example", "/", "connection: keep-alive")).json["pid"]
        answer = second.ask(of("a.example", "/", "x-session: many-0"))
        assert answer.status == (200 if {there} == pids else 421)


def test_sessions_that_begin_everywhere_at_once_live_in_one_place(by_cookie, pki):
    """Many connections bring the same new keys at one moment: one worker gets each."""
    context = pki.context()

    async def one(number: int) -> tuple[int, int, int]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", by_cookie.port, ssl=context, server_hostname="a.example"
        )
        line = f"x-session: at-once-{number}"
        writer.write(of("a.example", "/", line, "connection: close"))
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        status = int(head.split()[1])
        return number, status, json.loads(body)["pid"] if status == 200 else 0

    async def run() -> list[tuple[int, int, int]]:
        return await asyncio.gather(*(one(n % 8) for n in range(80)))

    found = asyncio.run(run())
    assert {status for _, status, _ in found} == {200, 421}
    for number in range(8):
        pids = {pid for n, status, pid in found if n == number and status == 200}
        assert len(pids) == 1


def test_name_that_nobody_made_is_for_the_application(by_cookie, pki):
    """Every worker may say that there is no such session, and none keeps it."""
    found = statuses(by_cookie, pki, "x-made: nobody")
    assert set(found) == {200}
    assert len(found[200]) > 1


@pytest.fixture(params=["uvloop", "asyncio"])
def sticky(share, pki, request):
    """Four workers, each naming its slot in a cookie."""
    options = ("--affinity", "sticky", "--loop", request.param)
    server = share("probe:app", *options, *pki.options[:4], workers=4)
    server.expect_log(INSIDE_TLS)
    return server


def test_cookie_of_another_slot_is_421(sticky, pki):
    """Whoever comes without one is given one; it is served in its own slot only."""
    with secure(sticky, pki) as connection:
        first = connection.ask(of("a.example"))
        line = first.headers["set-cookie"]
        assert line.endswith("; Secure")
        cookie = f"cookie: {line.partition(';')[0]}"
        again = connection.ask(of("a.example", "/", cookie))
        assert again.json["pid"] == first.json["pid"]
    found = statuses(sticky, pki, cookie)
    assert found == {200: {first.json["pid"]}, 421: {0}}


# Behind a load balancer that says who the client is


@pytest.fixture(params=["uvloop", "asyncio"])
def proxied(share, pki, request):
    """Demand a PROXY header before the hello; keep sessions by address."""
    options = ("--proxy-protocol", "required", "--affinity", "ip")
    loop = ("--loop", request.param, "--head-timeout", "3")
    return share("probe:app", *options, *loop, *pki.options, workers=4)


PROXY = b"PROXY TCP4 %b 198.51.100.1 50123 443\r\n"


def handshake(server, pki, header: bytes, most: int) -> Connection:
    """Connect, saying *header* and the hello, no more than *most* bytes at once."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = pki.context().wrap_bio(incoming, outgoing, server_hostname="a.example")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    sock = server.connect()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    said = header + outgoing.read()
    for at in range(0, len(said), most):
        sock.sendall(said[at : at + most])
    return Connection(Tunnel(sock, hello, incoming, outgoing))


class Tunnel:
    """TLS over a socket that somebody has begun to speak it on."""

    def __init__(self, sock, tls, incoming, outgoing) -> None:
        """Own *sock*."""
        self._sock = sock
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing
        self._do(tls.do_handshake)

    def _do(self, what, *args):
        """Do *what*, moving bytes until it is done."""
        while True:
            try:
                return what(*args)
            except ssl.SSLWantReadError:
                self._sock.sendall(self._outgoing.read())
                data = self._sock.recv(65536)
                if not data:
                    self._incoming.write_eof()
                self._incoming.write(data)
            finally:
                self._sock.sendall(self._outgoing.read())

    def sendall(self, data: bytes) -> None:
        """Send *data*."""
        self._do(self._tls.write, data)

    def makefile(self, _mode: str) -> Tunnel:
        """Be a file too."""
        return self

    def readline(self) -> bytes:
        """Read a line."""
        line = b""
        while not line.endswith(b"\n"):
            line += self._do(self._tls.read, 1)
        return line

    def read(self, count: int) -> bytes:
        """Read exactly *count* bytes."""
        data = b""
        while len(data) < count:
            data += self._do(self._tls.read, count - len(data))
        return data

    def close(self) -> None:
        """Close."""
        self._sock.close()


@pytest.mark.parametrize("most", [10_000, 48, 7])
def test_client_behind_a_proxy_is_whom_the_header_names(proxied, pki, most):
    """The header is consumed, the hello is not, wherever the bytes are cut."""
    with handshake(proxied, pki, PROXY % b"192.0.2.7", most) as connection:
        for _ in range(2):
            answer = connection.ask(of("a.example"))
            assert answer.json["client"] == ["192.0.2.7", 50123]
            assert answer.json["scheme"] == "https"


def test_clients_behind_a_proxy_are_placed_by_their_own_address(proxied, pki):
    """Each address has one worker, and not all have the same."""
    who: dict[int, set[int]] = {}
    for number in [*range(12)] * 2:
        address = b"192.0.2.%d" % number
        with handshake(proxied, pki, PROXY % address, 10_000) as connection:
            pid = connection.ask(of("a.example")).json["pid"]
            who.setdefault(number, set()).add(pid)
    assert {len(pids) for pids in who.values()} == {1}
    assert len(set.union(*who.values())) > 1


def test_hello_without_a_header_is_not_answered(proxied, pki):
    """It would name the proxy as the client."""
    with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
        secure(proxied, pki)


def test_refusal_behind_a_proxy_is_said_in_tls(proxied):
    """After the header it is as without one: an alert, or words for plain HTTP."""
    with Connection(proxied.connect()) as plain:
        plain.send(PROXY % b"192.0.2.7" + get())
        assert plain.answer().status == 400
    with Connection(proxied.connect()) as bad:
        bad.send(PROXY % b"192.0.2.7" + b"\x16\x03\x01\x00\x00")
        assert bad.sock.recv(100) == bytes((21, 3, 3, 0, 2, 2, 50))


# Certificates and the life of the server


def test_reload_uses_new_certificates(serve, tmp_path):
    """After HUP the files are read again; broken ones change nothing."""
    pki = Pki(tmp_path)
    server = serve("probe:app", *pki.issue("cert", ["old.example"]), workers=2)

    def serves(name: str) -> None:
        with secure(server, pki, name) as connection:
            assert connection.ask(of(name)).status == 200

    serves("old.example")
    pki.issue("cert", ["new.example"])
    server.reload()
    serves("new.example")
    (tmp_path / "cert.key").write_text("no key")
    server.expect_log(r"cert\.key|reload")
    server.tell(1)
    server.wait_for_log(r"cert\.key: not a certificate and its key")
    serves("new.example")


def test_drain_finishes_what_is_being_answered(serve, pki, tmp_path):
    """A request under way, one on a new connection, and a handshake are finished."""
    server = serve("probe:app", *pki.options, workers=1)
    marker = tmp_path / "marker"
    with secure(server, pki) as busy, secure(server, pki) as idle:
        with secure(server, pki) as fresh:
            busy.send(of("a.example", f"/wait?for={marker}"))
            assert idle.ask(of("a.example")).status == 200
            server.tell(15)
            server.wait_for_log("draining")
            fresh.send(of("a.example"))
            assert fresh.answer().status == 200
        assert idle.at_end()
        marker.touch()
        assert busy.answer().status == 200
        assert busy.at_end()
    assert server.wait() == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["first.pem", "second.key"], "the key does not belong to the certificate"),
        (["first.pem", "missing.key"], "missing.key cannot be read: No such file"),
        (["first.key", "first.key"], "not a certificate and its key in PEM"),
        (["first.pem", "encrypted.key"], "the key is encrypted"),
    ],
)
def test_unusable_files_are_refused_at_the_start(serve, pki, options, sentence):
    """One sentence that names the file, and exit code 2."""
    subprocess.run(
        ["openssl", "pkey", "-aes256", "-passout", "pass:x",
         "-in", pki.directory / "first.key", "-out", pki.directory / "encrypted.key"],
        check=True,
    )  # fmt: skip
    cert, key = [str(pki.directory / option) for option in options]
    server = serve(
        "probe:app", "--certfile", cert, "--keyfile", key, ready=False, workers=1
    )
    server.expect_log(re.escape(sentence))
    assert server.wait() == 2
    assert sentence in server.log
    wait_until("it said one thing", lambda: len(server.log.splitlines()) == 1)
