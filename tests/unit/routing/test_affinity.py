"""Affinities: where a session's name stands in a request, and in a response."""

import pytest

from heads import request
from maitred.routing.affinity import (
    LONGEST_VALUE,
    Affinity,
    cookie,
    deleted,
    header,
    host,
    in_body,
    ip,
    never,
    only,
    path,
    query,
    response_header,
    set_cookie,
    where_path,
)
from maitred.routing.http1 import sniff_head
from maitred.routing.readings import decoded


class Answer:
    """A response as ``learn`` sees it."""

    def __init__(self, *headers, status=200, body=b""):
        self.status = status
        self.body = body
        self.headers = headers

    def values(self, name):
        """Give the headers of this name."""
        return [value for key, value in self.headers if key == name]


def head(line=b"GET / HTTP/1.1", *headers, peer=b""):
    """Sniff a head."""
    return sniff_head(request(line, *headers), peer)


def get(target, *headers):
    """Sniff the head of a GET."""
    return head(b"GET %b HTTP/1.1" % target, *headers)


# Requests.


def test_header_is_found_whatever_its_case():
    """The name is compared without its case, the value is taken as it is."""
    assert header("X-Session")(get(b"/", b"x-SESSION:  Ab ")) == b"Ab"


def test_header_that_is_absent_or_empty_is_absent():
    """No line, or a line without a value."""
    find = header("x")
    assert find(get(b"/")) is None
    assert find(get(b"/", b"X:")) is None


def test_header_that_is_there_twice_has_every_reading():
    """The first for some, joined by a comma for others; the first is the likeliest."""
    find = header("x")
    assert find(get(b"/", b"X: a", b"x: a")) == (b"a,a", b"a")
    assert find(get(b"/", b"X: a", b"x: b")) == (b"a,b", b"b", b"a")


def test_header_counts_in_the_spelling_of_wsgi_too():
    """WSGI knows one name for both, and applications without WSGI read one of them."""
    find = header("x-session")
    assert find(get(b"/", b"X_Session: a")) == b"a"
    assert find(get(b"/", b"X_Session: b", b"X-Session: a")) == (b"b,a", b"b", b"a")
    assert header("session_id")(get(b"/", b"session-id: a")) == b"a"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"sid=1", b"1"),
        (b"a=0; sid=1; b=2", b"1"),
        (b"a=0;sid=1;b=2", b"1"),
        (b"a=0;\t sid=1", b"1"),
        (b'sid="1"', b"1"),
        (b"sid=a%20b+c", b"a%20b+c"),
        (b"sid=a=b", b"a=b"),
        (b"xsid=1", None),
        (b"a=sid=1", None),
        (b"SID=1", None),
        (b"sid", None),
        (b"sid=1; sid=1", b"1"),
        (b"sid=1; sid=2", (b"1", b"2")),
        (b"", None),
    ],
)
def test_cookie_is_taken_as_frameworks_do(line, value):
    """Without quotes; its value is not percent-decoded."""
    assert cookie("sid")(get(b"/", b"Cookie: " + line)) == value


def test_cookie_may_stand_in_any_line():
    """Proxies that speak HTTP/2 to clients divide them (RFC 9113 section 8.2.3)."""
    assert cookie("sid")(get(b"/", b"Cookie: sid=1", b"Cookie: a=2")) == b"1"
    assert cookie("sid")(get(b"/", b"Cookie: a=2", b"Cookie: sid=1")) == b"1"


def test_cookie_without_a_line_is_absent():
    """No Cookie line, no cookie."""
    assert cookie("sid")(get(b"/")) is None


def test_cookie_name_is_no_pattern():
    """Characters of a name that mean something in a pattern mean themselves."""
    assert cookie("s.d")(get(b"/", b"Cookie: sxd=1")) is None
    assert cookie("s.d")(get(b"/", b"Cookie: s.d=1")) == b"1"


