"""How an operator talks to a running master: a Unix socket and lines of JSON."""

from .client import ask
from .commands import COMMANDS, Argument, Command, Level, Request
from .server import ControlServer, Lines, default_path
from .spelling import read_key, spell

__all__ = [
    "COMMANDS",
    "Argument",
    "Command",
    "ControlServer",
    "Level",
    "Lines",
    "Request",
    "ask",
    "default_path",
    "read_key",
    "spell",
]
