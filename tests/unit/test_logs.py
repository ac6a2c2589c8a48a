"""The logs: who is heard at which level."""

import logging
import os
import re
import subprocess
import sys
import threading

import pytest
import uvicorn.server

from maitred import logs

NAMES = ("maitred", "uvicorn", "uvicorn.error", "uvicorn.access")


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


def written(capfd):
    """Give what was logged, all of it."""
    logs.flush()
    return capfd.readouterr().err


@pytest.mark.parametrize("level", logs.LEVELS)
def test_own_logs_have_the_level_asked_for(level, capfd):
    """What is at the level or above is written, one line each; nothing else is."""
    logs.configure(level)
    for each in logs.LEVELS:
        getattr(logs.master, each)("a %s message", each)
    heard = re.findall(r"a (\w+) message", written(capfd))
    assert heard == list(logs.LEVELS[logs.LEVELS.index(level) :])


def test_line_says_when_how_bad_and_who(capfd):
    """Severity and process stand where an operator looks for them."""
    logs.configure("info")
    logs.worker.warning("something")
    line = written(capfd)
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
    said = {"logger": logging.getLogger("uvicorn.error"), "LEVELS": logs.LEVELS}
    speak = "for each in LEVELS: getattr(logger, each)('a %s message', each)"
    exec(compile(speak, uvicorn.server.__file__, "exec"), said)
    assert re.findall(r"a (\w+) message", written(capfd)) == heard


@pytest.mark.parametrize("name", ["uvicorn", "uvicorn.error"])
@pytest.mark.parametrize("level", logs.LEVELS)
def test_application_is_heard_where_uvicorn_would_be(name, level, capfd):
    """It logs there to be seen; as much as the level says, nothing twice."""
    logs.configure("debug")
    logs.configure(level)
    for each in logs.LEVELS:
        getattr(logging.getLogger(name), each)("a %s message", each)
    heard = logs.LEVELS[logs.LEVELS.index(level) :]
    assert re.findall(r"a (\w+) message", written(capfd)) == list(heard)


# What an application configures, in a process of its own: it is said of all loggers.

BEGIN = """
import logging.config
from maitred import logs
logs.configure("info")
ini = '''
[loggers]
keys=root
[handlers]
keys=null
[formatters]
keys=
[logger_root]
level=ERROR
handlers=null
[handler_null]
class=NullHandler
args=()
'''
def request():
    entry = logs.Entry("::1", 1, 200, 0, 0.0, 7, method="GET", target="/")
    # As the worker does before it writes.
    if logging.getLogger("uvicorn.access").isEnabledFor(logging.INFO):
        logs.access().write(entry)
null = {"null": {"class": "logging.NullHandler"}}
"""
OURS = ["maitred.worker", "uvicorn.error", "uvicorn"]
CONFIGURATIONS = {
    "dictConfig": "logging.config.dictConfig({'version': 1})",
    "dictConfig of the root": "logging.config.dictConfig({'version': 1, 'handlers': "
    "null, 'root': {'handlers': ['null'], 'level': 'ERROR'}})",
    "fileConfig": "import io; logging.config.fileConfig(io.StringIO(ini))",
}


