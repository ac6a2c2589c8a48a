"""A worker is killed when it has read a WebSocket's handshake and not begun with it."""

from __future__ import annotations

from websockets.sync.client import connect

from driver import DEADLINE


def test_another_worker_answers_it(serve, tmp_path):
    """Its application never knew of it, so that nothing can be run twice."""
    dead = tmp_path / "dead"
    server = serve("hasty:app", env={"DEAD": str(dead)})
    server.expect_log(r"ended by SIGKILL")
    url = f"ws://127.0.0.1:{server.port}/"
    with connect(url, open_timeout=DEADLINE, compression=None) as websocket:
        websocket.send("hello")
        pid, said = websocket.recv(DEADLINE).split()
    assert said == "hello"
    assert pid != dead.read_text()
    server.wait_until_serving()
