"""
Stamping the ids that Engine.IO makes, so that they name the slot they were made in.

The only file that knows engineio from the inside: ``BaseServer.generate_id``, which its
documentation invites to override. python-socketio makes its ids with it too. There is a
contract test against the real library.

Invariant: a library that the application did not load is not loaded, and an override of
the application's own is left alone; ids without a stamp are claimed as ever.
"""

from __future__ import annotations

import sys
from typing import Any

from maitred.routing import Seal


def stamp_ids(seal: Seal, slot: int) -> bool:
    """Stamp Engine.IO's ids with *slot*; return whether the library is loaded."""
    library = sys.modules.get("engineio.base_server")
    if library is None:
        return False
    server: Any = library.BaseServer
    generate = server.generate_id

    def generate_id(self: Any) -> str:
        """Generate a unique session id, stamped."""
        return seal.stamp(generate(self).encode(), slot).decode()

    server.generate_id = generate_id
    return True
