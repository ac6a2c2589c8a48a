"""What is passed on to uvicorn, and what is refused before."""

import inspect
from dataclasses import fields

import pytest
from uvicorn.config import WS_PROTOCOLS, Config

from maitred.config import RELOADED, Settings, WorkerSettings
from maitred.errors import UsageError
from maitred.uvicorn_settings import PASSED_ON, WS, arguments


def test_names_and_defaults_are_uvicorns():
    """Who leaves them out gets what uvicorn gives by itself."""
    theirs = inspect.signature(Config).parameters
    ours = arguments(Settings(target="a:b"))
    assert ours.pop("headers") == []
    assert ours == {name: theirs[name].default for name in ours}
    assert set(WS) == set(WS_PROTOCOLS)


def test_never_is_none():
    """0 seconds say never here, as elsewhere."""
    ours = arguments(Settings(target="a:b", ws_ping_interval=0, ws_ping_timeout=0))
    assert (ours["ws_ping_interval"], ours["ws_ping_timeout"]) == (None, None)


def test_headers_are_split():
    """Where the value begins and ends."""
    settings = Settings(target="a:b", header=("A:b", "C-D:  e: f ", "G:"))
    assert arguments(settings)["headers"] == [("A", "b"), ("C-D", "e: f"), ("G", "")]


def test_a_reload_brings_them():
    """Workers alone know them."""
    assert set(PASSED_ON) <= RELOADED


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"header": ("no colon",)}, "--header 'no colon' is not Name: value"),
        ({"header": ("a b: c",)}, "is not Name: value"),
        ({"header": ("a: b\r\nc: d",)}, "is not Name: value"),
        ({"header": ("a: \u20ac",)}, "is not Name: value"),
        ({"header": ("Content-Length: 1",)}, "Content-Length is not for everybody"),
        ({"header": ("connection: close",)}, "connection is not for everybody"),
        ({"ws_max_size": 0}, "--ws-max-size 0: at least 1"),
        ({"ws_max_queue": -1}, "--ws-max-queue -1: at least 1"),
        ({"ws_ping_interval": -1.0}, "--ws-ping-interval -1: a number of seconds"),
        ({"ws_ping_timeout": float("nan")}, "--ws-ping-timeout nan: a number"),
    ],
)
def test_what_cannot_work_is_refused(said, text):
    """With a sentence that names the option."""
    with pytest.raises(UsageError, match=text.replace("(", r"\(")):
        Settings(target="a:b", **said)


def test_master_that_is_older_than_its_workers_need_not_say_them():
    """New code is installed, and a worker dies before the master is upgraded."""
    old = {f.name for f in fields(WorkerSettings)} - set(PASSED_ON)
    assert WorkerSettings(**dict.fromkeys(old)).ws == "auto"
