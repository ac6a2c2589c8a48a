"""
What a connection is and what it is placed by. Pure: bytes in, verdicts out.

Read ``verdict``, ``http1`` (the sniffer), ``affinity`` (where a session's name
stands), then ``router``; ``tls`` is the sniffer of the other language.
"""

from .affinity import Affinity, Response
from .homes import Homes
from .http1 import HEAD_LIMIT, Head
from .presets import PRESETS
from .router import Router, TlsRouter
from .seal import Seal
from .spec import PLACES, affinities, affinity
from .verdict import NEED_MORE, Match, NeedMore, NoMatch, Verdict

__all__ = [
    "HEAD_LIMIT",
    "NEED_MORE",
    "PLACES",
    "PRESETS",
    "Affinity",
    "Head",
    "Homes",
    "Match",
    "NeedMore",
    "NoMatch",
    "Response",
    "Router",
    "Seal",
    "TlsRouter",
    "Verdict",
    "affinities",
    "affinity",
]
