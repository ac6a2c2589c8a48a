"""
The vocabulary of master and workers: every message, once, in one table.

A message is one NamedTuple; its annotations are its layout on the wire (see
``codec``). Numbers, directions, phases and the reference in the documentation
are all derived from MESSAGES, so that nothing has to agree by hand.

Invariant: numbers are never reused. If you change a layout, raise VERSION.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Annotated, NamedTuple, Protocol

VERSION = 4
"The version of the protocol; a peer that speaks another is refused."


class Kind(NamedTuple):
    """The kind of a message's field: its name, and its struct code in the record."""

    name: str
    code: str


BLOB = Kind("blob", "I")
"Its length stands in the record, its bytes after the last record."
DESCRIPTOR = Kind("descriptor", "")
"Nothing in the record; it rides in the packet's SCM_RIGHTS."


class Owner(Protocol):
    """An object that owns one descriptor, which a message can carry."""

    def fileno(self) -> int:
        """Return the descriptor's number."""

    def detach(self) -> int:
        """Return the number; the caller owns the descriptor from now on."""

    def close(self) -> None:
        """Close the descriptor."""


U8 = Annotated[int, Kind("u8", "B")]
U16 = Annotated[int, Kind("u16", "H")]
U32 = Annotated[int, Kind("u32", "I")]
U64 = Annotated[int, Kind("u64", "Q")]
Blob = Annotated[bytes, BLOB]
Passed = Annotated[Owner, DESCRIPTOR]


class Reason(enum.IntEnum):
    """Why a worker refused a connection."""

    NO_DESCRIPTOR = 1
    "the descriptor did not arrive: the worker is at its limit of open files"
    DRAINING = 2
    "the worker is leaving"
    WRONG_DESCRIPTOR = 3
    "what arrived is not the connection that was announced"


class Handoff(NamedTuple):
    """
    Here is a connection; it is yours from the moment you say TAKEN.

    ``id`` is the connection's SO_COOKIE, ``peer`` and ``local`` its two addresses
    as text without port (empty for a Unix socket), ``key`` what it was placed by
    (empty if nothing), ``once`` is 1 if the server makes keys of this kind and nobody
    has claimed this one, ``consumed`` bytes that were read from it already and come
    before any byte that you read. The key is yours until it is revoked; with ``once``
    for one request. ``mark`` is the connection's mark on the scoreboard, which you keep
    true from TAKEN to CLOSED or RETURN; the master keeps its copy that long, so that
    you have to shut the connection down before you close it. 0: it has none. ``idle``
    is 1 if its client waits for nothing: it is taken without having been read from.
    ``hops`` is how many workers had it before. ``frozen`` is what the worker that gave
    it back wants the next one to know; empty: it begins.
    """

    connection: Passed
    id: U64
    peer: Blob
    peer_port: U16
    local: Blob
    local_port: U16
    key: Blob
    once: U8
    consumed: Blob
    mark: U32 = 0
    idle: U8 = 0
    hops: U16 = 0
    frozen: Blob = b""


class Ready(NamedTuple):
    """
    I can serve. ``pid`` is the worker's process.

    ``marks`` is 1 if it marks its connections on the scoreboard, ``moves`` if it gives
    back connections as they are, frozen, when it loses their key.
    """

    pid: U32
    marks: U8 = 0
    moves: U8 = 0


class Taken(NamedTuple):
    """
    Connection ``id`` is mine: I have read from it, or keep its mark true from now on.

    The master closes its copy of a connection that has no mark.
    """

    id: U64


class Refused(NamedTuple):
    """I have not touched connection ``id`` and do not have it any more."""

    id: U64
    reason: U8


class Return(NamedTuple):
    """
    Connection ``id`` is the master's again: its next request belongs elsewhere.

    Or I am leaving; then there is no key. ``unread`` was read from it and belongs
    before what is still in the kernel, ``key`` is what the request is placed by,
    ``learned`` is 1 if the server makes keys of this kind. The addresses and ``hops``
    are those of the HANDOFF. With ``frozen``, the connection is no request's: it goes
    on in another worker, which is told so.
    """

    connection: Passed
    id: U64
    peer: Blob
    peer_port: U16
    local: Blob
    local_port: U16
    key: Blob
    learned: U8
    unread: Blob
    hops: U16 = 0
    frozen: Blob = b""


class Closed(NamedTuple):
    """Connection ``id``, which I had taken, is over."""

    id: U64


class Claim(NamedTuple):
    """
    ``key`` lives here for ``ttl`` seconds past its last use.

    ``made`` is 1 if my application made it, and 0 if I was handed a connection for it
    and it is still in use.
    """

    ttl: U32
    made: U8
    key: Blob


class Release(NamedTuple):
    """``key`` is over."""

    key: Blob


class Drain(NamedTuple):
    """
    Nothing new comes. Finish within ``timeout_ms``, say DRAINED, and leave.

    With ``give_back`` 1 there is a successor: give back every connection that is
    between two requests, without a key, instead of closing it.
    """

    timeout_ms: U32
    give_back: U8 = 0


class Revoke(NamedTuple):
    """``key`` is not yours any more: give back the next request that has it."""

    key: Blob


class Ask(NamedTuple):
    """
    A request with ``key`` came on a connection that cannot be moved: is it mine?

    ``learned`` is 1 if the server makes keys of this kind.
    """

    learned: U8
    key: Blob


