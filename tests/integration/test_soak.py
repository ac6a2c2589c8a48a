"""The long mixed load, for a few seconds: the kit works, and nothing is lost."""

from __future__ import annotations

import pytest

from soak.plan import Operation
from soak.run import Soak

KINDS = {
    "kept": 2,
    "learning": 2,
    "new": 1,
    "hopping": 2,
    "pipelined": 1,
    "upload": 1,
    "websocket": 1,
    "events": 1,
    "reset": 1,
    "half_closed": 1,
    "slow_head": 1,
    "http10": 1,
    "idle": 1,
}
PLAN = [
    Operation(0.7, "move", 5, 0),
    Operation(1.0, "reload", 0, 0),
    Operation(1.6, "kill", 1, 0),
    Operation(2.5, "pause", 2, 0.2),
]


@pytest.mark.slow
def test_some_seconds_of_it(tmp_path):
    """A reload, a kill, a stop and a move under a mixed load: all is explained."""
    soak = Soak(1, "one", tmp_path / "soak")
    try:
        verdict = soak.run(4, PLAN, KINDS)
        assert not verdict.bad, soak.report(verdict)
        assert verdict.ok
        assert len(soak.service.done) == len(PLAN), soak.service.done
        assert not soak.end(verdict)
    finally:
        soak.server.kill_all()
