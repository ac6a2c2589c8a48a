"""How an operator talks to a running master: a Unix socket and lines of JSON."""

from .client import ask
from .commands import COMMANDS, Command
from .server import ControlServer, default_path

__all__ = ["COMMANDS", "Command", "ControlServer", "ask", "default_path"]
