"""How an operator talks to a running master: a Unix socket and lines of JSON."""

from .client import ask
from .commands import COMMANDS, Argument, Command, Level, Request
from .nobody import NoControl, open_control
from .places import find, path_of, services
from .server import ControlServer, Lines
from .spelling import read_key, spell

__all__ = [
    "COMMANDS",
    "Argument",
    "Command",
    "ControlServer",
    "Level",
    "Lines",
    "NoControl",
    "Request",
    "ask",
    "find",
    "open_control",
    "path_of",
    "read_key",
    "services",
    "spell",
]
