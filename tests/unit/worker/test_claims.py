"""Claims: said before the message that carries the key, once."""

import asyncio
import dataclasses
from unittest.mock import AsyncMock, Mock

import pytest

from heads import GOOD, request
from maitred.routing import Affinity, affinities
from maitred.routing.affinity import ip
from maitred.routing.http1 import sniff_head
from maitred.worker.claims import BODY_LIMIT, Claims, Reply, ScopeHead
from maitred.worker.keys import OwnKeys

TTL = 100.0


def scope(target="/", *headers, **details):
    """Make an HTTP scope as an ASGI server does."""
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"a"), *headers],
        "client": ("192.0.2.7", 1234),
    } | details


def start(*headers, status=200):
    """Make the message that begins a response."""
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(content, *, more=False):
    """Make a message with a piece of a response's body."""
    return {"type": "http.response.body", "body": content, "more_body": more}


@dataclasses.dataclass
class Worker:
    """A worker's claims, the application it wraps, and what came out in which order."""

    specs: list
    now: float = 0.0

    def __post_init__(self):
        self.events = []
        self.claims = Claims(
            self.app,
            affinities(self.specs),
            OwnKeys(
                ttl=TTL,
                claim=self.claim,
                release=lambda key: self.events.append(("release", key)),
                clock=lambda: self.now,
            ),
        )

    def claim(self, key, made):
        """Note what is claimed, which the application made."""
        assert made
        self.events.append(("claim", key))

    async def app(self, _scope, _receive, send):
        """Send the messages it was given."""
        for message in self.messages:
            await send(message)

    async def send(self, message):
        """Note what leaves."""
        self.events.append(("send", message["type"]))
        self.sent.append(message)

    def serve(self, scope, *messages):
        """Serve *scope* with *messages* and give what happened."""
        self.events, self.sent, self.messages = [], [], messages
        asyncio.run(self.claims(scope, None, self.send))
        assert self.sent == list(messages)
        return [event for event in self.events if event[0] != "send"]


HEADER = ["header:x,learn"]
X = (b"x", b"1")


# Learning.


def test_claim_precedes_the_message_that_carries_the_key():
    """The master knows the key before the client can."""
    worker = Worker(HEADER)
    worker.serve(scope(), start(X), body(b""))
    assert worker.events == [
        ("claim", b"header:x=1"),
        ("send", "http.response.start"),
        ("send", "http.response.body"),
    ]


def test_key_is_claimed_once():
    """A response that repeats what the master knows says nothing new."""
    worker = Worker(HEADER)
    assert worker.serve(scope(), start(X)) == [("claim", b"header:x=1")]
    assert worker.serve(scope("/", X), start(X)) == []
    assert worker.serve(scope(), start((b"x", b"2"))) == [("claim", b"header:x=2")]


def test_response_without_a_key_claims_nothing():
    """Not every response makes a session."""
    worker = Worker(HEADER)
    assert worker.serve(scope(), start(), body(b"x: 1")) == []


def test_header_name_of_the_application_may_have_any_case():
    """ASGI asks for lower case; not every application keeps to it."""
    worker = Worker(HEADER)
    assert worker.serve(scope(), start((b"X", b"1"))) == [("claim", b"header:x=1")]


def test_several_affinities_learn_from_one_response():
    """Each claims what it finds."""
    worker = Worker(["header:x,learn", "cookie:c,learn"])
    assert worker.serve(scope(), start(X, (b"set-cookie", b"c=2; Path=/"))) == [
        ("claim", b"header:x=1"),
        ("claim", b"cookie:c=2"),
    ]


def test_key_that_was_learned_is_the_one_of_the_next_request():
    """What the worker claims is what the master will look for."""
    worker = Worker(HEADER)
    ((_, key),) = worker.serve(scope(), start(X))
    (affinity,) = affinities(HEADER)
    assert affinity.key(sniff_head(request(b"GET / HTTP/1.1", b"X: 1"))) == key


def test_websocket_is_learned_from_its_acceptance():
    """The handshake's answer has headers too."""
    worker = Worker(HEADER)
    ws = scope(type="websocket")
    del ws["method"]
    assert worker.serve(
        ws,
        {"type": "websocket.accept", "headers": [X]},
        {"type": "websocket.send", "text": "hello"},
    ) == [("claim", b"header:x=1")]
    assert worker.events[0][0] == "claim"


