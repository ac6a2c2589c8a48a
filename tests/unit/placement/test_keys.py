"""The table of keys: bounded, in order of use, and forgetful in time."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maitred.placement import Contents, KeyTable, Page
from maitred.placement import keys as module


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


def test_what_was_used_in_the_last_minute_outlives_what_was_not():
    """However many new ones come, as long as there is an older one to take."""
    table = KeyTable(2, limit=100, ttl=3600.0)
    for number in range(100):
        table.own(b"old %d" % number, 0, now=0.0)
    for number in range(0, 100, 10):
        table.use(b"old %d" % number, now=100.0)
    for number in range(90):
        table.own(b"new %d" % number, 1, now=150.0)
    assert table.evicted == 90
    kept = [n for n in range(100) if table.use(b"old %d" % n, now=150.0) is not None]
    assert kept == list(range(0, 100, 10))


def test_what_has_expired_is_not_evicted():
    """It would have gone anyway."""
    table = KeyTable(1, limit=2, ttl=10.0)
    table.own(b"a", 0, now=0.0)
    table.own(b"b", 0, now=0.0)
    table.own(b"c", 0, now=20.0)
    assert table.evicted == 0
    table.own(b"d", 0, now=20.0)
    table.own(b"e", 0, now=20.0)
    assert table.evicted == 1


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
    st.tuples(st.just("release_all"), SLOTS),
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
        here = [table._homes.get(place) for place, *_ in table._owned.values()]
        assert here.count(None) == table._debris
        assert table.size == sum(
            256 + len(key)
            for key, (place, *_) in table._owned.items()
            if place in table._homes
        )
        claimed = [home.slot for home in here if home and home.claimed]
        assert [table.claimed_by(s) for s in (0, 1)] == [
            claimed.count(s) for s in (0, 1)
        ]


OLD = Contents(
    keys=["b", "a\xff\0"],
    slots=[1, 0],
    ttls=[10.0, 50.0],
    expires=[11.0, 52.0],
    claimed=[True, False],
)
"What a master of an earlier version wrote: b at 1 s, and a\xff\0 at 2 s."


def test_table_of_an_earlier_version_is_as_that_was(table):
    """Every key with its owner, its time to live and its turn to be forgotten."""
    table.fill(OLD)
    assert [key for key, _ in table.alive(2.0)] == [b"a\xff\0", b"b"]
    assert (table.claimed_by(0), table.claimed_by(1)) == (0, 1)
    assert table.find(b"a\xff\0", 51.0) == (0, 50.0, 52.0, False)
    assert table.use(b"b", now=11.0) is None
    assert table.claimed_by(1) == 0


def test_table_with_less_room_forgets_the_oldest():
    """The least recently used of what it was filled with goes first."""
    table = KeyTable(2, limit=1, ttl=10.0)
    table.fill(OLD)
    assert held(table, 2.0) == []
    assert [key for key, _ in table.alive(2.0)] == [b"a\xff\0"]


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


# Bytes.


def test_table_is_bounded_in_bytes():
    """Long names push out what was used least recently, however few they are."""
    table = KeyTable(2, limit=100, ttl=60.0, most_bytes=100_000)
    table.own(b"honest", 1, 0.0)
    for number in range(20):
        table.own(b"%d" % number + b"x" * 30_000, 0, 1.0, claimed=True)
        assert table.size <= 100_000
    assert len(table) == 3
    assert table.take_lost()[0] == (b"honest", 1)


def test_name_that_is_longer_than_the_table_is_not_kept():
    """It pushes out the others and then itself; nothing breaks."""
    table = KeyTable(1, limit=10, ttl=60.0, most_bytes=1000)
    table.own(b"x" * 2000, 0, 0.0)
    assert (len(table), table.size) == (0, 0)


def test_honest_names_are_bounded_in_number_alone():
    """As many of the longest that affinities make fit as are allowed."""
    table = KeyTable(1, limit=500, ttl=60.0)
    for number in range(600):
        table.own(b"cookie:session=%0145d" % number, 0, 0.0)
    assert len(table) == 500


# What is given up at once, and taken out later.


class Counting(dict):
    """A table's entries, which count how often one is looked at or walked over."""

    work = 0

    def get(self, *arguments):
        """Count a look."""
        self.work += 1
        return super().get(*arguments)

    def __iter__(self):
        """Count a walk."""
        self.work += len(self)
        return super().__iter__()

    def items(self):
        """Count a walk over what is looked at at once."""
        self.work += min(len(self), module.OLDEST)
        return super().items()


@pytest.fixture
def large():
    """A table of two slots with 20,000 keys, half of them claimed, that counts."""
    table = KeyTable(2, limit=20_000, ttl=60.0)
    for number in range(20_000):
        table.own(b"%d" % number, number % 2, 0.0, claimed=number % 4 > 1)
    table._owned = Counting(table._owned)
    return table


@pytest.mark.parametrize("name", ["release_claimed", "release_all"])
def test_giving_up_a_place_is_no_work(large, name):
    """It takes as long with twenty thousand keys as with one, and so does counting."""
    getattr(large, name)(0)
    assert large.claimed_by(0) == 0
    assert large.count(0, 1.0) == (5000 if name == "release_claimed" else 0)
    assert large.counts(0)[1] == 5000
    assert len(large) == (15_000 if name == "release_claimed" else 10_000)
    assert large._owned.work == 0
    assert large.use(b"2", 1.0) is None  # claimed, of slot 0
    assert large.use(b"3", 1.0) == 1


def test_what_was_given_up_leaves_the_table_little_by_little(large):
    """No new key pays for more than a few; nothing that lives is pushed out."""
    large.release_all(0)
    large.own(b"first", 1, 1.0)  # the walk begins, once
    for number in range(3000):
        large._owned.work = 0
        large.own(b"new %d" % number, 1, 1.0)
        assert large._owned.work < 2000
    assert len(large) == len(large._owned) == 13_001
    assert large._debris == 0
    assert large.take_lost() == []


