"""Plain data: what is written down is read again, or refused."""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maitred.acceptor.counters import Counters
from maitred.supervision import Exited, SaidReady, Supervisor, Tick, Times
from maitred.upgrade.serialize import flatten, read, refill, revive, write

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
    | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)  # fmt: skip


class Colour(Enum):
    """Something to be named."""

    RED = 1
    BLUE = 2


@dataclass
class Part:
    """A dataclass in another."""

    colour: Colour = Colour.RED
    at: float | None = None


@dataclass
class Whole:
    """One of everything."""

    number: int = 0
    parts: list[Part] = field(default_factory=list)
    named: dict[int, Part] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    line: deque[int] = field(default_factory=deque)
    marks: set[str] = field(default_factory=set)
    text: str = "beginning"


@given(PLAIN)
def test_what_is_written_is_read(value):
    """Bytes are bytes again, and nothing else becomes bytes."""
    if not marked(value):
        assert read(write(value)) == value


def marked(value):
    """Say whether *value* holds a dict that looks like bytes on paper."""
    if isinstance(value, list):
        return any(map(marked, value))
    if not isinstance(value, dict):
        return False
    return "bytes" in value or any(map(marked, value.values()))


def test_name_of_the_mark_may_be_a_name():
    """A key file may call a key of its own so."""
    assert read(write({"bytes": b"\xff\0"})) == {"bytes": b"\xff\0"}


@pytest.mark.parametrize("value", [object(), {1, 2}, Part()])
def test_what_is_not_plain_is_refused(value):
    """Nothing is written that could not be read."""
    with pytest.raises(TypeError):
        write([value])


def test_dataclass_is_itself_again():
    """By its annotations, the parts of its parts too."""
    parts = [Part(Colour.BLUE, 1.5), Part()]
    whole = Whole(7, parts, {3: Part(at=2.0)}, Counter(a=2), deque([1]), {"x"}, "t")
    paper = write(flatten(whole))
    again = Whole()
    refill(again, read(paper))
    assert again == whole
    assert isinstance(again.counts, Counter)


def test_what_is_not_on_paper_stays_as_it_begins():
    """An older program did not know every field, and a newer one knows more."""
    whole = Whole()
    refill(whole, {"number": 3, "unheard of": 1, "parts": [{"at": 1}]})
    assert whole == Whole(3, [Part(at=1.0)])


@pytest.mark.parametrize(
    ("hint", "value"), [(int, "1"), (int, True), (str, 1), (float, "1"), (bool, 1)]
)
def test_what_contradicts_its_annotation_is_refused(hint, value):
    """A wrong value is found out in the rehearsal, not a day later."""
    with pytest.raises(TypeError, match=f"is not {hint}"):
        revive(hint, value)


def test_counters_count_on():
    """Each count, and each cause of refusals."""
    counters, again = Counters(accepted=7), Counters()
    counters.refused["no_worker"] += 2
    refill(again, read(write(flatten(counters))))
    again.refused["head_timeout"] += 1
    assert again.accepted == 7
    assert again.refused == {"no_worker": 2, "head_timeout": 1}


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ready", "exited", "tick", "reload"]),
        st.integers(0, 5),
        st.floats(0.0, 20.0),
    ),
    max_size=30,
)


@given(before=EVENTS, after=EVENTS, seed=st.integers())
def test_supervisor_goes_on_where_it_was(before, after, seed):
    """Whatever happened before it was written down, it decides as the first would."""
    first = Supervisor(2, Times(), random.Random(seed))
    now = play(first, before, first.start(0.0), 0.0)[1]
    second = Supervisor(2, Times(), random.Random(seed))
    refill(second, read(write(state(first))))
    second.rng.setstate(first.rng.getstate())
    assert state(second) == state(first)
    assert play(first, after, [], now) == play(second, after, [], now)


def state(supervisor):
    """Write down what came of it."""
    return flatten(supervisor, without=Supervisor.SETTINGS)


def play(supervisor, events, actions, now):
    """Let *events* happen to *supervisor*; give what it wanted done, and when it is."""
    for kind, which, wait in events:
        now += wait
        workers = [spawn.worker for spawn in supervisor.spawned()]
        worker = workers[which % len(workers)] if workers else None
        if kind == "reload":
            actions += supervisor.reload(now)
        elif kind == "ready" and worker is not None:
            if supervisor.state(worker).name == "STARTING":
                actions += supervisor.handle(SaidReady(worker), now)
        elif kind == "exited" and worker is not None:
            actions += supervisor.handle(Exited(worker, "ended"), now)
        elif kind == "tick":
            actions += supervisor.handle(Tick(), now)
    return actions, now
