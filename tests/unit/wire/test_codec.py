"""The codec: exactly what it can say, and not a byte more, does it understand."""

import struct
from typing import Annotated, NamedTuple, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel_kit import TABLE, Bye, Mixed, Pass, Text, packet
from maitred import (
    MAX_DESCRIPTORS,
    MAX_PACKET,
    U8,
    U16,
    U32,
    U64,
    Blob,
    Descriptor,
    MessageTooLarge,
    Passed,
    PeerMisbehaved,
)
from maitred.wire.codec import HEADER, MAX_RECORDS, Codec, layout
from maitred.wire.messages import (
    DESCRIPTOR,
    FROM_MASTER,
    FROM_WORKER,
    MESSAGES,
    VERSION,
)

NOBODY = Descriptor(-1)


@pytest.fixture
def codec():
    """A codec that sends and receives the messages of the tests."""
    return Codec(sends=TABLE, receives=TABLE)


def decoded(codec, data, owners=()):
    """Decode a whole packet as the channel does."""
    header = codec.decode_header(data)
    return codec.decode_body(header, memoryview(data)[HEADER.size :], owners)


# Layouts.


class OnlyPassed(NamedTuple):
    """A message with a descriptor and nothing in its record."""

    file: Passed


def test_layout_says_where_each_field_stands():
    """A layout is derived from the annotations alone."""
    form = layout(2, Pass)
    assert (form.number, form.message) == (2, Pass)
    assert form.record.format == "!QI"
    assert form.in_record == (0, 2)
    assert form.blobs == (2,)
    assert form.descriptor == 1


def test_layout_of_a_message_without_fields():
    """Nothing stands in the record of a message without fields."""
    form = layout(3, Bye)
    assert form.record.size == 0
    assert form[3:] == ((), (), None)


@pytest.mark.parametrize("number", [-1, 256])
def test_number_beyond_a_byte_is_refused(number):
    """A number has one byte in the header."""
    with pytest.raises(TypeError, match=rf"^Bye: number {number} does not fit one"):
        layout(number, Bye)


@pytest.mark.parametrize("number", [0, 255])
def test_number_of_one_byte_is_taken(number):
    """Every number that fits a byte is good."""
    assert layout(number, Bye).number == number


def test_field_of_another_kind_is_refused():
    """An annotation that is not one of ours has no place on the wire."""

    class Plain(NamedTuple):
        number: int

    class Foreign(NamedTuple):
        number: Annotated[int, "other"]

    for message in (Plain, Foreign):
        with pytest.raises(TypeError, match=r"number is not U8 to U64, Blob or Passed"):
            layout(1, message)


def test_two_descriptors_are_refused():
    """More than one descriptor in a message could not be told apart."""

    class Twice(NamedTuple):
        one: Passed
        two: Passed

    with pytest.raises(TypeError, match=r"^Twice has 2 descriptors, 1 is the most$"):
        layout(1, Twice)


def test_what_is_no_named_tuple_is_refused():
    """A class whose fields have no order is no message."""

    class Loose:
        number: U8

    for no_message in (int, Loose, tuple):
        with pytest.raises(TypeError, match="is not a NamedTuple"):
            layout(1, no_message)


def test_codec_refuses_a_bad_table_in_both_directions():
    """A table is checked when the codec is made, not when the first message goes."""
    with pytest.raises(TypeError):
        Codec(sends={1: int}, receives={})
    with pytest.raises(TypeError):
        Codec(sends={}, receives={1: int})


# Encoding.


def test_packet_is_header_records_blobs(codec):
    """Records stand together and the blobs follow, message by message."""
    data, owners = codec.encode(
        [Mixed(1, b"ab", 2, b"c"), Mixed(3, b"", 4, b"defg")],
    )
    assert owners == []
    assert data == (
        struct.pack("!BBHHHI", VERSION, 4, 0, 2, 0, 2 * 13 + 7)
        + struct.pack("!BIII", 1, 2, 2, 1)
        + struct.pack("!BIII", 3, 0, 4, 4)
        + b"abcdefg"
    )


def test_owners_ride_in_the_order_of_the_messages(codec):
    """Encoding gives back the owners themselves and never asks for their numbers."""
    owners = [Descriptor(-1) for _ in range(3)]
    data, riding = codec.encode([Pass(n, o, b"") for n, o in enumerate(owners)])
    assert [id(each) for each in riding] == [id(each) for each in owners]
    assert codec.decode_header(data).descriptors == 3


def test_packet_of_nothing_is_refused(codec):
    """There is no empty packet."""
    with pytest.raises(TypeError, match=r"messages of one type, not nothing$"):
        codec.encode([])


