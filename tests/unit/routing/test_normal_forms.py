"""
One session, one name: spellings that mean the same make the same key.

And the request stays as it was: only the key is in normal form.
"""

import pytest

from heads import request
from maitred.routing import affinity
from maitred.routing.http1 import sniff_head
from maitred.worker.claims import ScopeHead


def key(spec, line=b"GET / HTTP/1.1", *headers, host=b"a"):
    """Give the key that a request is placed by."""
    return affinity(spec).key(sniff_head(request(line, *headers, host=host)))


def get(target):
    """Write the request line of a GET."""
    return b"GET %b HTTP/1.1" % target


@pytest.mark.parametrize(
    ("spellings", "expected"),
    [
        (
            [
                *(b"example.org", b"EXAMPLE.Org", b"example.org.", b"example.org:80"),
                *(b"Example.ORG.:8443", b"example.org:"),
            ],
            b"host=example.org",
        ),
        ([b"[::1]", b"[::1]:80"], b"host=[::1]"),
        ([b"[2001:DB8::A]:443", b"[2001:db8::a]"], b"host=[2001:db8::a]"),
    ],
)
def test_host(spellings, expected):
    """A host is compared in lower case, without port and trailing dot."""
    assert {key("host", host=host) for host in spellings} == {expected}


def test_host_of_a_target_in_absolute_form():
    """The same host, whichever form the target has."""
    line = get(b"http://EXAMPLE.org:80/x")
    assert key("host", line, host=b"example.ORG:80") == b"host=example.org"


@pytest.mark.parametrize("spec", ["header:X-Room", "header:x-room", "header:X-ROOM"])
def test_header(spec):
    """A header's name has no case, in the request and in the option alike."""
    lines = (b"X-Room: a", b"x-room:a", b"X-ROOM:\t a \t")
    keys = {key(spec, get(b"/"), line) for line in lines}
    assert keys == {b"header:x-room=a"}


def test_value_of_a_header_has_its_case():
    """Two names that differ in case are two sessions."""
    one, two = (key("header:x", get(b"/"), b"X: " + v) for v in (b"a", b"A"))
    assert one != two


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([b"/?room=a%20b", b"/?room=a+b", b"/?ro%6Fm=a%20%62"], b"query:room=a b"),
        ([b"/?room=%41", b"/?room=A", b"/x?y=1&room=A"], b"query:room=A"),
        ([b"/?room=%c3%a9", b"/?room=%C3%A9"], b"query:room=\xc3\xa9"),
        # Once: what is left is the name, not another escape.
        ([b"/?room=%2541", b"/?room=%2541&x"], b"query:room=%41"),
    ],
)
def test_query(targets, expected):
    """A query parameter is percent-decoded once, its name too."""
    assert {key("query:room", get(target)) for target in targets} == {expected}


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([b"/r/A", b"/r/%41", b"/r/%41/x?y", b"http://a/r/A"], b"path:2=A"),
        ([b"/r/a%2Fb", b"/r/a%2fb", b"/r/%61%2fb", b"/r%2Fa/b"], b"path:2=a"),
        ([b"/r/%2541"], b"path:2=%41"),
        ([b"/r/a+b", b"/r/a%2Bb"], b"path:2=a+b"),  # + is no space in a path
    ],
)
def test_path(targets, expected):
    """The path is percent-decoded once, before it is divided, as for applications."""
    assert {key("path:2", get(target)) for target in targets} == {expected}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([b"sid=a", b"x=1; sid=a", b"sid=a;x=1", b" sid = a ; x=1"], b"cookie:sid=a"),
        ([b"sid=a%20b"], b"cookie:sid=a%20b"),
        ([b'sid="a"', b'x="1"; sid = "a" '], b"cookie:sid=a"),
        ([b"sid=a+b"], b"cookie:sid=a+b"),
    ],
)
def test_cookie(lines, expected):
    """White space and quotes around a cookie's value are none of it."""
    keys = {key("cookie:sid", get(b"/"), b"Cookie: " + line) for line in lines}
    assert keys == {expected}


def test_cookie_cannot_be_hidden_behind_a_space():
    """Frameworks strip names; a second one spelled with a space is a second one."""
    head = sniff_head(request(get(b"/"), b"Cookie: sid=a; sid =b"))
    keys = affinity("cookie:sid").keys(head)
    assert keys == (b"cookie:sid=b", b"cookie:sid=a")


@pytest.mark.parametrize(
    ("spec", "target", "headers"),
    [
        ("host", b"/", [(b"host", b"Example.ORG.:80")]),
        ("host", b"/", [(b"host", b"[::1]:80")]),
        ("header:X-Room", b"/", [(b"host", b"a"), (b"x-room", b"a ")]),
        ("query:room", b"/?ro%6Fm=%2541+b", [(b"host", b"a")]),
        ("path:2", b"/r/a%2Fb", [(b"host", b"a")]),
        ("cookie:sid", b"/", [(b"host", b"a"), (b"cookie", b"x=1; sid = a ")]),
    ],
)
def test_application_side_has_the_same_form(spec, target, headers):
    """What is read from a scope makes the key that the bytes make."""
    path, _, query = target.partition(b"?")
    scope = {
        "type": "http",
        "method": "GET",
        "path": path.decode(),
        "raw_path": path,
        "query_string": query,
        "headers": headers,
        "client": None,
    }
    lines = [b"%b: %b" % header for header in headers]
    raw = sniff_head(request(get(target), *lines, host=None))
    assert affinity(spec).key(ScopeHead(scope)) == affinity(spec).key(raw)
