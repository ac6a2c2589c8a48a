"""The table of messages: what it must not say twice, and what must never change."""

import inspect

import pytest

from maitred import U8, Descriptor, PeerMisbehaved
from maitred.wire import messages
from maitred.wire.codec import HEADER, Codec
from maitred.wire.messages import (
    FROM_MASTER,
    FROM_WORKER,
    MAY_BE_SAID,
    MESSAGES,
    VERSION,
    Answer,
    Ask,
    Attach,
    Attached,
    Claim,
    Closed,
    Drain,
    Drained,
    Failed,
    Handoff,
    Have,
    Kind,
    Link,
    Phase,
    Quit,
    Ready,
    Reason,
    Refused,
    Rejected,
    Release,
    Relieve,
    Retire,
    Return,
    Revoke,
    Side,
    Taken,
)

ANY_TIME_AFTER_READY = {
    Taken,
    Closed,
    Have,
    Refused,
    Return,
    Claim,
    Ask,
    Release,
    Drained,
}
NOBODY = Descriptor(-1)
"It owns nothing; the codec looks at nothing but its place."

# One packet of each message, byte for byte, as every worker in every language reads
# and writes it. If one of these changes, raise VERSION.
PINNED = [
    (
        Handoff(
            NOBODY,
            0x1122,
            b"10.0.0.9",
            40001,
            b"10.0.0.1",
            80,
            b"alice",
            1,
            b"GE",
            0x77,
            1,
            0x0203,
            b"ice",
        ),
        (
            "04 01 0001 0001 0000 00000042"
            " 0000000000001122 00000008 9c41 00000008 0050 00000005 01 00000002"
            " 00000077 01 0203 00000003"
            " 31302e302e302e39 31302e302e302e31 616c696365 4745 696365"
        ),
    ),
    (Ready(4711, 1, 1), "04 02 0000 0001 0000 00000006 00001267 01 01"),
    (Taken(0x1122), "04 03 0000 0001 0000 00000008 0000000000001122"),
    (
        Refused(0x1122, Reason.DRAINING),
        "04 04 0000 0001 0000 00000009 0000000000001122 02",
    ),
    (
        Return(
            NOBODY,
            0x1122,
            b"10.0.0.9",
            40001,
            b"10.0.0.1",
            80,
            b"bob",
            1,
            b"GET /",
            2,
            b"ice",
        ),
        (
            "04 05 0001 0001 0000 0000003e"
            " 0000000000001122 00000008 9c41 00000008 0050 00000003 01 00000005 0002"
            " 00000003 31302e302e302e39 31302e302e302e31 626f62 474554202f 696365"
        ),
    ),
    (
        Claim(3600, 1, b"sid"),
        "04 06 0000 0001 0000 0000000c 00000e10 01 00000003 736964",
    ),
    (Release(b"sid"), "04 07 0000 0001 0000 00000007 00000003 736964"),
    (Drain(30_000, 1), "04 08 0000 0001 0000 00000005 00007530 01"),
    (Quit(), "04 09 0000 0001 0000 00000000"),
    (Drained(2), "04 0a 0000 0001 0000 00000004 00000002"),
    (
        Failed(b"no", b"Trace"),
        "04 0b 0000 0001 0000 0000000f 00000002 00000005 6e6f 5472616365",
    ),
    (Closed(0x1122), "04 0c 0000 0001 0000 00000008 0000000000001122"),
    (Revoke(b"sid"), "04 0d 0000 0001 0000 00000007 00000003 736964"),
    (Ask(1, b"sid"), "04 0e 0000 0001 0000 00000008 01 00000003 736964"),
    (Answer(1, b"sid"), "04 0f 0000 0001 0000 00000008 01 00000003 736964"),
    (Retire(), "04 10 0000 0001 0000 00000000"),
    (
        Link(NOBODY, 1, 3, b"hash"),
        "04 11 0001 0001 0000 0000000c 0001 0003 00000004 68617368",
    ),
    (Have(0x1122), "04 12 0000 0001 0000 00000008 0000000000001122"),
    (Relieve(1), "04 13 0000 0001 0000 00000001 01"),
    (
        Attach(b"one", b"nonce", 0x0203),
        "04 14 0000 0001 0000 00000012 00000003 00000005 0203 6f6e65 6e6f6e6365",
    ),
    (
        Attached(NOBODY, 1, 2, b"nonce"),
        "04 15 0001 0001 0000 0000000f 0001 00000002 00000005 6e6f6e6365",
    ),
    (Rejected(b"no"), "04 16 0000 0001 0000 00000006 00000002 6e6f"),
]


