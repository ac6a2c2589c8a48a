"""
The hand-off as a model: a master, two slots, one connection, a crash anywhere.

Every step is what one process does between two moments at which it can be killed. A
worker that is stopped, or slow, is one that takes no step for a while; so orders in
which the others go on without it are explored as well. There is no time: a deadline
is a step that is possible.

The bytes of the connection are counted in parts. Request k is the parts from
k * ``Case.parts`` on; ``sent`` and ``read`` are positions in that stream, as the
kernel counts them. The parts ``low``..``high`` were read, and nobody has begun them.

RULES are the rules of the hand-off. ``Case.omit`` leaves some out: a test shows that
each is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from model.exploring import Result, Step, explore

RULES = {
    "keep a copy until TAKEN": "the master's copy goes when the message is sent",
    "fence": "the master acts when it has sent KILL, not when the worker is dead",
    "hear the dead": "the channel of a dead worker is not read to its end",
    "look if untouched": "what was in flight at a death is taken for untouched",
    "READING first": "the mark says READING after the read",
    "journal": "what was read and not begun is in the worker's own memory only",
    "STARTED first": "the mark says STARTED after the application has started",
    "count the answers": "the master does not look how much of an answer is out",
    "give back all": "a returned connection comes without the bytes read from it",
    "say CLOSED": "a worker closes its descriptor and does not say so",
}


class Case(NamedTuple):
    """What is explored."""

    owners: tuple[int, ...] = (0, 1)
    "The slot that each request of the connection belongs to."
    parts: int = 2
    "Pieces in which a request comes."
    crashes: int = 1
    drains: int = 0
    kept: bool = True
    "Whether the master keeps its copy past TAKEN; without, nothing is marked."
    budget: int = 4
    leaves: bool = False
    "Whether the client may leave at any time."
    buffers: bool = True
    "Whether the end of an answer leaves after the mark says that it was given."
    sudden: str = ""
    "Ask more than is promised, at the start or the end of a request."
    omit: frozenset[str] = frozenset()


class Visit(NamedTuple):
    """What a worker has of the connection, in memory of its own."""

    key: int  # the request that it was handed over for; -1: none
    low: int
    high: int  # it has read the parts low..high and not begun with them
    step: str | int  # before a request, or how far in ORDER


class Worker(NamedTuple):
    """One process, and its channel and scoreboard, which outlive it."""

    life: str = (
        "up"  # up, dying: KILL was sent, dead, parted: the master is done with it
    )
    leaving: bool = False  # the master hands it nothing more
    inbox: tuple[tuple[str, int, int, int], ...] = ()
    outbox: tuple[tuple[str, int, int], ...] = ()
    visit: Visit | None = None
    mark: tuple[str, int, int] = ("FRESH", 0, 0)  # stage, position, bytes of answers
    draining: bool = False


class State(NamedTuple):
    """Everything."""

    workers: tuple[Worker, ...]
    started: tuple[int, ...]
    crashes: int
    drains: int
    sent: int = 0
    read: int = 0
    left: bool = False  # the client has
    shut: bool = False  # by a worker: the client sees the end, whoever has a copy
    done: int = 0  # answers that the client has whole
    half: bool = False  # it has the beginning of the next
    end: int = 0  # 502 or 503 by the master, after which it closes
    place: str = "own"  # what the master knows: own, flight, granted, given, over
    copy: bool = True  # it has a descriptor
    at: int = -1  # the worker it has handed it to
    low: int = 0  # it has the parts low..high, which were read and not begun
    high: int = 0
    idle: bool = False
    tries: int = 0
    excused: bool = False  # it was in the hands of a worker that crashed
    bad: str = ""  # noted by a step: what must never happen


ALIVE = ("up", "dying")
ORDER = (
    "marks STARTED",
    "starts the application",
    "writes half",
    "writes the rest",
    "marks what is left",
)
"What a worker does with a request that it has read whole."
Way = tuple[str, State, dict[str, Any]]
Ways = Iterator[Way]
"What a worker may do next: what that is called, what is then, and what of it changes."


def holders(s: State) -> int:
    """Count the descriptors of the connection, those in messages included."""
    return s.copy + sum(
        (w.visit is not None and w.life in ALIVE)
        + sum(m[0] == "HANDOFF" for m in w.inbox)
        + sum(m[0] == "RETURN" for m in w.outbox)
        for w in s.workers
    )


def owners(s: State) -> int:
    """Count who would serve or place the connection; in a message it is the message."""
    return (s.place == "own") + holders(s) - s.copy


def written(s: State) -> int:
    """Count the halves of answers that are out, as the kernel does."""
    return 2 * s.done + s.half


def over(s: State) -> bool:
    """Say whether the client sees the end of the connection."""
    return s.shut or not holders(s)


class Handoff:
    """The model of one case."""

    def __init__(self, case: Case) -> None:
        """Model *case*."""
        assert case.omit <= RULES.keys()
        self.case = case
        order = list(ORDER)
        if not self.keeps("STARTED first"):
            order[:2] = reversed(order[:2])
        if case.buffers:
            order[3:] = reversed(order[3:])
        self.order = order

    def explore(self) -> Result:
        """Look at every state."""
        return explore(self.start(), self.steps, self.wrong, self.wrong_at_rest)

    def start(self) -> State:
        """Return the first state."""
        case, idle = self.case, (Worker(),) * 4
        return State(idle, (0,) * len(case.owners), case.crashes, case.drains)

    def keeps(self, rule: str) -> bool:
        """Say whether *rule* holds in this case."""
        return rule not in self.case.omit

    # What is asked

    def wrong(self, s: State) -> str:
        """Say what must not be, ever."""
        if s.bad:
            return s.bad
        if owners(s) > 1:
            return "two owners"
        if max(s.started) > 1:
            return "a request was started twice"
        return ""

    def wrong_at_rest(self, s: State) -> str:
        """Say what must not be in the end."""
        case = self.case
        if (s.left or over(s)) and holders(s):
            return "a descriptor is left"
        open_requests = s.sent // case.parts > s.done
        if s.left or not open_requests or s.end == 503:
            return ""
        if not over(s):
            return "a request waits for ever"
        return "" if s.excused else "a request that nobody had begun is lost"

    # What can happen

    def steps(self, s: State) -> Iterator[Step]:
        """Give every step out of *s*."""
        case = self.case
        if not s.left and not over(s):
            if s.sent < len(case.owners) * case.parts:
                yield Step("client sends a part", False, s._replace(sent=s.sent + 1))
            if case.leaves:
                yield Step("client leaves", False, s._replace(left=True))
        if s.place == "own":
            yield from self.placing(s)
        for n, w in enumerate(s.workers):
            if w.life in ALIVE:
                yield from self.working(s, n, w)
            yield from self.ending(s, n, w)
            if w.outbox and w.life != "parted":
                after = self.heard(put(s, n, outbox=w.outbox[1:]), *w.outbox[0])
                yield Step(f"master hears {w.outbox[0][0]} of {n}", True, after)

    def ending(self, s: State, n: int, w: Worker) -> Iterator[Step]:
        """Give the ways in which worker *n* may come nearer to its end."""
        if w.life in ALIVE and s.crashes:
            yield Step(f"worker {n} is killed", False, self.died(s, n))
        if w.life == "up" and s.crashes and s.at == n:
            after = put(s._replace(crashes=s.crashes - 1), n, life="dying")
            yield Step(f"master sends KILL to {n}", False, after)
        if w.life == "dying":
            yield Step(f"worker {n} dies", True, self.died(s, n, cost=0))
        if w.life == "dead" or (w.life == "dying" and not self.keeps("fence")):
            yield Step(f"master parts with {n}", True, self.parted(s, n))
        if w.life == "up" and not w.leaving and s.drains and n < 2:
            inbox = (*w.inbox, ("DRAIN", 0, 0, 0))
            after = put(s._replace(drains=s.drains - 1), n, inbox=inbox, leaving=True)
            yield Step(f"master says DRAIN to {n}", False, after)

    # The master

    def placing(self, s: State) -> Iterator[Step]:
        """Give what the master can do with a connection that it owns."""
        if s.left:
            yield Step("master sees that the client left", True, gone(s))
            return
        silent = s.low == s.sent
        if silent and not s.idle:
            return  # it peeks
        # What has come on an idle one since is not looked at: its worker will see.
        key = -1 if silent or s.idle else s.low // self.case.parts
        # A slot is filled by its second worker once the first is leaving or dead.
        able = [
            n
            for n, w in enumerate(s.workers)
            if w.life in ALIVE and not w.leaving and (n < 2 or s.workers[n - 2].leaving)
        ]
        home = [n for n in able if key >= 0 and n % 2 == self.case.owners[key]]
        for n in home or able:
            inbox = (*s.workers[n].inbox, ("HANDOFF", s.low, s.high, key))
            after = put(s, n, inbox=inbox, mark=("FRESH", s.read, written(s)))
            after = after._replace(place="flight", at=n)
            if not self.keeps("keep a copy until TAKEN"):
                after = after._replace(copy=False)
            yield Step(f"master hands over to {n}", True, after)
        if not able:
            yield Step("master finds nobody", True, gone(s, 0 if silent else 503))

    def heard(self, s: State, name: str, low: int, high: int) -> State:
        """Do what a message asks for."""
        if name == "TAKEN":
            if self.case.kept:
                return s._replace(place="granted")
            return s._replace(place="given", copy=False)
        if name == "CLOSED":
            return gone(s)
        if name == "RETURN":
            return own(s, low, high, idle=low == high)
        return self.again(own(s, s.low, s.high, idle=s.idle))  # REFUSED

    def again(self, s: State) -> State:
        """Count a hand-over that was in vain."""
        s = s._replace(tries=s.tries + (not s.idle))
        if s.tries >= self.case.budget:
            return gone(s, 503)
        return s

    def parted(self, s: State, n: int) -> State:
        """Do what can be done with what a dead worker had."""
        if self.keeps("hear the dead"):
            for message in s.workers[n].outbox:
                s = self.heard(s, *message)
        dead = s.workers[n].life == "dead"
        s = put(s, n, outbox=(), life="parted" if dead else "dying", leaving=True)
        if s.at != n or s.place not in {"flight", "granted", "given"}:
            return s
        return self.rescued(s, n) if s.copy else gone(s)

    def rescued(self, s: State, n: int) -> State:
        """Do what the mark says, as ``master/rescue.py`` does."""
        stage, start, answers = s.workers[n].mark
        if not self.case.kept:
            stage, start = "FRESH", s.high
        elif answers != written(s) and self.keeps("count the answers"):
            return gone(s)
        low, high = s.low, s.high
        if stage == "STARTED":
            return gone(s, 502)
        if stage == "READING":
            low, high = (start, s.read) if self.keeps("journal") else (s.read, s.read)
        elif s.read != start and self.keeps("look if untouched"):
            return gone(s)
        elif stage == "IDLE":
            low = high = start
        idle = s.idle if stage == "FRESH" else low == high
        return self.again(own(s, low, high, idle=idle))

    # A worker

    def died(self, s: State, n: int, cost: int = 1) -> State:
        """End a process: the kernel closes what it had, and what it was sent."""
        visit = s.workers[n].visit
        if visit is not None:
            if not self.case.kept:
                excused = visit.step != "new"
            else:
                excused = isinstance(visit.step, int)
                if self.case.sudden:
                    request = visit.low // self.case.parts - 1
                    begun = self.case.sudden == "end" or s.started[request]
                    excused = excused and s.done <= request and bool(begun)
            s = s._replace(excused=s.excused or excused)
        s = s._replace(crashes=s.crashes - cost)
        return put(s, n, life="dead", visit=None, inbox=())

    def working(self, s: State, n: int, w: Worker) -> Iterator[Step]:
        """Give what worker *n* can do."""
        if w.inbox:
            (name, low, high, key), rest = w.inbox[0], w.inbox[1:]
            if name == "DRAIN":
                after = put(s, n, inbox=rest, draining=True)
            elif w.draining:
                after = put(s, n, inbox=rest, outbox=(*w.outbox, ("REFUSED", 0, 0)))
            else:
                after = put(s, n, inbox=rest, visit=Visit(key, low, high, "new"))
            yield Step(f"worker {n} hears {name}", True, after)
        elif w.draining and w.visit is None:
            yield Step(f"worker {n} leaves", True, self.died(s, n, cost=0))
        if w.visit is not None:
            yield from self.serving(s, n, w, w.visit)

    def serving(self, s: State, n: int, w: Worker, v: Visit) -> Iterator[Step]:
        """Give what worker *n* can do with the connection."""
        if s.left and v.step not in {"new", "heard"}:
            said = (("CLOSED", 0, 0),) if self.keeps("say CLOSED") else ()
            fields = {
                "visit": None,
                "mark": ("STARTED", 0, 0),
                "outbox": w.outbox + said,
            }
            after = put(s._replace(shut=True), n, **fields)
            yield Step(f"worker {n} closes: the client left", True, after)
            return
        if v.low % self.case.parts or v.high != s.read:
            bad = s._replace(bad="bytes of a request are missing")
            yield Step(f"worker {n} serves", True, bad)
            return
        if isinstance(v.step, int):
            ways = self.serving_request(s, w, v)
        elif v.step in {"new", "heard"}:
            ways = self.taking(s, w, v)
        else:
            ways = self.reading(s, n, w, v)
        for what, after, fields in ways:
            yield Step(f"worker {n} {what}", True, put(after, n, **fields))

    def taking(self, s: State, w: Worker, v: Visit) -> Ways:
        """Say TAKEN: at once where there is a mark, else after the first read."""
        taken = {"outbox": (*w.outbox, ("TAKEN", 0, 0))}
        waits, has_read = s.read < s.sent, v.high > v.low
        if v.step == "heard" or (has_read and self.case.kept):
            mark = ("READING", v.low, w.mark[2])
            fields = {"visit": v._replace(step="reading"), "mark": mark}
            yield "says TAKEN", s, fields | taken
        elif self.case.kept or (s.idle and not has_read):
            yield "says TAKEN", s, {"visit": v._replace(step="between")} | taken
        elif waits or has_read or s.left:
            after = s._replace(read=s.read + waits)
            yield "reads", after, {"visit": v._replace(step="heard", high=after.read)}

    def reading(self, s: State, n: int, w: Worker, v: Visit) -> Ways:
        """Read the next request and begin it, or give the connection back."""
        size = self.case.parts
        request = v.low // size
        waits, has_read = s.read < s.sent, v.high > v.low
        read = s._replace(read=s.read + waits)
        more = v._replace(high=read.read)
        mark = ("READING", v.low, w.mark[2])
        marked = {"visit": v._replace(step="reading"), "mark": mark}
        elsewhere = has_read and n % 2 != self.case.owners[request] and v.key != request
        if v.step == "late":
            yield "marks READING", s, marked
        elif w.draining or elsewhere:
            low = v.low if self.keeps("give back all") else v.high
            outbox = (*w.outbox, ("RETURN", low, v.high))
            yield "gives back", s, {"visit": None, "outbox": outbox}
        elif v.high >= v.low + size:
            yield self.act(s, w, v._replace(step=0, low=v.low + size))
        elif waits and v.step == "reading":
            yield "reads", read, {"visit": more}
        elif waits and self.keeps("READING first"):
            yield "marks READING", s, marked
        elif waits:
            yield "reads", read, {"visit": more._replace(step="late")}

    def serving_request(self, s: State, w: Worker, v: Visit) -> Ways:
        """Go on with a request that was begun."""
        yield self.act(s, w, v)
        if s.read < s.sent and self.order[v.step] == "writes half":
            more = v._replace(high=v.high + 1)
            yield "reads on", s._replace(read=s.read + 1), {"visit": more}

    def act(self, s: State, w: Worker, v: Visit) -> Way:
        """Do the next thing of ORDER."""
        what = self.order[v.step]
        request = v.low // self.case.parts - 1
        after, mark, step = s, w.mark, v.step + 1
        if what == "starts the application":
            after = s._replace(
                started=(
                    *s.started[:request],
                    s.started[request] + 1,
                    *s.started[request + 1 :],
                )
            )
        elif what == "writes half":
            after = s._replace(half=True, bad="two answers in one" if s.half else "")
        elif what == "writes the rest":
            after = s._replace(
                half=False,
                done=s.done + 1,
                bad="" if s.done == request else "an answer to another request",
            )
        elif what == "marks STARTED":
            mark = ("STARTED", 0, w.mark[2])
        else:
            stage = "READING" if v.high > v.low else "IDLE"
            mark = (stage, v.low, 2 * (request + 1))
        if step == len(ORDER):
            v, step = v._replace(key=-1), "reading" if v.high > v.low else "between"
        return what, after, {"visit": v._replace(step=step), "mark": mark}


def put(s: State, n: int, **fields: Any) -> State:
    """Change worker *n*."""
    workers = list(s.workers)
    workers[n] = workers[n]._replace(**fields)
    return s._replace(workers=tuple(workers))


def own(s: State, low: int, high: int, *, idle: bool) -> State:
    """Let the master own the connection again, with parts low..high read already."""
    fields = {"place": "own", "copy": True, "at": -1}
    return s._replace(**fields, low=low, high=high, idle=idle)


def gone(s: State, status: int = 0) -> State:
    """Let the master part with the connection, after it answered with *status*."""
    bad = "two answers in one" if status and s.half else s.bad
    return s._replace(place="over", copy=False, at=-1, end=status, bad=bad)