@pytest.mark.parametrize(
    ("target", "value"),
    [
        (b"/?sid=1", b"1"),
        (b"/?a=0&sid=1&b=2", b"1"),
        (b"/?sid=a%20b", b"a b"),
        (b"/?sid=a+b", b"a b"),
        (b"/?sid=a%2Bb", b"a+b"),
        (b"/?sid=%2541", b"%41"),
        (b"/?sid=%zz", b"%zz"),
        (b"/?s%69d=1", b"1"),
        (b"/?sid=a=b", b"a=b"),
        (b"/?sid=a?b", b"a?b"),
        (b"/?sid=1&sid=1", b"1"),
        (b"/?sid=1&s%69d=2", (b"1", b"2")),
        (b"/?Sid=1", None),
        (b"/?xsid=1", None),
        (b"/?", None),
        (b"/", None),
        (b"/sid=1", None),
        (b"/?sid", None),
        (b"/?sid=", None),
    ],
)
def test_query_parameter_is_decoded_once(target, value):
    """A parameter counts whatever its name is spelled like."""
    assert query("sid")(get(target)) == value


@pytest.mark.parametrize(
    ("segment", "target", "value"),
    [
        (1, b"/rooms/7", b"rooms"),
        (2, b"/rooms/7", b"7"),
        (2, b"/rooms/7/x", b"7"),
        (2, b"/rooms/a%2Fb", (b"a/b", b"a")),
        (2, b"/rooms%2F7", b"7"),
        (2, b"/%72ooms/7", b"7"),
        (2, b"//rooms/7", (b"7", b"rooms")),
        (2, b"/rooms/%2541", b"%41"),
        (2, b"/rooms?7", None),
        (3, b"/rooms/7", None),
        (2, b"/rooms/", None),
        (1, b"//7", b"7"),
        (1, b"http://a/rooms/7", b"rooms"),
    ],
)
def test_path_segment_is_counted_from_one(segment, target, value):
    """Segments are those of the path alone, decoded once."""
    assert path(segment)(get(target)) == value


def test_asterisk_has_no_segment():
    """A request to the server as a whole has no path."""
    assert path(1)(head(b"OPTIONS * HTTP/1.1")) is None


def test_host_is_the_normal_form():
    """The host name is the one the sniffer settled."""
    found = sniff_head(request(host=b"Example.ORG.:80"))
    assert host(found) == b"example.org"


def test_absent_host_and_peer_count_as_absent():
    """A Unix socket has no address, HTTP/1.0 no host."""
    found = sniff_head(request(b"GET / HTTP/1.0", host=None))
    assert host(found) is None
    assert ip(found) is None


def test_ip_is_the_peer():
    """The address is the one the connection came from, whatever headers say."""
    found = head(b"GET / HTTP/1.1", b"X-Forwarded-For: 192.0.2.1", peer=b"192.0.2.7")
    assert ip(found) == b"192.0.2.7"


def test_where_path_looks_at_some_paths_only():
    """The pattern is searched in the path and nowhere else."""
    find = where_path(rb"/rooms/\d+", query("sid"))
    assert find(get(b"/x/rooms/7?sid=1")) == b"1"
    assert find(get(b"/rooms/x?sid=1")) is None
    assert find(get(b"/x?sid=1&y=/rooms/7")) is None


# Responses.


def test_response_header_is_learned_once():
    """A name that is announced twice is not learned."""
    learn = response_header("X-Session")
    assert learn(Answer((b"x-session", b"1"))) == b"1"
    assert learn(Answer((b"x-session", b"1"), (b"x-session", b"2"))) is None
    assert learn(Answer()) is None


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"sid=1", b"1"),
        (b"sid=1; Path=/; HttpOnly", b"1"),
        (b"sid=1 ; Path=/", b"1"),
        (b"sid=1; Max-Age=3600", b"1"),
        (b'sid="a b"', b"a b"),
        (b'sid="a\\054b"', b"a,b"),
        (b" sid = 1", b"1"),
        (b"sid=", None),
        (b"sid=; Max-Age=0; Path=/", None),  # Flask's delete_cookie
        (b'sid=""; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/', None),
        (b"sid=1; max-age = -1", None),
        (b"xsid=1", None),
        (b"Sid=1", None),
    ],
)
def test_set_cookie_is_learned_unless_it_deletes(line, value):
    """What the client will send back is learned."""
    assert set_cookie("sid")(Answer((b"set-cookie", line))) == value


