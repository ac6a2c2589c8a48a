"""The table of keys: bounded, in order of use, and forgetful in time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maitred.placement import KeyTable


@pytest.fixture
def table():
    """A table of two slots that keeps three keys for ten seconds."""
    return KeyTable(2, limit=3, ttl=10.0)


def held(table, now=0.0):
    """List which of the tests' keys are in *table*; counts as a use of each."""
    return [key for key in (b"a", b"b", b"c", b"d") if table.use(key, now) is not None]


def test_owned_key_is_found(table):
    """A key leads to its slot."""
    table.own(b"a", 1, now=0.0)
    assert table.use(b"a", now=0.0) == 1
    assert table.use(b"b", now=0.0) is None
    assert len(table) == 1


def test_later_owner_takes_over(table):
    """Whoever owned a key before owns it no more."""
    table.own(b"a", 0, now=0.0)
    table.own(b"a", 1, now=0.0)
    assert table.use(b"a", now=0.0) == 1
    assert len(table) == 1


def test_least_recently_used_goes_first(table):
    """A full table forgets the key that was not used for longest."""
    for key in (b"a", b"b", b"c"):
        table.own(key, 0, now=0.0)
    table.use(b"a", now=1.0)
    table.own(b"d", 0, now=1.0)
    assert held(table, now=1.0) == [b"a", b"c", b"d"]


def test_owning_again_is_a_use(table):
    """A key that is claimed again is as fresh as a new one."""
    for key in (b"a", b"b", b"c", b"a", b"d"):
        table.own(key, 0, now=0.0)
    assert held(table) == [b"a", b"c", b"d"]


def test_unused_key_is_gone_after_its_time(table):
    """The time to live runs from the last use."""
    table.own(b"a", 0, now=0.0)
    assert table.use(b"a", now=9.9) == 0
    assert table.use(b"a", now=19.8) == 0
    assert table.use(b"a", now=29.8) is None
    assert len(table) == 0


def test_key_may_have_a_time_of_its_own(table):
    """Each use renews the time that was said when the key was owned."""
    table.own(b"a", 0, now=0.0, ttl=100.0)
    assert table.use(b"a", now=99.0) == 0
    assert table.use(b"a", now=198.0) == 0
    assert table.use(b"a", now=298.0) is None


def test_expired_keys_are_purged_when_one_is_added(table):
    """What nobody asks for any more does not stay."""
    table.own(b"a", 0, now=0.0, ttl=1.0)
    table.own(b"b", 0, now=0.0, ttl=2.0)
    table.own(b"c", 0, now=3.0)
    assert len(table) == 1


def test_key_without_a_time_to_live_is_gone_at_once(table):
    """A worker that claims a key for no time claims nothing, and breaks nothing."""
    table.own(b"a", 0, now=0.0, ttl=0.0, claimed=True)
    assert table.use(b"a", now=0.0) is None
    assert (len(table), table.claimed_by(0)) == (0, 0)


# Release.


def test_released_key_is_forgotten(table):
    """Nobody owns a key that was released; releasing it again changes nothing."""
    table.own(b"a", 0, now=0.0)
    table.release(b"a")
    table.release(b"a")
    assert table.use(b"a", now=0.0) is None


def test_key_is_released_by_its_owner_alone(table):
    """A slot cannot release what another one owns."""
    table.own(b"a", 0, now=0.0)
    table.release(b"a", slot=1)
    assert table.use(b"a", now=0.0) == 0
    table.release(b"a", slot=0)
    assert table.use(b"a", now=0.0) is None


# Claims.


def test_claimed_keys_are_counted_by_slot(table):
    """The count follows every way in which a key can come and go."""
    table.own(b"a", 0, now=0.0, claimed=True)
    table.own(b"b", 0, now=0.0, claimed=True)
    table.own(b"c", 1, now=0.0)
    assert (table.claimed_by(0), table.claimed_by(1)) == (2, 0)
    table.own(b"a", 1, now=0.0, claimed=True)  # another owner
    assert (table.claimed_by(0), table.claimed_by(1)) == (1, 1)
    table.own(b"a", 1, now=0.0, claimed=True)  # renewed
    assert table.claimed_by(1) == 1
    table.own(b"d", 1, now=0.0, claimed=True)  # pushes b out
    assert (table.claimed_by(0), table.claimed_by(1)) == (0, 2)
    table.release(b"a")
    assert table.claimed_by(1) == 1
    assert table.use(b"d", now=10.0) is None  # expired
    assert table.claimed_by(1) == 0


def test_claims_of_a_slot_are_released_together(table):
    """What a worker's application made dies with it; what clients made stays."""
    table.own(b"a", 0, now=0.0, claimed=True)
    table.own(b"b", 0, now=0.0)
    table.own(b"c", 1, now=0.0, claimed=True)
    table.release_claimed(0)
    assert held(table) == [b"b", b"c"]
    assert (table.claimed_by(0), table.claimed_by(1)) == (0, 1)


def test_slot_without_claims_has_none_to_release(table):
    """Releasing nothing changes nothing."""
    table.own(b"a", 0, now=0.0)
    table.release_claimed(0)
    assert held(table) == [b"a"]


# What is lost unasked.


def test_nothing_is_lost_that_was_given_up(table):
    """A released key, or one whose time is over, is no news to its owner."""
    table.own(b"a", 0, now=0.0)
    table.own(b"b", 0, now=0.0, claimed=True)
    table.own(b"c", 0, now=0.0, ttl=1.0)
    table.own(b"c", 0, now=0.5, ttl=1.0)  # to the same slot again
    table.release(b"a")
    table.release_claimed(0)
    assert table.use(b"c", now=2.0) is None
    assert table.take_lost() == []


