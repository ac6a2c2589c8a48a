"""The answers that maitred gives itself."""

import ast
from pathlib import Path

import h11
import pytest

import maitred
from heads import BAD
from maitred.routing.refusal import CAUSES, answer


@pytest.mark.parametrize("cause", CAUSES)
def test_answer_is_a_whole_response_that_explains(cause):
    """A client that reads it knows what was wrong, and that the connection ends."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(answer(431, cause))
    head, body, end = client.next_event(), client.next_event(), client.next_event()
    assert (head.status_code, head.reason) == (431, b"Request Header Fields Too Large")
    assert dict(head.headers)[b"connection"] == b"close"
    assert body.data.decode() == CAUSES[cause].why + "\n"
    assert isinstance(end, h11.EndOfMessage)
    assert client.their_state is h11.MUST_CLOSE


@pytest.mark.parametrize("cause", CAUSES)
def test_explanation_is_a_sentence(cause):
    """It begins like one, ends like one, and is short."""
    why = CAUSES[cause].why
    assert why[0].isupper()
    assert why.endswith(".")
    assert len(why) < 80


def test_status_is_that_of_the_table():
    """Wherever a status and a cause are named together, the table says the same."""
    found = 0
    for path in Path(maitred.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = {ast.Call: "args", ast.Tuple: "elts"}.get(type(node), "")
            named = getattr(node, where, [])
            values = [each.value for each in named if isinstance(each, ast.Constant)]
            if len(values) == 2 and values[1] in CAUSES:
                found += 1
                assert values[0] == CAUSES[values[1]].status, (path, values)
    assert found > len(CAUSES) / 2


@pytest.mark.parametrize(("_data", "verdict"), BAD.values(), ids=BAD)
def test_every_verdict_can_be_answered(_data, verdict):
    """Whatever the sniffer refuses has its answer."""
    status = b"HTTP/1.1 %d " % verdict.status
    assert answer(verdict.status, verdict.cause).startswith(status)
