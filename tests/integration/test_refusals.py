"""What is refused, by the master or by a worker, is counted by its cause."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from driver import Maitred, wait_until
from maitred.routing.refusal import CAUSES
from raw_http import connect, get

LINE = re.compile(
    r'maitred_connections_refused_total\{cause="(\w+)",code="(\d+)"\} (\S+)'
)
FIRST = b"GET / HTTP/1.1\r\n"
HOST = b"Host: test\r\n"
WEBSOCKET = (
    *("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)
# More than a request is read to have.
MANY_NAMES = b"".join(b"X-Session: %d\r\n" % number for number in range(9))
SECOND = {
    "bad_request": b"GET /\r\n\r\n",
    "bad_host": FIRST + HOST * 2 + b"\r\n",
    "bad_version": b"GET / HTTP/3.0\r\n" + HOST + b"\r\n",
    "bad_body": FIRST + HOST + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    "ambiguous_session": FIRST + HOST + MANY_NAMES + b"\r\n",
    "head_too_large": FIRST + HOST + b"X: y\r\n" * 5000,
    "head_timeout": FIRST,
    "tls": bytes((22, 3, 1, 0, 5, 1, 0, 0, 1, 0)),
}
"What a worker refuses as the second request of a connection, by cause."


def refused(server: Maitred) -> dict[str, int]:
    """Read the metrics: how many were refused, by cause."""
    url = f"{server.status()['admin'][0]}/metrics"
    rows = LINE.findall(httpx.get(url, trust_env=False).text)
    assert {cause: int(code) for cause, code, _ in rows} == {
        cause: CAUSES[cause].status for cause in CAUSES
    }
    return {cause: int(float(count)) for cause, _, count in rows if float(count)}


def check_refused(server: Maitred, expected: dict[str, int]) -> None:
    """Wait until the metrics say what is *expected*: they may be a moment old."""
    wait_until(f"{expected} refused", lambda: refused(server) == expected)


def sampled(server: Maitred) -> Any:
    """Give the refusals that the page's charts have last."""
    url = f"{server.status()['admin'][0]}/api/history"
    found = httpx.get(url, trust_env=False).json()
    if not found["samples"]:
        return None
    return found["samples"][-1]["totals"][found["totals"].index("refused")]


def refuse(server: Maitred, cause: str) -> None:
    """Have the worker refuse the second request of a connection."""
    with connect(server.port) as client:
        assert client.ask(get()).status == 200
        client.send(SECOND[cause])
        assert client.answer().status == CAUSES[cause].status


def test_each_cause_of_a_worker_is_counted_and_outlives_the_worker(serve):
    """Neither its death, nor a reload, nor an upgrade takes anything back."""
    server = serve(
        *("probe:app", "--affinity", "header:x-session", "--no-access-log"),
        *("--head-timeout", "1", "--admin", "127.0.0.1:0"),
        workers=1,
    )
    check_refused(server, {})
    for cause in SECOND:
        refuse(server, cause)
    expected = dict.fromkeys(SECOND, 1)
    check_refused(server, expected)
    wait_until("the charts show it", lambda: sampled(server) == len(SECOND))

    server.kill_worker(0)
    server.expect_log(r"was ended by SIGKILL; replaced")
    server.wait_for_log(r"replaced")
    check_refused(server, expected)
    server.reload()
    server.upgrade()
    check_refused(server, expected)

    refuse(server, "bad_host")
    with connect(server.port) as client:  # by the master
        client.send(SECOND["bad_host"])
        assert client.answer().status == 400
    check_refused(server, expected | {"bad_host": 3})


def test_too_many_at_once_are_counted(serve, tmp_path):
    """HTTP and WebSockets alike."""
    server = serve(
        *("probe:app", "--limit-concurrency", "1", "--no-access-log"),
        *("--admin", "127.0.0.1:0"),
        workers=1,
    )
    with connect(server.port) as busy, connect(server.port) as client:
        busy.send(get(f"/drip?for={tmp_path / 'end'}"))
        assert busy.head()[0] == 200
        assert client.ask(get()).status == 503
        assert client.ask(get("/", *WEBSOCKET)).status == 503
        check_refused(server, {"too_busy": 2})
        (tmp_path / "end").touch()


@pytest.mark.parametrize("acceptors", ["1", "2"])
def test_worker_is_counted_once_whoever_handed_over(serve, acceptors):
    """Several acceptors see the same worker."""
    server = serve(
        *("probe:app", "--acceptors", acceptors, "--no-access-log"),
        *("--admin", "127.0.0.1:0"),
        workers=1,
    )
    for _ in range(6):
        refuse(server, "bad_host")
    check_refused(server, {"bad_host": 6})