def test_websocket_acceptance_needs_no_headers():
    """An acceptance without a word is one."""
    worker = Worker(HEADER)
    assert worker.serve(scope(type="websocket"), {"type": "websocket.accept"}) == []


def test_other_messages_are_not_looked_at():
    """Whatever else a server understands passes."""
    worker = Worker(HEADER)
    assert worker.serve(scope(), {"type": "http.response.debug", "info": {}}) == []


def test_body_is_learned_over_several_chunks():
    """A name may be cut anywhere; the claim precedes the chunk that completes it."""
    worker = Worker(["socketio"])
    worker.serve(
        scope("/socket.io/?EIO=4"),
        start((b"content-type", b"text/plain")),
        body(b'0{"sid":"ab', more=True),
        body(b'cd","upgrades":[]}'),
    )
    assert worker.events == [
        ("send", "http.response.start"),
        ("send", "http.response.body"),
        ("claim", b"socketio=abcd"),
        ("send", "http.response.body"),
    ]


def test_body_is_not_learned_beyond_the_limit():
    """What has not named a session within some KiB is not searched any further."""
    worker = Worker(["mcp-sse"])
    line = b"data: /messages/?session_id=" + b"0" * 32
    events = (b"content-type", b"text/event-stream")
    padding = b"x" * (BODY_LIMIT - len(line) - 1) + b"\n"
    assert worker.serve(scope(), start(events), body(padding + line)) != []
    worker = Worker(["mcp-sse"])
    assert worker.serve(scope(), start(events), body(b"x" + padding + line)) == []
    worker = Worker(["mcp-sse"])
    assert (
        worker.serve(
            scope(),
            start(events),
            body(b"x" * BODY_LIMIT + b"\n", more=True),
            body(line),
        )
        == []
    )


def test_stream_is_watched_until_it_named_its_session():
    """A second name later in the same response is not looked for."""
    worker = Worker(["mcp-sse"])
    said = [b"data: ?session_id=" + digit * 32 for digit in (b"0", b"1")]
    assert worker.serve(
        scope(),
        start((b"content-type", b"text/event-stream")),
        body(said[0] + b"\n", more=True),
        body(said[1] + b"\n"),
    ) == [("claim", b"mcp-sse=" + b"0" * 32)]


def test_affinity_that_has_learned_is_not_asked_again():
    """What comes after the name, however much, is not searched."""
    learn = Mock(return_value=b"1")
    affinity = Affinity(name="n", find=ip, learn=learn)
    messages = [start(), body(b"a", more=True), body(b"b")]

    async def app(_scope, _receive, send):
        """Send three messages."""
        for message in messages:
            await send(message)

    claims = Claims(app, [affinity], Mock())
    asyncio.run(claims(scope(), None, AsyncMock()))
    assert learn.call_count == 1


def test_response_renews_a_key():
    """An application that repeats the name, unasked, keeps it alive."""
    worker = Worker(HEADER)
    worker.serve(scope(), start(X))
    worker.now = TTL / 4
    assert worker.serve(scope(), start(X)) == []
    worker.now = TTL
    assert worker.serve(scope(), start(X)) == [("claim", b"header:x=1")]
    assert worker.events[0][0] == "claim"


def test_request_says_nothing_of_its_key():
    """Whether a request's key is ours is the gate's to ask, before."""
    worker = Worker(HEADER)
    assert worker.serve(scope("/", X), start()) == []


# Ending.

MCP_ID = (b"mcp-session-id", b"5")


@pytest.mark.parametrize("status", [200, 204, 404])
def test_ended_session_is_released(status):
    """The answer that ends a session releases its key, whatever its headers repeat."""
    worker = Worker(["mcp"])
    worker.serve(scope("/mcp", method="POST"), start(MCP_ID))
    assert worker.serve(
        scope("/mcp", MCP_ID, method="DELETE"), start(MCP_ID, status=status)
    ) == [("release", b"mcp=5")]
    assert worker.events[0] == ("release", b"mcp=5")


def test_session_that_does_not_end_is_kept():
    """A refused DELETE ends nothing."""
    worker = Worker(["mcp"])
    worker.serve(scope("/mcp", method="POST"), start(MCP_ID))
    assert worker.serve(scope("/mcp", MCP_ID, method="DELETE"), start(status=405)) == []


