"""The router: affinities in order, and who makes the key."""

from heads import request
from maitred.routing import (
    HEAD_LIMIT,
    NEED_MORE,
    Affinity,
    Match,
    NoMatch,
    Router,
    affinities,
)
from maitred.routing.affinity import header
from maitred.routing.http1 import AMBIGUOUS

BOTH = Router(affinities(["header:x,learn", "cookie:sid", "path:2"]))


def test_first_affinity_with_a_key_wins():
    """They are tried in the order given."""
    target = b"GET /rooms/7 HTTP/1.1"
    assert BOTH.sniff(request(target, b"X: 1", b"Cookie: sid=2")) == Match(
        b"header:x=1", learned=True
    )
    assert BOTH.sniff(request(target, b"Cookie: sid=2")) == Match(b"cookie:sid=2")
    assert BOTH.sniff(request(target)) == Match(b"path:2=7")


def test_key_of_an_affinity_that_learns_is_marked():
    """The master has to know which keys nobody but a worker can make."""
    assert BOTH.sniff(request(b"GET / HTTP/1.1", b"X: 1")).learned is True
    assert BOTH.sniff(request(b"GET / HTTP/1.1", b"Cookie: sid=2")).learned is False


def test_other_affinities_take_the_place_of_those_before():
    """All that is said of a head is said by the new ones."""
    router = Router(affinities(["header:x"]))
    router.affinities = affinities(["header:y,learn"])
    both = request(b"GET / HTTP/1.1", b"X: 1", b"Y: 2")
    assert router.sniff(both) == Match(b"header:y=2", learned=True)
    assert router.server_made


def test_head_without_a_key_is_placed_all_the_same():
    """No name, no key, and nothing wrong with that."""
    assert BOTH.sniff(request()) == Match(None)
    assert Router([]).sniff(request()) == Match(None)


def test_name_with_several_readings_is_placed_by_the_likeliest():
    """The worker sees to the others, which are named too."""
    data = request(b"GET / HTTP/1.1", b"X: 1", b"X: 2", b"Cookie: sid=3")
    key, learned, others = BOTH.sniff(data)
    assert (key, learned) == (b"header:x=1", True)
    assert others == (b"header:x=2", b"header:x=1,2")


def test_name_with_too_many_readings_is_refused():
    """Nobody honest sends it, and each reading would cost a question."""
    line = b"Cookie: " + b"; ".join(b"sid=%d" % n for n in range(9))
    router = Router(affinities(["cookie:sid"]))
    assert router.sniff(request(b"GET / HTTP/1.1", line)) == AMBIGUOUS


def test_what_is_no_head_is_passed_on():
    """The verdict on bytes that are no head is the sniffer's."""
    assert BOTH.sniff(b"GET /") == NEED_MORE
    assert BOTH.sniff(b"\x16\x03\x01") == NoMatch(400, "tls")


def test_peer_reaches_the_affinities():
    """The address is part of what a connection may be placed by."""
    router = Router(affinities(["ip"]))
    assert router.sniff(request(), b"192.0.2.7") == Match(b"ip=192.0.2.7")
    assert router.sniff(request()) == Match(None)


def test_limit_is_the_routers():
    """The operator's limit is used, and known to whoever peeks."""
    assert Router([]).limit == HEAD_LIMIT
    assert Router([], limit=20).limit == 20
    assert Router([], limit=20).sniff(request()) == NoMatch(431, "head_too_large")


def test_ambiguous_session_is_refused():
    """Where an affinity says that a request names two sessions, nothing is guessed."""
    doubtful = Affinity(
        name="x",
        find=header("x"),
        ambiguous=lambda head: len(head.values(b"x")) > 1,
    )
    router = Router([doubtful, *affinities(["cookie:sid"])])
    line, cookie = b"GET / HTTP/1.1", b"Cookie: sid=1"
    assert router.sniff(request(line, b"X: 1", b"X: 2", cookie)) == NoMatch(
        400, "ambiguous_session"
    )
    assert router.sniff(request(line, cookie)) == Match(b"cookie:sid=1")


def test_key_of_an_affinity_whose_names_hold_slots_is_marked():
    """What its names do not say is not remembered either."""
    slots = Affinity(name="x", find=header("x"), slot={b"one": 1}.get)
    router = Router([slots])
    line = b"GET / HTTP/1.1"
    assert router.sniff(request(line, b"X: one")) == Match(b"slot:1", learned=True)
    assert router.sniff(request(line, b"X: two")) == Match(b"x=two", learned=True)