@pytest.fixture
def codec():
    """Both sides in one: it sends and receives every message."""
    everything = {**FROM_MASTER, **FROM_WORKER}
    return Codec(sends=everything, receives=everything)


def ids(pinned):
    """Name a test after its message."""
    return type(pinned[0]).__name__


@pytest.mark.parametrize("pinned", PINNED, ids=ids)
def test_message_stands_on_the_wire_as_ever(codec, pinned):
    """The bytes of each message are those that were pinned, in both directions."""
    message, text = pinned
    data = bytes.fromhex(text.replace(" ", ""))
    assert codec.encode([message])[0].hex() == data.hex()
    header = codec.decode_header(data)
    owners = [NOBODY] * header.descriptors
    assert codec.decode_body(header, data[HEADER.size :], owners) == [message]


def test_every_message_is_pinned():
    """The list above has every message of the table, in its order."""
    assert [type(message) for message, _ in PINNED] == [e.message for e in MESSAGES]


def test_version_is_pinned():
    """If you raise it, write into the changelog what changed and who must follow."""
    assert VERSION == 4


def test_numbers_are_unique_and_fit_a_byte():
    """No two messages share a number."""
    numbers = [entry.number for entry in MESSAGES]
    assert len(set(numbers)) == len(numbers)
    assert all(0 < number < 256 for number in numbers)


def test_every_message_is_in_the_table_once():
    """Every NamedTuple that is a message has one line in MESSAGES."""
    no_message = {Kind, messages.Entry}
    defined = {
        each
        for _, each in inspect.getmembers(messages, inspect.isclass)
        if issubclass(each, tuple) and each not in no_message
    }
    listed = [entry.message for entry in MESSAGES]
    assert set(listed) == defined
    assert len(listed) == len(defined)


def test_every_message_explains_itself():
    """Each message has a docstring, from which the reference is made."""
    for entry in MESSAGES:
        doc = entry.message.__doc__ or ""
        assert not doc.startswith(entry.message.__name__ + "(")
        assert doc.strip().split("\n")[0].endswith((".", "?"))


def test_sides_split_the_table():
    """What a master sends and what a worker sends are the whole table."""
    assert {e.number: e.message for e in MESSAGES} == {**FROM_MASTER, **FROM_WORKER}
    assert set(FROM_MASTER.values()) == {
        *(Handoff, Drain, Revoke, Answer, Quit, Retire, Relieve, Link),
        *(Attached, Rejected),
    }
    assert not set(FROM_MASTER) & set(FROM_WORKER)


@pytest.mark.parametrize(
    ("side", "table"), [(Side.MASTER, FROM_WORKER), (Side.WORKER, FROM_MASTER)]
)
def test_side_refuses_its_own_words(side, table):
    """A peer that says what only we may say is refused by its header."""
    receiver = Codec(sends={}, receives=table)
    for entry in MESSAGES:
        header = HEADER.pack(VERSION, entry.number, 0, 1, 0, 0)
        if entry.sender is side:
            with pytest.raises(PeerMisbehaved, match="is not for it to send"):
                receiver.decode_header(header)


@pytest.mark.parametrize(
    ("phase", "said"),
    [
        (
            Phase.STARTING,
            {Ready, Failed, Claim, Quit, Link, Attach, Attached, Rejected},
        ),
        (
            Phase.SERVING,
            {Handoff, Drain, Revoke, Answer, Quit, Retire, Relieve, Link}
            | ANY_TIME_AFTER_READY,
        ),
        (Phase.DRAINING, {Quit, Link} | ANY_TIME_AFTER_READY),
    ],
)
def test_phase_allows(phase, said):
    """Each phase allows these messages and no other."""
    assert {each for each, phases in MAY_BE_SAID.items() if phase in phases} == said


def test_reasons_are_pinned():
    """Numbers of reasons are on the wire, so they never change."""
    assert {reason.name: reason.value for reason in Reason} == {
        "NO_DESCRIPTOR": 1,
        "DRAINING": 2,
        "WRONG_DESCRIPTOR": 3,
    }


def test_kinds_say_name_and_code():
    """The name of a kind is for people, its code for struct."""
    assert U8.__metadata__ == (Kind("u8", "B"),)
