"""
The desk: all that a connection meets in one acceptor, put together.

    listeners -> acceptor -> peeker -> dispatcher -> a worker
                               |           |  `----> another acceptor (mesh)
                               `-> refusals <'

The master has one. With --acceptors N there are N - 1 more, each in a process of its
own (deputy.py); they share the listeners and the workers, and nothing else. What is
bounded for the service is divided among them.
"""

from __future__ import annotations

import random
import resource
from collections.abc import Callable, Sequence
from ipaddress import ip_network
from typing import Any, Final

from maitred.acceptor import buffers
from maitred.acceptor.accept_loop import Acceptor
from maitred.acceptor.connection import Connection
from maitred.acceptor.counters import Counters
from maitred.acceptor.listeners import Listener
from maitred.acceptor.peek import Peeker
from maitred.acceptor.per_source_limit import TOO_MANY, Sources
from maitred.acceptor.refusals import Refusals
from maitred.config import HTTP, LOOPBACK, Settings
from maitred.placement import POLICIES, KeyTable, Placement, Slot
from maitred.routing import (
    FieldsRouter,
    Homes,
    Router,
    Seal,
    TlsRouter,
    affinities,
    fields_router,
    sniffer_of,
)
from maitred.routing.affinity import named_slot

from .dispatcher import Dispatcher, Superior
from .mesh import Mesh
from .workers import Worker

AnyRouter = Router | TlsRouter | FieldsRouter

RESERVE: Final = 64
"Descriptors kept for all that is not a connection, and as many again for each worker."


