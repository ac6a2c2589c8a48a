"""
A connection dispatcher: stateful Python services on every core.

A master accepts, looks at the first bytes, and hands the socket itself to the worker
process that owns the connection. The command is ``maitred serve``; the public library
is the channel.
"""

from maitred.errors import (
    ChannelClosed,
    ChannelError,
    ChannelFull,
    ChannelRefused,
    DescriptorsLost,
    MaitredError,
    MessageTooLarge,
    PeerMisbehaved,
)
from maitred.wire import (
    MAX_DESCRIPTORS,
    MAX_PACKET,
    U8,
    U16,
    U32,
    U64,
    Blob,
    Channel,
    Descriptor,
    Owner,
    Passed,
)

__all__ = [
    "MAX_DESCRIPTORS",
    "MAX_PACKET",
    "U8",
    "U16",
    "U32",
    "U64",
    "Blob",
    "Channel",
    "ChannelClosed",
    "ChannelError",
    "ChannelFull",
    "ChannelRefused",
    "Descriptor",
    "DescriptorsLost",
    "MaitredError",
    "MessageTooLarge",
    "Owner",
    "Passed",
    "PeerMisbehaved",
]
