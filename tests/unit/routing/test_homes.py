"""Every key has one home, the same for all who ask."""

from collections import Counter

from maitred.routing import Homes

KEYS = [b"header:x-session=%d" % n for n in range(3000)]


def test_one_acceptor_is_the_home_of_all():
    """And nothing is hashed."""
    assert {Homes().of(key) for key in KEYS} == {0}


def test_everybody_finds_the_same_home():
    """In every process, whenever it was started."""
    one, other = Homes(3, b"secret"), Homes(3, b"secret")
    assert [one.of(key) for key in KEYS] == [other.of(key) for key in KEYS]
    assert one.of(KEYS[0]) == one.of(KEYS[0])


def test_homes_share_the_keys_evenly():
    """No acceptor is the home of many more than another."""
    shares = Counter(map(Homes(3, b"secret").of, KEYS))
    assert set(shares) == {0, 1, 2}
    assert max(shares.values()) < 1.1 * min(shares.values())


def test_nobody_outside_can_aim():
    """With another hash key, the keys of one home are spread."""
    here, elsewhere = Homes(3, b"secret"), Homes(3, b"other")
    aimed = [key for key in KEYS if here.of(key) == 1]
    assert set(map(elsewhere.of, aimed)) == {0, 1, 2}
