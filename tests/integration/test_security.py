"""What docs/explanation/security.md says and no other test shows."""

from __future__ import annotations

import re

import pytest

from raw_http import ask, connect, get

PRINTABLE = re.compile(r"[\x20-\x7e]*")
FORGED = "2026-11-22 21:20:01,310 INFO    [1] forged"
TARGETS = (
    f"/%0a{FORGED.replace(' ', '%20')}",
    f"/?a=%0d%0a{FORGED.replace(' ', '%20')}",
    "/%1b%5b2J%1b]0;title%07",
    "/%e2%80%a8%c2%85%00%ff",
    '/"%22\\',
)


def test_client_writes_no_line_of_the_log(serve):
    """Whatever a path says, there is one printable line for each request."""
    server = serve("probe:app", workers=1)
    for target in TARGETS:
        with connect(server.port) as client:
            client.ask(get(target, f"user-agent: {FORGED}"))
    assert ask(server.port, "/the-last").status == 200
    server.wait_for_log("the-last")
    lines = server.log.splitlines()
    assert not [line for line in lines if line.startswith(FORGED)]
    assert len([line for line in lines if "HTTP/1.1" in line]) == len(TARGETS) + 1
    assert all(PRINTABLE.fullmatch(line) for line in lines)


@pytest.mark.parametrize(
    "head",
    [
        "GET /<script> HTTP/9.9\r\n\r\n",
        "<script> / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: <script>\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n<script>: a\r\n\r\n",
    ],
)
def test_refusal_repeats_nothing(share, head):
    """What the master answers is plain text, and nothing of it is the client's."""
    server = share("probe:app", workers=1)
    with connect(server.port) as client:
        answer = client.ask(head.encode())
    assert answer.status in {400, 505}
    assert b"script" not in answer.body
    assert "script" not in str(answer.headers)
    assert answer.headers["content-type"].startswith("text/plain")
