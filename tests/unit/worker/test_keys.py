"""The keys of one worker: granted, made, used in time, revoked, bounded."""

import pytest

from maitred.worker.keys import TELL_AGAIN, TOO_LATE, OwnKeys

TTL = 100.0


class Told:
    """What the master was told, and the time."""

    def __init__(self):
        self.now = 50.0
        self.said = []
        self.keys = OwnKeys(
            ttl=TTL,
            claim=lambda key, made: self.said.append(("claim", key, made)),
            release=lambda key: self.said.append(("release", key)),
            clock=lambda: self.now,
        )


@pytest.fixture
def told():
    """A worker's keys."""
    return Told()


def test_nothing_is_ours_unasked(told):
    """A key that nobody granted is another's."""
    assert not told.keys.has(b"a")
    assert told.said == []


def test_granted_key_is_ours(told):
    """What the master placed here is served here, and it need not be told."""
    told.keys.grant(b"a")
    assert told.keys.has(b"a")
    assert told.said == []


def test_made_key_is_claimed_and_ours(told):
    """What the application made is claimed, once."""
    told.keys.made(b"a")
    told.keys.made(b"a")
    assert told.said == [("claim", b"a", True)]
    assert told.keys.has(b"a")


def test_granted_key_that_the_application_makes_is_claimed(told):
    """From then on it dies with this process, which the master has to know."""
    told.keys.grant(b"a")
    told.keys.made(b"a")
    assert told.said == [("claim", b"a", True)]


def test_granting_a_made_key_changes_nothing(told):
    """The master sends more connections for it; it was made all the same."""
    told.keys.made(b"a")
    told.keys.grant(b"a")
    told.now += TTL * TELL_AGAIN + 1
    told.keys.has(b"a")
    assert told.said == [("claim", b"a", True)] * 2


@pytest.mark.parametrize("made", [False, True])
def test_key_in_use_is_told_again_in_time(told, made):
    """Once for each quarter of its time to live, and it keeps its kind."""
    (told.keys.made if made else told.keys.grant)(b"a")
    told.said.clear()
    for _ in range(20):
        told.now += TTL * TELL_AGAIN
        assert told.keys.has(b"a")
        assert told.said == []
        told.now += 1
        assert told.keys.has(b"a")
        assert told.keys.has(b"a")
        assert told.said.pop() == ("claim", b"a", made)
        assert told.said == []


def test_key_that_was_not_used_for_long_is_not_ours(told):
    """The master may have forgotten it, or be about to: it decides anew."""
    told.keys.grant(b"a")
    told.now += TTL * TOO_LATE + 1
    assert not told.keys.has(b"a")
    assert told.said == []
    told.keys.grant(b"a")
    assert told.keys.has(b"a")


def test_made_key_is_claimed_again_when_it_is_repeated(told):
    """A response that names an old session tells the master of it anew."""
    told.keys.made(b"a")
    told.now += TTL * 2
    told.keys.made(b"a")
    assert told.said == [("claim", b"a", True)] * 2
    assert told.keys.has(b"a")


def test_times_leave_room_for_a_message(told):
    """A key is told again long before it is given up, and given up before it ends."""
    assert 0 < TELL_AGAIN < TOO_LATE < 1


def test_revoked_key_is_not_ours(told):
    """What the master takes away is gone, and may come back."""
    told.keys.grant(b"a")
    told.keys.revoke(b"a")
    told.keys.revoke(b"b")
    assert not told.keys.has(b"a")
    assert told.said == []
    told.keys.grant(b"a")
    assert told.keys.has(b"a")


def test_session_that_is_over_is_released(told):
    """The master learns that it is over; it can begin again."""
    told.keys.made(b"a")
    told.keys.over(b"a")
    assert not told.keys.has(b"a")
    told.keys.made(b"a")
    assert told.said == [
        ("claim", b"a", True),
        ("release", b"a"),
        ("claim", b"a", True),
    ]


def test_keys_are_bounded(told, monkeypatch):
    """The one that was told longest ago is forgotten first."""
    monkeypatch.setattr("maitred.worker.keys.MOST", 2)
    for key in (b"a", b"b"):
        told.keys.grant(key)
        told.now += TTL * TELL_AGAIN / 2 + 1
    assert told.keys.has(b"a")  # told again, so it is the newest
    told.keys.grant(b"c")
    assert [told.keys.has(key) for key in (b"a", b"b", b"c")] == [True, False, True]


def test_keys_are_told_to_a_new_home(told):
    """Those that are its, with who made them; none that is over, or given up."""
    told.keys.grant(b"h1")
    told.keys.grant(b"other")
    told.keys.made(b"h2")
    told.keys.grant(b"h-over")
    told.keys.over(b"h-over")
    told.keys.grant(b"h-revoked")
    told.keys.revoke(b"h-revoked")
    found = told.keys.tell(lambda key: key.startswith(b"h"))
    assert sorted(found) == [(b"h1", False), (b"h2", True)]
    told.now += TTL * TOO_LATE + 1
    assert told.keys.tell(lambda _: True) == []


def test_key_that_was_told_anew_lives_on(told):
    """The new home knows it from then on, so it need not be told at once again."""
    told.keys.made(b"a")
    told.now += TTL * TELL_AGAIN + 1
    assert told.keys.tell(lambda _: True) == [(b"a", True)]
    told.said.clear()
    assert told.keys.has(b"a")
    assert told.said == []
