"""What two looks at a master say."""

import pytest

from maitred.cli.rates import COLUMNS, Rates, Row, age, cells, page, seconds, short


def worker(pid, **more):
    """Make what the master says of a worker."""
    return {
        "slot": 0,
        "state": "ready",
        "pid": pid,
        "generation": 1,
        "uptime": 5.0,
        "open": 3,
        "requests": 100,
        "in_flight": 0,
        "handed_over": 50,
        "hops_in": 1,
        "hops_out": 2,
        "lag": 0.0004,
        "memory": 34_000_000,
        "cpu": 1.0,
        **more,
    }


def status(*slots, others=(), accepted=10, pid=7):
    """Make what the master says."""
    return {
        "target": "app:app",
        "name": "",
        "pid": pid,
        "state": "ready",
        "generation": 1,
        "uptime": 3723.4,
        "keys": 4,
        "max_keys": 100,
        "connections": {"accepted": accepted},
        "listeners": [{"name": "http://127.0.0.1:80", "accepted": accepted}],
        "slots": list(slots),
        "others": list(others),
    }


def test_first_look_knows_no_rate():
    """A dash stands where a number would be a guess."""
    rates = Rates()
    rates.look(status(worker(1)), 100.0)
    [row] = rates.rows
    assert (row.rate, row.cpu, rates.accepted) == (None, None, None)
    assert cells(row)[5].strip() == "-"
    assert list(rates.connections) == [3]
    assert not rates.requests


def test_second_look_gives_rates():
    """By the time between the two, and by process: a new one begins anew."""
    rates = Rates()
    rates.look(status(worker(1), worker(2, slot=1)), 100.0)
    said = status(
        worker(1, requests=300, cpu=1.5),
        worker(3, slot=1),
        others=[worker(2, slot=1, requests=110)],
        accepted=50,
    )
    rates.look(said, 102.0)
    assert [(row.pid, row.rate) for row in rates.rows] == [(1, 100), (3, None), (2, 5)]
    assert rates.rows[0].cpu == 25
    assert rates.accepted == 20
    assert list(rates.requests) == [105]
    assert list(rates.connections) == [6, 9]


@pytest.mark.parametrize(
    ("second", "now"), [(status(worker(1), pid=8), 101.0), (status(worker(1)), 100.0)]
)
def test_what_cannot_be_compared_is_not(second, now):
    """Another master, or no time in between."""
    rates = Rates()
    rates.look(status(worker(1)), 100.0)
    rates.look(second, now)
    assert rates.rows[0].rate is None
    assert rates.accepted is None


def test_counts_that_went_back_make_no_rate_below_zero():
    """A worker that counts less than before has its reasons."""
    rates = Rates()
    rates.look(status(worker(1), accepted=10), 100.0)
    rates.look(status(worker(1, requests=5, cpu=0.1), accepted=2), 101.0)
    assert (rates.rows[0].rate, rates.rows[0].cpu, rates.accepted) == (0, 0, 0)


def test_empty_slot_is_a_row_of_dashes():
    """And what is special of a slot stands for its state."""
    rates = Rates()
    empty = {"slot": 2, "state": "empty"}
    drained, late = worker(1, drained=True), worker(2, late=True)
    rates.look(status(empty, drained, late), 1.0)
    rates.look(status(empty, drained, late), 2.0)
    assert [row.state for row in rates.rows] == ["empty", "drained", "late"]
    assert rates.rows[0].pid is None


def test_gone_process_has_no_costs():
    """It ended while the master was looking."""
    rates = Rates()
    for now in (1.0, 2.0):
        rates.look(status(worker(1, cpu=None, memory=None, lag=None)), now)
    assert rates.rows[0].cpu is None


def test_page_fits_80_columns():
    """Also with numbers as they are after a year."""
    rates = Rates()
    rates.look(status(worker(4194304, slot=1023, open=99999)), 1.0)
    rates.rows[0] = Row(
        1023,
        4194304,
        "stopping",
        9999,
        16384,
        123456.0,
        10**8,
        10**8,
        31.25,
        10**11,
        99,
        999,
    )
    lines = page(rates).splitlines()
    assert lines[0] == ("app:app: ready, generation 1, up 1h 2m, - accepted/s")
    assert lines[1] == "keys 4 of 100; http://127.0.0.1:80 (10)"
    assert max(map(len, lines)) <= 79
    assert sum(column.width for column in COLUMNS.values()) <= 79
    assert lines[-1].split() == [
        *("1023", "4194304", "stopping", "9999", "16k", "123k", "100M", "100M"),
        *("31s", "100G", "99", "999"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (9999, "9999"), (10_000, "10k"), (3_400_000, "3.4M"), (9.97e6, "10M")],
)
def test_numbers_are_short(number, text):
    """Four characters are enough."""
    assert short(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0004, "0.4ms"), (0.0123, "12ms"), (3.14, "3.1s"), (61, "61s")],
)
def test_short_times(number, text):
    """In the unit that they are in."""
    assert seconds(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.4, "0s"), (61, "1m 1s"), (3600, "1h 0m"), (90_061, "1d 1h"), (59.9, "59s")],
)
def test_long_times(number, text):
    """In their two greatest units."""
    assert age(number) == text
