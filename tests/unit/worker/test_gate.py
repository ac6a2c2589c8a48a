"""The gate: what it lets through, when, and what it gives back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heads import BAD
from maitred.worker.gate import Elsewhere, Gate, Reading, Stage

LIMIT = 300
THERE = Elsewhere(b"key", learned=False)

HEAD = b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n"
GET = HEAD % b"here"
AWAY = HEAD % b"there"


def post(body, *, chunk=0):
    """Compose a request with *body*; with *chunk*, in chunks of that many bytes."""
    if not chunk:
        lines = b"Content-Length: %d" % len(body)
    else:
        lines = b"Transfer-Encoding: chunked"
        pieces = [body[at : at + chunk] for at in range(0, len(body), chunk)]
        body = b"".join(b"%x;e=1\r\n%b\r\n" % (len(p), p) for p in pieces)
        body += b"0\r\nTrailer: x\r\n\r\n"
    return b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n%b" % (lines, body)


class Server:
    """What stands behind the gate: notes what it hears, and answers when told to."""

    def __init__(self, *, limit=LIMIT):
        self.passed = []
        self.returned = []
        self.refused = []
        self.dropped = 0
        self.lost_step = 0
        self.heads = []
        self.gate = Gate(self, peer=b"192.0.2.7", limit=limit)

    def belongs(self, head):
        """Send /there there."""
        self.heads.append(head)
        return THERE if head.path == b"/there" else None

    def pass_on(self, data):
        """Note it, and read it as the gate does."""
        self.passed.append(data)
        if self.gate.reading is Reading.DUE:
            assert self.gate.begun()
        if self.stage is not Stage.INSIDE:
            assert self.gate.ended()

    def give_back(self, *said):
        """Note it."""
        self.returned.append(said)

    def refuse(self, *said):
        """Note it."""
        self.refused.append(said)

    def drop(self):
        """Note it."""
        self.dropped += 1

    def out_of_step(self):
        """Note it."""
        self.lost_step += 1

    @property
    def stage(self):
        """Where the gate stands."""
        return self.gate.stage

    def hears(self, *data):
        """Receive *data*, piece by piece."""
        for piece in data:
            self.gate.receive(piece)
        return self

    def answers(self):
        """Answer the request that is with the server."""
        self.gate.answered()
        return self


@pytest.fixture
def server():
    """A server behind a gate."""
    return Server()


# Stages.


def test_begins_between_requests(server):
    """Nothing was heard, nothing is expected."""
    assert server.stage is Stage.BETWEEN
    assert server.gate.idle


def test_request_passes_whole(server):
    """A request that belongs here is the server's, byte by byte."""
    server.hears(GET)
    assert server.passed == [GET]
    assert server.stage is Stage.ANSWERING
    assert not server.gate.idle
    assert server.answers().gate.idle


def test_belonging_is_asked_with_the_head(server):
    """Whoever decides sees the request and its client."""
    server.hears(GET)
    [head] = server.heads
    assert (head.method, head.path, head.host) == (b"GET", b"/here", b"a")
    assert head.peer == b"192.0.2.7"


def test_head_waits_until_it_is_complete(server):
    """Nothing of a request passes before it is known where it belongs."""
    server.hears(*(bytes([byte]) for byte in GET[:-1]))
    assert server.passed == []
    assert server.stage is Stage.BETWEEN
    assert not server.gate.idle
    server.hears(GET[-1:])
    assert server.passed == [GET]


def test_body_passes_as_it_comes(server):
    """A body is not held back."""
    request = post(b"abcdef")
    server.hears(request[:-4])
    assert server.stage is Stage.INSIDE
    server.hears(request[-4:-1])
    assert server.stage is Stage.INSIDE
    server.hears(request[-1:])
    assert server.stage is Stage.ANSWERING
    assert server.passed == [request[:-4], request[-4:-1], request[-1:]]


def test_next_request_waits_for_the_answer(server):
    """The server never holds more than one request."""
    server.hears(GET + post(b"x"), GET)
    assert server.passed == [GET]
    assert server.gate.pending == post(b"x") + GET
    server.answers()
    assert server.passed == [GET, post(b"x")]
    server.answers()
    assert server.passed == [GET, post(b"x"), GET]
    assert server.gate.pending == b""


def test_answer_may_precede_the_end_of_the_body(server):
    """What is left of the body still goes to the server, and then the gate is open."""
    request = post(b"abcdef")
    server.hears(request[:-4]).answers()
    assert server.stage is Stage.INSIDE
    server.hears(request[-4:] + GET)
    assert server.passed == [request[:-4], request[-4:], GET]
    assert server.stage is Stage.ANSWERING


