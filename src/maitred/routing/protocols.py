"""
Which sniffer ``--protocol`` means, and what ``--affinity`` means for it.

Invariant: a protocol or an affinity that cannot be read is refused with a sentence
that says what would be understood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

from maitred.errors import UsageError

from .affinity import Affinity, ip
from .mqtt import MQTT
from .postgres import POSTGRES
from .rtmp import RTMP
from .sniffers import Fields, FieldsRouter, Sniffer, field
from .spec import imported


def sniff_nothing(_data: bytes) -> Fields:
    """Return no fields, at once, because the server may have to speak first."""
    return {}


RAW: Final = Sniffer(
    name="raw",
    sniff=sniff_nothing,
    fields=(),
    limit=0,
    about="anything: nothing is waited for, so that the server may speak first",
)

SNIFFERS: Final[Mapping[str, Sniffer]] = MappingProxyType(
    {each.name: each for each in (MQTT, POSTGRES, RTMP, RAW)}
)
"The sniffers there are, by what --protocol calls them."


def sniffer_of(protocol: str) -> Sniffer:
    """
    Return the sniffer that *protocol*, a name or module:attribute, stands for.

    Raises:
        UsageError: *protocol* is no known name, or nothing of that kind is there.
    """
    if protocol in SNIFFERS:
        return SNIFFERS[protocol]
    known = ["http", *SNIFFERS]
    module, colon, attribute = protocol.partition(":")
    if not colon:
        near = get_close_matches(protocol, known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UsageError(
            f"--protocol {protocol} is not understood{hint}; known are:"
            f" {', '.join(known)}, or module:attribute, a Sniffer of your own"
        )
    return imported(f"--protocol {protocol}", module, attribute, Sniffer)


def fields_router(sniffer: Sniffer, specs: Sequence[str]) -> FieldsRouter:
    """
    Return the router that places connections of *sniffer*'s protocol by *specs*.

    Args:
        sniffer: The sniffer of the protocol.
        specs: Names of fields, ``ip`` or ``none``, in order; empty: the first field.

    Raises:
        UsageError: One of *specs* is none of these.
    """
    if "none" in specs and len(specs) > 1:
        raise UsageError("--affinity none cannot be combined with another --affinity")
    return FieldsRouter(
        sniffer,
        [
            _affinity(sniffer, spec)
            for spec in specs or sniffer.fields[:1]
            if spec != "none"
        ],
    )


def _affinity(sniffer: Sniffer, spec: str) -> Affinity:
    if spec == "ip":
        return Affinity(name="ip", find=ip)
    if spec not in sniffer.fields:
        raise UsageError(
            f"--affinity {spec}: with --protocol {sniffer.name} there are:"
            f" {', '.join([*sniffer.fields, 'ip', 'none'])}"
        )
    return field(spec)
