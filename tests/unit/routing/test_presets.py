"""The presets, held against what the frameworks' own clients and servers sent."""

import pytest

from heads import (
    BOKEH_SESSION,
    MCP_SESSION,
    REAL,
    SHINY_SESSION,
    SOCKETIO_SESSION,
    SSE_SESSION,
    STREAMLIT_TOKEN,
    request,
)
from maitred.routing import PRESETS
from maitred.routing.http1 import sniff_head


class Answer:
    """A recorded response, or what there is of it."""

    def __init__(self, status, headers, body=b""):
        self.status = status
        self.headers = headers
        self.body = body

    def values(self, name):
        """Give the headers of this name."""
        return [value for key, value in self.headers if key == name]


EVENTS = (b"content-type", b"text/event-stream")

# The responses of the servers of the same conversations as in heads.py.
MCP_INITIALIZED = Answer(
    200,
    [
        (b"cache-control", b"no-cache, no-transform"),
        (b"connection", b"keep-alive"),
        EVENTS,
        (b"mcp-session-id", MCP_SESSION),
        (b"x-accel-buffering", b"no"),
    ],
)
SSE_BEGUN = Answer(
    200,
    [
        (b"cache-control", b"no-store"),
        (b"connection", b"keep-alive"),
        (b"x-accel-buffering", b"no"),
        (b"content-type", b"text/event-stream; charset=utf-8"),
    ],
    b"event: endpoint\r\ndata: /messages/?session_id=%b\r\n\r\n" % SSE_SESSION,
)
SOCKETIO_OPENED = Answer(
    200,
    [
        (b"content-type", b"text/plain; charset=UTF-8"),
        (b"access-control-allow-credentials", b"true"),
    ],
    b'0{"sid":"%b","upgrades":["websocket"],"pingTimeout":20000,'
    b'"pingInterval":25000,"maxPayload":1000000}' % SOCKETIO_SESSION,
)


@pytest.mark.parametrize(
    ("preset", "recorded", "key"),
    [
        ("mcp", "mcp initialize", None),
        ("mcp", "mcp call", b"mcp=" + MCP_SESSION),
        ("mcp", "mcp delete", b"mcp=" + MCP_SESSION),
        ("mcp-sse", "mcp-sse stream", None),
        ("mcp-sse", "mcp-sse message", b"mcp-sse=" + SSE_SESSION),
        ("socketio", "socketio handshake", None),
        ("socketio", "socketio poll", b"socketio=" + SOCKETIO_SESSION),
        ("socketio", "socketio send", b"socketio=" + SOCKETIO_SESSION),
        ("streamlit", "streamlit health", None),
        ("streamlit", "streamlit websocket", b"streamlit=" + STREAMLIT_TOKEN),
        ("streamlit", "streamlit websocket again", b"streamlit=" + STREAMLIT_TOKEN),
        ("shiny", "shiny websocket", None),
        ("shiny", "shiny upload", b"shiny=" + SHINY_SESSION),
        ("panel", "panel page", None),
        ("panel", "panel websocket", b"panel=" + BOKEH_SESSION),
        ("bokeh", "panel websocket", b"bokeh=" + BOKEH_SESSION),
    ],
)
def test_preset_finds_the_session_of_a_real_request(preset, recorded, key):
    """The first request has no session yet, every later one has."""
    assert PRESETS[preset].key(sniff_head(REAL[recorded])) == key


# The first message of Shiny's WebSocket.
SHINY_BEGUN = Answer(
    101,
    [],
    b'{"config": {"workerId": "", "sessionId": "%b", "user": null}}' % SHINY_SESSION,
)


@pytest.mark.parametrize(
    ("preset", "answer", "session"),
    [
        ("shiny", SHINY_BEGUN, SHINY_SESSION),
        ("mcp", MCP_INITIALIZED, MCP_SESSION),
        ("mcp-sse", SSE_BEGUN, SSE_SESSION),
        ("socketio", SOCKETIO_OPENED, SOCKETIO_SESSION),
    ],
)
def test_preset_learns_the_session_of_a_real_response(preset, answer, session):
    """The name that the server made is what the client will send."""
    assert PRESETS[preset].learn(answer) == session


@pytest.mark.parametrize("answer", [SSE_BEGUN, SOCKETIO_OPENED])
@pytest.mark.parametrize("preset", ["mcp-sse", "socketio"])
def test_half_a_name_is_not_learned(preset, answer):
    """A body that arrives in pieces teaches nothing but the whole name."""
    learn = PRESETS[preset].learn
    sessions = {
        learn(Answer(answer.status, answer.headers, answer.body[:size]))
        for size in range(len(answer.body))
    }
    assert sessions <= {None, learn(answer)}


@pytest.mark.parametrize(
    "body",
    [
        b'2{"sid":"abc"}',
        b'40{"sid":"oPGnQzqWis_xDbvwAAAB"}',  # the namespace's, recorded too
        b' 0{"sid":"abc"}',
        b'0{"sid":"a b"}',
        b'"Bad Request"',
    ],
)
def test_other_bodies_of_engine_io_teach_nothing(body):
    """Only the packet that opens a session names it."""
    assert PRESETS["socketio"].learn(Answer(200, [], body)) is None


def test_data_of_a_tool_teaches_mcp_sse_nothing():
    """A session's name counts in the data line of an event stream alone."""
    learn = PRESETS["mcp-sse"].learn
    line = b"see data: /messages/?session_id=%b\n" % SSE_SESSION
    assert learn(Answer(200, [EVENTS], line)) is None
    html = Answer(200, [(b"content-type", b"text/html")], SSE_BEGUN.body)
    assert learn(html) is None


