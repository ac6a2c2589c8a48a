"""
The key is what the framework reads: our readers against those of six frameworks.

For each request: whatever a framework reads for the session's name is among our
readings, so that no worker serves the request without owning it. And the spellings of
one name that all frameworks understand have one reading, so that nobody is lost.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maitred.routing.affinity import Find, cookie, header, path, query
from maitred.routing.http1 import RawHead, sniff_head
from maitred.worker.cookies import in_one_line
from readers import COOKIES, HEADERS, PATHS, QUERIES, Header, Spelled

EXAMPLES = settings(max_examples=300, deadline=None)

UTF_8 = {"django wsgi", "aiohttp"}
"What decodes cookies as UTF-8; the others decode them as Latin-1."


def readings(find: Find, target: bytes, headers: list[Header]) -> tuple[bytes, ...]:
    """Give what we read of a request as it is sent."""
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    head = sniff_head(b"GET %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (target, lines))
    assert isinstance(head, RawHead), head
    found = find(head)
    if isinstance(found, bytes):
        return (found,)
    return found or ()


def check(
    read: str | None, ours: tuple[bytes, ...], codec: str = "utf-8"
) -> bytes | None:
    """Check that what a framework *read* is among *ours*; give it in bytes."""
    if not read:
        return None
    value = read.encode(codec, "replace")
    assert value in ours, (read, ours)
    return value


def check_cookies(lines: list[bytes]) -> tuple[set[bytes], tuple[bytes, ...]]:
    """Check all readers of cookies; give what they read, and what we do."""
    headers = [(b"Cookie", line) for line in lines]
    ours = readings(cookie("sid"), b"/", headers)
    said = set()
    for name, read in COOKIES.items():
        served = name not in {"tornado", "aiohttp"}  # the others are servers themselves
        request = Spelled(headers=in_one_line(headers) if served else headers)
        codec = "utf-8" if name in UTF_8 else "latin-1"
        said.add(check(read(request, "sid"), ours, codec))
    return {value for value in said if value}, ours


# Cookies.

ONE = {
    "one": [b"sid=V"],
    "among others": [b"a=1; sid=V; b=2"],
    "two lines": [b"theme=dark", b"sid=V"],
    "two lines, the other way": [b"sid=V", b"theme=dark"],
    "three lines": [b"a=1", b"sid=V", b"b=2"],
    "repeated": [b"sid=V; sid=V"],
    "repeated in two lines": [b"sid=V", b"sid=V"],
    "quoted": [b'sid="V"'],
    "quoted and bare": [b'sid="V"; sid=V'],
    "spaced": [b" sid = V ; b=1"],
    "tabs": [b"\tsid\t=\tV\t;b=1"],
    "no space": [b"a=1;sid=V;b=2"],
    "old style": [b'$Version=1; sid="V"; $Path="/"'],
    "beside an empty one": [b"sid=; sid=V"],
    "beside one without =": [b"sid; sid=V"],
    "beside another case": [b"SID=W; Sid=X; sid=V"],
    "beside a longer name": [b"asid=W; sidx=X; sid=V; x-sid=Y"],
    "beside JSON": [b'prefs={"sid":"x","a":[1,2]}; sid=V'],
    "beside a broken quote": [b'a="x; sid=V'],
    "beside a value that looks alike": [b"next=/login?sid=W; sid=V"],
    "beside an escaped one": [b'prefs="{\\"a\\": 1\\054 2}"; sid=V'],
    "beside words": [b"a=one two; sid=V; b=three"],
    "beside a long one": [b"a=" + b"x" * 5000 + b"; sid=V"],
    "beside what is no ASCII": ["a=é; sid=V".encode()],
    "with a trailing semicolon": [b"sid=V;"],
}
"Spellings of one session's cookie that frameworks understand."


@pytest.mark.parametrize("lines", ONE.values(), ids=ONE)
def test_spellings_of_one_cookie_have_one_reading(lines):
    """All frameworks that find it read V, and so do we."""
    said, ours = check_cookies(lines)
    assert said == {b"V"}
    assert ours == (b"V",)


SEVERAL = {
    "old, then new": [b"sid=old; sid=V"],
    "old, then new, in two lines": [b"sid=old", b"sid=V"],
    "a semicolon in quotes": [b'sid="a;b"'],
    "a name in another's quotes": [b'sid=W; a="x; sid=V"'],
    "a second one in quotes": [b'a="x; sid=V; b=y"; sid=W'],
    "white space beyond ASCII": [b"sid=V\xa0", b"sid\x85=V; \xa0sid\xa0=\xa0W\xa0"],
    "white space of UTF-8": ["sid=V\u00a0; \u2003sid\u3000=\u2003W\u2003".encode()],
    "a value of two words": [b"sid=a b"],
    "separated by a space": [b"a=1 sid=V"],
    "separated by a comma": [b"a=1, sid=V"],
    "no UTF-8": [b"sid=\xe9\xff"],
    "octal": [b'sid="\\303\\251"'],
    "octal and raw": ['sid="\\351"; sid=é'.encode()],
    "an empty one last": [b"sid=V; sid="],
    "half a quote": [b'sid="V; sid=V"'],
    "quoted from one line into another": [b'sid="; ', b'"'],
    "quoted, and more": [b'sid="a b c"d; e=f'],
}
"Spellings of which frameworks make different names."


@pytest.mark.parametrize("lines", SEVERAL.values(), ids=SEVERAL)
def test_every_reading_of_an_ambiguous_cookie_is_ours_too(lines):
    """The last is what Starlette reads, where it reads one."""
    _, ours = check_cookies(lines)
    headers = in_one_line([(b"Cookie", line) for line in lines])
    if starlette := COOKIES["starlette"](Spelled(headers=headers), "sid"):
        assert ours[-1] == starlette.encode("latin-1")


PIECES = st.sampled_from(
    [
        *(b"sid", b"sid", b"sid=", b"sid=v", b"=", b";", b"; ", b" ", b"\t", b'"'),
        *(
            b",",
            b"\\",
            b'\\"',
            b"\\073",
            b"\\303\\251",
            b"a=1",
            b"a=",
            b"v",
            b"w",
            b"$",
        ),
        *(b"\xa0", b"\x85", b"\xc2\xa0", b"\xc2\x85", b"\xe2\x80\x83", b"\xff"),
        *(b"\xc3\xa9", b"Sid=", b"xsid=", b"path=/", b"expires=Wed, 09 Jun", b"{}"),
    ]
)
LINE = st.lists(PIECES, max_size=14).map(b"".join)


@EXAMPLES
@given(st.lists(LINE, min_size=1, max_size=3))
def test_no_framework_reads_a_cookie_that_we_do_not(lines):
    """Whatever the lines are made of."""
    check_cookies(lines)


# Parameters.


def check_query(text: bytes) -> tuple[set[bytes], tuple[bytes, ...]]:
    """Check all readers of the query; give what they read, and what we do."""
    ours = readings(query("sid"), b"/?" + text, [])
    request = Spelled(b"/?" + text)
    said = {check(read(request, "sid"), ours) for read in QUERIES.values()}
    return {value for value in said if value}, ours


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"sid=V", b"V"),
        (b"a=1&sid=V&b", b"V"),
        (b"&&sid=V&", b"V"),
        (b"s%69d=V", b"V"),
        (b"%73%69%64=%56", b"V"),
        (b"sid=V&sid=V", b"V"),
        (b"sid=&sid=V", b"V"),
        (b"sid&sid=V", b"V"),
        (b"sid=a+b", b"a b"),
        (b"sid=a%20b", b"a b"),
        (b"sid=%2B", b"+"),
        (b"sid=a;b", b"a;b"),
        (b"a=1;sid=W&sid=V", b"V"),
        (b"sid=%c3%A9", "é".encode()),
        (b"sid=%zz%", b"%zz%"),
        (b"sid=%2541", b"%41"),
        (b"SID=W&+sid=X&sid%00=Y&sid=V", b"V"),
    ],
)
def test_spellings_of_one_parameter_have_one_reading(text, value):
    """Decoded once, as everybody does."""
    assert check_query(text) == ({value}, (value,))


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        (b"sid=a&sid=b", (b"a", b"b")),
        (b"sid=%20V", (b"V", b" V")),
        (b"sid=%ff", (b"%FF", "\ufffd".encode())),
    ],
)
def test_parameter_with_several_readings_has_them_all(text, ours):
    """Flask takes the first, Tornado strips, and Werkzeug encodes again."""
    said, readings_ = check_query(text)
    assert readings_ == ours
    assert said == set(ours)


QUERY = st.sampled_from(
    [
        *(
            b"sid=",
            b"sid=v",
            b"s%69d",
            b"=",
            b"&",
            b"&",
            b";",
            b"+",
            b"%20",
            b"%2B",
            b"v",
        ),
        *(b"%c3%a9", b"%C3", b"%ff", b"%00", b"%0a", b"%1f", b"%", b"%4", b"%e2%80%83"),
        *(b"%26", b"%3D", b"%3B", b"a=1", b"w", b"?", b"/", b"%c2%a0", b"%ed%a0%80"),
    ]
)


@EXAMPLES
@given(st.lists(QUERY, max_size=10).map(b"".join))
def test_no_framework_reads_a_parameter_that_we_do_not(text):
    """Whatever the query is made of."""
    check_query(text)


# Paths.


def check_path(target: bytes) -> tuple[set[bytes], tuple[bytes, ...]]:
    """Check all routers with /rooms/NAME; give what they read, and what we do."""
    ours = readings(path(2), target, [])
    said = {check(read(Spelled(target)), ours) for read in PATHS.values()}
    return {value for value in said if value}, ours


@pytest.mark.parametrize(
    ("target", "value"),
    [
        (b"/rooms/7", b"7"),
        (b"/rooms%2F7", b"7"),
        (b"/%72ooms/7", b"7"),
        (b"/%72%6F%6fms%2f%37", b"7"),
        (b"/rooms/7;a=1", b"7;a=1"),
        (b"/rooms/a+b", b"a+b"),
        (b"/rooms/a%20b", b"a b"),
        (b"/rooms/%2e%2E", b".."),
        (b"/rooms/a%3Fb?x", b"a?b"),
        (b"/rooms/%c3%A9", "é".encode()),
        (b"/rooms/%25ff", b"%ff"),
    ],
)
def test_spellings_of_one_path_have_one_reading(target, value):
    """The path is decoded once, before it is divided."""
    assert check_path(target) == ({value}, (value,))


@pytest.mark.parametrize(
    ("target", "ours"),
    [
        (b"/rooms/%ff", (b"%ff", "\ufffd".encode())),
        (b"/rooms/%Fe%c3%A9%25", ("%Feé%".encode(), "\ufffdé%".encode())),
    ],
)
def test_segment_that_is_no_text_has_every_reading(target, ours):
    """One framework leaves it as it is; all others have a sign for it."""
    said, readings_ = check_path(target)
    assert readings_ == ours
    assert said == set(ours)


PATH = st.sampled_from(
    [
        *(
            b"/",
            b"//",
            b"/rooms/",
            b"/%72ooms/",
            b"/rooms%2F",
            b"%2f",
            b"7",
            b"a",
            b";x",
        ),
        *(
            b".",
            b"..",
            b"%2e",
            b"%2E%2e",
            b"%20",
            b"+",
            b"%25",
            b"%c3%a9",
            b"%ff",
            b"%00",
        ),
        *(b"%3F", b"%", b"%zz", b"rooms", b"%0a"),
    ]
)


@EXAMPLES
@given(st.lists(PATH, max_size=6).map(lambda parts: b"/" + b"".join(parts)))
def test_no_framework_reads_a_segment_that_we_do_not(target):
    """Whatever the path is made of."""
    check_path(target)


# Headers.


def check_header(headers: list[Header]) -> tuple[set[bytes], tuple[bytes, ...]]:
    """Check all readers of headers; give what they read, and what we do."""
    ours = readings(header("X-Session"), b"/", headers)
    said = set()
    for name, read in HEADERS.items():
        codec = "utf-8" if name == "aiohttp" else "latin-1"
        said.add(check(read(Spelled(headers=headers), "X-Session"), ours, codec))
    return {value for value in said if value}, ours


@pytest.mark.parametrize(
    "headers",
    [
        [(b"X-Session", b"V")],
        [(b"x-SESSION", b" \tV ")],
        [(b"X_Session", b"V")],
        [(b"X-Session", b"V"), (b"X-Sessions", b"W"), (b"XX-Session", b"W")],
    ],
)
def test_spellings_of_one_header_have_one_reading(headers):
    """Its name has no case, and under WSGI no hyphen."""
    assert check_header(headers) == ({b"V"}, (b"V",))


@EXAMPLES
@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"X-Session", b"x-session", b"X_Session", b"X-Other"]),
            st.sampled_from([b"", b"v", b"w", b"v,w", b" v ", b"\xc3\xa9", b"v\tw"]),
        ),
        max_size=4,
    )
)
def test_no_framework_reads_a_header_that_we_do_not(headers):
    """However many lines there are."""
    check_header(headers)


def test_oracles_decode_as_said():
    """A reader that the tests hold to be of one kind is of that kind."""
    request = Spelled(headers=[(b"Cookie", "sid=é".encode())])
    for name, read in COOKIES.items():
        text = read(request, "sid")
        if name in UTF_8:
            assert text == "é"
        elif name != "http.cookies":  # it reads ASCII only
            assert text == "Ã©"
