"""
The probe in a worker that dies once, with a WebSocket's handshake read and not begun.

Which worker dies is written in the file that the environment's DEAD names.
"""

import os
import signal
from pathlib import Path

import probe
from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol

DEAD = Path(os.environ["DEAD"])
app = probe.app
_run_asgi = AutoWebSocketsProtocol.run_asgi


async def run_or_die(self):
    """Run the application, unless nobody has died yet."""
    if not DEAD.exists():
        DEAD.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    await _run_asgi(self)


AutoWebSocketsProtocol.run_asgi = run_or_die
