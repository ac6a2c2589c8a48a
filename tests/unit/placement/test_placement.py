"""Placement: the table first, the policy second."""

import random

import pytest

from maitred.placement import POLICIES, KeyTable, Placement, Slot


class Recorder:
    """A policy that gives what it is told to, and remembers what it was asked."""

    def __init__(self):
        self.answer = None
        self.asked = []

    def __call__(self, slots, key):
        """Choose, and remember the key."""
        self.asked.append(key)
        return self.answer


@pytest.fixture
def policy():
    """A policy under the test's control."""
    return Recorder()


@pytest.fixture
def slots():
    """Two slots, both with room."""
    return [Slot(index, window=2, ready=True) for index in range(2)]


@pytest.fixture
def placement(slots, policy):
    """Placement that remembers what the policy chose."""
    keys = KeyTable(2, limit=10, ttl=10.0)
    return Placement(slots, policy, keys, remembers=True)


def test_known_key_has_an_owner(placement, slots, policy):
    """The owner of a key is found without asking the policy."""
    placement.keys.own(b"k", 1, now=0.0)
    assert placement.owner(b"k", now=0.0) is slots[1]
    assert policy.asked == []


def test_owner_needs_no_room(placement, slots):
    """A session waits for its own worker, whether that has room or not."""
    placement.keys.own(b"k", 1, now=0.0)
    slots[1].ready = False
    assert placement.owner(b"k", now=0.0) is slots[1]


def test_asking_for_the_owner_is_a_use(placement, slots):
    """A session that is used is not forgotten."""
    placement.keys.own(b"k", 1, now=0.0)
    assert placement.owner(b"k", now=9.0) is slots[1]
    assert placement.owner(b"k", now=18.0) is slots[1]
    assert placement.owner(b"k", now=28.0) is None


def test_unknown_key_has_no_owner(placement):
    """Nobody owns what nobody said."""
    assert placement.owner(b"k", now=0.0) is None


def test_key_of_a_client_stays_where_the_policy_put_it(placement, slots, policy):
    """The first choice is remembered."""
    policy.answer = slots[1]
    assert placement.choose(b"k", learned=False, now=0.0) is slots[1]
    assert policy.asked == [b"k"]
    assert placement.owner(b"k", now=0.0) is slots[1]
    assert placement.keys.claimed_by(1) == 0


def test_key_that_the_server_makes_is_not_remembered(placement, slots, policy):
    """Names that nobody made cannot fill the table."""
    policy.answer = slots[1]
    assert placement.choose(b"k", learned=True, now=0.0) is slots[1]
    assert len(placement.keys) == 0


def test_no_key_is_nothing_to_remember(placement, slots, policy):
    """A connection without a key is placed by the policy alone."""
    policy.answer = slots[0]
    assert placement.choose(None, learned=False, now=0.0) is slots[0]
    assert len(placement.keys) == 0


def test_key_waits_unremembered_while_nobody_has_room(placement):
    """A key that was not placed has no owner."""
    assert placement.choose(b"k", learned=False, now=0.0) is None
    assert len(placement.keys) == 0


def test_policy_that_needs_no_memory_gets_none(slots, policy):
    """Where the key alone decides, the table stays empty."""
    keys = KeyTable(2, limit=10, ttl=10.0)
    placement = Placement(slots, policy, keys, remembers=False)
    policy.answer = slots[1]
    assert placement.choose(b"k", learned=False, now=0.0) is slots[1]
    assert len(keys) == 0


# What workers say of keys.


def test_claimed_key_is_its_workers(placement, slots):
    """Whoever had it before has lost it."""
    placement.keys.own(b"k", 0, now=0.0)
    placement.claim(b"k", 1, now=0.0, ttl=5.0)
    assert placement.owner(b"k", now=4.9) is slots[1]
    assert placement.keys.claimed_by(1) == 1
    assert placement.keys.take_lost() == [(b"k", 0)]
    assert placement.owner(b"k", now=10.0) is None


def test_renewing_is_a_use(placement, slots):
    """A session whose connection is kept is not forgotten."""
    placement.keys.own(b"k", 1, now=0.0)
    assert placement.renew(b"k", 1, now=9.0)
    assert placement.owner(b"k", now=18.0) is slots[1]


def test_renewing_a_forgotten_key_owns_it(placement, slots):
    """Nobody else has it, and it is in use there."""
    assert placement.renew(b"k", 1, now=0.0)
    assert placement.owner(b"k", now=0.0) is slots[1]
    assert placement.keys.claimed_by(1) == 0


def test_renewing_leaves_a_claimed_key_claimed(placement):
    """It still dies with the worker whose application made it."""
    placement.claim(b"k", 1, now=0.0, ttl=5.0)
    assert placement.renew(b"k", 1, now=1.0)
    assert placement.keys.claimed_by(1) == 1


def test_key_of_another_cannot_be_renewed(placement, slots):
    """One owner: whoever else asks is told no."""
    placement.keys.own(b"k", 0, now=0.0)
    assert not placement.renew(b"k", 1, now=0.0)
    assert placement.owner(b"k", now=0.0) is slots[0]


def test_renewing_needs_no_memory_where_the_key_decides(slots, policy):
    """The table stays empty."""
    keys = KeyTable(2, limit=10, ttl=10.0)
    placement = Placement(slots, policy, keys, remembers=False)
    assert placement.renew(b"k", 1, now=0.0)
    assert len(keys) == 0