def test_key_that_changes_hands_is_lost_by_its_owner(table):
    """Told once."""
    table.own(b"a", 0, now=0.0)
    table.own(b"a", 1, now=0.0)
    assert table.take_lost() == [(b"a", 0)]
    assert table.take_lost() == []


def test_key_that_is_pushed_out_is_lost(table):
    """Whoever owned it may serve it no more."""
    for number, key in enumerate((b"a", b"b", b"c", b"d", b"e")):
        table.own(key, number % 2, now=0.0)
    assert table.take_lost() == [(b"a", 0), (b"b", 1)]


def test_expired_key_that_is_purged_is_lost(table):
    """Its owner has given it up by then; saying so again does no harm."""
    table.own(b"a", 1, now=0.0, ttl=1.0)
    table.own(b"b", 0, now=2.0)
    assert table.take_lost() == [(b"a", 1)]


KEYS = st.sampled_from([b"%d" % number for number in range(8)])
SLOTS = st.integers(0, 1)
STEPS = st.one_of(
    st.tuples(
        st.just("own"), KEYS, SLOTS, st.sampled_from([None, 0, 3]), st.booleans()
    ),
    st.tuples(st.just("use"), KEYS),
    st.tuples(st.just("release"), KEYS, st.none() | SLOTS),
    st.tuples(st.just("release_claimed"), SLOTS),
    st.tuples(st.just("wait"), st.integers(0, 6)),
)


@given(st.lists(STEPS, max_size=40))
def test_counts_and_bounds_hold_whatever_happens(steps):
    """The table is never over its limit, and its counts are those of its entries."""
    table, now = KeyTable(2, limit=4, ttl=5.0), 0.0
    for name, *arguments in steps:
        match name:
            case "own":
                key, slot, ttl, claimed = arguments
                table.own(key, slot, now, ttl, claimed=claimed)
                assert table.use(key, now) == (None if ttl == 0 else slot)
            case "use":
                table.use(*arguments, now)
            case "wait":
                now += arguments[0]
            case _:
                getattr(table, name)(*arguments)
        assert len(table) <= 4
        claimed = [o.slot for o in table._owned.values() if o.claimed]
        assert [table.claimed_by(s) for s in (0, 1)] == [
            claimed.count(s) for s in (0, 1)
        ]


def test_table_that_is_filled_is_as_the_other_was(table):
    """Every key with its owner, its time to live and its turn to be forgotten."""
    table.own(b"a\xff\0", 0, now=0.0, ttl=50.0)
    table.own(b"b", 1, now=1.0, claimed=True)
    table.use(b"a\xff\0", now=2.0)
    again = KeyTable(2, limit=3, ttl=10.0)
    again.fill(table.contents())
    assert again.contents() == table.contents()
    assert (again.claimed_by(0), again.claimed_by(1)) == (0, 1)
    assert again.use(b"a\xff\0", now=51.0) == 0
    assert again.use(b"b", now=11.0) is None
    assert again.claimed_by(1) == 0


def test_table_with_less_room_forgets_at_the_next_key(table):
    """The least recently used of what it was filled with goes first."""
    for key in (b"a", b"b", b"c"):
        table.own(key, 0, now=0.0)
    again = KeyTable(2, limit=2, ttl=10.0)
    again.fill(table.contents())
    again.own(b"d", 1, now=1.0)
    assert held(again, 1.0) == [b"c", b"d"]


def test_keys_of_a_slot_are_counted_while_they_live():
    """Those of others are not, nor those whose time is over."""
    table = KeyTable(2, limit=10, ttl=5.0)
    for key, slot, now in ((b"a", 0, 0.0), (b"b", 0, 3.0), (b"c", 1, 0.0)):
        table.own(key, slot, now)
    assert [table.count(0, now) for now in (4.0, 5.0, 8.0)] == [2, 1, 0]
    assert table.count(1, 4.0) == 1


def test_all_keys_of_a_slot_are_forgotten():
    """Claimed ones too; the other slots keep theirs."""
    table = KeyTable(2, limit=10, ttl=5.0)
    table.own(b"a", 0, 0.0)
    table.own(b"b", 0, 0.0, claimed=True)
    table.own(b"c", 1, 0.0)
    table.release_all(0)
    assert [table.use(key, 1.0) for key in (b"a", b"b", b"c")] == [None, None, 1]
    assert table.claimed_by(0) == 0


def test_keys_of_the_last_slots_are_counted():
    """Those that the application made are counted by themselves."""
    table = KeyTable(1, limit=8, ttl=60.0)
    table.resize(3)
    table.own(b"a", 0, 0.0)
    table.own(b"b", 1, 0.0)
    table.own(b"c", 2, 0.0, claimed=True)
    assert table.counts(1) == (1, 1)
    assert table.claimed_by(2) == 1
    table.resize(1)
    assert table.claimed_by(2) == 1


def test_looking_is_no_use():
    """What is only looked at is forgotten when its time has come."""
    table = KeyTable(1, limit=8, ttl=60.0)
    table.own(b"a", 0, 0.0)
    table.own(b"b", 0, 30.0)
    assert table.find(b"a", 59.0).slot == 0
    assert [key for key, _ in table.alive(59.0)] == [b"b", b"a"]
    assert table.find(b"a", 60.0) is None
    assert [key for key, _ in table.alive(60.0)] == [b"b"]


def test_keys_may_come_and_go_while_they_are_walked():
    """What has gone is not given any more, and nothing breaks."""
    table = KeyTable(2, limit=10, ttl=60.0)
    for name in (b"a", b"b", b"c"):
        table.own(name, 0, 0.0)
    walk = table.alive(1.0)
    assert next(walk)[0] == b"c"
    table.release(b"b")
    table.own(b"d", 1, 1.0)
    assert [key for key, _ in walk] == [b"a"]
