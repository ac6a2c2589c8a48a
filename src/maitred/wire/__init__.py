"""
How two processes talk: typed messages with descriptors. A library of its own.

Read ``messages`` (what is said), ``codec`` (how it stands on the wire),
``descriptor`` (who owns what comes), then ``channel`` (how it gets there).
"""

from .channel import Channel
from .codec import MAX_DESCRIPTORS, MAX_PACKET
from .descriptor import Descriptor
from .messages import U8, U16, U32, U64, Blob, Owner, Passed

__all__ = [
    "MAX_DESCRIPTORS",
    "MAX_PACKET",
    "U8",
    "U16",
    "U32",
    "U64",
    "Blob",
    "Channel",
    "Descriptor",
    "Owner",
    "Passed",
]
