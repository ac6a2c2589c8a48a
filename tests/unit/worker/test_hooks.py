"""Hearing from a framework of the sessions it makes."""

import sys
from types import SimpleNamespace

import pytest

from maitred.errors import AppFailed
from maitred.routing import PRESETS, Affinity
from maitred.routing.affinity import host
from maitred.worker import hooks


class Keys:
    """Remembers what was claimed."""

    def __init__(self):
        self.claimed = []

    def made(self, key):
        """Take a claim."""
        self.claimed.append(key)


def sessions():
    """Make a class of sessions."""

    class Session:
        def __init__(self, id_, *, more=0):
            self.id, self.more = id_, more

    return Session


def test_session_is_claimed_when_it_is_made(monkeypatch):
    """The session is as it would have been."""
    made = sessions()
    module = SimpleNamespace(ServerSession=made)
    monkeypatch.setitem(sys.modules, "bokeh", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "bokeh.server", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "bokeh.server.session", module)
    keys = Keys()
    hooks.install([Affinity(name="x", find=host), PRESETS["panel"]], keys)
    session = made("s1", more=2)
    assert (session.id, session.more) == ("s1", 2)
    assert keys.claimed == [b"panel=s1"]


@pytest.mark.parametrize("module", [None, SimpleNamespace()])
def test_framework_that_is_not_there_is_told(monkeypatch, module):
    """A preset without its framework is a failed start, not a silent one."""
    monkeypatch.setitem(sys.modules, "bokeh", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "bokeh.server", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "bokeh.server.session", module)
    with pytest.raises(AppFailed, match=r"bokeh needs bokeh\.server\.session"):
        hooks.install([PRESETS["bokeh"]], Keys())


def test_hooked_presets_exist_and_learn_from_nothing_else():
    """A hook without its preset would never be installed."""
    for name in hooks.HOOKS:
        assert PRESETS[name].learn is not None