def test_early_answer_counts_for_one_request(server):
    """The request after it waits for an answer of its own."""
    request = post(b"abcdef")
    server.hears(request[:-4]).answers().hears(request[-4:])
    assert server.stage is Stage.BETWEEN
    server.hears(request[:-4], request[-4:], GET)
    assert server.stage is Stage.ANSWERING
    assert server.gate.pending == GET


@pytest.mark.parametrize("stage", [Stage.BETWEEN, Stage.CLOSED])
def test_answer_to_nothing_changes_nothing(server, stage):
    """A server that speaks unasked opens no gate."""
    server.hears(GET[:5])
    if stage is Stage.CLOSED:
        server.gate.take_all()
    pending = server.gate.pending
    server.answers()
    assert (server.stage, server.gate.pending) == (stage, pending)


# Elsewhere.


def test_request_for_elsewhere_is_given_back(server):
    """The connection leaves with all that was not passed on, and nothing passes."""
    server.hears(GET).answers()
    server.hears(AWAY[:7], AWAY[7:] + GET[:3])
    assert server.passed == [GET]
    assert server.returned == [(THERE, AWAY + GET[:3])]
    assert server.stage is Stage.CLOSED
    server.hears(GET).answers()
    assert server.passed == [GET]
    assert len(server.returned) == 1
    assert server.gate.pending == b""


def test_first_request_may_belong_elsewhere(server):
    """What the master guessed is verified too."""
    server.hears(AWAY)
    assert (server.passed, server.returned) == ([], [(THERE, AWAY)])


def test_pipelined_request_for_elsewhere_waits_for_the_answer(server):
    """Only when the last answer is written is there a boundary."""
    server.hears(GET + AWAY + GET)
    assert server.returned == []
    server.answers()
    assert server.returned == [(THERE, AWAY + GET)]
    assert server.passed == [GET]


# What cannot be read.


@pytest.mark.parametrize("name", BAD)
def test_head_that_cannot_be_read_is_refused(name):
    """Wherever on a connection it stands, and the server never sees it."""
    data, verdict = BAD[name]
    for server in (Server(limit=1000), Server(limit=1000).hears(GET).answers()):
        before = list(server.passed)
        server.hears(data)
        assert server.refused == [(verdict.status, verdict.cause)]
        assert server.passed == before
        assert server.stage is Stage.CLOSED
        server.hears(GET)
        assert server.passed == before


def test_head_is_bounded(server):
    """A head that is too long is refused when the limit is reached, and not before."""
    server.hears(GET).answers()
    start = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
    server.hears(start + b"x" * (LIMIT - len(start) - 1))
    assert server.refused == []
    server.hears(b"x")
    assert server.refused == [(431, "head_too_large")]


def test_limit_is_for_heads_alone(server):
    """A body, and what is pipelined, may be longer."""
    server.hears(post(b"x" * LIMIT) + GET * 20)
    assert len(server.passed[0]) > LIMIT
    for _ in range(20):
        server.answers()
    assert server.passed[1:] == [GET] * 20
    assert server.refused == []


BAD_CHUNKS = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n"


def test_bad_body_is_refused_before_anything_passes(server):
    """In one piece with its head, the server sees nothing of it."""
    server.hears(BAD_CHUNKS + GET)
    assert (server.passed, server.refused) == ([], [(400, "bad_body")])
    assert server.stage is Stage.CLOSED


def test_bad_body_is_refused_in_the_middle(server):
    """What follows the mistake is no request."""
    server.hears(BAD_CHUNKS[:-4], BAD_CHUNKS[-4:] + GET)
    assert server.passed == [BAD_CHUNKS[:-4]]
    assert (server.refused, server.dropped) == ([(400, "bad_body")], 0)


def test_bad_body_after_the_answer_is_not_answered_twice(server):
    """The client has its answer; the connection just ends."""
    server.hears(BAD_CHUNKS[:-4]).answers().hears(BAD_CHUNKS[-4:])
    assert (server.refused, server.dropped) == ([], 1)
    assert server.stage is Stage.CLOSED


def test_empty_line_first_stays_outside(server):
    """h11 would take it for an error; what is given back has it, as all else."""
    server.hears(b"\r\n" + GET).answers().hears(b"\r", b"\n" + GET).answers()
    assert server.passed == [GET, GET]
    server.hears(b"\r\n").hears(AWAY)
    assert server.returned == [(THERE, b"\r\n" + AWAY)]


