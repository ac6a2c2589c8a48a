"""The history remembers the last quarter of an hour, and no more."""

import json

from maitred.admin.history import EVERY, LENGTH, SPAN, TOTALS, WORKER, History

COUNTS = ("accepted", "handed_over", "taken", "returned", "redispatched", "lost")


def snapshot(time, *, slots=1):
    """Give what the history reads, all numbers being *time*."""
    return {
        "time": float(time),
        "connections": {
            **dict.fromkeys(COUNTS, time),
            "refused": {"a": 1, "b": 2},
            "refused_by_workers": {"a": 1},
        },
        "slots": [
            {
                "open": 2,
                "lag": 0.00012,
                "memory": 3,
                "totals": {"requests": 7, "cpu": 1.5},
            }
            for _ in range(slots)
        ],
    }


def test_samples_are_told_by_column():
    """Each sample has the numbers that the columns name."""
    history = History()
    history.add(snapshot(5, slots=2))
    told = history.since()
    (sample,) = told["samples"]
    totals = dict(zip(told["totals"], sample["totals"], strict=True))
    assert totals == dict.fromkeys(COUNTS, 5) | {
        "refused": 4, "requests": 14, "connections": 4,
    }  # fmt: skip
    row = dict(zip(told["worker"], sample["slots"][1], strict=True))
    assert row == {
        "requests": 7, "connections": 2, "lag": 0.0001, "memory": 3, "cpu": 1.5,
    }  # fmt: skip
    assert (len(TOTALS), len(WORKER)) == (len(totals), len(row))


def test_what_is_not_known_is_null():
    """A slot without a worker has counts of those it had, and no state."""
    history = History()
    empty = snapshot(1)
    empty["slots"] = [{"totals": {"requests": 7, "cpu": 1.5}}]
    history.add(empty)
    assert history.since()["samples"][0]["slots"] == [[7, None, None, None, 1.5]]


def test_memory_is_bounded():
    """The oldest goes when there are as many as fit a quarter of an hour."""
    assert LENGTH * EVERY == SPAN == 900
    history = History()
    for time in range(LENGTH + 10):
        history.add(snapshot(time))
    samples = history.since()["samples"]
    assert (len(samples), samples[0]["time"]) == (LENGTH, 10)


def test_only_what_is_younger():
    """Who has seen a sample is told those after it."""
    history = History()
    for time in (1, 2, 3):
        history.add(snapshot(time))
    assert [sample["time"] for sample in history.since(2.0)["samples"]] == [3]


def test_successor_remembers_what_was_left():
    """In order, without what both have seen, and no more than before."""
    before, after = History(4), History(4)
    for time in (1, 2, 3, 4):
        before.add(snapshot(time))
    after.add(snapshot(4))
    after.add(snapshot(5))
    after.inherit(json.loads(json.dumps(before.leave())))
    assert [sample["time"] for sample in after.since()["samples"]] == [2, 3, 4, 5]
    assert after.since()["samples"][:2] == before.since()["samples"][1:3]


def test_numbers_of_another_version_are_not_taken_for_ours():
    """Their columns say what they are."""
    history = History()
    history.add(snapshot(4))
    history.inherit({"columns": ["accepted"], "samples": [[1.0, [1.0]]]})
    assert [sample["time"] for sample in history.since()["samples"]] == [4]
