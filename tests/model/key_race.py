"""
A full key table as a model: two workers, room for one key, and two keys that want it.

The master gives a key by HANDOFF or ANSWER and takes it by REVOKE; a worker says CLAIM
for what its application made and for what is still in use, and ASK on connections that
cannot be moved. Messages to a worker wait in the order in which ``Worker.send_outbox``
sends them: what gives before what takes.

What is asked: who would serve a key, once all that is on its way to it is heard, is the
one that the table names, or has a claim on its way. So two workers serve a key at once
only while a REVOKE is on its way to one of them.

``Case.omit`` leaves a rule out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from model.exploring import Result, Step, explore

RULES = {
    "say REVOKE": "who loses a key to a full table is not told",
    "take last": "REVOKE may overtake the HANDOFF or ANSWER before it",
    "listen first": "the master calls a key unknown without having read the channels",
}
KEYS = "xy"
WORKERS = (0, 1)
GIVES = ("HANDOFF", "ANSWER")


class Case(NamedTuple):
    """What is explored."""

    learned: bool = False
    "Whether the application makes the keys: x in worker 0 and y in worker 1."
    events: int = 5
    "How many requests come, and uses of a key are told again."
    omit: frozenset[str] = frozenset()


class Worker(NamedTuple):
    """One worker and its channel."""

    has: frozenset[str] = frozenset()
    waits: tuple[tuple[str, str], ...] = ()  # not sent to it yet
    inbox: tuple[tuple[str, str], ...] = ()
    outbox: tuple[tuple[str, str], ...] = ()


class State(NamedTuple):
    """Everything. The table has room for one key."""

    events: int
    workers: tuple[Worker, Worker] = (Worker(), Worker())
    key: str = ""
    owner: int = -1
    bad: str = ""
    made: bool = False  # x is told to the client, and was not pushed out since


class KeyRace:
    """The model of one case."""

    def __init__(self, case: Case) -> None:
        """Model *case*."""
        assert case.omit <= RULES.keys()
        self.case = case

    def explore(self) -> Result:
        """Look at every state."""
        start = State(self.case.events)
        return explore(start, self.steps, self.wrong, self.wrong_at_rest)

    def wrong(self, s: State) -> str:
        """Say what must not be, ever."""
        for n, w in enumerate(s.workers):
            for key in KEYS:
                claims = ("CLAIM", key) in w.outbox
                named = (s.key, s.owner) == (key, n)
                if self.believes(w, key) and not named and not claims:
                    return f"worker {n} serves {key} and nobody will tell it not to"
        return s.bad

    def wrong_at_rest(self, s: State) -> str:
        """Say what must not be in the end."""
        both = s.workers[0].has & s.workers[1].has
        return "two workers serve a key for ever" if both else ""

    def believes(self, w: Worker, key: str) -> bool:
        """Say whether *w* will serve *key* when it has heard all that is on its way."""
        has = key in w.has
        for what, about in (*w.inbox, *w.waits):
            if about == key:
                has = what in GIVES
        return has

    def steps(self, s: State) -> Iterator[Step]:
        """Give every step out of *s*."""
        if s.events:
            yield from self.events(s._replace(events=s.events - 1))
        for n, w in enumerate(s.workers):
            if w.waits:
                after = put(s, n, waits=w.waits[1:], inbox=(*w.inbox, w.waits[0]))
                yield Step(f"master sends {' '.join(w.waits[0])} to {n}", True, after)
            if w.inbox:
                what, key = w.inbox[0]
                has = w.has | {key} if what in GIVES else w.has - {key}
                after = put(s, n, has=has, inbox=w.inbox[1:])
                yield Step(f"worker {n} hears {what} {key}", True, after)
            if w.outbox:
                after = self.heard(s, n)
                yield Step(f"master hears {' '.join(w.outbox[0])} of {n}", True, after)

    def events(self, s: State) -> Iterator[Step]:
        """Give what clients may do."""
        for key in KEYS:
            yield from self.placing(s, key)
            for n, w in enumerate(s.workers):
                if self.case.learned and KEYS.index(key) == n:
                    after = put(
                        s, n, has=w.has | {key}, outbox=(*w.outbox, ("CLAIM", key))
                    )
                    after = after._replace(made=s.made or key == "x")
                    yield Step(f"worker {n} makes {key}", False, after)
                elif not self.case.learned and key in w.has:
                    after = put(s, n, outbox=(*w.outbox, ("RENEW", key)))
                    yield Step(f"worker {n} tells again {key}", False, after)
                if not self.case.learned and key not in w.has:
                    after = put(s, n, outbox=(*w.outbox, ("ASK", key)))
                    yield Step(f"worker {n} asks for {key}", False, after)

    def placing(self, s: State, key: str) -> Iterator[Step]:
        """Place a new connection with *key*."""
        if self.case.learned and self.keeps("listen first") and s.key != key:
            for n in WORKERS:
                while s.workers[n].outbox:
                    s = self.heard(s, n)
        if s.key == key:
            yield Step(
                f"master places {key}", False, self.give(s, s.owner, "HANDOFF", key)
            )
        elif self.case.learned:  # for one request, anywhere; nothing is remembered
            lost = key == "x" and s.made
            bad = "a key that the client may know is unknown" if lost else ""
            yield Step(f"master knows no {key}", False, s._replace(bad=bad))
        else:
            for n in WORKERS:
                after = self.give(self.own(s, n, key), n, "HANDOFF", key)
                yield Step(f"master places {key} with {n}", False, after)

    def heard(self, s: State, n: int) -> State:
        """Do what the next message of worker *n* asks for."""
        (what, key), rest = s.workers[n].outbox[0], s.workers[n].outbox[1:]
        s = put(s, n, outbox=rest)
        owner = s.owner if s.key == key else -1
        if what == "CLAIM":
            return self.own(s, n, key)
        if owner not in {-1, n}:
            return self.give(s, n, "REVOKE", key) if what == "RENEW" else s
        s = self.own(s, n, key)
        return self.give(s, n, "ANSWER", key) if what == "ASK" else s

    def own(self, s: State, n: int, key: str) -> State:
        """Enter *key* in the table; who loses its place there is told."""
        if s.key and (s.key, s.owner) != (key, n) and self.keeps("say REVOKE"):
            s = self.give(s, s.owner, "REVOKE", s.key)
        made = s.made and (key == "x" or s.key != "x")
        return s._replace(key=key, owner=n, made=made)

    def give(self, s: State, n: int, what: str, key: str) -> State:
        """Let a message wait for worker *n*."""
        waits = (*s.workers[n].waits, (what, key))
        order = ("HANDOFF", "ANSWER", "REVOKE")
        if not self.keeps("take last"):
            order = order[::-1]
        return put(s, n, waits=tuple(sorted(waits, key=lambda m: order.index(m[0]))))

    def keeps(self, rule: str) -> bool:
        """Say whether *rule* holds in this case."""
        return rule not in self.case.omit


def put(s: State, n: int, **fields: object) -> State:
    """Change worker *n*."""
    workers = list(s.workers)
    workers[n] = workers[n]._replace(**fields)
    return s._replace(workers=tuple(workers))
