"""A key table that has several pages, through an upgrade, a death and a reload."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import httpx

from driver import wait_until
from maitred import control

CLAIMER = Path(__file__).parents[2] / "bench" / "claimer.py"
EACH = 12_000
"Keys of each worker: more than one page holds in all."


def name(pid: int, number: int) -> str:
    """Give the session's name that the worker *pid* has claimed as *number*."""
    return f"header:x-session={pid}-{number:032d}"


def test_every_key_is_found_through_upgrade_death_and_reload(serve, tmp_path):
    """What lived lives on, at once; what died with its worker is nobody's."""
    worker = [sys.executable, str(CLAIMER), str(EACH), str(tmp_path)]
    server = serve(
        shlex.join(worker),
        *("--exec", "--affinity", "header:x-session", "--max-keys", "50000"),
        workers=2,
    )
    one, other = server.worker_pids()

    def claimed() -> bool:
        assert httpx.get(server.url).status_code == 200
        return server.status()["keys"] == 2 * EACH

    wait_until("both workers have claimed all", claimed)
    size = server.status()["key_bytes"]

    def home(pid: int, number: int) -> int:
        found = control.ask(server.control, "whereis", key=name(pid, number))
        return found["pid"]

    def move(number: int) -> None:
        spelled = name(one, number)
        assert control.ask(server.control, "move", key=spelled, slot=1)["pid"] == other

    move(0)
    server.upgrade()
    # Some of them are asked for before they are unpacked.
    for number in (0, 1, EACH // 2, EACH - 1):
        assert home(one, number) == (one if number else other)
        assert home(other, number) == other
    status = server.status()
    assert (status["keys"], status["key_bytes"]) == (2 * EACH, size)
    keys = control.ask(server.control, "keys")
    assert keys["by_slot"] == {"0": EACH - 1, "1": EACH + 1}

    server.upgrade()
    server.kill_worker(0)
    server.expect_log(r"worker of slot 0 was ended by SIGKILL")
    wait_until(
        "it is replaced",
        lambda: home(one, 2) not in {one, None},
    )
    # Every other name was of the worker's own making.
    assert server.status()["keys"] == 2 * EACH - EACH // 2
    assert home(one, 0) == home(other, 1) == other
    assert home(one, 2) == server.worker_pids()[0]
    assert server.status()["slots"][0]["claimed_keys"] == 0

    server.reload()
    wait_until(
        "what both had made is gone",
        lambda: server.status()["keys"] == EACH,
    )
