"""
The shell around the pure parts: it accepts, peeks, hands over, supervises.

Read ``master`` (the table of contents), then ``dispatcher`` (where a connection is).
"""

from maitred.acceptor.listeners import open_listeners
from maitred.upgrade.snapshot import arrive

from .attendant import open_admin
from .keeper import Keeper
from .master import Master

__all__ = ["Keeper", "Master", "arrive", "open_admin", "open_listeners"]