def test_packet_of_two_types_is_refused(codec):
    """A packet has one type in its header."""
    with pytest.raises(TypeError, match=r"of one type, not Bye and Text$"):
        codec.encode([Text(b""), Bye()])


def test_message_that_is_not_ours_to_send_is_refused():
    """What only the peer may send cannot be sent by mistake."""
    with pytest.raises(TypeError, match=r"^Bye is not for us to send$"):
        Codec(sends={1: Text}, receives=TABLE).encode([Bye()])


@pytest.mark.parametrize(
    "message",
    [
        Mixed(256, b"", 0, b""),
        Mixed(-1, b"", 0, b""),
        Mixed(0, b"", 2**32, b""),
        Mixed(1.5, b"", 0, b""),
        Mixed("1", b"", 0, b""),
        Mixed(0, "text", 0, b""),
        Mixed(0, None, 0, b""),
        Mixed(0, b"", 0, 7),
    ],
    ids=repr,
)
def test_value_that_does_not_fit_its_field_is_refused(codec, message):
    """The error names the message."""
    with pytest.raises(TypeError, match=r"^Mixed: "):
        codec.encode([Mixed(1, b"", 1, b""), message])


def test_largest_packet_is_encoded_and_one_byte_more_is_not(codec):
    """The limit is on the whole packet, header included."""
    largest = MAX_PACKET - HEADER.size - 4
    assert len(codec.encode([Text(b"x" * largest)])[0]) == MAX_PACKET
    with pytest.raises(MessageTooLarge) as refused:
        codec.encode([Text(b"x" * (largest + 1))])
    assert refused.value.args == ("bytes", MAX_PACKET + 1, MAX_PACKET)


def test_most_descriptors_are_encoded_and_one_more_is_not(codec):
    """The limit is what the kernel passes in one packet."""
    messages = [Pass(0, NOBODY, b"")] * MAX_DESCRIPTORS
    assert len(codec.encode(messages)[1]) == MAX_DESCRIPTORS
    with pytest.raises(MessageTooLarge) as refused:
        codec.encode([*messages, messages[0]])
    assert refused.value.args == ("descriptors", 254, 253)


def test_most_records_are_encoded_and_one_more_is_not(codec):
    """The limit is what the header can count."""
    data, _ = codec.encode([Bye()] * MAX_RECORDS)
    assert decoded(codec, data) == [Bye()] * MAX_RECORDS
    with pytest.raises(MessageTooLarge) as refused:
        codec.encode([Bye()] * (MAX_RECORDS + 1))
    assert refused.value.args == ("records", 65536, 65535)


# Decoding.


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "0 bytes are no header"),
        (packet(3)[:11], "11 bytes are no header"),
        (packet(3, version=1), "version 1, we speak 4"),
        (packet(5), "type 5 is not for it to send"),
        (packet(3, records=0), "Bye without a record"),
        (packet(3, descriptors=1), "Bye with 1 descriptors for 1 records"),
        (packet(2, descriptors=0), "Pass with 0 descriptors for 1 records"),
        (
            packet(2, descriptors=254, records=254),
            "Pass with 254 descriptors for 254 records",
        ),
        (packet(3, zero=7), "Bye with 7 where 0 must stand"),
        (packet(1, length=3), "Text of 3 bytes for 1 records"),
        (
            packet(1, length=MAX_PACKET - HEADER.size + 1),
            "Text of 131061 bytes for 1 records",
        ),
    ],
)
def test_header_that_cannot_be_is_refused(codec, data, why):
    """Each field of the header is checked, and the reason is said."""
    with pytest.raises(PeerMisbehaved) as refused:
        codec.decode_header(data)
    assert refused.value.why == why


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (packet(3, b"x", length=0), "Bye of 1 bytes whose header says 0"),
        (packet(1, b"\0\0\0", length=4), "Text of 3 bytes whose header says 4"),
        (packet(3, b"x"), "Bye whose parts are 0 bytes, not 1"),
        (packet(1, b"\0\0\0\2x"), "Text whose parts are 6 bytes, not 5"),
        (packet(1, b"\0\0\0\0x"), "Text whose parts are 4 bytes, not 5"),
        (
            packet(4, struct.pack("!BIII", 0, 2**32 - 1, 0, 2**32 - 1)),
            "Mixed whose parts are 8589934603 bytes, not 13",
        ),
    ],
)
def test_body_that_cannot_be_is_refused(codec, data, why):
    """The blobs fill the packet to its end, neither more nor less."""
    with pytest.raises(PeerMisbehaved) as refused:
        decoded(codec, data)
    assert refused.value.why == why


def test_decoded_blobs_are_copies(codec):
    """What was decoded does not change when the buffer is used again."""
    data = bytearray(codec.encode([Text(b"hello")])[0])
    [message] = decoded(codec, data)
    data[-5:] = b"other"
    assert message == Text(b"hello")
    assert type(message.text) is bytes


