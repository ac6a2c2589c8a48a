"""A visit: what the worker thinks of each request's key, without asking anybody."""

import pytest

from heads import request
from maitred.routing import NoMatch, Router, Seal, affinities
from maitred.routing.http1 import sniff_head
from maitred.routing.seal import KEY_SIZE, NONCE
from maitred.wire.messages import Handoff
from maitred.worker.gate import AFRESH, ANYWHERE, Elsewhere
from maitred.worker.keys import OwnKeys
from maitred.worker.marks import UNMARKED
from maitred.worker.runtime import Visit

SEAL = Seal({"k": b"k" * KEY_SIZE}, 4)
SLOT = 2


class Worker:
    """What a visit needs of its worker."""

    slot = SLOT
    retired = relieved = False

    class settings:  # noqa: N801 - stands in for an attribute
        """Limits that no test here reaches."""

        head_limit = 1
        head_timeout = 1.0

    class marks:  # noqa: N801 - stands in for an attribute
        """No connection here has a mark."""

        of = staticmethod(lambda _number: UNMARKED)

    def __init__(self, *specs):
        self.router = Router(affinities(specs, SEAL))
        self.said = []
        self.keys = OwnKeys(
            ttl=1000.0,
            claim=lambda key, _made: self.said.append(key),
            release=self.said.append,
        )


def belongs(*headers, specs=("sticky",), key=b"", learned=True):
    """Say where a request belongs, on a connection that was handed over for *key*."""
    worker = Worker(*specs)
    handoff = Handoff(None, 1, b"", 0, b"", 0, key, int(learned), b"")
    head = sniff_head(request(b"GET / HTTP/1.1", *headers))
    answer = Visit(worker, None, handoff).belongs(head)
    assert worker.said == []  # the master is not asked, nor told
    return answer


def cookie(slot):
    """Write the Cookie line of a client of *slot*."""
    return b"Cookie: maitred=" + SEAL.token(slot, bytes(NONCE))


@pytest.mark.parametrize("key", [b"", b"slot:2", b"slot:1"])
def test_own_slot_belongs_here(key):
    """Whatever the connection came for."""
    assert belongs(cookie(SLOT), key=key) is None


@pytest.mark.parametrize("slot", [0, 1, 3])
def test_other_slot_belongs_elsewhere(slot):
    """The key that goes back with the connection names the slot."""
    assert belongs(cookie(slot), key=b"slot:2") == Elsewhere(b"slot:%d" % slot, True)


def test_request_without_a_valid_cookie_belongs_here():
    """It has no session yet; a forged cookie is none."""
    assert belongs() is None
    assert belongs(b"Cookie: maitred=x") is None


def test_two_cookies_belong_nowhere():
    """The second request of a connection is no easier to read than the first."""
    assert belongs(cookie(1), cookie(2)) == NoMatch(400, "ambiguous_session")


def test_slot_of_an_earlier_affinity_wins():
    """The affinities are asked in the master's order."""
    specs = ("header:x", "sticky")
    answer = belongs(b"X: 1", cookie(SLOT), specs=specs)
    assert answer == Elsewhere(b"header:x=1", False)


@pytest.mark.parametrize(
    ("specs", "named", "elsewhere"),
    [
        (("header:x-session,learn",), b"X-Session: a", AFRESH),
        (("sticky",), cookie(SLOT), AFRESH),
        (("header:x-session",), b"X-Session: a", None),  # the client makes the names
        (("none",), b"X-Session: a", None),
    ],
)
def test_request_without_name_after_one_with_begins_anew(specs, named, elsewhere):
    """Behind a proxy the two are of two clients, and the second is for any worker."""
    worker = Worker(*specs)
    visit = Visit(worker, None, Handoff(None, 1, b"", 0, b"", 0, b"", 0, b""))
    worker.keys.grant(b"header:x-session=a")
    bare, with_name = (
        sniff_head(request(b"GET / HTTP/1.1", *lines)) for lines in ((), (named,))
    )
    said = [visit.belongs(head) for head in (bare, bare, with_name, with_name)]
    assert said == [None] * 4
    assert visit.belongs(bare) == elsewhere


def test_connection_of_a_worker_that_leaves_does_not_come_again():
    """What would serve it again need not be kept."""
    assert AFRESH.may_come_again
    assert not ANYWHERE.may_come_again
