"""The logs: who is heard at which level."""

import logging
import re

import pytest

from maitred import logs

NAMES = ("maitred", "uvicorn.error", "uvicorn.access")


@pytest.fixture(autouse=True)
def _logging_is_as_before():
    """What a test configures is gone after it."""
    before = {
        name: (
            list(logging.getLogger(name).handlers),
            logging.getLogger(name).level,
            logging.getLogger(name).propagate,
        )
        for name in NAMES
    }
    yield
    for name, (handlers, level, propagate) in before.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.mark.parametrize("level", logs.LEVELS)
def test_own_logs_have_the_level_asked_for(level, capfd):
    """What is at the level or above is written, one line each; nothing else is."""
    logs.configure(level)
    for each in logs.LEVELS:
        getattr(logs.master, each)("a %s message", each)
    heard = re.findall(r"a (\w+) message", capfd.readouterr().err)
    assert heard == list(logs.LEVELS[logs.LEVELS.index(level) :])


def test_line_says_when_how_bad_and_who(capfd):
    """Severity and process stand where an operator looks for them."""
    logs.configure("info")
    logs.worker.warning("something")
    line = capfd.readouterr().err
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING \[\d+\] something\n", line
    )


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_server_in_the_workers_is_quieter(level, heard, capfd):
    """What uvicorn says of every start is of no interest; its warnings are."""
    logs.configure(level)
    for each in logs.LEVELS:
        getattr(logging.getLogger("uvicorn.error"), each)("a %s message", each)
    assert re.findall(r"a (\w+) message", capfd.readouterr().err) == heard


@pytest.mark.parametrize("level", logs.LEVELS)
def test_access_log_is_an_option_of_its_own(level, capfd):
    """Requests are logged if that was asked for, whatever the level."""
    access = logging.getLogger("uvicorn.access")
    logs.configure(level)
    access.info("GET /")
    assert "GET /" in capfd.readouterr().err
    logs.configure(level, access_log=False)
    access.info("GET /")
    assert capfd.readouterr().err == ""
    assert not access.hasHandlers()
