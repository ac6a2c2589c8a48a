"""The gate of a connection that cannot be given back: it asks, waits, and says no."""

import pytest

from maitred.worker.gate import MISDIRECTED, Asked, Gate, Stage

ONE = b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n"
TWO = b"POST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi"


class World:
    """What the gate does, noted; what it is told, under the test's control."""

    def __init__(self):
        self.answer = Asked()
        self.passed = b""
        self.refused = []
        self.gate = Gate(self, peer=b"", limit=1024)

    def belongs(self, _head):
        """Say what the test wants said."""
        return self.answer

    def pass_on(self, data):
        """Be the server."""
        self.passed += data
        self.gate.begun()
        self.gate.ended()

    def out_of_step(self):
        """Never lose step."""
        pytest.fail("the server did as the gate does")

    def refuse(self, *refusal):
        """Note it."""
        self.refused.append(refusal)

    def give_back(self, *_):
        """Be no connection that can be given back."""
        pytest.fail("it cannot be given back")

    def drop(self):
        """Have no bad request."""
        pytest.fail("no request was bad")


@pytest.fixture
def world():
    """A gate in its world."""
    return World()


def test_request_waits_for_the_answer_then_passes(world):
    """Nothing of it reaches the server before; all of it after a yes."""
    world.gate.receive(ONE)
    assert world.gate.stage is Stage.ASKING
    world.gate.receive(TWO)
    assert world.passed == b""
    world.answer = None
    world.gate.told(True)
    assert world.passed == ONE
    assert world.gate.pending == TWO
    world.gate.answered()
    assert world.passed == ONE + TWO


def test_request_is_refused_after_a_no(world):
    """It is answered 421, and nothing passes any more."""
    world.gate.receive(ONE + TWO)
    world.gate.told(False)
    assert world.refused == [(421, "misdirected")]
    assert (world.gate.stage, world.passed) == (Stage.CLOSED, b"")
    world.gate.receive(TWO)
    world.gate.told(True)
    assert world.passed == b""


def test_request_that_may_not_come_here_is_refused_at_once(world):
    """Where it is known that it belongs elsewhere nobody is asked."""
    world.answer = MISDIRECTED
    world.gate.receive(ONE)
    assert world.refused == [(421, "misdirected")]
    assert (world.gate.stage, world.passed) == (Stage.CLOSED, b"")


def test_answer_to_no_question_changes_nothing(world):
    """It comes when the connection has ended meanwhile."""
    world.answer = None
    world.gate.told(False)
    world.gate.receive(ONE)
    assert (world.refused, world.passed) == ([], ONE)