@pytest.fixture
def named(slots, policy):
    """Placement where a key may be a digit: the slot's own number."""
    keys = KeyTable(2, limit=10, ttl=10.0)
    return Placement(
        slots,
        policy,
        keys,
        remembers=True,
        named=lambda key: int(key) if key.isdigit() else None,
    )


def test_key_that_names_a_slot_needs_no_table(named, slots, policy):
    """The slot is the owner at once, and nothing is remembered."""
    assert named.owner(b"0", 0.0) is slots[0]
    assert named.owner(b"1", 1e9) is slots[1]
    assert len(named.keys) == 0
    assert policy.asked == []


def test_slot_that_is_named_keeps_its_clients_while_it_is_empty(named, slots):
    """Its next worker is waited for: the client belongs to the slot."""
    slots[1].ready = False
    assert named.owner(b"1", 0.0) is slots[1]


def test_named_slot_that_is_not_there_has_no_owner(named, slots, policy):
    """Whoever says so is placed by the policy, and not remembered."""
    policy.answer = slots[0]
    assert named.owner(b"2", 0.0) is None
    assert named.choose(b"2", learned=True, now=0.0) is slots[0]
    assert len(named.keys) == 0


def test_other_keys_stand_in_the_table_beside(named, slots):
    """A key that names no slot is looked up as ever."""
    named.claim(b"a", 1, 0.0, ttl=10.0)
    assert named.owner(b"a", 1.0) is slots[1]
    assert named.owner(b"b", 1.0) is None


def test_new_key_is_conceded_to_the_slot_that_has_it(placement):
    """What cannot be moved makes its key the slot's, and nobody else's then."""
    assert placement.concede(b"k", 1, 0.0, learned=False)
    assert placement.owner(b"k", 1.0).index == 1
    assert placement.concede(b"k", 1, 2.0, learned=False)
    assert not placement.concede(b"k", 0, 3.0, learned=False)


def test_learned_key_nobody_made_is_conceded_and_not_remembered(placement):
    """The application says itself that there is no such session."""
    assert placement.concede(b"k", 0, 0.0, learned=True)
    assert placement.owner(b"k", 1.0) is None
    placement.claim(b"k", 1, 2.0, 10.0)
    assert not placement.concede(b"k", 0, 3.0, learned=True)


def test_key_that_names_a_slot_is_conceded_to_that_slot(named):
    """Nobody else may serve it, and nothing is remembered."""
    assert named.concede(b"1", 1, 0.0, learned=True)
    assert not named.concede(b"1", 0, 0.0, learned=True)
    assert len(named.keys) == 0


def test_key_that_decides_alone_is_conceded_where_it_decides(slots, policy):
    """A policy that remembers nothing is asked."""
    keys = KeyTable(2, limit=10, ttl=10.0)
    placement = Placement(slots, policy, keys, remembers=False)
    policy.answer = slots[1]
    assert placement.concede(b"k", 1, 0.0, learned=False)
    assert not placement.concede(b"k", 0, 0.0, learned=False)
    assert len(keys) == 0


@pytest.mark.parametrize("policy", ["least", "round-robin"])
def test_elder_gets_what_is_its_own_and_nothing_new(policy):
    """A known key goes there, whatever else goes elsewhere."""
    slots = [Slot(0, 9, ready=True, elder=True), Slot(1, 9, ready=True)]
    keys = KeyTable(2, limit=9, ttl=9.0)
    choose = POLICIES[policy].make(random.Random(1), b"k")
    placement = Placement(slots, choose, keys, remembers=True)
    keys.own(b"old", 0, 0.0)
    assert placement.owner(b"old", 1.0) is slots[0]
    for key in (None, b"a", b"b", b"c"):
        assert placement.choose(key, learned=False, now=1.0) is slots[1]


def test_name_of_an_elder_that_left_is_its_successors():
    """The same place in the other set of slots; the key strays there."""
    slots = [Slot(n, 9, ready=n > 1, elder=n < 2) for n in range(4)]
    placement = Placement(
        slots,
        POLICIES["least"].make(random.Random(1), b"k"),
        KeyTable(4, limit=9, ttl=9.0),
        remembers=True,
        named=lambda key: int(key) if key.isdigit() else None,
    )
    assert placement.owner(b"1", 0.0) is slots[3]
    assert placement.owner(b"3", 0.0) is slots[3]
    assert placement.strays(b"1", 3)
    assert not placement.strays(b"3", 3)
    assert not placement.strays(b"name", 3)


def test_closed_slot_is_nobodys():
    """A key that names it is placed anew; no policy chooses it."""
    slots = [Slot(0, 8, ready=True), Slot(1, 8, closed=True)]
    for name in POLICIES:
        policy = POLICIES[name]
        keys = KeyTable(2, limit=8, ttl=60.0)
        placement = Placement(
            slots,
            policy.make(random.Random(1), b""),
            keys,
            remembers=policy.remembers,
            named=lambda _: 1,
        )
        assert placement.owner(b"slot:1", 0.0) is None
        chosen = {
            placement.choose(b"%d" % n, learned=False, now=0.0).index for n in range(20)
        }
        assert chosen == {0}
