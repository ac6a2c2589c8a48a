"""
The loggers that we write to, so that they outlive an application's own configuration.

``logging.config`` switches off every logger that it is not told of, unless it is told
otherwise (``disable_existing_loggers``), and closes every handler there is. Django does
so by its LOGGING. Nobody means the access log and the tracebacks of the server by that.

Invariant: what an application says of one of these loggers by its name holds.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

SERVER_PACKAGES: Final = ("uvicorn", "websockets", "wsproto")
"The packages whose code logs to ``uvicorn.error``, beside the application's."


class Enduring(logging.Logger):
    """Mixed into a logger that ``logging.config`` does not switch off with others."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set the attribute, unless ``logging.config`` switches this logger off."""
        # Only logging.config says it of loggers that nobody has named. Not a property,
        # because each question whether something is logged reads the attribute.
        if name == "disabled" and value:
            frame = inspect.currentframe()
            caller = frame and frame.f_back and frame.f_back.f_globals.get("__name__")
            if caller == "logging.config":
                return
        super().__setattr__(name, value)


def enduring(name: str) -> logging.Logger:
    """
    Return the logger called *name*, whose class is changed to an ``Enduring`` one.

    From now on ``logging.config`` does not switch it off with others.
    """
    logger = logging.getLogger(name)
    if not isinstance(logger, Enduring):
        kind: Any = type(logger)
        logger.__class__ = type("EnduringLogger", (Enduring, kind), {})
    return logger


class NotOfTheServer(logging.Filter):
    """
    Leaves out what the server itself says below WARNING, such as that it has started.

    The application's own records pass: under uvicorn it is usual to log to
    ``uvicorn.error`` in order to be seen.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether *record* is the application's, or a WARNING or worse."""
        return record.levelno >= logging.WARNING or not _is_of_server(record.pathname)


@cache
def _is_of_server(path: str) -> bool:
    """Return whether the file *path* belongs to one of SERVER_PACKAGES."""
    return path.startswith(_server_directories())


@cache
def _server_directories() -> tuple[str, ...]:
    found = (sys.modules.get(name) for name in SERVER_PACKAGES)
    files = (module.__file__ for module in found if module is not None)
    return tuple(str(Path(file).parent) + os.sep for file in files if file)
