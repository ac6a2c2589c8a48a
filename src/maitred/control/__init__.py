"""How an operator talks to a running master: a Unix socket and lines of JSON."""

from .client import ask
from .commands import COMMANDS, Command
from .server import ControlServer, Lines, default_path

__all__ = ["COMMANDS", "Command", "ControlServer", "Lines", "ask", "default_path"]