def test_slot_that_is_given_up_again_and_again_stays_small():
    """Entries of places that were given up are no more than the table may hold."""
    table = KeyTable(1, limit=1000, ttl=60.0)
    for number in range(20_000):
        table.own(b"%d" % number, 0, 0.0, claimed=True)
        if number % 100 == 0:
            table.release_claimed(0)
        assert len(table._owned) <= 1500


def test_sweep_takes_out_what_has_expired():
    """Whoever counts in a large table gets the right number in the end."""
    table = KeyTable(1, limit=20_000, ttl=60.0)
    for number in range(10_000):
        table.own(b"%d" % number, 0, 0.0, ttl=1.0 if number % 2 else 60.0)
    assert table.count(0, 2.0) == 10_000
    for _ in range(10):
        table.sweep(2.0, 1000)
    assert table.count(0, 2.0) == len(table) == 5000


# What a successor is told.


def handed_over(table, between=lambda: None, **changes):
    """Give the table of a successor, which has unpacked nothing yet."""
    pages = []
    for page in table.pages():
        pages.append(page)
        between()
    pages.append(table.page_of_changes())
    told = {"limit": 10_000, "ttl": 10.0} | changes
    again = KeyTable(2, **told)
    again.restore(table.state(), [Page(page) for page in pages])
    return again


def unpack(table):
    """Unpack all."""
    while table.unpack():
        pass


def test_successor_has_the_same_table(table):
    """Every key with its owner, its time to live and its turn to be forgotten."""
    table.own(b"a\xff\0", 0, now=0.0, ttl=50.0)
    table.own(b"b", 1, now=1.0, claimed=True)
    table.use(b"a\xff\0", now=2.0)
    again = handed_over(table)
    assert (len(again), again.size) == (len(table), table.size)
    assert (again.claimed_by(0), again.claimed_by(1)) == (0, 1)
    unpack(again)
    assert list(again._owned.items()) == list(table._owned.items())
    assert again.use(b"a\xff\0", now=51.0) == 0
    assert again.use(b"b", now=11.0) is None
    assert (len(again), again.claimed_by(1)) == (1, 0)


@given(
    st.lists(STEPS, max_size=30),
    st.lists(STEPS, max_size=10),
    st.lists(STEPS, max_size=30),
    st.integers(1, 3),
    st.integers(0, 5),
)
def test_successor_goes_on_as_the_predecessor_would_have(
    first, between, then, size, unpacked
):
    """Whatever comes before, while it is written down, and before it is unpacked."""
    ours, now = KeyTable(2, limit=4, ttl=5.0), [0.0]

    def play(table, steps):
        seen = []
        for name, *arguments in steps:
            match name:
                case "own":
                    key, slot, ttl, claimed = arguments
                    table.own(key, slot, now[0], ttl, claimed=claimed)
                case "use":
                    seen.append(table.use(*arguments, now[0]))
                case "wait":
                    now[0] += arguments[0]
                case _:
                    getattr(table, name)(*arguments)
        return seen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PAGE", size)
        play(ours, first)
        steps = iter(between)
        theirs = handed_over(
            ours, lambda: play(ours, [*islice(steps, 1)]), limit=1000, ttl=5.0
        )
    ours.end_pages()
    ours._limit = 1000
    for _ in range(unpacked):
        theirs.unpack()
    start = now[0]
    seen = play(theirs, then)
    now[0] = start
    assert seen == play(ours, then)
    unpack(theirs)
    alive = [list(table.alive(now[0])) for table in (ours, theirs)]
    assert alive[0] == alive[1]
    assert [theirs.count(s, now[0]) for s in (0, 1)] == [
        ours.count(s, now[0]) for s in (0, 1)
    ]
    for table in (ours, theirs):
        table.sweep(now[0], 100)
        table.sweep(now[0], 100)
    assert (len(ours), ours.size, ours._debris) == (
        len(theirs),
        theirs.size,
        theirs._debris,
    )


def test_each_page_is_a_bounded_piece_of_work(monkeypatch):
    """However many keys there are, no step writes or unpacks more than a page."""
    monkeypatch.setattr(module, "PAGE", 100)
    table = KeyTable(2, limit=10_000, ttl=60.0)
    for number in range(5000):
        table.own(b"%d" % number, 0, 0.0)
    pages = list(table.pages())
    assert len(pages) == 50
    assert max(len(Page(page)) for page in pages) == 100
    assert len(Page(table.page_of_changes())) == 0
    for number in range(3):
        table.use(b"%d" % number, 1.0)
    table.release(b"7")
    assert len(Page(table.page_of_changes(last=False))) == 4
    assert len(Page(table.page_of_changes())) == 0


@pytest.mark.parametrize("cut", [1, 8, 40])
def test_page_that_is_not_whole_is_refused(cut):
    """It is found out in a rehearsal, not when a client asks."""
    table = KeyTable(1, limit=10, ttl=60.0)
    table.own(b"key", 0, 0.0)
    (page,) = table.pages()
    with pytest.raises(ValueError, match="page"):
        Page(page[:-cut])


def test_page_tells_names_of_one_hash_apart(monkeypatch):
    """Two names that have the same hash have each its own entry."""
    monkeypatch.setattr("zlib.crc32", lambda name: 7)
    table = KeyTable(2, limit=10, ttl=60.0)
    table.own(b"one", 0, 0.0)
    table.own(b"other", 1, 0.0)
    page = Page(next(table.pages()))
    assert page.find(b"one") != page.find(b"other")
    assert page.find(b"none") is None
