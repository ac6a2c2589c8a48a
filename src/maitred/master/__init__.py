"""
The shell around the pure parts: it accepts, peeks, hands over, supervises.

Read ``master`` (the table of contents), then ``dispatcher`` (where a connection is).
"""

from .attendant import open_admin
from .keeper import Keeper
from .listeners import open_listeners
from .master import Master
from .past import arrive

__all__ = ["Keeper", "Master", "arrive", "open_admin", "open_listeners"]
