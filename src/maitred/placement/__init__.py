"""
Which worker a connection goes to. Pure: numbers and keys in, slots out.

Read ``placement`` first.
"""

from .keys import Contents, KeyTable, Owned
from .pages import Page
from .placement import Placement
from .policies import POLICIES, Policy
from .pool import Slot

__all__ = [
    "POLICIES",
    "Contents",
    "KeyTable",
    "Owned",
    "Page",
    "Placement",
    "Policy",
    "Slot",
]
