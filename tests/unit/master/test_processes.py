"""How a process ended, in words."""

import signal

import pytest

from maitred.master.processes import how_it_ended


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exited with code 0"),
        (3, "exited with code 3"),
        (-signal.SIGKILL, "was ended by SIGKILL"),
        (-signal.SIGSEGV, "was ended by SIGSEGV"),
        (-40, "was ended by signal 40"),
    ],
)
def test_exit_code_is_put_in_words(code, words):
    """An operator reads the name of a signal where it has one."""
    assert how_it_ended(code) == words
