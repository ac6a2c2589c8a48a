"""
RTMP with ffmpeg: it publishes a test pattern to the worker that its app name picks.

The name comes only after a handshake, in which the server has to take part: the master
answers it, and the worker begins after it.
"""

import os
import shutil
import signal
import subprocess

import pytest

from driver import DEADLINE, wait_until
from protocols import C1, rtmp_connect

FRAMES = 20


def publish(server, app, stream):
    """Have ffmpeg publish FRAMES frames; give what it says if it fails."""
    return subprocess.run(
        ["ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin",
         "-f", "lavfi", "-i", "testsrc=size=160x120:rate=10", "-frames:v", str(FRAMES),
         "-c:v", "flv1", "-f", "flv", f"rtmp://127.0.0.1:{server.port}/{app}/{stream}"],
        check=False, capture_output=True, text=True, timeout=2 * DEADLINE,
    )  # fmt: skip


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg, as Debian has it")
def test_an_app_has_one_worker(serve, tmp_path):
    """Four apps, twice each: one worker an app, and every frame arrives."""
    published = tmp_path / "published"
    server = serve(
        "rtmp_server:handler", "--kind", "handler", "--protocol", "rtmp",
        "--policy", "round-robin", env={"PUBLISHED": str(published)},
    )  # fmt: skip
    for number in [*range(4)] * 2:
        done = publish(server, f"app{number}", f"stream{number}")
        assert (done.returncode, done.stderr) == (0, "")
    wait_until("all have ended", lambda: len(published.read_text().splitlines()) == 8)
    lines = [line.split() for line in published.read_text().splitlines()]
    assert {(app, stream) for _, app, stream, _, _ in lines} == {
        (f"app{number}", f"stream{number}") for number in range(4)
    }
    assert len({(slot, app) for slot, app, *_ in lines}) == 4
    assert {slot for slot, *_ in lines} == {"0", "1"}
    assert {int(videos) for *_, videos, _ in lines} == {FRAMES}


def test_the_handshake_is_the_specifications(serve):
    """S0, S1 and S2: version 3, and the client's own bytes back."""
    server = serve("kinds:greeter", "--kind", "handler", "--protocol", "rtmp")
    with server.connect() as sock, sock.makefile("rb") as file:
        sock.sendall(b"\x03" + C1)
        assert file.read(1) == b"\x03"
        s1 = file.read(1536)
        assert file.read(1536) == C1
        sock.sendall(s1 + rtmp_connect(b"live"))
        wait_until("a worker has it", lambda: server.total("open") == 1)
    shown = server.status()["connections"]
    assert (shown["taken"], shown["lost"]) == (1, 0)


def publish_without_app(server, stream):
    """Have ffmpeg publish FRAMES frames to rtmp://host/, with the name of a stream."""
    return subprocess.run(
        ["ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin",
         "-f", "lavfi", "-i", "testsrc=size=160x120:rate=10", "-frames:v", str(FRAMES),
         "-c:v", "flv1", "-rtmp_app", "", "-rtmp_playpath", stream, "-f", "flv",
         f"rtmp://127.0.0.1:{server.port}/"],
        check=False, capture_output=True, text=True, timeout=2 * DEADLINE,
    )  # fmt: skip


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg, as Debian has it")
@pytest.mark.parametrize("affinity", ["app", "none", "ip"])
def test_who_names_no_app_is_served(serve, tmp_path, affinity):
    """By one worker where the app counts: who publishes and who plays are to meet."""
    published = tmp_path / "published"
    server = serve(
        "rtmp_server:handler", "--kind", "handler", "--protocol", "rtmp",
        "--policy", "round-robin", "--affinity", affinity,
        env={"PUBLISHED": str(published)},
    )  # fmt: skip
    for number in range(4):
        done = publish_without_app(server, f"stream{number}?user=ann&pass=x")
        assert (done.returncode, done.stderr) == (0, "")
    wait_until("all have ended", lambda: len(published.read_text().splitlines()) == 4)
    slots = {line.split()[0] for line in published.read_text().splitlines()}
    assert len(slots) == (2 if affinity == "none" else 1)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg, as Debian has it")
def test_who_cannot_be_served_is_told_so(serve):
    """What ffmpeg prints is what the _error says of its connect."""
    server = serve(
        "rtmp_server:handler", "--kind", "handler", "--protocol", "rtmp",
        "--wait-timeout", "0.5", "--window", "1", workers=1,
    )  # fmt: skip
    with server.connect() as first:  # takes the one place that a busy worker has
        first.sendall(b"\x03" + C1 + C1 + rtmp_connect())
        worker = server.kill_worker(0, signal.SIGSTOP)
        try:
            with server.connect() as second:
                second.sendall(b"\x03" + C1 + C1 + rtmp_connect())
                done = publish(server, "live", "x")
        finally:
            os.kill(worker, signal.SIGCONT)
    assert done.returncode
    assert "Server error: no_worker" in done.stderr


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (b"\x06" + C1, "bad_version"),
        (b"GET / HTTP/1.1\r\n\r\n", "not_rtmp"),
        (b"\x03" + C1 + C1 + b"\xc3" + bytes(40), "bad_packet"),
    ],
)
def test_what_is_wrong_is_closed(serve, said, cause):
    """There are no words for it before a connect."""
    server = serve("kinds:handler", "--kind", "handler", "--protocol", "rtmp")
    with server.connect() as sock, sock.makefile("rb") as file:
        sock.sendall(said)
        file.read()
    assert server.status()["connections"]["refused"] == {cause: 1}


def test_half_a_handshake_ends_at_the_deadline(serve):
    """One deadline for the whole dialogue, however far it came."""
    server = serve(
        "kinds:handler", "--kind", "handler", "--protocol", "rtmp",
        "--head-timeout", "0.5",
    )  # fmt: skip
    with server.connect() as sock, sock.makefile("rb") as file:
        sock.sendall(b"\x03" + C1 + C1[:700])
        assert len(file.read()) == 1 + 2 * 1536
    assert server.status()["connections"]["refused"] == {"head_timeout": 1}
