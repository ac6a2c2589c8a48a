"""Clients that offer another protocol with a request: the request arrives, whole."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from driver import DEADLINE
from raw_http import connect, get

JAVA = shutil.which("java")
BODIES = Path(__file__).parents[1] / "java" / "Bodies.java"
OFFERS = {
    "h2c": ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c"),
    "tls": ("connection: Upgrade", "upgrade: TLS/1.3"),
    "websocket by POST": ("connection: Upgrade", "upgrade: websocket"),
}


@pytest.fixture(params=["httptools", "h11"])
def server(share, request):
    """Start two workers with one of the parsers; sessions have a worker each."""
    return share(
        "probe:app", "--http", request.param, "--affinity", "header:x-session",
        "--policy", "round-robin", workers=2,
    )  # fmt: skip


@pytest.mark.skipif(JAVA is None, reason="no Java here: apt install default-jdk")
def test_java_client_is_heard_out(server):
    """Its HttpClient offers h2c by default, and means the body that comes with it."""
    url = f"http://127.0.0.1:{server.port}/"
    done = subprocess.run(
        [JAVA, BODIES, url], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert [status for status, _ in lines] == ["200"] * 8
    said = [json.loads(body) for _, body in lines]
    assert [each["body"] for each in said] == [5] * 4 + [200_000] * 4
    assert len({each["pid"] for each in said}) == 1


@pytest.mark.parametrize("name", OFFERS)
@pytest.mark.parametrize("is_chunked", [False, True])
def test_body_is_no_request(server, name, is_chunked):
    """What looks like one, in a body that comes later, is counted as a body."""
    evil = get("/evil", "x-session: stolen")
    length, body = f"content-length: {len(evil)}", evil
    if is_chunked:
        length = "transfer-encoding: chunked"
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(evil), evil)
    head = get("/", "x-session: ann", length, *OFFERS[name], method="POST")
    with connect(server.port) as line:
        line.sock.settimeout(DEADLINE)
        for before in (b"", get("/", "x-session: ann")):
            if before:
                assert line.ask(before).status == 200
            line.send(head)
            line.send(body[:3])
            line.send(body[3:])
            assert line.answer().json["body"] == len(evil)
            after = line.ask(get("/after", "x-session: ann")).json
            assert (after["path"], after["body"]) == ("/after", 0)
