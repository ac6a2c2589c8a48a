"""
The contract of a policy, held against every policy there is.

A policy gives a slot that has room, or, where the key alone decides, the key's slot;
None means that nobody has room. It changes no slot and never raises.
"""

from copy import deepcopy
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maitred.placement import POLICIES, Slot

HASH_KEY = b"the key of the hash"

POOLS = st.lists(
    st.builds(
        lambda ready, in_flight, opened: Slot(
            0, window=2, ready=ready, in_flight=in_flight, open=opened
        ),
        st.booleans(),
        st.integers(0, 3),
        st.integers(0, 1000),
    ),
    min_size=1,
    max_size=9,
)


@pytest.fixture(params=POLICIES, scope="module")
def name(request):
    """The name of every policy."""
    return request.param


def numbered(pool):
    """Give each slot its number."""
    for index, slot in enumerate(pool):
        slot.index = index
    return pool


@given(pool=POOLS, key=st.none() | st.binary(max_size=200), seed=st.integers(0, 99))
def test_choice_has_room_or_is_the_keys(name, pool, key, seed):
    """What is chosen can be handed to, unless the key leaves no choice."""
    numbered(pool)
    before = deepcopy(pool)
    choose = POLICIES[name].make(Random(seed), HASH_KEY)
    chosen = choose(pool, key)
    assert pool == before
    if chosen is None:
        assert not any(slot.has_room for slot in pool)
    else:
        assert any(chosen is slot for slot in pool)
        if not chosen.has_room:
            assert key is not None
            assert not POLICIES[name].remembers
            everybody = [Slot(slot.index, window=1, ready=True) for slot in pool]
            assert choose(everybody, key).index == chosen.index


@given(pool=POOLS, seed=st.integers(0, 99))
def test_nobody_waits_while_there_is_room(name, pool, seed):
    """A connection without a key is placed whenever any slot has room."""
    choose = POLICIES[name].make(Random(seed), HASH_KEY)
    for _ in range(3):
        chosen = choose(numbered(pool), None)
        assert (chosen is not None) is any(slot.has_room for slot in pool)


@given(st.lists(st.none() | st.binary(max_size=9), max_size=20), st.integers(0, 99))
def test_same_randomness_gives_same_choices(name, keys, seed):
    """Nothing but the slots, the key and the random numbers decides."""
    pool = numbered([Slot(0, window=9, ready=True) for _ in range(5)])

    def choices():
        choose = POLICIES[name].make(Random(seed), HASH_KEY)
        return [choose(pool, key).index for key in keys]

    assert choices() == choices()
