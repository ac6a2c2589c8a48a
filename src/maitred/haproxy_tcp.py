"""
What HAProxy sees of connections that are not plain HTTP, and sends them by. Pure.

HAProxy carries their bytes (``mode tcp``) and looks at the first of them, as the master
does: in MQTT it finds the client identifier, in TLS the name of the host. What a client
names only after the server has spoken is hidden from it.

Invariant: a name that HAProxy cannot see is refused with a sentence, or stands in a
comment beside one that it can see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from maitred.errors import UsageError


class Sample(NamedTuple):
    """
    A sample in which HAProxy finds a name.

    Args:
        words: The sample, in HAProxy's words.
        condition: When it is one, with a space and ``if`` before; empty: whenever it
            is there.
    """

    words: str
    condition: str = ""


class Language(NamedTuple):
    """
    The abilities of HAProxy for connections of one protocol.

    Args:
        samples: Where it finds what an affinity looks at, the protocol's default
            affinity first; without any sample where HAProxy cannot see that.
        complete: Until when it waits, so that the samples can be read; empty: it does
            not wait, because the server may have to speak first.
        port: Where clients connect if nobody says so; 0: no port is usual.
        hidden: Why it cannot see the others; a sentence's end.
        unnamed: What ``none`` stands for: where companions of a connection have to
            reach its machine, the client's address; with a comment that says so.
    """

    samples: Mapping[str, tuple[Sample, ...]]
    complete: str = ""
    port: int = 0
    hidden: str = "nothing is known of such a connection but its client's address"
    unnamed: str = ""


IP: Final = (Sample("src"),)
MQTT_FIELD: Final = "req.payload(0,0),mqtt_field_value(connect,{})"


def _bridge(name: bytes, level: int) -> tuple[Sample, ...]:
    """
    Return samples of the client identifier of a bridge, in a CONNECT of *name*.

    They are needed because HAProxy's own reader takes no level with the top bit set.
    The flags and the keep alive, three bytes, come between the level and the
    identifier; the length of the packet, after its first byte, has one byte or two.
    """
    words = name + bytes([level])
    found = []
    for start in (1 + 1 + 2, 1 + 2 + 2):
        end = start + len(words)
        is_bridge = f" if {{ req.payload({start},{len(words)}) -m bin {words.hex()} }}"
        found.append(Sample(f"req.payload_lv({end + 3},2)", is_bridge))
    return tuple(found)


LANGUAGES: Final[Mapping[str, Language]] = MappingProxyType(
    {
        "mqtt": Language(
            {
                "client": (
                    Sample(MQTT_FIELD.format("client_identifier")),
                    *_bridge(b"MQTT", 0x84),
                    *_bridge(b"MQIsdp", 0x83),
                ),
                "user": (Sample(MQTT_FIELD.format("username")),),
            },
            complete="{ req.payload(0,0),mqtt_is_valid }",
            port=1883,
            hidden="in MQTT there are client and user",
        ),
        "postgres": Language(
            {"database": (), "user": ()},
            port=5432,
            hidden="a PostgreSQL client names it only after the server has answered",
            unnamed="A query is cancelled by a second connection: from the same"
            " address, to the same machine.",
        ),
        "rtmp": Language(
            {"app": ()},
            port=1935,
            hidden="an RTMP client names it only after a handshake with the server",
        ),
        "raw": Language({"none": ()}),
        "tls": Language(
            {"none": (), "sni": (Sample("req.ssl_sni,lower"),)},
            complete="{ req.ssl_hello_type 1 }",
            port=443,
            hidden="inside TLS it is encrypted; end TLS in HAProxy (bind ... ssl crt),"
            " without --certfile here and in maitred",
        ),
    }
)
"By what ``--protocol`` says; ``tls`` where maitred has certificates."
OWN: Final = Language(
    {}, hidden="only Python can run a Sniffer of your own, and HAProxy cannot"
)
"A sniffer that a user wrote."


def language(protocol: str) -> Language:
    """Return what HAProxy can do for connections of *protocol*."""
    return LANGUAGES.get(protocol, OWN)


class Sticking(NamedTuple):
    """
    Lines of a configuration in ``mode tcp``.

    Args:
        frontend: How long HAProxy waits for the first bytes, and for which.
        balance: How a session that is not known gets a machine.
        backend: How it finds its machine again; empty: it does not.
    """

    frontend: list[str]
    balance: str
    backend: list[str]


def sticking(protocol: str, affinities: Sequence[str], wait: float) -> Sticking:
    """
    Return the lines that send each connection of *protocol* to its machine.

    Args:
        protocol: The protocol, as in ``--protocol``, or ``tls``.
        affinities: The affinities as given to maitred; empty: the protocol's default.
        wait: Seconds that HAProxy waits for the first bytes.

    Raises:
        UsageError: HAProxy sees none of *affinities*.
    """
    spoken = language(protocol)
    # A sniffer of a user's own has a default too, which nobody here can know.
    names = [*(affinities or [*spoken.samples, "(the default)"][:1])]
    if names == ["none"]:
        if not spoken.unnamed:
            return Sticking([], "leastconn", [])
        return _lines(spoken, {"ip": IP}, wait, [f"# {spoken.unnamed}"])
    known = {"ip": IP, **spoken.samples}
    seen = {name: known[name] for name in names if known.get(name)}
    if not seen:
        raise UsageError(
            f"--affinity {' '.join(names)} with {_option(protocol)}: HAProxy cannot see"
            f" that: {spoken.hidden}; or give --affinity ip to `maitred haproxy`: a"
            " client's address picks its machine, and maitred its process there"
        )
    comments = [
        f"# {name}: not seen here; the others decide"
        for name in names
        if name not in seen
    ]
    return _lines(spoken, seen, wait, comments)


def _option(protocol: str) -> str:
    return "--certfile" if protocol == "tls" else f"--protocol {protocol}"


def _lines(
    spoken: Language,
    seen: Mapping[str, tuple[Sample, ...]],
    wait: float,
    comments: list[str],
) -> Sticking:
    samples = [sample for found in seen.values() for sample in found]
    sticks = [f"stick on {sample.words}{sample.condition}" for sample in samples]
    # Not for the address alone, because that is known before the first byte.
    is_waited_for = spoken.complete and seen != {"ip": IP}
    frontend = [
        f"tcp-request inspect-delay {round(wait)}s",
        f"tcp-request content accept if {spoken.complete}",
    ]
    return Sticking(
        frontend if is_waited_for else [],
        # By the name, because an HAProxy that was just reloaded has an empty table.
        f"hash {samples[0].words}\n    hash-type consistent",
        [*comments, *sticks],
    )
