"""The commands: one line in, one line out."""

import json

import pytest

from maitred.control.commands import COMMANDS, encode, read_request
from maitred.errors import UsageError


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_read_as_it_was_encoded(command):
    """What a client asks is what the master reads."""
    assert read_request(encode({"command": command})) == command


def test_every_command_is_described():
    """The documentation is made from the table."""
    assert all(command.about for command in COMMANDS.values())
    assert list(COMMANDS) == ["status", "reload", "upgrade"]


def test_encoding_is_one_line():
    """No value puts a line end into the line."""
    line = encode({"ok": True, "text": "two\nlines"})
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"ok": True, "text": "two\nlines"}


@pytest.mark.parametrize(
    "line",
    [b"", b"status\n", b"{", b'{"command": "status"', b"\xff\xfe\n", b"[" * 60_000],
)
def test_what_is_not_json_is_refused(line):
    """The answer says what a request looks like."""
    with pytest.raises(UsageError, match=r"^a request is one line of JSON$"):
        read_request(line)


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        ({"command": "stop"}, "'stop'"),
        ({"command": None}, "None"),
        ({"command": 1}, "1"),
        ({}, "None"),
        ([], "None"),
        ("status", "None"),
        (None, "None"),
    ],
)
def test_unknown_command_is_refused(request_, named):
    """The answer says what would be understood."""
    with pytest.raises(UsageError) as refusal:
        read_request(json.dumps(request_).encode())
    known = "status, reload, upgrade"
    assert str(refusal.value) == f"unknown command {named}; known are: {known}"


@pytest.mark.parametrize("command", [[], {}, ["status"]])
def test_command_that_is_no_text_is_refused(command):
    """Any JSON may come; none of it raises anything but a refusal."""
    with pytest.raises(UsageError, match="unknown command"):
        read_request(encode({"command": command}))
