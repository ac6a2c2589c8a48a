"""A session that frameworks find, however it is spelled, stays in its worker."""

from __future__ import annotations

import pytest

from driver import Maitred
from raw_http import Answer, Connection, ask, get

LEARN = ("--affinity", "cookie:cart,learn", "--no-access-log")
KINDS = {
    "asgi": ("carts:app", *LEARN),
    "wsgi": ("carts:wsgi", "--kind", "wsgi", *LEARN),
}
SPELLINGS = {
    "as it was set": ["cart={0}"],
    "bare": ["cart={1}"],
    "quoted": ['cart="{1}"'],
    "after others": ["theme=dark; cart={0}"],
    "in the second of two lines": ["theme=dark", "cart={0}"],
    "in the first of two lines": ["cart={0}", "theme=dark"],
    "in the second of three lines": ["a=1", "cart={1}", "b=2"],
    "repeated": ["cart={0}; cart={0}"],
    "repeated, with and without quotes": ["cart={0}; cart={1}"],
    "repeated in two lines": ["cart={0}", "cart={0}"],
    "spaced": [" cart = {1} ; theme=dark"],
}
"Cookie lines with the name as it was set, and as it is."


def begin(server: Maitred) -> list[str]:
    """Begin a session; give its cookie's value as it was set, and as it is."""
    line = ask(server.port, "/begin").headers["set-cookie"]
    value = line.partition(";")[0].partition("=")[2]
    return [value, value.strip('"')]


def add(server: Maitred, *lines: str) -> Answer:
    """Ask on a connection of its own, with these Cookie *lines*."""
    return ask(server.port, "/add", *(f"Cookie: {line}" for line in lines))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lines", SPELLINGS.values(), ids=SPELLINGS)
def test_session_is_kept_however_its_cookie_is_spelled(share, kind, lines):
    """Each spelling that a process alone would understand, on four workers."""
    server = share(*KINDS[kind], workers=4)
    for _ in range(6):
        names = begin(server)
        said = [add(server, *(line.format(*names) for line in lines)) for _ in range(3)]
        assert [answer.json.get("count") for answer in said] == [2, 3, 4]


def test_stale_cookie_before_the_right_one_does_no_harm(share):
    """A name that nobody owns is no reason to be anywhere else."""
    server = share(*KINDS["asgi"], workers=4)
    for _ in range(6):
        name, _ = begin(server)
        said = [add(server, f"cart=stale; cart={name}") for _ in range(3)]
        assert [answer.json.get("count") for answer in said] == [2, 3, 4]


def test_names_of_two_workers_in_one_request_are_refused(share):
    """Frameworks take the first or the last; nobody serves what is another's."""
    server = share(*KINDS["asgi"], workers=4)
    carts = [begin(server)[0] for _ in range(16)]
    pids = [add(server, f"cart={cart}").json["pid"] for cart in carts]
    for one, other in zip(range(16), range(1, 16), strict=False):
        answer = add(server, f"cart={carts[one]}; cart={carts[other]}")
        if pids[one] == pids[other]:
            assert answer.json["pid"] == pids[one]
        else:
            assert (answer.status, answer.body) == (
                400,
                b"The request names two sessions.\n",
            )
    assert len(set(pids)) > 1


def test_kept_connection_goes_on_after_a_question(share):
    """What came behind such a request is served too, in order."""
    server = share(*KINDS["asgi"], workers=4)
    name, _ = begin(server)
    stale = get("/add", f"Cookie: cart=stale; cart={name}")
    plain = get("/add", f"Cookie: cart={name}")
    with Connection(server.connect()) as client:
        client.send(plain + stale + plain + stale)
        counts = [client.answer().json["count"] for _ in range(4)]
    assert counts == [2, 3, 4, 5]


ROOMS = ["/rooms/{}", "/%72ooms/{}", "/rooms%2F{}", "/rooms/{}?x=1"]


@pytest.mark.parametrize("affinity", ["path:2", "rooms"])
def test_room_is_one_however_its_path_is_spelled(share, affinity):
    """The application decodes the path before it looks for the room."""
    server = share("carts:app", "--affinity", affinity, "--no-access-log", workers=4)
    for number in range(6):
        name = f"{affinity[:4]}{number}"
        answers = [ask(server.port, path.format(name)).json for path in ROOMS]
        assert [answer["room"] for answer in answers] == [name] * 4
        assert [answer["count"] for answer in answers] == [1, 2, 3, 4]


def test_header_is_one_as_wsgi_spells_it(share):
    """Under WSGI nobody sees whether it was X_Session or X-Session."""
    server = share(
        *("carts:wsgi", "--kind", "wsgi", "--affinity", "header:x-session"),
        "--no-access-log",
        workers=4,
    )
    for number in range(6):
        lines = (f"X-Session: {number}", f"X_Session: {number}") * 2
        counts = [ask(server.port, "/header", line).json["count"] for line in lines]
        assert counts == [1, 2, 3, 4]


def test_application_that_makes_the_cookie_is_told(serve):
    """The first command that many try; the log names the remedy, once."""
    server = serve("carts:app", "--affinity", "cookie:cart", "--no-access-log")
    server.expect_log("sets the cookie cart itself")
    for _ in range(8):
        begin(server)
    assert (
        1
        <= server.log.count("sets the cookie cart itself")
        <= len(server.worker_pids())
    )
    assert "say --affinity sticky, or --affinity cookie:cart,learn" in server.log
