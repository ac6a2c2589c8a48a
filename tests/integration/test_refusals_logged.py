"""Whoever is refused leaves a line in the access log, and the line says why."""

from __future__ import annotations

import contextlib
import json
import re

import pytest

from driver import wait_until
from raw_http import ask, connect, get

BAD = b"GET /\x1b HTTP/1.1\r\nhost: x\r\n\r\n"
UNKNOWN = b"X! / HTTP/1.1\r\nhost: x\r\n\r\n"
"A good head, whose method httptools does not know."
FORMATS = {
    "plain": r'"-" (\d+|-) .* cause=([a-z_]+)$',
    "combined": r'"-" (\d+|-) .* cause=([a-z_]+)$',
    "logfmt": r" status=(\d+) .* cause=([a-z_]+)$",
    "json": r'"status": (\d+), .*"cause": "([a-z_]+)"}$',
}


def causes(server, form):
    """Return status and cause of each refusal in the access log."""
    return re.findall(FORMATS[form], server.log, re.MULTILINE)


@pytest.mark.parametrize("form", FORMATS)
def test_cause_of_a_refusal_stands_in_its_line(serve, form):
    """The master's, the gate's, and that of the parser behind it."""
    if form in {"logfmt", "json"}:
        server = serve_structured(serve, form)
    else:
        how = ("--access-log-format", form, "--http", "httptools")
        server = serve("probe:app", *how, workers=1)
    server.expect_log("Invalid HTTP request received")
    for first in (b"", get()):
        for bad in (BAD, UNKNOWN, b"GET / HTTP/1.1\r\n\r\n"):
            with connect(server.port) as client:
                if first:
                    assert client.ask(first).status == 200
                assert client.ask(bad).status == 400
    # Master and worker write each for itself.
    expected = [("400", "bad_host")] * 2 + [("400", "bad_request")] * 4
    wait_until("all are logged", lambda: sorted(causes(server, form)) == expected)


def serve_structured(serve, form):
    """Serve with a log of fields, which the driver cannot read the port from."""
    server = serve(
        "probe:app", "--log-format", form, "--http", "httptools",
        "--name", "shop", ready=False, workers=1,
    )  # fmt: skip
    server.wait_until_serving()
    listening = wait_until(
        "it listens", lambda: re.search(r"listening.*127\.0\.0\.1:(\d+)", server.log)
    )
    server.port = int(listening[1])
    return server


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_line_of_a_request_names_the_service(serve, form):
    """As every other line of that log does."""
    server = serve_structured(serve, form)
    assert ask(server.port, "/here").status == 200
    wait_until("it is logged", lambda: "/here" in server.log)
    named = '"service": "shop"' if form == "json" else " service=shop "
    for line in server.log.splitlines():
        assert named in line
        if form == "json":
            json.loads(line)


def test_cause_stands_where_the_worker_is_too_busy(serve, tmp_path):
    """What answers in the application's place says why, too."""
    server = serve("probe:app", "--limit-concurrency", "1", workers=1)
    with connect(server.port) as busy, connect(server.port) as client:
        busy.send(get(f"/drip?for={tmp_path}/end"))
        assert busy.head()[0] == 200
        assert client.ask(get("/more")).status == 503
        line = r'"GET /more HTTP/1.1" 503 .* cause=too_busy$'
        wait_until("it is logged", lambda: re.search(line, server.log, re.MULTILINE))
        (tmp_path / "end").touch()


PROTOCOLS = {
    "mqtt": (b"\x10\x0c\x00\x04MQTT\x09\x02\x00\x1e\x00\x00", "bad_version"),
    "postgres": (b"\x00\x00\x00\x08\x00\x01\x00\x00", None),
    "rtmp": (b"GET / HTTP/1.1\r\n\r\n", None),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_client_of_another_protocol_leaves_a_line(serve, protocol):
    """An operator sees who was refused and why, and need not count."""
    said, cause = PROTOCOLS[protocol]
    server = serve("kinds:handler", "--kind", "handler", "--protocol", protocol)
    with server.connect() as sock, sock.makefile("rb") as file:
        sock.sendall(said)
        file.read()
    [(status, logged)] = wait_until("logged", lambda: causes(server, "plain"))
    assert status == "-"
    assert logged == (cause or logged)
    assert server.status()["connections"]["refused"] == {logged: 1}


def test_who_is_no_trusted_proxy_leaves_a_line(serve):
    """The connection is closed without a word; the log has one."""
    server = serve(
        "probe:app", "--proxy-protocol", "required", "--proxy-trust", "192.0.2.0/24"
    )
    # What was sent lies unread when it is closed.
    with connect(server.port) as client, contextlib.suppress(ConnectionError):
        client.send(get())
        assert client.sock.recv(1) == b""
    wait_until("logged", lambda: causes(server, "plain") == [("-", "proxy_untrusted")])