def test_set_cookie_is_found_among_others():
    """Other cookies do not count, nor does a deletion of the same name elsewhere."""
    answer = Answer(
        (b"set-cookie", b"other=2"),
        (b"set-cookie", b"sid=old; Max-Age=0; Path=/old"),
        (b"set-cookie", b"sid=1; Path=/"),
    )
    assert set_cookie("sid")(answer) == b"1"


def test_set_cookie_twice_is_learned_twice():
    """Which of two cookies the client will send back cannot be known."""
    answer = Answer((b"set-cookie", b"sid=1; Path=/a"), (b"set-cookie", b"sid=2"))
    assert set_cookie("sid")(answer) == (b"1", b"2")


def test_body_is_learned_from_its_group():
    """The first group of the pattern is the name."""
    learn = in_body(rb"room=(\d+);")
    assert learn(Answer(body=b"a room=42; b")) == b"42"
    assert learn(Answer(body=b"a room=4")) is None
    assert learn(Answer(body=b"")) is None


def test_body_of_another_type_is_not_looked_at():
    """The media type must begin as said; parameters may follow."""
    learn = in_body(rb"(\d+)", content_type=b"text/event-stream")
    stream = (b"content-type", b"text/event-stream; charset=utf-8")
    assert learn(Answer(stream, body=b"1")) == b"1"
    assert learn(Answer((b"content-type", b"text/html"), body=b"1")) is None
    assert learn(Answer(body=b"1")) is None
    assert learn(Answer(stream, stream, body=b"1")) is None


# Ends.


@pytest.mark.parametrize(
    ("method", "status", "over"),
    [
        (b"DELETE", 200, True),
        (b"DELETE", 204, True),
        (b"DELETE", 299, True),
        (b"DELETE", 404, True),
        (b"DELETE", 199, False),
        (b"DELETE", 300, False),
        (b"DELETE", 405, False),
        (b"DELETE", 500, False),
        (b"POST", 200, False),
    ],
)
def test_delete_ends_a_session_when_it_is_gone(method, status, over):
    """Done, or too late: both mean that the session is no more."""
    assert deleted(head(b"%b / HTTP/1.1" % method), status) is over


def test_never_is_never():
    """Nothing ends a session where nothing is said about it."""
    assert never(head(b"DELETE / HTTP/1.1"), 204) is False
    assert Affinity(name="x", find=ip).ends is never


# Keys.


def test_key_begins_with_the_name_of_the_affinity():
    """Equal values of two affinities are two keys."""
    by_header = Affinity(name="header:x", find=header("x"))
    by_query = Affinity(name="query:x", find=query("x"))
    both = get(b"/?x=1", b"X: 1")
    assert by_header.key(both) == b"header:x=1"
    assert by_query.key(both) == b"query:x=1"


def test_value_that_is_absent_or_empty_makes_no_key():
    """An empty name is no name."""
    by_query = Affinity(name="q", find=query("x"))
    assert by_query.key(get(b"/")) is None
    assert by_query.key(get(b"/?x=")) is None


def test_long_value_is_hashed():
    """A key has a bounded length, and one of a hash is never one of a value."""
    affinity = Affinity(name="a", find=ip)
    longest, longer = b"v" * LONGEST_VALUE, b"v" * (LONGEST_VALUE + 1)
    assert affinity.key_of(longest) == b"a=" + longest
    assert affinity.key_of(longer) == b"a~cec51d7b874538baed280671c3824823"
    assert len(affinity.key_of(longer * 1000)) == len(affinity.key_of(longer))
    assert affinity.key_of(longer) != affinity.key_of(longer[1:] + b"w")


# Small pieces.


def test_only_takes_what_is_alone():
    """None and many are both no answer."""
    assert only([b"a"]) == b"a"
    assert only([]) is None
    assert only([b"a", b"a"]) is None


def test_decoded_decodes_once():
    """What a decoded text contains is not decoded again."""
    assert decoded(b"a%2541+") == b"a%41+"
    assert decoded(b"a") == b"a"
