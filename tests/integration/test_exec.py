"""``maitred serve --exec``: workers that are any program, good ones and bad ones."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from driver import APPS, wait_until

ROOT = Path(__file__).parents[2]
SINS = (
    "garbage",
    "version",
    "before_ready",
    "unknown_id",
    "masters_words",
    "oversize",
    "directory",
    "flood",
    "stowaways",
)


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler (cc)")
def test_workers_in_c_serve_what_a_real_master_hands_over(serve, tmp_path):
    """The example in C serves every request, each session in one process."""
    binary = tmp_path / "worker"
    source = ROOT / "examples" / "worker.c"
    subprocess.run(["cc", "-std=c11", "-O2", "-o", binary, source], check=True)
    server = serve(str(binary), "--exec", "--affinity", "header:x-session", workers=3)
    seen: dict[str, set[str]] = {}
    for number in range(60):
        name = f"s{number % 6}"
        response = httpx.get(server.url, headers={"x-session": name})
        assert response.status_code == 200
        assert "Hello from a C worker" in response.text
        seen.setdefault(name, set()).add(response.text)
    assert all(len(texts) == 1 for texts in seen.values())
    status = server.status()
    assert status["connections"]["taken"] == 60
    assert status["connections"]["lost"] == 0


@pytest.mark.parametrize("sin", SINS)
def test_worker_that_breaks_the_protocol_is_ended_alone(serve, tmp_path, sin):
    """A worker that misbehaves is replaced, and everybody else is served."""
    flag = tmp_path / "committed"
    command = f"{sys.executable} {APPS / 'rogue.py'} {flag} {sin}"
    server = serve(command, "--exec", workers=2)
    server.expect_log(
        r"worker 1 of slot 0 is ended: the peer broke the channel protocol"
    )
    server.expect_log(r"worker of slot 0 was ended by SIGKILL")
    server.wait_for_log(r"worker 1 of slot 0 is ended")
    wait_until(
        "both slots are ready",
        lambda: all(slot["state"] == "ready" for slot in server.status()["slots"]),
    )
    for _ in range(10):
        assert httpx.get(server.url).text == "ok"
