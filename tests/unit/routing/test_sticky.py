"""Our own cookie: found once or not at all, and written the same way always."""

import pytest

from heads import request
from maitred.errors import UsageError
from maitred.routing import (
    PRESETS,
    Match,
    NoMatch,
    Router,
    Seal,
    affinities,
    affinity,
)
from maitred.routing.affinity import named_slot, slot_key
from maitred.routing.http1 import sniff_head
from maitred.routing.seal import KEY_SIZE, NONCE
from maitred.routing.sticky import set_cookie_line

SEAL = Seal({"k": b"k" * KEY_SIZE}, 4)
TOKEN = SEAL.token(2, bytes(NONCE))
OTHER = SEAL.token(3, bytes(NONCE))
ROUTER = Router(affinities(["sticky"], SEAL))
AMBIGUOUS = NoMatch(400, "ambiguous_session")


def sniff(*lines, router=ROUTER):
    """Sniff a request with these Cookie *lines*."""
    headers = (b"Cookie: " + line for line in lines)
    return router.sniff(request(b"GET / HTTP/1.1", *headers))


@pytest.mark.parametrize(
    "line",
    [
        b"maitred=" + TOKEN,
        b"a=1; maitred=%b; b=2" % TOKEN,
        b"a=1;maitred=%b;b=2" % TOKEN,
        b"\tmaitred = %b " % TOKEN,
        b"maitre=1; xmaitred=2; Maitred=3; maitred=%b" % TOKEN,
        b'maitred="%b"' % TOKEN,
        b"maitred=%b; maitred=%b" % (TOKEN, TOKEN),
        b"maitred=%b; maitred=x" % TOKEN,
        b"maitred=; maitred =%b" % TOKEN,
    ],
)
def test_valid_cookie_names_its_slot(line):
    """It is placed by slot, and not to be remembered."""
    assert sniff(line) == Match(b"slot:2", learned=True)


@pytest.mark.parametrize("preset", ["nicegui", "gradio"])
def test_preset_is_the_cookie_under_the_name_of_a_framework(preset):
    """It places as sticky does, sets the same cookie, and says what it is about."""
    [affinity_] = affinities([preset], SEAL)
    router = Router([affinity_])
    assert sniff(b"maitred=" + TOKEN, router=router) == Match(b"slot:2", learned=True)
    assert sniff(b"maitred=" + OTHER[:-1], router=router) == Match(None)
    assert sniff(BOTH, router=router) == AMBIGUOUS
    assert affinity_.sets == b"maitred"
    assert affinity_ == affinity_.called(preset, about=PRESETS[preset].about)


BOTH = b"maitred=%b; maitred=%b" % (TOKEN, OTHER)


def test_cookie_is_found_in_any_line():
    """Whatever divides a client's cookies into lines, ours is one of them."""
    assert sniff(b"a=1", b"maitred=" + TOKEN) == Match(b"slot:2", learned=True)


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"x", b"2", b"slot:2", TOKEN[:-1], TOKEN + b"A", b"'%b'" % TOKEN),
        Seal({"k": b"x" * KEY_SIZE}, 4).token(2, bytes(NONCE)),
        Seal({"j": b"k" * KEY_SIZE}, 4).token(2, bytes(NONCE)),
        Seal({"k": b"k" * KEY_SIZE}, 9).token(4, bytes(NONCE)),
    ],
)
def test_forged_stale_or_malformed_cookie_counts_as_none(value):
    """The client is placed as if it had none, and told nothing."""
    assert sniff(b"maitred=" + value) == Match(None)


def test_no_cookie_is_no_error():
    """Who comes for the first time is placed by the policy."""
    assert sniff() == sniff(b"a=1") == Match(None)


@pytest.mark.parametrize(
    "lines",
    [
        (b"maitred=%b; maitred=%b" % (TOKEN, OTHER),),
        (b"maitred=%b; maitred =%b" % (TOKEN, OTHER),),
        (b"maitred=" + TOKEN, b"maitred=" + OTHER),
    ],
)
def test_cookies_of_two_slots_are_refused(lines):
    """Where the client belongs cannot be known."""
    assert sniff(*lines) == AMBIGUOUS