class Desk:
    """The parts of one acceptor; needs a running loop."""

    def __init__(
        self,
        settings: Settings,
        router: AnyRouter,
        listeners: Sequence[Listener],
        *,
        hash_key: bytes,
        on_ready: Callable[[Worker], None],
        number: int = 0,
        superior: Superior | None = None,
    ) -> None:
        """
        Build the parts and connect them; needs a running loop.

        Args:
            settings: What the operator wants.
            router: Decides what connections are placed by.
            listeners: Owned from now on.
            hash_key: Keys every hash, the same in all acceptors.
            on_ready: Called when a worker said READY.
            number: The number of this acceptor; the master's is 0.
            superior: The master; None where this process is the master.
        """
        acceptors = settings.acceptors
        self.number = number
        self.acceptors = acceptors
        self.counters = counters = Counters()
        self.keys = KeyTable(
            settings.slots,
            limit=_share(settings.max_keys, acceptors),
            ttl=settings.key_ttl,
            most_bytes=settings.max_key_bytes // acceptors,
        )
        policy = POLICIES[settings.policy]
        self.placement = Placement(
            [
                Slot(
                    index,
                    _share(settings.window, acceptors),
                    elder=index >= settings.workers,
                )
                for index in range(settings.slots)
            ],
            policy.make(random.Random(), hash_key),
            self.keys,
            remembers=policy.remembers,
            named=named_slot,
        )
        # Half for copies; of the rest, as many may be peeked at as may wait and linger.
        spare = _spare_descriptors(settings.workers)
        most = min(_share(settings.max_waiting, acceptors), spare // 6)
        self.refusals = Refusals(
            counters,
            most=most,
            tls=bool(settings.certfile),
            sniffer=router.sniffer if isinstance(router, FieldsRouter) else None,
        )
        self.mesh: Mesh | None = None
        if acceptors > 1:
            self.mesh = Mesh(
                number,
                Homes(acceptors, hash_key),
                remembers=policy.remembers,
                most=(most + 1) // 2,
                wait_timeout=settings.wait_timeout,
                refuse=self.refusals.refuse,
                counters=counters,
            )
        self.dispatcher = Dispatcher(
            self.placement,
            wait_timeout=settings.wait_timeout,
            most=most,
            refuse=self.refusals.refuse,
            look_again=self._look_again,
            most_copies=spare // 2 if settings.keep_copies else 0,
            on_ready=on_ready,
            counters=counters,
        )
        self.peeker = Peeker(
            router,
            trusted=[ip_network(text) for text in settings.proxy_trust or LOOPBACK],
            timeout=settings.head_timeout,
            most=most,
            dispatch=self.dispatcher.dispatch,
            refuse=self.refusals.refuse,
            turn_away=self.refusals.turn_away,
            settle=self.dispatcher.settle,
            counters=counters,
        )
        self.sources = Sources(settings.max_per_source, self.dispatcher.has_granted)
        self.dispatcher.on_returned = self.sources.note
        self.peeker.admit = self.sources.admit
        self._listeners = listeners
        self.acceptor = Acceptor(
            listeners,
            begin=self._begin if settings.max_per_source else self.peeker.begin,
            settle=self.dispatcher.settle,
            congested=lambda: self.dispatcher.congested,
            make_room=self.dispatcher.spare_copy,
            counters=counters,
        )
        if self.mesh is not None:
            self.dispatcher.join(self.mesh, superior)
            self.mesh.connect(
                dispatch=self._receive,
                settle=self.dispatcher.settle,
                congested=lambda: self.dispatcher.congested,
                make_room=self.dispatcher.spare_copy,
            )

    def _begin(self, connection: Connection) -> None:
        """Peek at a new connection, or refuse it if its source has too many."""
        if connection.proxy or self.sources.admit(connection):
            self.peeker.begin(connection)
        else:
            self.refusals.refuse(connection, *TOO_MANY)

    def _receive(self, connection: Connection) -> None:
        """Place a connection of another acceptor, or refuse it as ``_begin`` does."""
        if self.sources.admit(connection):
            self.dispatcher.dispatch(connection)
        else:
            self.refusals.refuse(connection, *TOO_MANY)

    def _look_again(self, connection: Connection) -> None:
        """Peek at a connection whose next head did not come in one piece."""
        self.peeker.begin(connection)

    @property
    def waiting(self) -> int:
        """How many decided connections wait for room, or for another acceptor."""
        elsewhere = 0 if self.mesh is None else self.mesh.waiting
        return self.dispatcher.waiting + elsewhere

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is peeked at, and nothing waits."""
        return not len(self.peeker) and not self.waiting

    def attach(self, worker: Worker) -> None:
        """Register *worker*, which was just started or is new to this acceptor."""
        if self.acceptors > 1:
            worker.use_marks(self.number, self.acceptors)
        self.dispatcher.attach(worker)

    def turn_away(self) -> None:
        """Answer what waits, and from now on what cannot be placed at once."""
        self.peeker.close()
        self.dispatcher.close()
        if self.mesh is not None:
            self.mesh.close()

    def close(self) -> None:
        """Close everything."""
        self.acceptor.close()
        self.turn_away()
        if self.mesh is not None:
            self.mesh.leave()
        self.refusals.close()

    def report(self) -> dict[str, Any]:
        """Return counts and sizes, which can be added to those of other acceptors."""
        slots = self.placement.slots
        return {
            "connections": self.counters.statistics(),
            "times": self.counters.times.statistics(),
            "done": self.dispatcher.done.state(),
            "keys": len(self.keys),
            "key_bytes": self.keys.size,
            "max_key_bytes": self.keys.most_bytes,
            "evicted_keys": self.keys.evicted,
            "peeking": len(self.peeker),
            "waiting": self.waiting,
            "slots": [
                {
                    "queued": self.dispatcher.queued(slot.index),
                    "claimed_keys": self.keys.claimed_by(slot.index),
                }
                for slot in slots
            ],
            "workers": [
                {
                    "id": worker.id,
                    "slot": worker.slot,
                    "in_flight": worker.unanswered,
                    **worker.did,
                }
                for worker in self.dispatcher.workers
            ],
            "listeners": [[each.name, each.accepted] for each in self._listeners],
        }


def router_of(settings: Settings, seal: Seal) -> AnyRouter:
    """
    Return what sniffs connections, and places them by what the operator said.

    Raises:
        UsageError: The protocol or an affinity cannot be read.
    """
    if settings.spoken != HTTP:
        sniffer = sniffer_of(settings.spoken)
        buffers.check(sniffer.limit, f"--protocol {settings.protocol}: its limit")
        return fields_router(sniffer, settings.affinity)
    buffers.check(settings.head_limit, "--head-limit")
    found = affinities(settings.affinity, seal)
    return TlsRouter(found) if settings.certfile else Router(found, settings.head_limit)


def _share(limit: int, acceptors: int) -> int:
    """Return one acceptor's share of *limit*, at least 1."""
    return max(limit // acceptors, 1)


def _spare_descriptors(workers: int) -> int:
    """Raise our limit of open files; return what is left of it for connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(hard - RESERVE - RESERVE * min(workers, 16), RESERVE)
