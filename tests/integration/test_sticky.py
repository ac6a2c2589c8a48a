"""Our own cookie, with real clients: no table is needed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from driver import Maitred, wait_until
from raw_http import ask

STICKY = ("baskets:app", "--affinity", "sticky", "--no-access-log", "--max-keys", "1")
USERS = 16
VISITS = 6


def key_file(path: Path, *names: str) -> Path:
    """Write a key file with a key for each of *names*, the same for the same name."""
    lines = [f"{n}:{base64.b64encode(n.encode() * 32).decode()}\n" for n in names]
    path.write_text("".join(lines))
    path.chmod(0o600)
    return path


class Browser:
    """A user with a cookie jar; every visit is a connection of its own."""

    def __init__(self) -> None:
        self.jar = httpx.Cookies()
        self.answers: list[dict[str, Any]] = []

    def visit(self, server: Maitred, path: str = "/") -> dict[str, Any]:
        """Ask for *path*; give what was said, with the names of the cookies set."""
        with httpx.Client(cookies=self.jar) as client:
            response = client.get(server.url + path)
            self.jar = httpx.Cookies(client.cookies)
        assert response.status_code == 200, response.text
        lines = response.headers.get_list("set-cookie")
        return response.json() | {"set": {line.partition("=")[0] for line in lines}}


def test_users_keep_their_worker_over_shared_connections(share):
    """16 users over 3 keep-alive connections, which no user has for itself."""
    server = share(*STICKY, workers=4)

    async def user(transport: httpx.AsyncHTTPTransport) -> list[tuple[int, int]]:
        client = httpx.AsyncClient(transport=transport)
        found = [(await client.get(server.url)).json() for _ in range(VISITS)]
        return [(said["pid"], said["count"]) for said in found]

    async def everybody() -> list[list[tuple[int, int]]]:
        limits = httpx.Limits(max_connections=3, max_keepalive_connections=3)
        async with httpx.AsyncHTTPTransport(limits=limits) as transport:
            return await asyncio.gather(*(user(transport) for _ in range(USERS)))

    found = asyncio.run(everybody())
    for answers in found:
        assert answers == [(answers[0][0], n) for n in range(1, VISITS + 1)]
    assert len({answers[0][0] for answers in found}) > 1
    assert server.status()["keys"] == 0


def test_cookie_is_set_once_and_holds_for_every_connection(share):
    """The first answer brings it; a second connection, also a WebSocket, uses it."""
    server = share(*STICKY, workers=4)
    browser = Browser()
    first = browser.visit(server)
    assert first["set"] == {"user", "maitred"}

    async def connect() -> dict[str, Any]:
        cookies = "; ".join(f"{name}={value}" for name, value in browser.jar.items())
        async with websockets.connect(
            server.url.replace("http", "ws"), additional_headers={"cookie": cookies}
        ) as socket:
            said: dict[str, Any] = json.loads(await socket.recv())
            assert socket.response is not None
            lines = socket.response.headers.get_all("set-cookie")
            assert [line.partition("=")[0] for line in lines] == ["user"]
            return said

    for count in range(2, 9):
        said = asyncio.run(connect()) if count % 2 else browser.visit(server)
        assert said == said | {"pid": first["pid"], "count": count}
        assert "maitred" not in said.get("set", ())


def test_websocket_of_a_new_client_brings_the_cookie(share):
    """A client that begins with a WebSocket has it from there on."""
    server = share(*STICKY, workers=4)
    browser = Browser()

    async def connect() -> int:
        url = server.url.replace("http", "ws")
        async with websockets.connect(url) as socket:
            slot: int = json.loads(await socket.recv())["slot"]
            assert socket.response is not None
            for line in socket.response.headers.get_all("set-cookie"):
                name, _, value = line.partition(";")[0].partition("=")
                browser.jar.set(name, value)
            return slot

    slot = asyncio.run(connect())
    assert browser.visit(server)["slot"] == slot
    assert browser.visit(server)["count"] == 3


def test_forged_cookie_counts_as_none(share):
    """The client is served, and given a good one."""
    server = share(*STICKY, workers=4)
    browser = Browser()
    browser.jar.set("maitred", "forged")
    assert browser.visit(server)["set"] == {"user", "maitred"}


NONE = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


@pytest.mark.parametrize("before", [b"", NONE], ids=["first", "second"])
def test_two_cookies_are_refused(share, before):
    """400, from the master for the first request and from the worker for the second."""
    server = share(*STICKY, workers=4)
    tokens = {}
    while len(tokens) < 2:
        browser = Browser()
        slot = browser.visit(server)["slot"]
        tokens[slot] = browser.jar["maitred"]
    both = "; ".join(f"maitred={token}" for token in tokens.values()).encode()
    two = b"GET / HTTP/1.1\r\nhost: a\r\ncookie: %b\r\n\r\n" % both
    with server.connect() as client:
        client.sendall(before + two)
        data = b""
        while chunk := client.recv(65536):
            data += chunk
    assert data.count(b"HTTP/1.1 ") == 1 + bool(before)
    assert b"HTTP/1.1 400 Bad Request" in data
    assert data.endswith(b"The request names two sessions.\n")


def test_application_that_sets_our_cookie_is_told(serve):
    """Its own goes out, ours does not, and the log says so once."""
    server = serve(*STICKY, workers=1)
    server.expect_log("sets a cookie maitred itself")
    for _ in range(2):
        response = httpx.get(server.url + "/own")
        lines = response.headers.get_list("set-cookie")
        assert [line for line in lines if line.startswith("maitred=")] == [
            "maitred=own"
        ]
    assert server.log.count("sets a cookie maitred itself") == 1


def test_presets_that_are_our_cookie_share_it(serve):
    """Two of them set it once, and a client keeps its worker."""
    both = ("--affinity", "nicegui", "--affinity", "gradio")
    server = serve("baskets:app", *both, "--no-access-log", workers=4)
    for browser in (Browser() for _ in range(6)):
        said = [browser.visit(server) for _ in range(VISITS)]
        assert said[0]["set"] == {"user", "maitred"}
        assert {frozenset(each["set"]) for each in said[1:]} == {frozenset({"user"})}
        assert [(each["pid"], each["count"]) for each in said] == [
            (said[0]["pid"], count) for count in range(1, VISITS + 1)
        ]


def set_by(server: Maitred, *lines: str) -> str:
    """Ask with these header *lines*; give the attributes of the cookie that is set."""
    request = "\r\n".join(["GET / HTTP/1.1", "host: a", *lines, "", ""])
    with server.connect() as client:
        client.sendall(request.encode())
        head = client.recv(65536).partition(b"\r\n\r\n")[0].decode()
    [line] = [x for x in head.split("\r\n") if x.startswith("set-cookie: maitred=")]
    return line.partition("; ")[2]


HANDSHAKE = (
    *("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)


@pytest.mark.parametrize("lines", [(), HANDSHAKE], ids=["http", "websocket"])
def test_cookie_is_secure_behind_a_proxy_that_ends_tls(share, lines):
    """The proxy says by which scheme the client came, and is believed."""
    server = share(*STICKY, workers=4)
    plain = "Path=/; HttpOnly; SameSite=Lax"
    assert set_by(server, *lines) == plain
    assert set_by(server, "X-Forwarded-Proto: http", *lines) == plain
    assert set_by(server, "X-Forwarded-Proto: https", *lines) == f"{plain}; Secure"


def test_proxy_that_is_not_trusted_makes_no_cookie_secure(serve):
    """As the application does not see https then either."""
    server = serve(*STICKY, "--forwarded-allow-ips", "10.0.0.1")
    assert "Secure" not in set_by(server, "X-Forwarded-Proto: https")


@pytest.mark.parametrize(
    ("options", "attributes"),
    [
        (("--sticky-same-site", "none"), "Path=/; HttpOnly; SameSite=None; Secure"),
        (("--sticky-secure", "always"), "Path=/; HttpOnly; SameSite=Lax; Secure"),
        (
            (
                *("--sticky-same-site", "strict", "--sticky-path", "/shop"),
                *("--sticky-domain", "example.org", "--sticky-max-age", "3600"),
            ),
            "Path=/shop; HttpOnly; SameSite=Strict; Domain=example.org; Max-Age=3600",
        ),
    ],
    ids=["same site", "secure", "others"],
)
def test_cookie_is_as_it_is_wanted(serve, options, attributes):
    """For an iframe of another site, for all hosts of a domain, for an hour."""
    server = serve(*STICKY, *options)
    assert set_by(server) == attributes


def test_worker_that_dies_is_succeeded(serve):
    """The cookie still names the slot, whose new worker knows nothing of the user."""
    server = serve(*STICKY, workers=2)
    browser = Browser()
    first = browser.visit(server)
    browser.visit(server)
    server.expect_log("ended")
    killed = server.kill_worker(first["slot"])
    wait_until("it is succeeded", lambda: killed not in ready_pids(server))
    after = browser.visit(server)
    assert after == {
        "pid": after["pid"],
        "slot": first["slot"],
        "count": 1,
        "set": {"user"},
    }
    assert after["pid"] != first["pid"]


def ready_pids(server: Maitred) -> list[int | None]:
    """Give the pids of all workers, once all are ready."""
    slots = server.status()["slots"]
    if any(slot["state"] != "ready" for slot in slots):
        return [slot.get("pid") for slot in slots] + [server.pid]
    return [slot["pid"] for slot in slots]


def test_restart_with_the_same_keys_changes_nothing(serve, tmp_path):
    """Slots outlive the master where its key file does."""
    keys = ("--sticky-key-file", str(key_file(tmp_path / "keys", "k1")))
    before = serve(*STICKY, *keys, workers=4)
    browsers = [Browser() for _ in range(6)]
    slots = [browser.visit(before)["slot"] for browser in browsers]
    assert before.stop() == 0
    after = serve(*STICKY, *keys, workers=4)
    again = [browser.visit(after) for browser in browsers]
    assert [said["slot"] for said in again] == slots
    assert {frozenset(said["set"]) for said in again} == {frozenset({"user"})}


def test_restart_without_a_key_file_begins_anew(serve):
    """Nobody is refused: everybody is placed again, and keeps the new slot."""
    before = serve(*STICKY, workers=2)
    browser = Browser()
    browser.visit(before)
    assert before.stop() == 0
    after = serve(*STICKY, workers=2)
    first, second = browser.visit(after), browser.visit(after)
    assert first["set"] == {"user", "maitred"}
    assert second["set"] == {"user"}
    assert (second["pid"], second["count"]) == (first["pid"], 2)


def test_reload_keeps_slots_and_rotates_keys(serve, tmp_path):
    """
    With HUP the key file is read again, and clients move on to its first key.

    A file that cannot be used then changes nothing.
    """
    path = key_file(tmp_path / "keys", "old")
    server = serve(*STICKY, "--sticky-key-file", str(path), workers=2)
    browser = Browser()
    slot = browser.visit(server)["slot"]

    def seen() -> tuple[int, set[str]]:
        said = browser.visit(server)
        return said["slot"], said["set"]

    key_file(path, "new", "old")
    server.reload()
    assert seen() == (slot, {"user", "maitred"})  # signed with the new key
    key_file(path, "new")
    server.reload()
    assert seen() == (slot, {"user"})
    path.chmod(0o644)
    server.expect_log("the keys stay as they were: --sticky-key-file .* chmod 600")
    server.reload()
    assert seen() == (slot, {"user"})


def test_keys_are_told_to_nobody(serve, tmp_path):
    """Not in arguments, environment or log, and no worker keeps the descriptor."""
    path = key_file(tmp_path / "keys", "k1")
    server = serve(
        "probe:app", "--affinity", "sticky", "--sticky-key-file", str(path), workers=2
    )
    assert ask(server.port, "/fds").status == 200
    secret = path.read_text().strip().partition(":")[2]
    raw = base64.b64decode(secret)
    forms = [secret.encode(), raw, raw.hex().encode()]
    for pid in (server.pid, *server.worker_pids()):
        told = b"".join(
            Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")
        )
        assert not [form for form in forms if form in told]
        opened = []
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                opened.append(os.readlink(fd))
        assert not [name for name in opened if "maitred-secret" in name]
        assert str(path) not in opened
    assert secret not in server.log


@pytest.mark.parametrize("mode", [0o644, None])
def test_key_file_that_cannot_be_used_is_refused(serve, tmp_path, mode):
    """One sentence, exit code 2, and nothing is started."""
    path = tmp_path / "keys"
    if mode is not None:
        key_file(path, "k1").chmod(mode)
    server = serve(*STICKY, "--sticky-key-file", str(path), ready=False)
    assert server.wait() == 2
    assert server.log.startswith(f"maitred: --sticky-key-file {path}: ")
    assert server.log.count("\n") == 1


def test_master_is_told_to_stop_with_sticky_clients_connected(serve):
    """A keep-alive connection that hopped ends in order."""
    server = serve(*STICKY, workers=2)
    with httpx.Client() as client:
        pids = {client.get(server.url).json()["pid"] for _ in range(5)}
        assert len(pids) == 1
        assert server.stop(signal.SIGTERM) == 0
