"""Who waits for a reload hears one outcome, and how it goes until then."""

import asyncio

import pytest

from maitred.errors import CommandFailed
from maitred.master import reloading
from maitred.master.reloading import Reloads


def hear(generation, tell, *reports):
    """Give all the lines for one who waits for *generation* while *tell* is done."""

    async def run():
        reloads = Reloads()
        lines = []
        async for line in reloads.watch(generation, *reports):
            if not lines:
                tell(reloads)
            lines.append(line)
        return lines

    return asyncio.run(run())


def test_asker_hears_reports_progress_and_outcome():
    """In this order, and nothing after the outcome."""

    def tell(reloads):
        reloads.tell("one is ready")
        reloads.serves(2)
        reloads.serves(3)

    assert hear(2, tell, "it begins") == [
        {"progress": "it begins"},
        {"progress": "one is ready"},
        {"ok": True, "generation": 2},
    ]


def test_outcome_of_an_earlier_reload_is_not_the_one_waited_for():
    """Who asked while a reload was under way waits for the one that follows."""

    def tell(reloads):
        reloads.serves(2)
        reloads.failed(2, "no", "")
        reloads.serves(3)

    assert hear(3, tell, "wait")[1:] == [{"ok": True, "generation": 3}]


@pytest.mark.parametrize(
    ("tell", "why", "traceback"),
    [
        (lambda reloads: reloads.failed(2, "boom", "Trace"), "boom", "Trace"),
        (lambda reloads: reloads.give_up("stopping"), "stopping", ""),
    ],
    ids=["failed", "given up"],
)
def test_failure_is_raised_with_its_traceback(tell, why, traceback):
    """The application's own words go with it."""
    with pytest.raises(CommandFailed) as failure:
        hear(2, tell, "wait")
    assert failure.value.why == f"reload failed: {why}"
    assert failure.value.traceback == traceback


def test_asker_is_shown_that_we_are_still_there(monkeypatch):
    """An empty line, every now and then."""
    monkeypatch.setattr(reloading, "PULSE", 0.0)

    async def run():
        lines = Reloads().watch(2)
        assert [await anext(lines), await anext(lines)] == [{}, {}]
        await lines.aclose()

    asyncio.run(run())


def test_asker_who_leaves_is_forgotten():
    """Nothing is kept for somebody who is gone."""

    async def run():
        reloads = Reloads()
        lines = reloads.watch(2, "wait")
        await anext(lines)
        await lines.aclose()
        reloads.tell("nobody hears this")
        assert reloads._askers == {}

    asyncio.run(run())
