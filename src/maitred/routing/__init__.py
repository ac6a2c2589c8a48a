"""
What a connection is and what it is placed by. Pure: bytes in, verdicts out.

Read ``verdict``, ``http1`` (the sniffer), ``affinity`` (where a session's name
stands), then ``router``; ``tls`` is the sniffer of the other language, and
those of other protocols are in ``sniffers``.
"""

from .affinity import Affinity, Response
from .homes import Homes
from .http1 import HEAD_LIMIT, Head
from .presets import PRESETS
from .protocols import SNIFFERS, fields_router, sniffer_of
from .router import Router, TlsRouter
from .seal import Seal
from .sniffers import FieldsRouter, Reply, Sniffer, refused
from .spec import PLACES, affinities, affinity
from .verdict import NEED_MORE, Match, NeedMore, NoMatch, Verdict

__all__ = [
    "HEAD_LIMIT",
    "NEED_MORE",
    "PLACES",
    "PRESETS",
    "SNIFFERS",
    "Affinity",
    "FieldsRouter",
    "Head",
    "Homes",
    "Match",
    "NeedMore",
    "NoMatch",
    "Reply",
    "Response",
    "Router",
    "Seal",
    "Sniffer",
    "TlsRouter",
    "Verdict",
    "affinities",
    "affinity",
    "fields_router",
    "refused",
    "sniffer_of",
]
