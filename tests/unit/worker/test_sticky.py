"""Our cookie on its way out: set once, for whom it is missing, and never twice."""

import asyncio

import pytest

from maitred import logs
from maitred.routing import Seal, affinity
from maitred.routing.seal import KEY_SIZE, NONCE
from maitred.worker.sticky import StickyCookie

OLD, NEW = b"o" * KEY_SIZE, b"n" * KEY_SIZE
SEAL = Seal({"new": NEW, "old": OLD}, 4)
SLOT = 2
RETIRED = Seal({"old": OLD}, 4)


def scope(*cookies, kind="http", scheme="http"):
    """Make a scope with these Cookie lines."""
    return {
        "type": kind,
        "scheme": scheme,
        "path": "/",
        "query_string": b"",
        "headers": [(b"host", b"a"), *((b"cookie", line) for line in cookies)],
    }


def start(*headers, kind="http.response.start"):
    """Make the message that begins a response."""
    return {"type": kind, "status": 200, "headers": list(headers)}


class Service:
    """An application that says *messages*, wrapped, and what came out of it."""

    def __init__(self, *messages, spec="sticky", seal=SEAL):
        self.messages = messages
        self.app = StickyCookie(self.answer, affinity(spec, seal), seal, SLOT)

    async def answer(self, scope, receive, send):
        """Answer."""
        self.seen = (scope, receive)
        for message in self.messages:
            await send(dict(message))

    def ask(self, scope):
        """Serve *scope*; give what leaves."""
        sent = []

        async def send(message):
            sent.append(message)

        asyncio.run(self.app(scope, None, send))
        return sent

    def cookies(self, scope):
        """Serve *scope*; give the Set-Cookie lines that leave."""
        return [
            value
            for message in self.ask(scope)
            for name, value in message.get("headers") or ()
            if name.lower() == b"set-cookie"
        ]


def slot_of(line, name=b"maitred"):
    """Say which slot the Set-Cookie *line* of *name* brings a client to."""
    token, _, rest = line.removeprefix(name + b"=").partition(b";")
    assert rest.startswith(b" Path=/; HttpOnly; SameSite=Lax")
    return SEAL.slot_in(token)


def test_first_response_brings_the_cookie():
    """A client without one is told to come back to this slot."""
    body = {"type": "http.response.body", "body": b"x"}
    service = Service(start((b"x", b"y")), body)
    begun, rest = service.ask(scope(b"a=b"))
    assert begun["headers"][0] == (b"x", b"y")
    [(name, line)] = begun["headers"][1:]
    assert name == b"set-cookie"
    assert slot_of(line) == SLOT
    assert rest == body


@pytest.mark.parametrize("slot", [SLOT, 1])
def test_valid_cookie_is_left_alone(slot):
    """Also one of another slot: then another affinity brought the request here."""
    line = b"maitred=" + SEAL.token(slot, bytes(NONCE))
    assert Service(start()).cookies(scope(line)) == []


@pytest.mark.parametrize(
    "value", [b"", b"x", b"slot:2", SEAL.token(1, bytes(NONCE))[1:]]
)
def test_bad_cookie_is_replaced(value):
    """A forged cookie is as good as none."""
    [line] = Service(start()).cookies(scope(b"maitred=" + value))
    assert slot_of(line) == SLOT


def test_client_of_a_slot_that_nobody_fills_is_told_to_come_here():
    """Its worker's generation is gone; we have the same place in the other set."""
    service = Service(start())
    service.app = StickyCookie(service.answer, affinity("sticky", SEAL), SEAL, SLOT, 1)
    for slot, renewed in ((1, [SLOT]), (3, []), (SLOT, [])):
        line = b"maitred=" + SEAL.token(slot, bytes(NONCE))
        assert list(map(slot_of, service.cookies(scope(line)))) == renewed


def test_every_client_gets_another_one():
    """Two tokens of a slot are not alike."""
    service = Service(start())
    assert service.cookies(scope()) != service.cookies(scope())


def test_cookie_of_a_retiring_key_is_signed_anew():
    """The slot stays; only then may the old key be removed."""
    line = b"maitred=" + RETIRED.token(3, bytes(NONCE))
    [renewed] = Service(start()).cookies(scope(line))
    assert slot_of(renewed) == 3
    token = renewed.removeprefix(b"maitred=").partition(b";")[0]
    assert SEAL.is_current(token)


@pytest.mark.parametrize(
    ("kind", "begins"),
    [
        ("http", "http.response.start"),
        ("websocket", "websocket.accept"),
        ("websocket", "websocket.http.response.start"),
    ],
)
def test_every_way_to_begin_brings_it(kind, begins):
    """A WebSocket's handshake is a response too, and so is its refusal."""
    [line] = Service(start(kind=begins)).cookies(scope(kind=kind))
    assert slot_of(line) == SLOT


@pytest.mark.parametrize("headers", [{}, {"headers": None}, {"headers": ()}])
def test_acceptance_needs_no_headers(headers):
    """They are optional in ASGI."""
    accept = {"type": "websocket.accept"} | headers
    [line] = Service(accept).cookies(scope(kind="websocket"))
    assert slot_of(line) == SLOT


@pytest.mark.parametrize(
    ("scheme", "secure"),
    [("http", False), ("ws", False), ("https", True), ("wss", True)],
)
def test_secure_when_the_client_came_by_tls(scheme, secure):
    """The scheme of the scope decides."""
    [line] = Service(start()).cookies(scope(scheme=scheme))
    assert line.endswith(b"; Secure") is secure


def test_scope_without_a_scheme_is_plain():
    """It is optional in ASGI."""
    plain = scope()
    del plain["scheme"]
    [line] = Service(start()).cookies(plain)
    assert b"Secure" not in line


def test_name_is_the_affinitys():
    """``sticky:front`` sets and finds ``front``."""
    service = Service(start(), spec="sticky:front")
    [line] = service.cookies(scope(b"maitred=" + SEAL.token(1, bytes(NONCE))))
    assert slot_of(line, b"front") == SLOT
    assert service.cookies(scope(line.partition(b";")[0])) == []


@pytest.mark.parametrize(
    "value", [b"maitred=own; Path=/", b"maitred =own", b"maitred="]
)
def test_cookie_of_the_application_wins_and_is_told_once(value, monkeypatch):
    """Ours is left out, and the operator learns why nobody is sticky."""
    said = []
    monkeypatch.setattr(logs.worker, "warning", lambda text, *_: said.append(text))
    service = Service(start((b"Set-Cookie", value)))
    assert service.cookies(scope()) == [value]
    assert service.cookies(scope()) == [value]
    [text] = said
    assert text.startswith("the application sets a cookie %s itself")


def test_other_cookies_of_the_application_do_not_matter():
    """A name that only begins or ends like ours is another."""
    others = [b"maitred2=x", b"xmaitred=x", b"Maitred=x", b"a=maitred=x"]
    headers = [(b"set-cookie", value) for value in others]
    assert len(Service(start(*headers)).cookies(scope())) == len(others) + 1


def test_headers_of_the_application_are_not_changed():
    """An application may send the same list of headers again and again."""
    headers = [(b"x", b"y")]
    message = {"type": "http.response.start", "status": 200, "headers": headers}
    service = Service(message)
    service.ask(scope())
    assert headers == [(b"x", b"y")]


def test_lifespan_passes_untouched():
    """It has no client."""
    complete = {"type": "lifespan.startup.complete"}
    assert Service(complete).ask({"type": "lifespan"}) == [complete]
