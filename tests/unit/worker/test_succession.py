"""Names that follow one another, by a clock of the test's own."""

from maitred.worker import succession
from maitred.worker.succession import GRACE, MOST, Successions


class Session:
    """A worker's view of one session, and what was released of it."""

    def __init__(self):
        self.now = 0.0
        self.released = []
        self.calls = []
        self.successions = Successions(
            self.released.append,
            later=lambda seconds, call: self.calls.append((self.now + seconds, call)),
            clock=lambda: self.now,
        )

    def ask(self, name, answered=None):
        """Ask with *name*; the answer sets another one."""
        self.successions.used(name)
        if answered:
            self.successions.replaced(name, answered)

    def wait(self, seconds):
        """Let time pass."""
        end = self.now + seconds
        while due := [each for each in self.calls if each[0] <= end]:
            first = min(due, key=lambda each: each[0])
            self.calls.remove(first)
            self.now, call = first
            call()
        self.now = end


def test_session_whose_cookie_changes_keeps_one_name():
    """After nine answers the last name is left, and nothing is remembered."""
    session = Session()
    for number in range(9):
        session.ask(b"%d" % number, b"%d" % (number + 1))
        session.wait(0.1)
    session.wait(GRACE)
    assert session.released == [b"%d" % number for number in range(9)]
    assert len(session.successions) == 0
    assert session.calls == []


def test_old_name_is_good_for_what_is_on_its_way():
    """It is not released before; nor is the new one after that."""
    session = Session()
    session.ask(b"a", b"b")
    session.wait(GRACE - 1)
    assert session.released == []
    session.ask(b"b")
    session.wait(GRACE + 1)
    assert session.released == [b"a"]


def test_two_tabs_ask_at_once():
    """Each answer makes a name; whichever the browser keeps is good."""
    for kept in (b"b", b"c"):
        session = Session()
        session.ask(b"a")
        session.ask(b"a")
        session.successions.replaced(b"a", b"b")
        session.successions.replaced(b"a", b"c")
        session.wait(100 * GRACE)
        assert kept not in session.released
        session.ask(kept, b"d")
        session.wait(GRACE + 1)
        session.ask(b"d", b"e")
        session.wait(GRACE + 1)
        session.ask(b"e")
        session.wait(GRACE + 1)
        assert b"e" not in session.released
        assert {b"a", b"d"} <= set(session.released)


def test_client_that_keeps_its_first_name_keeps_its_session():
    """A script without a cookie jar sends what it was given once."""
    session = Session()
    for number in range(100):
        session.ask(b"a", b"%d" % number)
        session.wait(1 if number < 2 else 10 * GRACE)
        assert b"a" not in session.released
    assert len(session.successions) <= MOST
    assert len(session.released) == 100 - (MOST - 1)


def test_name_that_is_set_again_is_no_new_one():
    """An application may send the same cookie with each answer."""
    session = Session()
    session.ask(b"a", b"b")
    session.ask(b"b", b"b")
    session.wait(GRACE + 1)
    session.ask(b"b", b"b")
    session.wait(GRACE + 1)
    assert session.released == [b"a"]


def test_name_that_comes_back_is_the_newest():
    """A cookie that is as it was before, in the same second, has the same signature."""
    session = Session()
    session.ask(b"a", b"b")
    session.ask(b"b", b"a")
    session.wait(GRACE + 1)
    assert session.released == [b"b"]
    session.ask(b"a", b"c")
    session.wait(GRACE + 1)
    assert session.released == [b"b", b"a"]


def test_two_sessions_may_come_to_one_name():
    """Two cookies that say the same, signed in the same second; others go on."""
    session = Session()
    session.ask(b"a", b"both")
    session.ask(b"b", b"both")
    session.wait(GRACE + 1)
    assert b"both" not in session.released
    session.ask(b"x", b"y")
    session.ask(b"both", b"c")
    session.wait(GRACE + 1)
    assert session.released == [b"a", b"b", b"x", b"both"]
    assert len(session.successions) == 0


def test_session_whose_second_name_went_to_another_is_forgotten():
    """It goes on under the one name that it has, as sessions of one name do."""
    session = Session()
    session.ask(b"a", b"both")
    session.ask(b"a")
    session.ask(b"b", b"both")
    session.wait(GRACE + 1)
    assert session.released == [b"b"]
    assert len(session.successions) == 0


def test_sessions_of_several_names_are_bounded(monkeypatch):
    """Those that were announced first are left to their time to live."""
    monkeypatch.setattr(succession, "MOST_SESSIONS", 10)
    session = Session()
    for number in range(20):
        session.ask(b"old %d" % number, b"new %d" % number)
        assert len(session.successions) <= 10
    session.wait(GRACE + 1)
    assert session.released == [b"old %d" % number for number in range(15, 20)]
    assert len(session.successions) == 0
