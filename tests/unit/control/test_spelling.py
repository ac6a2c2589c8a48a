"""Keys as people read and write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maitred.control import read_key, spell
from maitred.errors import UsageError


@given(st.binary())
def test_key_is_read_as_it_was_spelled(key):
    """Whatever bytes a client sent."""
    text = spell(key)
    assert read_key(text) == key
    assert text.isascii()
    assert not text or text.isprintable()


def test_terminal_is_not_written_to():
    """An escape sequence is shown, not sent."""
    assert spell(b"a\x1b[2J\n\\") == r"a\x1b[2J\x0a\\"


@pytest.mark.parametrize(
    ("text", "key"),
    [("é", b"\xc3\xa9"), (r"\xe9", b"\xe9"), (r"\xE9x", b"\xe9x"), (r"\\x", rb"\x")],
)
def test_text_is_read_as_utf8(text, key):
    """What is typed is what a client would send."""
    assert read_key(text) == key


@pytest.mark.parametrize("text", ["\\", r"\n", r"\x1", r"\xgg", "a\\", "\ud800"])
def test_other_backslashes_are_refused(text):
    """Nothing is guessed."""
    with pytest.raises(UsageError, match=r"^key "):
        read_key(text)
