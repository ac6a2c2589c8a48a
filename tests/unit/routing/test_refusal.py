"""The answers that maitred gives itself."""

import h11
import pytest

from heads import BAD
from maitred.routing.refusal import WHY, answer


@pytest.mark.parametrize("cause", WHY)
def test_answer_is_a_whole_response_that_explains(cause):
    """A client that reads it knows what was wrong, and that the connection ends."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(answer(431, cause))
    head, body, end = client.next_event(), client.next_event(), client.next_event()
    assert (head.status_code, head.reason) == (431, b"Request Header Fields Too Large")
    assert dict(head.headers)[b"connection"] == b"close"
    assert body.data.decode() == WHY[cause] + "\n"
    assert isinstance(end, h11.EndOfMessage)
    assert client.their_state is h11.MUST_CLOSE


@pytest.mark.parametrize("cause", WHY)
def test_explanation_is_a_sentence(cause):
    """It begins like one, ends like one, and is short."""
    assert WHY[cause][0].isupper()
    assert WHY[cause].endswith(".")
    assert len(WHY[cause]) < 80


@pytest.mark.parametrize(("_data", "verdict"), BAD.values(), ids=BAD)
def test_every_verdict_can_be_answered(_data, verdict):
    """Whatever the sniffer refuses has its answer."""
    status = b"HTTP/1.1 %d " % verdict.status
    assert answer(verdict.status, verdict.cause).startswith(status)
