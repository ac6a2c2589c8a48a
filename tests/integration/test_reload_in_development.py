"""--reload: what a browser holds open does not delay the next edit."""

from __future__ import annotations

import json
import subprocess

import pytest

from driver import APPS, COMMAND, wait_until
from raw_http import connect, get

SOURCE = """
import asyncio
from made import app as made
NUMBER = {}
async def app(scope, receive, send):
    if scope["type"] != "http":
        return await made(scope, receive, send)
    await send({{"type": "http.response.start", "status": 200}})
    more = scope["path"] == "/stream"
    body = {{"type": "http.response.body", "body": b"%d" % NUMBER}}
    await send(body | {{"more_body": more}})
    if more:
        await asyncio.Event().wait()
"""


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        (("--reload",), 1),
        (("--reload", "--drain-timeout", "7"), 7),
        ((), 30),
    ],
)
def test_drain_is_short_unless_a_time_is_given(tmp_path, options, seconds):
    """And only for development."""
    said = subprocess.run(
        [COMMAND, "config", "app:app", "--json", *options],
        capture_output=True,
        cwd=tmp_path,
        check=True,
    ).stdout
    assert json.loads(said)["drain_timeout"]["value"] == seconds


def test_open_stream_is_cut_and_the_second_edit_is_served(serve, tmp_path):
    """Two generations are the most there are: the third waits for the end of one."""
    source = tmp_path / "edited.py"

    def edit(number):
        """Write another version."""
        source.write_text(SOURCE.format(number))

    edit(1)
    server = serve(
        *("edited:app", "--reload", "--app-dir", str(tmp_path)),
        env={"PYTHONPATH": str(APPS)},
        workers=1,
    )
    server.expect_log(r"\bcut\b|reload|edited")
    server.wait_for_log("watching")

    def served():
        """Give the version that answers."""
        with connect(server.port) as client:
            return int(client.ask(get("/")).body)

    def edited_to(number):
        """Edit, until whoever watches has begun to."""
        edit(number)
        return served() == number

    with connect(server.port) as stream:
        stream.send(get("/stream"))
        stream.head()
        wait_until("the first edit is served", lambda: edited_to(2))
        edit(3)
        wait_until("the second edit is served", lambda: served() == 3)
        assert stream.read(len("1\r\n1\r\n")) == b"1\r\n1\r\n"
        assert stream.at_end()