def test_upgrade_is_a_request_like_any_other(server):
    """Until the server has made a WebSocket of it, the next one is checked."""
    upgrade = GET[:-2] + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    server.hears(upgrade + b"frames")
    assert server.passed == [upgrade]
    assert server.gate.take_all() == b"frames"
    other = Server().hears(upgrade).answers().hears(AWAY)
    assert other.returned == [(THERE, AWAY)]


def test_taking_all_closes_the_gate(server):
    """Whoever takes what waits is the last."""
    server.hears(GET + GET[:9])
    assert server.gate.take_all() == GET[:9]
    assert server.gate.take_all() == b""
    assert server.stage is Stage.CLOSED


@pytest.mark.parametrize("name", BAD)
def test_bad_head_is_refused_alike_however_cut(name):
    """What is bad in the middle of a line is told by the end of that line."""
    data, verdict = BAD[name]
    for cut in range(1, len(data)):
        server = Server(limit=16 * 1024).hears(data[:cut], data[cut:], b"\n")
        assert server.refused == [(verdict.status, verdict.cause)], cut


def test_bytes_without_a_line_end_are_not_looked_at_again(server, monkeypatch):
    """A client that drips its head costs a look for each line, not for each byte."""
    looks = []

    def look(data, *_):
        looks.append(data)
        return original(data, *_)

    import maitred.worker.gate as module

    original = module.sniff_head
    monkeypatch.setattr(module, "sniff_head", look)
    server.hears(*(bytes([byte]) for byte in GET))
    assert len(looks) == 1 + GET.count(b"\n")
    assert server.passed == [GET]


# Every cutting of every sequence.

BODIES = st.binary(max_size=40)
REQUESTS = st.one_of(
    st.just(GET),
    st.builds(post, BODIES),
    st.builds(lambda body, chunk: post(body, chunk=chunk), BODIES, st.integers(1, 9)),
)


@st.composite
def cut(draw, data):
    """Cut *data* anywhere."""
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=12).map(sorted))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@given(st.data(), st.lists(REQUESTS, max_size=5), st.lists(REQUESTS, max_size=2))
def test_any_cutting_gives_the_same_requests(data, here, after):
    """Each request reaches the server whole and alone, whenever it is answered."""
    stream = b"".join(here)
    rest = AWAY + b"".join(after)
    server = Server()
    got, before = [], 0
    for piece in data.draw(cut(stream + rest)):
        server.hears(piece)
        assert not server.refused
        # The server may answer as soon as it has anything of a request, or later.
        while len(b"".join(server.passed)) > before and data.draw(st.booleans()):
            if server.stage is Stage.ANSWERING:
                got.append(b"".join(server.passed)[before:])
                before += len(got[-1])
                server.answers()
            elif server.stage is Stage.INSIDE and not server.gate._answered:
                server.answers()
            else:
                break
        passed = b"".join(server.passed)
        assert stream.startswith(passed)
    while server.stage is Stage.ANSWERING:
        server.answers()
    assert b"".join(server.passed) == stream
    [(to, unread)] = server.returned
    assert to == THERE
    # What is given back is what was heard and not passed on; the rest was not read.
    assert rest.startswith(unread)
    assert unread.startswith(AWAY)


@given(st.lists(REQUESTS, min_size=1, max_size=5), st.data())
def test_server_holds_one_request_at_a_time(requests, data):
    """What passed between two answers is exactly one request."""
    server = Server()
    for piece in data.draw(cut(b"".join(requests))):
        server.hears(piece)
    for request in requests:
        assert b"".join(server.passed) == request
        server.passed.clear()
        server.answers()
    assert server.gate.idle


def test_repeated_head_is_read_once(server, monkeypatch):
    """Equal bytes are an equal head; where it belongs is asked each time."""
    server.hears(GET).answers()

    def fail(*_):
        raise AssertionError

    monkeypatch.setattr("maitred.worker.gate.sniff_head", fail)
    server.hears(GET + GET).answers().answers()
    assert server.passed == [GET] * 3
    assert len(server.heads) == 3
    assert server.heads[0] is server.heads[2]


def test_head_that_was_refused_or_is_longer_is_read_anew(server):
    """Only a whole head that was read counts as known."""
    server.hears(GET).answers().hears(GET[:-2] + b"X: 1\r\n\r\n").answers()
    assert server.heads[1].values(b"x") == [b"1"]
    server.hears(GET)
    assert server.heads[2].values(b"x") == []