def said_by(code):
    """Run *code* after BEGIN; return what it logged."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code], capture_output=True, text=True, check=True
    )
    return done.stderr


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configuration_of_an_application_silences_nobody(name):
    """It closes all handlers and switches off all loggers; ours go on, to the end."""
    said = said_by(
        f"{CONFIGURATIONS[name]}\n"
        f"for name in {OURS}: logging.getLogger(name).warning('a %s message', name)\n"
        "request()\n"
        "assert logs.dropped() == 0\n"
    )
    assert re.findall(r"a ([\w.]+) message", said) == OURS
    assert "GET /" in said


def test_what_an_application_says_of_a_logger_by_its_name_holds():
    """Off is off, and its own handlers have the records."""
    assert (
        said_by(
            "logging.getLogger('uvicorn.access').disabled = True\n"
            "own = {'handlers': ['null'], 'propagate': False}\n"
            "logging.config.dictConfig({'version': 1, 'handlers': null,"
            " 'loggers': {'uvicorn.error': own}})\n"
            "logging.getLogger('uvicorn.error').error('one word')\n"
            "request()\n"
        )
        == ""
    )
    said = said_by(
        "logging.getLogger('uvicorn.error').disabled = True\n"
        "logging.getLogger('uvicorn.error').error('one word')\n"
        "logging.getLogger('uvicorn.error').disabled = False\n"
        "logging.getLogger('uvicorn.error').error('another word')\n"
    )
    assert "another word" in said
    assert "one word" not in said


@pytest.mark.parametrize("level", logs.LEVELS)
def test_access_log_is_an_option_of_its_own(level, capfd):
    """Requests are logged if that was asked for, whatever the level."""
    entry = logs.Entry("::1", 1, 200, 0, 0.0, 7, method="GET", target="/")
    logs.configure(level)
    logs.access().write(entry)
    assert "GET /" in written(capfd)
    logs.configure(level, access_log=False)
    assert logs.access() is None


# When nobody reads


class Sink:
    """Somewhere to write, which can be stuck or full."""

    def __init__(self):
        """Be ready to take everything."""
        self.lines = []
        self.full = False
        self.open = threading.Event()
        self.open.set()

    def write(self, text):
        """Take *text*, if there is room; wait while stuck."""
        assert self.open.wait(60)
        if not self.full:
            self.lines += text.splitlines()
        return not self.full


@pytest.fixture
def sink():
    """Make a sink."""
    return Sink()


@pytest.fixture
def handler(sink):
    """Make a handler that writes to the sink."""
    handler = logs.Writer(sink.write)
    yield handler
    sink.open.set()
    handler.end()


def test_stuck_sink_keeps_nobody_waiting(handler, sink):
    """What does not fit is dropped and told; the rest comes in order."""
    sink.open.clear()
    line = "x" * 1000
    count = 2 * logs.MOST // len(line)
    for number in range(count):
        handler.put(f"{line} {number}\n")
    assert count / 3 < handler.dropped < count
    sink.open.set()
    handler.flush()
    kept = count - handler.dropped
    told = f"{handler.dropped} lines of this log were dropped: it could not be written"
    assert sink.lines.count(told) == 1
    sink.lines.remove(told)
    numbers = [int(line.split()[1]) for line in sink.lines]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == kept
    handler.put("again\n")
    handler.flush()
    assert sink.lines[kept:] == ["again"]


def test_full_sink_is_told_what_it_missed(handler, sink):
    """What could not be written is gone, and counted once there is room."""
    sink.full = True
    for _ in range(3):
        handler.put("lost\n")
        handler.flush()
    assert handler.dropped == 3
    assert sink.lines == []
    sink.full = False
    handler.put("kept\n")
    handler.flush()
    assert sink.lines == [
        "kept",
        "3 lines of this log were dropped: it could not be written",
    ]
    assert handler.dropped == 3


def test_end_does_not_wait_for_ever(handler, sink, monkeypatch):
    """Who leaves while nobody reads leaves all the same."""
    monkeypatch.setattr(logs.writer, "LAST_WORDS", 0.01)
    sink.open.clear()
    handler.put("a word\n")
    handler.end()
    sink.open.set()


def test_log_that_has_ended_takes_nothing_more(handler, sink):
    """After the end a line is dropped, and nothing starts anew."""
    handler.put("before\n")
    handler.end()
    handler.put("after\n")
    assert sink.lines == ["before"]
    assert handler.dropped == 1


def test_long_line_is_written_whole(handler, sink):
    """One line may be longer than what is written at once."""
    line = "x" * (3 * logs.PIECE)
    handler.put(f"{line}\nshort\n")
    handler.flush()
    assert sink.lines == [line, "short"]


def test_what_goes_on_is_told_once_a_second():
    """The first time at once, then not before the second is over."""
    times = iter([5.0, 5.9, 5.99, 6.0, 6.5, 8.0])
    seldom = logs.Seldom(lambda: next(times))
    assert [seldom.is_due() for _ in range(6)] == [
        True,
        False,
        False,
        True,
        False,
        True,
    ]


PROGRAM = """
import os, sys
from maitred import logs
logs.configure("info")
logs.master.info("parent")
if not os.fork():
    logs.master.info("child")
    logs.flush()
    os._exit(0)
os.wait()
logs.master.info("the last word")
"""


def test_child_and_last_word_are_heard(tmp_path):
    """A forked child has a log of its own; at exit nothing is left unwritten."""
    log = tmp_path / "log"
    with log.open("wb") as out:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-W", "ignore", "-c", PROGRAM],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 2)],
        )
    assert os.waitpid(pid, 0)[1] == 0
    said = [line.rpartition("] ")[2] for line in log.read_text().splitlines()]
    # Each has a thread that writes: which of the two is first is not known.
    assert sorted(said[:2]) == ["child", "parent"]
    assert said[2:] == ["the last word"]