@pytest.mark.parametrize(
    ("target", "found"),
    [
        (b"/engine.io/?sid=x", True),
        (b"/app/socket.io/?sid=x", True),
        (b"/?sid=x", False),
        (b"/socketXio/?sid=x", False),
        (b"/socket.io?sid=x", True),
        (b"/engine.io?sid=x", True),
        (b"/app/socket.io?sid=x", True),
        (b"/socket%2Eio/?sid=x", True),
        (b"/socket.iox/?sid=x", False),
        (b"/socket.io.js?sid=x", False),
    ],
)
def test_socketio_looks_at_its_own_paths(target, found):
    """Other parts of the application may use ``sid`` for something else."""
    head = sniff_head(request(b"GET %b HTTP/1.1" % target))
    assert PRESETS["socketio"].key(head) == (b"socketio=x" if found else None)


def test_stamped_socketio_session_is_found():
    """A name may be longer than the twenty characters that the library makes."""
    head = sniff_head(request(b"GET /socket.io/?sid=3.7-abc_%b HTTP/1.1" % (b"x" * 40)))
    assert PRESETS["socketio"].key(head) == b"socketio=3.7-abc_" + b"x" * 40


def test_mcp_session_ends_with_its_delete():
    """The client ends a session with DELETE, and nothing else does."""
    ends = PRESETS["mcp"].ends
    assert ends(sniff_head(REAL["mcp delete"]), 200)
    assert not ends(sniff_head(REAL["mcp delete"]), 405)
    assert not ends(sniff_head(REAL["mcp call"]), 404)


@pytest.mark.parametrize(
    ("preset", "line", "headers", "found"),
    [
        ("bokeh", b"/app?bokeh-session-id=s1", (), b"s1"),
        ("bokeh", b"/app", (b"Bokeh-Session-Id: s1",), b"s1"),
        ("bokeh", b"/?bokeh-token=eyJzZXNzaW9uX2lkIjogInMxIn0.sig", (), b"s1"),
        ("bokeh", b"/?bokeh-token=eyJ9", (), None),
        ("marimo", b"/ws?session_id=s_1&file=a", (), b"s_1"),
        ("marimo", b"/n/ws?session_id=s_1", (), b"s_1"),
        ("marimo", b"/n/api/kernel/run", (b"Marimo-Session-Id: s_1",), b"s_1"),
        ("marimo", b"/n?session_id=s_1", (), None),
        ("rooms", b"/room/7", (), b"7"),
        ("rooms", b"/api/docs/a%20b/edit", (), b"a b"),
        ("rooms", b"/ws?room=7", (), b"7"),
        ("rooms", b"/bathroom/7", (), None),
        ("llm", b"/v1/chat", (b"X-Session-Id: s1",), b"s1"),
        ("llm", b"/v1/chat", (b"session_id: s1",), b"s1"),
        ("llm", b"/v1/chat", (b"X-Dynamo-Session-ID: s1",), b"s1"),
        ("mcp-modern", b"/mcp", (b"Mcp-Param-Session: s1",), b"s1"),
        ("graphql-sse", b"/g", (b"X-GraphQL-Event-Stream-Token: s1",), b"s1"),
        ("graphql-sse", b"/g?token=s1", (), b"s1"),
        ("reflex", b"/_event/?token=s1&EIO=4", (), b"s1"),
        ("reflex", b"/_upload", (b"Reflex-Client-Token: s1",), b"s1"),
        ("reflex", b"/login?token=s1", (), None),
        ("solara", b"/", (b"Cookie: solara-session-id=s1",), b"s1"),
    ],
)
def test_preset_finds_what_its_framework_documents(preset, line, headers, found):
    """Each place is looked at, and nothing like it elsewhere."""
    head = sniff_head(request(b"GET %b HTTP/1.1" % line, *headers))
    assert PRESETS[preset].find(head) == found


@pytest.mark.parametrize(
    ("status", "media_type", "body", "found"),
    [
        (201, b"text/plain; charset=utf-8", SSE_SESSION, SSE_SESSION),
        (200, b"text/plain; charset=utf-8", SSE_SESSION, None),
        (201, b"application/json", SSE_SESSION, None),
        (201, b"text/plain", b"{}", None),
    ],
)
def test_graphql_stream_is_learned_when_it_is_created(status, media_type, body, found):
    """The answer to the PUT that reserves a stream is its token and nothing else."""
    answer = Answer(status, [(b"content-type", media_type)], body)
    assert PRESETS["graphql-sse"].learn(answer) == found


def test_websocket_teaches_no_preset_that_reads_bodies():
    """What is said over a WebSocket is no body, and no body is said over one."""
    said = Answer(101, [], SOCKETIO_OPENED.body)
    assert PRESETS["socketio"].learn(said) is None
    assert PRESETS["shiny"].learn(Answer(200, [], SHINY_BEGUN.body)) is None


def test_table_is_keyed_by_name():
    """Every preset says what it is about, and stands under its own name."""
    for name, preset in PRESETS.items():
        assert preset.name == name
        assert preset.about


@pytest.mark.parametrize(
    "preset",
    ["mcp", "mcp-sse", "socketio", "shiny", "bokeh", "panel", "graphql-sse"],
)
def test_names_that_the_server_makes_are_learned(preset):
    """A name that the master has not heard of is not remembered."""
    assert PRESETS[preset].learn is not None
