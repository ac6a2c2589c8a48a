"""Seals: what we signed is believed, nothing else is, and nothing raises."""

import base64
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maitred.errors import UsageError
from maitred.routing.seal import (
    CACHED,
    FILE_LIMIT,
    KEY_SIZE,
    LONGEST_ID,
    LONGEST_TOKEN,
    MAC,
    NO_SEAL,
    NONCE,
    SHORT_MAC,
    SLOT,
    STAMP,
    Seal,
    format_keys,
    parse_keys,
)

OLD, NEW = b"o" * KEY_SIZE, b"n" * KEY_SIZE
SEAL = Seal({"old": OLD}, 4)
SALT = bytes(NONCE)
ID = b"4NLXBjRSAFpyw8a0AAAA"
FORGERIES = 2**16


def encoded(raw):
    """Write *raw* as tokens and stamps are written."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def decoded(token):
    """Read what ``encoded`` wrote."""
    return base64.urlsafe_b64decode(token + b"=" * (-len(token) % 4))


# Tokens.


@pytest.mark.parametrize("slot", range(4))
def test_token_names_its_slot(slot):
    """What was signed comes back."""
    assert SEAL.slot_in(SEAL.token(slot, SALT)) == slot


def test_token_is_opaque_and_safe_everywhere():
    """It needs no quoting in a cookie or an address, and differs for equal slots."""
    one, two = (SEAL.token(1, bytes([n]) * NONCE) for n in range(2))
    assert one != two
    assert set(one) <= set(b"-_" + bytes(range(48, 58)) + b"".join(
        bytes([upper, upper | 32]) for upper in range(65, 91)
    ))  # fmt: skip


def test_longest_token_is_believed():
    """The longest id that a key file may have, and the highest slot."""
    seal = Seal({"x" * LONGEST_ID: OLD}, 1024)
    token = seal.token(1023, SALT)
    assert len(token) <= LONGEST_TOKEN
    assert seal.slot_in(token) == 1023


def test_same_keys_mean_the_same_in_another_process():
    """A master that was started anew believes what its predecessor signed."""
    assert Seal({"old": OLD}, 4).slot_in(SEAL.token(3, SALT)) == 3


def test_slot_that_is_not_there_any_more_is_none():
    """After a start with fewer workers, the tokens of the lost ones are stale."""
    token = SEAL.token(3, SALT)
    assert Seal({"old": OLD}, 3).slot_in(token) is None
    assert Seal({"old": OLD}, 5).slot_in(token) == 3


def test_first_key_signs_and_all_are_believed():
    """A new key is put in front; tokens of the old one live on until it is removed."""
    before = SEAL.token(1, SALT)
    rotating = Seal({"new": NEW, "old": OLD}, 4)
    after = rotating.token(1, SALT)
    assert rotating.slot_in(before) == rotating.slot_in(after) == 1
    assert rotating.is_current(after)
    assert not rotating.is_current(before)
    done = Seal({"new": NEW}, 4)
    assert done.slot_in(after) == 1
    assert done.slot_in(before) is None


def test_key_of_the_same_id_with_other_bytes_believes_nothing():
    """The id only says which key to try."""
    assert Seal({"old": NEW}, 4).slot_in(SEAL.token(1, SALT)) is None


def test_without_keys_nothing_is_believed():
    """A seal without keys exists only for those who look at nothing sealed."""
    assert not NO_SEAL.signs
    assert SEAL.signs
    assert NO_SEAL.slot_in(SEAL.token(0, SALT)) is None
    assert NO_SEAL.stamped_slot(SEAL.stamp(ID, 0)) is None


def test_forged_macs_are_not_believed():
    """Of 2^16 tokens with a MAC somebody guessed, none is believed."""
    raw, rng = decoded(SEAL.token(1, SALT)), random.Random(1)
    head = raw[:-MAC]
    assert not any(
        SEAL.slot_in(encoded(head + rng.randbytes(MAC))) is not None
        for _ in range(FORGERIES)
    )


def test_every_flipped_bit_is_noticed():
    """Not one bit of a token can be changed."""
    raw = decoded(SEAL.token(1, SALT))
    for bit in range(len(raw) * 8):
        forged = bytearray(raw)
        forged[bit // 8] ^= 1 << bit % 8
        assert SEAL.slot_in(encoded(bytes(forged))) is None


def test_every_cut_is_noticed():
    """A token is whole or none; nor may anything follow it."""
    token = SEAL.token(1, SALT)
    assert not any(SEAL.slot_in(token[:end]) == 1 for end in range(len(token)))
    assert SEAL.slot_in(token + b"A") is None


def test_token_has_one_spelling():
    """Padding, the other alphabet and loose bits at the end are refused."""
    for number in range(64):  # until one has both characters that differ
        token = SEAL.token(1, bytes([number]) * NONCE)
        other = token.replace(b"-", b"+").replace(b"_", b"/")
        assert other == token or SEAL.slot_in(other) is None
        assert SEAL.slot_in(token + b"=" * (-len(token) % 4 or 4)) is None
        last = token[:-1] + bytes([token[-1] + 1])
        assert SEAL.slot_in(last) is None


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"x", b"maitred", b"1", b"0", b"slot:1", b"....", b'"quoted"', b"\xff"),
        *(encoded(b"\0"), encoded(b"\xff"), encoded(b"\xff" * 60), b"A" * 5000),
        # A key id of which there is no key, the empty one included.
        encoded(b"\0" + bytes(SLOT + NONCE + MAC)),
        encoded(b"\3abc" + bytes(SLOT + NONCE + MAC)),
        encoded(b"\3old" + bytes(SLOT + NONCE)),
    ],
)
def test_malformed_values_are_none(value):
    """Nothing that is no token names a slot, and nothing is raised."""
    assert SEAL.slot_in(value) is None
    assert SEAL.stamped_slot(value) is None


@given(st.binary(max_size=200))
@example(b"\n" + SEAL.token(1, SALT))
@example(SEAL.token(1, SALT) + b"\n")
@example(SEAL.stamp(ID, 1) + b"\n")
def test_no_bytes_are_believed_or_raise(value):
    """Whatever a client sends."""
    assert SEAL.slot_in(value) is None
    assert SEAL.stamped_slot(value) is None


def test_what_is_remembered_is_bounded():
    """A client cannot fill our memory with tokens."""
    seal = Seal({"old": OLD}, 4)
    for number in range(CACHED + 10):
        seal.slot_in(b"%d" % number)
    assert seal.slot_in.cache_info().currsize == CACHED


# Stamps.


@pytest.mark.parametrize("slot", range(4))
def test_stamp_names_its_slot(slot):
    """The id stays in front, and is still one that Engine.IO could have made."""
    stamped = SEAL.stamp(ID, slot)
    assert stamped.startswith(ID)
    assert len(stamped) == len(ID) + STAMP
    assert SEAL.stamped_slot(stamped) == slot


def test_id_without_a_stamp_names_no_slot():
    """Such an id stands in the table, if anywhere."""
    assert SEAL.stamped_slot(ID) is None
    assert SEAL.stamped_slot(ID + b"A" * STAMP) is None
    assert SEAL.stamped_slot(SEAL.stamp(ID, 1)[len(ID) :]) is None


def test_stamp_belongs_to_its_id():
    """It cannot be put behind another id."""
    stamp = SEAL.stamp(ID, 1)[len(ID) :]
    assert SEAL.stamped_slot(b"5" + ID[1:] + stamp) is None


def test_forged_stamps_are_not_believed():
    """Of 2^16 stamps somebody guessed, none is believed."""
    rng = random.Random(2)
    number = (1).to_bytes(SLOT, "big")
    assert not any(
        SEAL.stamped_slot(ID + encoded(number + rng.randbytes(SHORT_MAC))) is not None
        for _ in range(FORGERIES)
    )


def test_every_flipped_bit_of_a_stamped_id_is_noticed():
    """Neither the id nor its stamp can be changed by one bit."""
    raw = decoded(SEAL.stamp(ID, 1))
    for bit in range(len(raw) * 8):
        forged = bytearray(raw)
        forged[bit // 8] ^= 1 << bit % 8
        assert SEAL.stamped_slot(encoded(bytes(forged))) is None


def test_stamps_are_rotated_and_grow_stale_like_tokens():
    """All keys are tried; a slot that is not there is none."""
    stamped = SEAL.stamp(ID, 3)
    assert Seal({"new": NEW, "old": OLD}, 4).stamped_slot(stamped) == 3
    assert Seal({"new": NEW}, 4).stamped_slot(stamped) is None
    assert Seal({"old": OLD}, 3).stamped_slot(stamped) is None


# Key files.


def test_key_file_is_read_in_order():
    """Comments and empty lines do not count; the first key is the one that signs."""
    text = b"# ours\n\n  new:%b  \r\nold:%b" % tuple(
        base64.b64encode(key) for key in (NEW, OLD)
    )
    assert list(parse_keys(text, "f").items()) == [("new", NEW), ("old", OLD)]


def test_key_file_survives_the_way_to_a_worker():
    """What is written for a worker is read by it."""
    keys = {"new": NEW, "old": OLD}
    assert parse_keys(format_keys(keys), "f") == keys


LINE = base64.b64encode(OLD)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "f holds no key;"),
        (b"# nothing\n", "f holds no key;"),
        (LINE, "f: line 1 is not id:base64;"),
        (b":" + LINE, "f: line 1 is not id:base64;"),
        (b"a b:" + LINE, "f: line 1 is not id:base64;"),
        (b"k" * (LONGEST_ID + 1) + b":" + LINE, "f: line 1 is not id:base64;"),
        (b"k:" + LINE + b" x", "f: line 1 is not id:base64;"),
        (b"k:" + LINE[:-1], "f: line 1 is not id:base64;"),
        (b"k:\xff\xfe", "f: line 1 is not id:base64;"),
        (b"k:" + LINE + b"\nj:", "f: line 2 is not id:base64;"),
        (b"k:" + base64.b64encode(OLD[1:]), "f: the key in line 1 has 31 bytes, 32"),
        (b"k:" + LINE + b"\nk:" + LINE, "f: line 2 has the id of an earlier key;"),
    ],
)
def test_key_file_that_is_none_is_refused(text, why):
    """The sentence says which line, and nothing of what stands there."""
    with pytest.raises(UsageError) as refused:
        parse_keys(text, "f")
    assert str(refused.value).startswith(why)
    assert LINE.decode()[:8] not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(text) < FILE_LIMIT
