"""What the master needs before there is an admin process: its token, its events."""

import os

import pytest

from maitred.errors import UsageError
from maitred.master.attendant import LONGEST_TOKEN, load_token
from maitred.master.events import MOST, Events, What


@pytest.fixture
def file(tmp_path):
    """Make a token file of a text."""

    def make(text, mode=0o600):
        path = tmp_path / "token"
        path.write_bytes(text)
        path.chmod(mode)
        return str(path)

    return make


def test_token_is_one_line(file):
    """What stands around it is no part of it; no file is no token."""
    assert load_token(file(b" t0ken \r\n")) == b"t0ken"
    assert load_token("") == b""


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"a\nb", b"\xff", b"x" * (LONGEST_TOKEN + 1)]
)
def test_what_is_no_token_is_refused(file, text):
    """With a sentence that says how to make one."""
    path = file(text)
    with pytest.raises(UsageError) as refused:
        load_token(path)
    assert str(refused.value) == (
        f"--admin-token-file {path}: holds no token, one line of ASCII; make one with"
        " `openssl rand -hex 32`"
    )


def test_token_that_others_know_is_refused(file):
    """Only its owner may know it."""
    path = file(b"t0ken", 0o640)
    with pytest.raises(UsageError, match="has mode 0640; only its owner may know it"):
        load_token(path)


def test_token_that_cannot_be_read_is_refused(tmp_path):
    """The sentence has the system's reason; a pipe without a writer does not block."""
    with pytest.raises(UsageError, match=r"read \(No such file or directory\)"):
        load_token(str(tmp_path / "no"))
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(UsageError, match="holds no token"):
        load_token(str(tmp_path / "pipe"))


def test_last_events_are_remembered():
    """The oldest go; all are counted, and a successor knows both."""
    clock = iter(range(MOST + 5))
    events = Events(lambda: float(next(clock)))
    for number in range(MOST + 5):
        events.note(What.RELOAD, f"number {number}")
    state = events.state()
    assert [e["time"] for e in state["events"]] == list(range(5, MOST + 5))
    assert state["event_counts"]["reload"] == MOST + 5
    assert state["event_counts"]["stop"] == 0
    again = Events()
    again.restore(state)
    assert again.state() == state
