"""
gunicorn's corpus against a running service, with each parser.

Every file is sent whole as first, second and pipelined request, and cut at some places;
tests/contract/test_corpus.py cuts everywhere.
"""

from __future__ import annotations

import json
import socket

import pytest

from corpus import PASSED, REFUSED, load, path_and_query
from driver import DEADLINE, Maitred
from raw_http import connect, get

VALID, INVALID = load("valid"), load("invalid")
BEFORE = get("/before")


def talk(server: Maitred, *pieces: bytes) -> list[tuple[int, bytes]]:
    """Send *pieces* and close; give status and body of every answer."""
    data = b""
    with connect(server.port) as connection:
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock.settimeout(DEADLINE)
        try:
            for piece in pieces:
                connection.send(piece)
            while part := connection.sock.recv(1 << 16):
                data += part
        except ConnectionError:
            pass  # refused in the middle of what we sent
    answers = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        lengths = [
            int(line.partition(b":")[2])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        ]
        size = lengths[0] if lengths else 0
        answers.append((int(head.split()[1]), rest[:size]))
        data = rest[size:]
    return answers


def ways(data: bytes) -> list[tuple[bytes, ...]]:
    """Cut *data* as first request; then send it as second and behind another."""
    cuts = {len(data) // 3, len(data) // 2, len(data) - 2, len(data) - 1}
    return [
        (data,),
        *((data[:cut], data[cut:]) for cut in sorted(cuts)),
        (BEFORE + data,),
        (BEFORE, data),
    ]


@pytest.fixture(params=["httptools", "h11"])
def server(share, request) -> Maitred:
    """Serve with one of the parsers; who says no more is closed soon."""
    server: Maitred = share(
        "probe:app", "--http", request.param, "--affinity", "header:x-session",
        "--head-timeout", "0.2", "--timeout-keep-alive", "0.05",
    )  # fmt: skip
    return server


def test_no_invalid_request_is_answered_by_the_application(server):
    """Whoever sends one hears from us at most, and loses the connection."""
    for name, item in INVALID.items():
        # Files that just end would keep the application waiting for the rest.
        if name.partition("/")[2] in PASSED or item.error == "ChunkMissingTerminator":
            continue
        for pieces in ways(item.data):
            answers = talk(server, *pieces)
            if pieces[0].startswith(BEFORE) and answers:
                assert json.loads(answers.pop(0)[1])["path"] == "/before", name
            assert all(status >= 400 for status, _ in answers), name


def test_every_valid_request_is_answered_by_the_application(server):
    """It has the method, path, query and body that the corpus says."""
    for name, item in VALID.items():
        if name.partition("/")[2] in REFUSED:
            continue
        for pieces in ways(item.data):
            answers = [json.loads(body) for _, body in talk(server, *pieces)]
            if pieces[0].startswith(BEFORE):
                assert answers.pop(0)["path"] == "/before", name
            assert len(answers) == len(item.requests), name
            for said, wanted in zip(answers, item.requests, strict=True):
                path, _, query = path_and_query(wanted.uri).partition("?")
                assert said["method"] == wanted.method, name
                # uvicorn with h11 gives a target in absolute form whole.
                assert path_and_query(said["path"]) == path, name
                assert said["query"] == query, name
                assert said["body"] == len(wanted.body), name


@pytest.mark.parametrize("line", [b"accept: */*", b"connection: upgrade"])
def test_trailer_is_no_header(server, line):
    """A session's name behind the body, where no gate looks, is not seen."""
    request = (
        b"POST /trailer HTTP/1.1\r\nhost: a\r\nx-session: mine\r\nupgrade: x\r\n%b\r\n"
        b"transfer-encoding: chunked\r\n\r\n0\r\nx-session: other\r\n\r\n" % line
    )
    [(status, body)] = talk(server, request)
    assert status == 200
    assert json.loads(body)["sessions"] == ["mine"]
