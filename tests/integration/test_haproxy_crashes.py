"""HAProxy before two machines, on one of which no worker comes up any more."""

from __future__ import annotations

import os
import shutil
import signal

import pytest

from balanced import ADDRESSES, HAProxy
from driver import wait_until
from mosquitto import free_port
from raw_http import ask

pytestmark = pytest.mark.skipif(
    not shutil.which("haproxy"), reason="needs haproxy, as Debian has it"
)
WHOLE = ("UP", 100)


def test_machine_whose_workers_all_crash_is_down(serve, tmp_path):
    """Its clients are served by the other one, and it comes back when it can serve."""
    port, agent_port = free_port(), free_port()
    words = ("--affinity", "cookie:s")
    moods = {name: tmp_path / f"mood-{name}" for name in ADDRESSES}
    for mood in moods.values():
        mood.write_text("")
    servers = {
        name: serve(
            "moody:app", "--no-access-log", "--proxy-protocol", "required", *words,
            "--agent", f"{address}:{agent_port}",
            bind=f"{address}:{port}", workers=2, env={"MOOD": str(moods[name])},
        )
        for name, address in ADDRESSES.items()
    }  # fmt: skip
    proxy = HAProxy(tmp_path, port, agent_port, *words)
    try:
        proxy.wait_for(a=WHOLE, b=WHOLE)
        pids = {name: set(server.worker_pids()) for name, server in servers.items()}
        names = (f"cookie: s=c{number}" for number in range(1000))
        name = next(
            n for n in names if ask(proxy.port, "/", n).json["pid"] in pids["a"]
        )
        servers["a"].expect_log("SIGKILL|exited with code 9")
        moods["a"].write_text("die")
        for pid in pids["a"]:
            os.kill(pid, signal.SIGKILL)
        wait_until(
            "HAProxy sees that it is down",
            lambda: proxy.machines()["a"][0].startswith("DOWN"),
        )
        answer = ask(proxy.port, "/", name)
        assert (answer.status, answer.json["pid"] in pids["b"]) == (200, True)
        moods["a"].write_text("")
        proxy.wait_for(a=WHOLE, b=WHOLE)
        wait_until(
            "new sessions come here too",
            lambda: ask(proxy.port, "/", "cookie: s=other").status == 200,
        )
    finally:
        proxy.close()