class Answer(NamedTuple):
    """
    The answer to ASK: ``yes`` is 1 if you may serve ``key``, 0 if it lives elsewhere.

    As with HANDOFF, a key that the client makes is yours from now on, and one that the
    server makes for one request.
    """

    yes: U8
    key: Blob


class Quit(NamedTuple):
    """Leave now."""


class Retire(NamedTuple):
    """
    A successor has come: serve the sessions you have, until DRAIN.

    Give back, without a key, each request that names no session.
    """


class Relieve(NamedTuple):
    """
    Nothing new comes to you for now, or, where ``relieved`` is 0, it does again.

    While you are relieved, serve the sessions you have. Give back, without a key, every
    connection that you have now as soon as it is between two requests, and each request
    that names no session.
    """

    relieved: U8


class Link(NamedTuple):
    """
    Behind ``channel`` is acceptor ``number`` of the ``of`` that hand you connections.

    The master is number 0. It says this of the others before anything else; and again
    when one of them has died and another is in its place. What concerns a connection
    you say to whom it came from; what concerns a key (CLAIM, RELEASE, ASK) to the key's
    home, the number that ``routing.Homes`` makes of ``hash_key`` and the key. A new
    acceptor is told, by CLAIM, all keys of yours whose home it is, and then READY.
    """

    channel: Passed
    number: U16
    of: U16
    hash_key: Blob


class Have(NamedTuple):
    """
    I have connection ``id``, which an acceptor handed me that is dead now.

    It is as if you had handed it to me, I had said TAKEN, and it had no mark.
    """

    id: U64


class Attach(NamedTuple):
    """
    Hand me connections; nobody here has started me. It is the first word, if it is one.

    ``name`` is up to 32 lower-case letters, digits, - and _, one of its kind at a time;
    ``nonce`` 8 to 64 bytes, drawn anew for each ATTACH; ``capacity`` how many
    connections I can be handed ahead of my TAKEN.
    """

    name: Blob
    nonce: Blob
    capacity: U16


class Attached(NamedTuple):
    """
    You fill ``slot``, in ``generation``; ``board`` is your scoreboard. Say READY.

    ``nonce`` is that of your ATTACH.
    """

    board: Passed
    slot: U16
    generation: U32
    nonce: Blob


class Rejected(NamedTuple):
    """You are handed nothing: ``why`` in a sentence. The channel is closed."""

    why: Blob


class Drained(NamedTuple):
    """I have finished and leave. ``cut`` connections were closed at the deadline."""

    cut: U32


class Failed(NamedTuple):
    """I cannot serve: ``why`` in one sentence, and the application's ``traceback``."""

    why: Blob
    traceback: Blob


class Side(enum.Enum):
    """The side that says a message."""

    MASTER = "master"
    WORKER = "worker"


class Phase(enum.Enum):
    """The phase of the conversation: READY ends the first, DRAIN the second."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


ALWAYS = frozenset(Phase)
AFTER_READY = frozenset({Phase.SERVING, Phase.DRAINING})


class Entry(NamedTuple):
    """One line of MESSAGES."""

    number: int
    message: type
    sender: Side
    phases: frozenset[Phase]


MESSAGES = (
    Entry(1, Handoff, Side.MASTER, frozenset({Phase.SERVING})),
    Entry(2, Ready, Side.WORKER, frozenset({Phase.STARTING})),
    Entry(3, Taken, Side.WORKER, AFTER_READY),
    Entry(4, Refused, Side.WORKER, AFTER_READY),
    Entry(5, Return, Side.WORKER, AFTER_READY),
    Entry(6, Claim, Side.WORKER, ALWAYS),
    Entry(7, Release, Side.WORKER, AFTER_READY),
    Entry(8, Drain, Side.MASTER, frozenset({Phase.SERVING})),
    Entry(9, Quit, Side.MASTER, ALWAYS),
    # While serving too: a worker may have been told to leave by somebody else.
    Entry(10, Drained, Side.WORKER, AFTER_READY),
    Entry(11, Failed, Side.WORKER, frozenset({Phase.STARTING})),
    Entry(12, Closed, Side.WORKER, AFTER_READY),
    Entry(13, Revoke, Side.MASTER, frozenset({Phase.SERVING})),
    Entry(14, Ask, Side.WORKER, AFTER_READY),
    Entry(15, Answer, Side.MASTER, frozenset({Phase.SERVING})),
    Entry(16, Retire, Side.MASTER, frozenset({Phase.SERVING})),
    Entry(17, Link, Side.MASTER, ALWAYS),
    Entry(18, Have, Side.WORKER, AFTER_READY),
    Entry(19, Relieve, Side.MASTER, frozenset({Phase.SERVING})),
    Entry(20, Attach, Side.WORKER, frozenset({Phase.STARTING})),
    Entry(21, Attached, Side.MASTER, frozenset({Phase.STARTING})),
    Entry(22, Rejected, Side.MASTER, frozenset({Phase.STARTING})),
)


def _said_by(side: Side) -> Mapping[int, type]:
    return {entry.number: entry.message for entry in MESSAGES if entry.sender is side}


FROM_MASTER = _said_by(Side.MASTER)
"What a master sends: number to message."
FROM_WORKER = _said_by(Side.WORKER)
"What a worker sends: number to message."

MAY_BE_SAID: Mapping[type, frozenset[Phase]] = {e.message: e.phases for e in MESSAGES}
"In which phases each message is allowed."