def test_two_cookies_of_one_slot_are_one_answer():
    """A browser may have one for each of two paths; where it belongs is clear."""
    again = SEAL.token(2, b"n" * NONCE)
    found = sniff(b"maitred=%b; maitred=%b" % (TOKEN, again))
    assert found == Match(b"slot:2", learned=True)


def test_name_of_the_cookie_can_be_chosen():
    """Two services on one host need two names; one does not look at the other's."""
    router = Router(affinities(["sticky:front"], SEAL))
    assert sniff(b"front=" + TOKEN, router=router) == Match(b"slot:2", learned=True)
    assert sniff(b"maitred=" + TOKEN, router=router) == Match(None)
    assert sniff(b"maitred=1; maitred=2", router=router) == Match(None)


def test_affinities_are_tried_in_order():
    """What comes first decides, whatever the cookie says."""
    router = Router(affinities(["header:x", "sticky"], SEAL))
    line = b"Cookie: maitred=" + TOKEN
    both = request(b"GET / HTTP/1.1", b"X: 1", line)
    assert router.sniff(both) == Match(b"header:x=1")
    assert router.sniff(request(b"GET / HTTP/1.1", line)).key == b"slot:2"


@pytest.mark.parametrize("spec", ["sticky:", "sticky:a b", "sticky:a;b", "sticky:a=b"])
def test_name_that_no_cookie_can_have_is_refused(spec):
    """The sentence shows how a name is given."""
    with pytest.raises(UsageError) as refused:
        affinity(spec, SEAL)
    assert str(refused.value) == (
        f"--affinity {spec}: sticky takes the cookie's name, as in sticky:maitred"
    )


def test_sticky_cannot_be_learned():
    """It is made by us."""
    with pytest.raises(UsageError):
        affinity("sticky,learn", SEAL)


def test_line_tells_the_browser_to_keep_it_to_itself():
    """Scripts cannot read it, other sites do not send it, it is for all paths."""
    assert set_cookie_line(b"maitred", b"T", secure=False) == (
        b"maitred=T; Path=/; HttpOnly; SameSite=Lax"
    )
    assert set_cookie_line(b"n", b"T", secure=True) == (
        b"n=T; Path=/; HttpOnly; SameSite=Lax; Secure"
    )


# Keys that name a slot.


def test_key_names_its_slot():
    """What is made is read."""
    assert named_slot(slot_key(0)) == 0
    assert named_slot(slot_key(1023)) == 1023


@pytest.mark.parametrize(
    "key", [b"", b"slot", b"slot:", b"slot:x", b"slot:-1", b"slot:1\n", b" slot:1"]
)
def test_other_keys_name_none(key):
    """A key that names a slot has one form."""
    assert named_slot(key) is None


@pytest.mark.parametrize("value", [b"1", b"1" * 200])
def test_no_client_can_spell_such_a_key(value):
    """Whatever stands in a request, its key has the affinity's name and = or ~."""
    head = sniff_head(request(b"GET / HTTP/1.1", b"slot: " + value))
    assert named_slot(affinity("header:slot").key(head)) is None


# Stamped ids.


def test_stamped_id_names_its_slot_and_another_does_not():
    """An id without a stamp that is ours goes the way of the table."""
    router = Router(affinities(["socketio"], SEAL))

    def poll(sid):
        return router.sniff(request(b"GET /socket.io/?EIO=4&sid=%b HTTP/1.1" % sid))

    sid = b"4NLXBjRSAFpyw8a0AAAA"
    assert poll(SEAL.stamp(sid, 3)) == Match(b"slot:3", learned=True)
    assert poll(sid) == Match(b"socketio=" + sid, learned=True)
    forged = sid + b"A" * 16
    assert poll(forged) == Match(b"socketio=" + forged, learned=True)