def test_released_key_can_be_claimed_again():
    """A name may be made a second time."""
    worker = Worker(["mcp"])
    worker.serve(scope("/mcp", method="POST"), start(MCP_ID))
    worker.serve(scope("/mcp", MCP_ID, method="DELETE"), start())
    assert worker.serve(scope("/mcp", method="POST"), start(MCP_ID)) == [
        ("claim", b"mcp=5")
    ]


# The rest.


def test_lifespan_passes_untouched():
    """Start and stop of the application are none of our business."""
    worker = Worker(HEADER)
    said = {"type": "lifespan.startup.complete"}
    assert worker.serve({"type": "lifespan"}, said) == []


def test_scope_and_receive_reach_the_application():
    """The application is called as the server would have called it."""
    app = AsyncMock()
    claims = Claims(app, affinities(HEADER), Mock())
    asked = scope()
    asyncio.run(claims(asked, "receive", None))
    assert app.await_args.args[0] is asked
    assert app.await_args.args[1] == "receive"


def test_error_of_the_application_is_its_own():
    """What the application raises reaches the server."""
    app = AsyncMock(side_effect=ValueError("mine"))
    claims = Claims(app, affinities(HEADER), Mock())
    with pytest.raises(ValueError, match="mine"):
        asyncio.run(claims(scope(), None, None))


# What an affinity sees.


@pytest.mark.parametrize("name", [name for name in GOOD if "absolute" not in name])
def test_scope_head_says_what_the_raw_head_says(name):
    """Master and worker look at one request and see the same."""
    raw = sniff_head(GOOD[name], b"192.0.2.7")
    lines = GOOD[name].split(b"\r\n")[1:-2]
    pairs = [line.partition(b":")[::2] for line in lines]
    head = ScopeHead(
        scope(
            method=raw.method.decode(),
            raw_path=raw.path,
            query_string=raw.query,
            headers=[(key.lower(), value.strip(b" \t")) for key, value in pairs],
        )
    )
    for field in ("method", "path", "query", "host", "peer"):
        assert getattr(head, field) == getattr(raw, field), field
    for key, _ in pairs:
        assert head.values(key.lower()) == raw.values(key.lower())


def test_scope_head_makes_do_with_less():
    """A server may leave out what ASGI says it may."""
    head = ScopeHead(
        {
            "type": "websocket",
            "path": "/ü",
            "query_string": b"",
            "headers": [],
            "client": None,
        }
    )
    assert (head.method, head.path, head.host, head.peer) == (
        b"GET",
        "/ü".encode(),
        b"",
        b"",
    )


def test_reply_is_fed_message_by_message():
    """It says whether a message was worth another look."""
    reply = Reply()
    assert (reply.status, reply.body) == (0, b"")
    assert reply.add(start((b"A", b"1"), (b"a", b"2"), status=201))
    assert reply.status == 201
    assert reply.values(b"a") == [b"1", b"2"]
    assert reply.add(body(b"x"))
    assert reply.add(body(b"x" * BODY_LIMIT))
    assert not reply.add(body(b"y"))
    assert reply.body == b"x" * BODY_LIMIT
    assert not reply.add({"type": "http.response.trailers"})


def test_reply_takes_headers_from_an_iterator():
    """An application may give its headers as any iterable of pairs, of any bytes."""
    reply = Reply()
    reply.add({"type": "http.response.start", "status": 200, "headers": iter([X])})
    assert reply.values(b"x") == reply.values(b"x") == [b"1"]


def test_reply_of_a_websocket_has_a_status():
    """A handshake that is accepted is answered with 101."""
    reply = Reply()
    reply.add({"type": "websocket.accept", "headers": None})
    assert reply.status == 101


def test_reply_keeps_what_is_said_over_a_websocket():
    """Text and bytes alike, up to the limit."""
    reply = Reply()
    assert reply.add({"type": "websocket.send", "text": "a", "bytes": None})
    assert reply.add({"type": "websocket.send", "bytes": b"b"})
    assert reply.body == b"ab"
    assert reply.add({"type": "websocket.send", "text": "c" * BODY_LIMIT})
    assert len(reply.body) == BODY_LIMIT
    assert not reply.add({"type": "websocket.send", "bytes": b"d"})
    assert not Reply().add({"type": "websocket.close"})