def test_descriptor_that_did_not_come_is_none(codec):
    """Messages can be made without their descriptors, to be refused by name."""
    data, _ = codec.encode([Pass(n, NOBODY, b"x") for n in range(3)])
    assert decoded(codec, data, [None] * 3) == [Pass(n, None, b"x") for n in range(3)]


def test_message_that_is_only_a_descriptor():
    """A record may be empty where a descriptor rides along."""
    codec = Codec(sends={1: OnlyPassed}, receives={1: OnlyPassed})
    owners = [Descriptor(-1), Descriptor(-1)]
    data, riding = codec.encode([OnlyPassed(owner) for owner in owners])
    assert len(data) == HEADER.size
    assert [m.file for m in decoded(codec, data, riding)] == owners


# Whatever comes.

INTEGERS = {U8: 8, U16: 16, U32: 32, U64: 64}
EVERYTHING = {**FROM_MASTER, **FROM_WORKER}
MESSAGE_TYPES = [*[entry.message for entry in MESSAGES], *TABLE.values()]


def values(hint):
    """Say what a field with this annotation may hold."""
    if hint in INTEGERS:
        return st.integers(0, 2 ** INTEGERS[hint] - 1)
    return (
        st.binary(max_size=99) if hint == Blob else st.builds(Descriptor, st.just(-1))
    )


def packets_of(message):
    """Say what can stand in one packet of *message*."""
    hints = get_type_hints(message, include_extras=True)
    one = st.tuples(*map(values, hints.values())).map(lambda fields: message(*fields))
    return st.lists(one, min_size=1, max_size=9)


@pytest.mark.parametrize("message", MESSAGE_TYPES, ids=lambda each: each.__name__)
@given(draw=st.data())
def test_decoding_gives_back_what_was_encoded(message, draw):
    """Every packet of every message survives the wire, with its own descriptors."""
    codec = Codec(sends={1: message}, receives={1: message})
    messages = draw.draw(packets_of(message))
    data, owners = codec.encode(messages)
    assert decoded(codec, data, owners) == messages


def decodes_or_refuses(codec, data):
    """Decode what may be anything; whatever is accepted, we could have sent."""
    try:
        header = codec.decode_header(data)
        owners = [Descriptor(-1) for _ in range(header.descriptors)]
        messages = codec.decode_body(header, data[HEADER.size :], owners)
    except PeerMisbehaved:
        return
    assert codec.encode(messages) == (data, owners)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(data):
    """Arbitrary bytes raise PeerMisbehaved or are a packet that we could have made."""
    decodes_or_refuses(Codec(sends=EVERYTHING, receives=EVERYTHING), data)


@given(
    version=st.just(1) | st.integers(0, 255),
    number=st.sampled_from([*EVERYTHING]) | st.integers(0, 255),
    descriptors=st.integers(0, 3) | st.integers(0, 0xFFFF),
    records=st.integers(0, 3) | st.integers(0, 0xFFFF),
    zero=st.just(0) | st.integers(0, 0xFFFF),
    length=st.none() | st.integers(0, 0xFFFFFFFF),
    body=st.binary(max_size=64) | st.integers(0, 64).map(bytes),
)
def test_any_header_and_body_are_decoded_or_refused(
    version, number, descriptors, records, zero, length, body
):
    """The same for packets that are nearly right."""
    codec = Codec(sends=EVERYTHING, receives=EVERYTHING)
    data = packet(
        number,
        body,
        version=version,
        descriptors=descriptors,
        records=records,
        zero=zero,
        length=length,
    )
    decodes_or_refuses(codec, data)


@pytest.mark.parametrize("message", MESSAGE_TYPES, ids=lambda each: each.__name__)
@given(draw=st.data())
def test_packet_with_a_changed_byte_is_decoded_or_refused(message, draw):
    """The same for real packets in which one byte was changed."""
    codec = Codec(sends={1: message}, receives={1: message})
    data, _ = codec.encode(draw.draw(packets_of(message)))
    at = draw.draw(st.integers(0, len(data) - 1))
    byte = draw.draw(st.integers(0, 255))
    decodes_or_refuses(codec, data[:at] + bytes([byte]) + data[at + 1 :])


def test_every_kind_of_field_is_drawn():
    """The round trip above knows every kind of field that messages have."""
    hints = {
        hint
        for message in MESSAGE_TYPES
        for hint in get_type_hints(message, include_extras=True).values()
    }
    known = {*INTEGERS, Blob}
    [rest] = hints - known
    assert rest.__metadata__ == (DESCRIPTOR,)
