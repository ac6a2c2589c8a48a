"""The text of --affinity: every form, and every sentence of refusal."""

import sys
import types

import pytest

from heads import request
from maitred.errors import UsageError
from maitred.routing import PRESETS, Affinity, affinities, affinity
from maitred.routing.affinity import ip
from maitred.routing.http1 import sniff_head

KNOWN = (
    "known are: header:NAME, cookie:NAME, query:NAME (,learn after header or cookie:"
    " the server makes it), path:N, host, ip, sni, none, sticky, a preset"
    f" ({', '.join(PRESETS)}),"
    " or module:attribute"
)

HEAD = sniff_head(
    request(
        b"GET /rooms/7?sid=3 HTTP/1.1",
        b"X-Session: 1",
        b"Cookie: Sid=2",
        host=b"example.org:80",
    ),
    b"192.0.2.7",
)


@pytest.mark.parametrize(
    ("spec", "key", "learns"),
    [
        ("header:X-Session", b"header:x-session=1", False),
        ("header:x-session,learn", b"header:x-session=1", True),
        ("cookie:Sid", b"cookie:Sid=2", False),
        ("cookie:Sid,learn", b"cookie:Sid=2", True),
        ("query:sid", b"query:sid=3", False),
        ("path:1", b"path:1=rooms", False),
        ("path:2", b"path:2=7", False),
        ("path:99", None, False),
        ("host", b"host=example.org", False),
        ("ip", b"ip=192.0.2.7", False),
        ("mcp", None, True),
        ("mcp-sse", None, True),
        ("socketio", None, True),
    ],
)
def test_form_is_read(spec, key, learns):
    """Every form says where to look, and whether the server makes the name."""
    read = affinity(spec)
    assert read.key(HEAD) == key
    assert (read.learn is not None) is learns


def test_preset_is_the_one_of_the_table():
    """A preset's name stands for its value."""
    assert affinity("mcp") is PRESETS["mcp"]


class Answer:
    """A response that announces a session in both ways."""

    status = 200
    body = b""

    def values(self, name):
        """Give the headers of this name."""
        return {b"x": [b"1"], b"set-cookie": [b"X=2"]}.get(name, [])


def test_learned_forms_learn():
    """A header is learned from the header of that name, a cookie from Set-Cookie."""
    assert affinity("header:X,learn").learn(Answer()) == b"1"
    assert affinity("cookie:X,learn").learn(Answer()) == b"2"


@pytest.fixture
def module():
    """A module of a user, already imported."""
    module = types.ModuleType("a_users_module")
    module.mine = Affinity(name="mine", find=ip)
    module.table = types.SimpleNamespace(mine=module.mine)
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def test_attribute_of_a_module_is_read(module):
    """A user's own affinity is used as it is, however deep it stands."""
    assert affinity("a_users_module:mine") is module.mine
    assert affinity("a_users_module:table.mine") is module.mine


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (
            "header:x,teach",
            (
                "--affinity header:x,teach: after the comma only `learn` can stand,"
                " not 'teach'"
            ),
        ),
        (
            "query:x,learn",
            (
                "--affinity query:x,learn: only header and cookie can be learned;"
                " a response has no query"
            ),
        ),
        (
            "ip,learn",
            (
                "--affinity ip,learn: only header and cookie can be learned;"
                " a response has no ip"
            ),
        ),
        (
            "header",
            "--affinity header: header needs a name, as in header:session",
        ),
        (
            "cookie:a b",
            "--affinity cookie:a b: cookie needs a name, as in cookie:session",
        ),
        (
            "path:0",
            "--affinity path:0: path needs a segment number from 1 to 99, as in path:2",
        ),
        (
            "path:100",
            (
                "--affinity path:100: path needs a segment number from 1 to 99,"
                " as in path:2"
            ),
        ),
        (
            "path",
            "--affinity path: path needs a segment number from 1 to 99, as in path:2",
        ),
        (
            "cokie",
            f"--affinity cokie is not understood (did you mean cookie?); {KNOWN}",
        ),
        (
            "ip:4",
            f"--affinity ip:4 is not understood (did you mean ip?); {KNOWN}",
        ),
        ("zzz", f"--affinity zzz is not understood; {KNOWN}"),
        ("", f"--affinity  is not understood; {KNOWN}"),
        (":x", f"--affinity :x is not understood; {KNOWN}"),
        (
            "no_such_module:x",
            (
                "--affinity no_such_module:x is no known form, and module"
                " 'no_such_module' cannot be imported (ModuleNotFoundError:"
                f" No module named 'no_such_module'); {KNOWN}"
            ),
        ),
        (
            "a_users_module:other",
            (
                "--affinity a_users_module:other: module 'a_users_module' has no"
                " attribute 'other'"
            ),
        ),
        (
            "a_users_module:table.other",
            (
                "--affinity a_users_module:table.other: module 'a_users_module' has no"
                " attribute 'table.other'"
            ),
        ),
        (
            "a_users_module:table",
            (
                "--affinity a_users_module:table is a SimpleNamespace,"
                " not a maitred.routing.Affinity"
            ),
        ),
    ],
)
@pytest.mark.usefixtures("module")
def test_what_cannot_be_read_is_refused_with_its_sentence(spec, sentence):
    """Each refusal says what was wrong and what would be understood."""
    with pytest.raises(UsageError) as refusal:
        affinity(spec)
    assert str(refusal.value) == sentence


def test_module_that_fails_is_refused(tmp_path, monkeypatch):
    """Whatever a user's module raises becomes one sentence."""
    (tmp_path / "a_failing_module.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"\(ZeroDivisionError: division by zero\)"):
        affinity("a_failing_module:x")


def test_several_are_read_in_order():
    """The order is the operator's."""
    assert [each.name for each in affinities(["ip", "query:a", "mcp"])] == [
        "ip",
        "query:a",
        "mcp",
    ]


@pytest.mark.parametrize("specs", [[], ["none"]])
def test_none_is_no_affinity(specs):
    """Saying nothing and saying none are the same."""
    assert affinities(specs) == ()


def test_none_stands_alone():
    """Nothing can be tried after none."""
    with pytest.raises(UsageError) as refusal:
        affinities(["ip", "none"])
    assert str(refusal.value) == (
        "--affinity none cannot be combined with another --affinity"
    )
