"""What masters answer, for people."""

from maitred.cli.answers import RENDER
from maitred.control import COMMANDS

KEY = {"key": "ip=::1", "slot": 1, "by": "remembered", "expires_in": 12.5}


def test_every_answer_can_be_laid_out():
    """No command was forgotten."""
    assert set(RENDER) == set(COMMANDS)


def test_upgrade_is_told_in_one_line():
    """Which program it was, which it is, and what it cost."""
    said = {"from": "1.0", "to": "1.1", "away": 0.2104, "held": 12, "upgrades": 1}
    assert RENDER["upgrade"](said) == (
        "upgraded from 1.0 to 1.1: away for 210 ms, 12 connections held"
    )


def test_keys_are_a_table_and_a_count():
    """What is not shown is counted all the same."""
    answer = {"total": 7, "by_slot": {"0": 2, "1": 5}, "keys": [KEY]}
    assert RENDER["keys"](answer).splitlines() == [
        "KEY     SLOT  BY          EXPIRES-IN",
        "ip=::1  1     remembered  12.5 s",
        "",
        "7 keys, of which 1 are shown; slot 0: 2, slot 1: 5",
    ]
    assert RENDER["keys"]({"total": 0, "by_slot": {}, "keys": []}) == "no keys"


def test_worker_of_a_key_is_named():
    """Or said to be missing."""
    said = KEY | {"pid": 77, "hash": "0f"}
    assert RENDER["whereis"](said) == (
        "ip=::1: slot 1, pid 77, remembered, for 12.5 s after its last use;"
        " key=0f in the access log"
    )
    said |= {"key": "slot:1", "by": "named", "expires_in": None, "pid": None}
    assert RENDER["whereis"](said) == (
        "slot:1: slot 1, whose worker is missing, named; key=0f in the access log"
    )


def test_move_says_what_stays_behind():
    """Only what the application made."""
    said = {"key": "k", "from": 0, "slot": 1, "pid": 77, "left_behind": False}
    assert RENDER["move"](said) == "k: from slot 0 to slot 1, pid 77"
    assert "what it remembers stays there" in RENDER["move"](
        said | {"left_behind": True}
    )


def test_scale_says_what_became_of_sessions():
    """Where there are fewer workers."""
    said = {"before": 2, "workers": 4, "sessions": {"moved": 0, "ended": 0}, "lost": 0}
    assert RENDER["scale"](said) == "4 workers serve, before 2; 0 connections lost"
    said |= {"workers": 1, "sessions": {"moved": 5, "ended": 2}}
    assert RENDER["scale"](said) == (
        "1 workers serve, before 2: 5 sessions are placed anew, 2 ended with their"
        " worker; 0 connections lost"
    )


def test_drain_says_what_is_left():
    """And what moved, unless that cannot be known."""
    said = {"slot": 1, "moved": 4, "kept": 2, "sessions": 3, "lost": 0}
    assert RENDER["drain"](said) == (
        "slot 1 is drained: 4 connections moved, 2 kept, for 3 sessions, 0 lost"
    )
    assert "its worker was replaced" in RENDER["drain"](said | {"moved": None})
    said = {"slot": 1, "was_drained": False}
    assert RENDER["undrain"](said).endswith("as it did: it was not drained")
