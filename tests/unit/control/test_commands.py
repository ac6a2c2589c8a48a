"""The commands: one line in, one line out."""

import json

import pytest

from maitred.control.commands import COMMANDS, Level, Request, encode, read_request
from maitred.errors import UsageError


def example(name):
    """Make arguments for command *name*."""
    values = {str: "text", int: 7}
    return {
        a.name: a.choices[0] if a.choices else values[a.kind]
        for a in COMMANDS[name].arguments
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_read_as_it_was_encoded(name):
    """What a client asks is what the master reads."""
    arguments = example(name)
    line = encode({"command": name, **arguments})
    assert read_request(line) == Request(name, arguments)


def test_every_command_is_described():
    """The documentation is made from the table."""
    for command in COMMANDS.values():
        assert command.about.endswith(".")
        for argument in command.arguments:
            assert argument.about


def test_only_what_changes_nothing_is_for_everybody():
    """A key that is listed may be somebody's password."""
    free = [n for n, command in COMMANDS.items() if command.level is Level.READ]
    assert free == ["status", "whereis"]


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
        ({"command": "dance"}, "'dance'"),
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
    known = ", ".join(COMMANDS)
    assert str(refusal.value) == f"unknown command {named}; known are: {known}"


@pytest.mark.parametrize("command", [[], {}, ["status"]])
def test_command_that_is_no_text_is_refused(command):
    """Any JSON may come; none of it raises anything but a refusal."""
    with pytest.raises(UsageError, match="unknown command"):
        read_request(encode({"command": command}))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"command": "move", "key": "k"}, "move needs slot: number of a slot"),
        ({"command": "move", "key": None, "slot": 1}, "move needs key: "),
        ({"command": "move", "key": "k", "slot": "1"}, "slot has to be a number"),
        ({"command": "move", "key": "k", "slot": True}, "slot has to be a number"),
        ({"command": "move", "key": ["k"], "slot": 1}, "key has to be a text"),
        ({"command": "status", "slot": 1}, "status takes no 'slot'"),
        ({"command": "log-level", "level": "loud"}, "'loud' is none of debug, info"),
    ],
)
def test_wrong_arguments_are_refused(arguments, why):
    """The answer says which, and what would be right."""
    with pytest.raises(UsageError, match=why):
        read_request(encode(arguments))
