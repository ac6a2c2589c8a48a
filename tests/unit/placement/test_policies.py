"""The policies, each for what makes it different; what they share is a contract."""

import hashlib
from collections import Counter
from random import Random

import pytest

from maitred.placement import POLICIES, Slot
from maitred.placement.policies import least, rendezvous, round_robin

HASH_KEY = bytes(range(16))


def slots(count, **details):
    """Make *count* slots with room."""
    details = {"window": 10_000, "ready": True} | details
    return [Slot(index, **details) for index in range(count)]


class Chosen:
    """Stands in for random numbers: gives those it was made of."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def randrange(self, stop):
        """Give the next number."""
        number = self.numbers.pop(0)
        assert number < stop
        return number


# least


@pytest.mark.parametrize(
    ("one", "two", "compared"),
    [(0, 0, {0, 1}), (0, 1, {0, 2}), (1, 0, {1, 0}), (1, 1, {1, 2}), (2, 1, {2, 1})],
)
@pytest.mark.parametrize("better", [0, 1, 2])
def test_least_takes_the_better_of_two(one, two, compared, better):
    """Two different slots are compared, and the less loaded one is taken."""
    pool = slots(3, open=5)
    pool[better].open = 1
    chosen = least(Chosen(one, two), b"")(pool, None)
    assert chosen.index in compared
    assert (chosen.index == better) is (better in compared)


def test_least_looks_at_slots_with_room_only():
    """What is full or empty is not in the draw."""
    pool = slots(4, open=9)
    pool[1].ready = False
    pool[3].in_flight = pool[3].window
    pool[2].open = 1
    assert least(Chosen(0, 0), b"")(pool, None) is pool[2]


def test_least_needs_no_choice_between_one():
    """One slot with room is taken without a draw, none gives None."""
    pool = slots(2)
    pool[0].ready = False
    assert least(Chosen(), b"")(pool, None) is pool[1]
    pool[1].ready = False
    assert least(Chosen(), b"")(pool, None) is None


@pytest.mark.parametrize("seed", range(20))
def test_least_is_balanced(seed):
    """After 1,000 connections, no slot of four is 2 % away from the mean."""
    choose, pool = least(Random(seed), b""), slots(4)
    for _ in range(1000):
        choose(pool, None).open += 1
    assert all(abs(slot.open - 250) <= 5 for slot in pool)


def test_least_fills_what_is_behind():
    """A worker that was just replaced catches up, without getting a burst alone."""
    choose, pool = least(Random(1), b""), slots(4, open=100)
    pool[0].open = 0
    first = Counter()
    for _ in range(100):
        slot = choose(pool, None)
        slot.open += 1
        first[slot.index] += 1
    assert 35 <= first[0] <= 65


# hash


def test_hash_gives_a_key_its_slot_with_room_or_without():
    """The key alone decides."""
    choose, pool = rendezvous(Random(1), HASH_KEY), slots(4)
    chosen = choose(pool, b"k")
    chosen.ready = False
    assert choose(pool, b"k") is chosen


def test_hash_without_a_key_is_least():
    """There is nothing to hash, so load decides."""
    choose = rendezvous(Chosen(0, 0), HASH_KEY)
    pool = slots(2)
    pool[0].open = 1
    assert choose(pool, None) is pool[1]


@pytest.mark.parametrize(
    ("key", "slot"),
    [(b"", 2), (b"a", 1), (b"b", 0), (b"mcp=2dda5da0d11a4d64", 1), (b"\xff" * 130, 1)],
)
def test_hash_is_the_same_everywhere(key, slot):
    """Two masters with one hash key agree, in this version and the next."""
    assert rendezvous(Random(), HASH_KEY)(slots(4), key).index == slot


def test_hash_follows_its_definition():
    """The slot is the one with the highest keyed hash of number and key."""
    choose, pool = rendezvous(Random(), HASH_KEY), slots(7)
    for number in range(100):
        key = b"key %d" % number
        digests = [
            hashlib.blake2b(
                bytes([0, index]) + key, digest_size=8, key=HASH_KEY
            ).digest()
            for index in range(7)
        ]
        assert choose(pool, key).index == digests.index(max(digests))


def test_hash_key_matters():
    """Who does not know the hash key cannot aim."""
    keys = [b"%d" % number for number in range(200)]
    ours, theirs = (rendezvous(Random(), each) for each in (HASH_KEY, b"other"))
    same = sum(ours(slots(4), k).index == theirs(slots(4), k).index for k in keys)
    assert 25 <= same <= 75


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_hash_moves_a_share_when_a_slot_is_added(count):
    """One slot more takes its share of the keys; none moves between the others."""
    choose = rendezvous(Random(), HASH_KEY)
    keys = [b"session %d" % number for number in range(2000)]
    before = {key: choose(slots(count), key).index for key in keys}
    after = {key: choose(slots(count + 1), key).index for key in keys}
    moved = [key for key in keys if before[key] != after[key]]
    assert all(after[key] == count for key in moved)
    share = len(keys) / (count + 1)
    assert 0.85 * share <= len(moved) <= 1.15 * share


@pytest.mark.parametrize(
    "keys",
    [
        [b"%08d" % number for number in range(2000)],
        [b"%d" % (number * 4) for number in range(2000)],
        [number.to_bytes(2, "little") for number in range(2000)],
        [b"a" * number for number in range(2000)],
        [b"\0" * 60 + number.to_bytes(2, "big") for number in range(2000)],
        [b"host=%d.example.org" % number for number in range(2000)],
    ],
    ids=["counted", "multiples", "little-endian", "lengths", "zeros", "names"],
)
def test_hash_spreads_keys_that_look_alike(keys):
    """However regular the keys are, the slots get equal shares."""
    choose, pool = rendezvous(Random(), HASH_KEY), slots(4)
    counts = Counter(choose(pool, key).index for key in keys)
    assert all(0.85 * 500 <= counts[index] <= 1.15 * 500 for index in range(4))


# round-robin


def test_round_robin_takes_turns():
    """Each slot gets one before any gets a second."""
    choose, pool = round_robin(Random(), b""), slots(3)
    assert [choose(pool, None).index for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_round_robin_leaves_out_those_without_room():
    """A slot without room loses its turn."""
    choose, pool = round_robin(Random(), b""), slots(3)
    pool[1].ready = False
    assert [choose(pool, b"k").index for _ in range(4)] == [0, 2, 0, 2]


def test_round_robin_gives_up_after_one_turn():
    """Nobody has room: that is known after asking each once."""
    assert round_robin(Random(), b"")(slots(3, ready=False), None) is None


# The table.


def test_policies_are_those_of_the_command_line():
    """The table names each policy, says what it does and what it remembers."""
    assert {name: policy.remembers for name, policy in POLICIES.items()} == {
        "least": True,
        "hash": False,
        "round-robin": True,
    }
    assert all(policy.about for policy in POLICIES.values())
