"""Standing still, going and arriving: those of one key together, or not at all."""

import asyncio

import pytest

from maitred.worker import moving
from maitred.worker.moving import Arrival, Arrivals, Envelope, move


class Fake:
    """One that moves, and notes what it is told."""

    def __init__(self, state=b"s", *, still=True, over=False, unread=b""):
        """Be as it is said."""
        self.state, self.is_still, self.is_over = state, still, over
        self.unread = unread
        self.told = []

    def pause(self):
        """Note it."""
        self.told.append("pause")

    def resume(self):
        """Note it."""
        self.told.append("resume")

    def freeze(self):
        """Give the state, or raise it."""
        if isinstance(self.state, Exception):
            raise self.state
        return self.state

    def detach(self):
        """Note it."""
        self.told.append("detach")

    def leave(self, frozen):
        """Note it."""
        self.told.append(Envelope.unpacked(frozen))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(moving, "PATIENCE", 0.05)


def test_all_go_with_one_move_and_know_how_many_they_are():
    """Everybody is detached before anybody leaves."""
    group = [Fake(b"a"), Fake(b"b"), Fake(over=True)]
    assert asyncio.run(move(group)) == ""
    first, second, gone = group
    assert first.told[:2] == second.told[:2] == ["pause", "detach"]
    assert first.told[2] == Envelope(second.told[2].move, 2, b"a")
    assert second.told[2].state == b"b"
    assert gone.told == ["pause"]


def test_nobody_goes_if_one_does_not_stand_still():
    """All go on where they are."""
    group = [Fake(), Fake(still=False)]
    why = asyncio.run(move(group))
    assert why == "1 of its connections did not stand still in time"
    assert [each.told for each in group] == [["pause", "resume"]] * 2


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (Fake(KeyError("k")), "freeze() failed: KeyError: 'k'"),
        (Fake(bytes(moving.MOST_LUGGAGE + 1)), "larger than"),
        (Fake(unread=bytes(moving.MOST_LUGGAGE)), "larger than"),
        (Fake(7.5), "freeze() failed: TypeError"),
    ],
)
def test_nobody_goes_if_one_cannot_be_frozen(bad, why):
    """What is wrong is said."""
    group = [Fake(), bad]
    assert why in asyncio.run(move(group))
    assert [each.told for each in group] == [["pause", "resume"]] * 2


def test_envelope_comes_back_as_it_was():
    """Also with an empty state, which makes no empty envelope."""
    envelope = Envelope(b"12345678", 70_000, b"")
    assert envelope.packed()
    assert Envelope.unpacked(envelope.packed()) == envelope
    with pytest.raises(ValueError, match="3 bytes are no frozen connection"):
        Envelope.unpacked(b"ice")


def arrive(*comings):
    """Give who began together, when *comings*, (key, frozen), have come, and later."""

    async def main():
        begun = []
        arrivals = Arrivals(lambda group: begun.append(len(group)))
        for key, frozen in comings:
            arrivals.add(Arrival(), key, frozen)
        at_once = list(begun)
        await asyncio.sleep(0.2)
        assert not len(arrivals)
        return at_once, begun

    return asyncio.run(main())


def frozen(of, move_=b"m" * 8):
    """Give the envelope of one of *of*."""
    return Envelope(move_, of, b"s").packed()


def test_who_moved_begins_when_all_have_come():
    """And not before."""
    assert arrive(*[(b"k", frozen(3))] * 2)[0] == []
    assert arrive(*[(b"k", frozen(3))] * 3)[0] == [3]


def test_who_is_missing_is_not_waited_for_for_ever():
    """Those that are there go on."""
    assert arrive(*[(b"k", frozen(3))] * 2)[1] == [2]


def test_who_is_new_waits_only_where_others_arrive():
    """Of the same key; anybody else begins at once."""
    assert arrive((b"k", b""))[0] == [1]
    came = [(b"k", frozen(2)), (b"k", b""), (b"j", b""), (b"k", frozen(2))]
    assert arrive(*came)[0] == [1, 3]


def test_who_has_no_key_moves_alone():
    """There is nobody to wait for."""
    assert arrive((b"", frozen(1)), (b"", frozen(1)))[0] == [1, 1]
