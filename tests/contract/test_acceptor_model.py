"""
The model of the hand-off (tests/model/handoff.py) against the real acceptor.

A walk takes one order of the model's steps. The client and the workers do for real what
a step says. What the master does is the acceptor's own choice, and has to be one that
the model has. After each step the client must have seen what the model says. So whoever
changes one of the two finds out here that the other does not agree.

A walk ends where the acceptor owns a connection whose client has left: it may find that
out when the next worker does, and the model is rid of it at once.
"""

import random
import re
import socket

import pytest

from acceptor_kit import MOST_ATTEMPTS, InProcessAcceptor, request
from maitred.wire.messages import Claim, Closed, Taken
from model.cases import CASES
from model.handoff import ALIVE, ORDER, Case, Handoff, over

KEY = b"header:x-session="
WALKS = 30
"Of each case."
LONG = 31.0
"Seconds after which nobody waits for room any more."

SCENES = {
    **CASES,
    # The acceptor's budget is what it is: it takes as many crashes to use it up.
    "a budget that is used up": Case(
        owners=(0,), parts=1, crashes=MOST_ATTEMPTS, budget=MOST_ATTEMPTS
    ),
    "a crash and two reloads, without copies": Case(
        owners=(0, 1, 0), parts=1, drains=2, kept=False
    ),
}
LIKELY = {
    "worker is killed": 0.02,
    "worker is killed, with it": 0.3,
    "master sends KILL to": 0.15,
    "master says DRAIN to": 0.2,
    "client leaves": 0.05,
}
"How likely a step is taken that need not happen, where one that is owed has 1."


class Real:
    """The real thing: an acceptor with two slots, four workers and one client."""

    def __init__(self, case):
        self.case = case
        self.acceptor = InProcessAcceptor(workers=2, keep_copies=case.kept)
        later = [self.acceptor.start(slot) for slot in range(2)]
        self.workers = [*self.acceptor.workers, *later]
        for slot in range(2):
            self.workers[slot].say(Claim(3600, 0, KEY + b"of-%d" % slot))
        self.parts = []
        for owner in case.owners:
            whole = request(f"of-{owner}", length=case.parts - 1)
            self.parts += [whole, *[b"b"] * (case.parts - 1)]
        self.client = self.acceptor.open()
        # Of each worker: connections it was handed, what it has, what it has not sent.
        self.inbox = [[] for _ in self.workers]
        self.visits = [None] * 4
        self.unsent = [[] for _ in self.workers]
        self.acceptor.turn()

    def stream(self, low, high):
        """Return the bytes of the parts *low* up to *high*."""
        return b"".join(self.parts[low:high])

    def key(self, part):
        """Return the key of the request that *part* is of."""
        return KEY + b"of-%d" % self.case.owners[part // self.case.parts]

    def send_rest(self, n, count=None):
        """Let the channel have the first *count* messages of worker *n*, or all."""
        for message, sock in self.unsent[n][:count]:
            self.workers[n].say(message)
            if sock is not None:
                sock.close()
        del self.unsent[n][:count]

    # What each step is, by worker n, in the model's state s

    def sends(self, _n, s):
        """Send the next part of the stream."""
        self.client.send(self.parts[s.sent])

    def leaves(self, _n, _s):
        """Have the client say that nothing more comes."""
        self.client.leave()

    def dies(self, n, _s):
        """End worker *n*; what it has said is in its channel."""
        self.send_rest(n)
        self.workers[n].die()
        self.visits[n] = None
        self.inbox[n].clear()

    def parts_with(self, n, _s):
        """Have the master hear that worker *n* is dead."""
        self.acceptor.bury(self.workers[n])

    def drains(self, n, s):
        """Have the master put another in the place of worker *n*, and tell it so."""
        if s.workers[n + 2].life in ALIVE:
            self.acceptor.promote(self.workers[n + 2])
        self.acceptor.drain(self.workers[n])

    def hears_handoff(self, n, _s):
        """Have worker *n* own what it was handed."""
        self.visits[n] = visit = self.inbox[n].pop(0)
        visit.answered = 0

    def says_taken(self, n, _s):
        """Mark what came with the connection, and say TAKEN."""
        visit = self.visits[n]
        visit.mark.put(visit.consumed)
        self.unsent[n].append((Taken(visit.id), None))

    def reads(self, n, s):
        """Read one part, if one has come."""
        if s.read < s.sent:
            self.visits[n].read(len(self.parts[s.read]))

    def gives_back(self, n, s):
        """Say RETURN, with a key unless the worker is leaving."""
        worker, visit = s.workers[n], self.visits[n]
        key = b"" if worker.draining else self.key(worker.visit.low)
        visit.mark.given_back()
        self.unsent[n].append((visit.returning(key=key), visit.sock))
        self.visits[n] = None

    def closes(self, n, _s):
        """End the connection, because the client has left, and say so."""
        visit = self.visits[n]
        visit.sock.shutdown(socket.SHUT_RDWR)
        visit.mark.leave()
        visit.sock.close()
        self.unsent[n].append((Closed(visit.id), None))
        self.visits[n] = None

    def marks_started(self, n, s):
        """Mark that the application begins with the next request."""
        first = s.workers[n].visit.low
        self.visits[n].begin(len(self.stream(first, first + self.case.parts)))

    def marks_the_rest(self, n, s):
        """Mark that the request is answered, and what is pending."""
        visit = self.visits[n]
        visit.answered += len(answer(s.done))
        visit.settle(written=visit.answered)

    def handed_over(self):
        """Return who was handed the connection since the last time, and what of it."""
        found = []
        for n, worker in enumerate(self.workers):
            if worker.channel.fileno() >= 0:
                handed = worker.handed()
                self.inbox[n] += handed
                found += [(n, each) for each in handed]
        return found


def answer(number):
    """Return the answer to request *number*."""
    return b"answer %d" % number


DEEDS = {
    "client sends a part": Real.sends,
    "client leaves": Real.leaves,
    "worker is killed": Real.dies,
    "worker dies": Real.dies,
    "worker leaves": Real.dies,
    "master parts with": Real.parts_with,
    "master says DRAIN to": Real.drains,
    "master sends KILL to": lambda _self, _n, _s: None,
    "worker hears HANDOFF": Real.hears_handoff,
    "worker hears DRAIN": lambda _self, _n, _s: None,
    "worker says TAKEN": Real.says_taken,
    "worker reads": Real.reads,
    "worker reads on": Real.reads,
    "worker marks READING": lambda real, n, _s: real.visits[n].mark.room(),
    "worker gives back": Real.gives_back,
    "worker closes: the client left": Real.closes,
    "worker marks STARTED": Real.marks_started,
    "worker starts the application": lambda _self, _n, _s: None,
    "worker writes half": lambda real, n, s: real.visits[n].write(answer(s.done)[:3]),
    "worker writes the rest": lambda real, n, s: real.visits[n].write(
        answer(s.done)[3:]
    ),
    "worker marks what is left": Real.marks_the_rest,
    **{
        f"master hears {name}": lambda real, n, _s: real.send_rest(n, 1)
        for name in ("TAKEN", "RETURN", "CLOSED")
    },
}
"What a step of the model is for real; the master's choice of a worker is its own."


def plain(step):
    """Return what *step* is, without the number of a worker, and that number."""
    number = re.search(r"\d", step.what)
    return re.sub(r" of \d| \d", "", step.what), int(number[0]) if number else 0


class Walk:
    """One order of steps, in the model and for real."""

    def __init__(self, case, rng):
        self.model, self.rng, self.case = Handoff(case), rng, case
        self.s = self.model.start()
        self.real = Real(case)
        self.trace = []
        # Slots that a second worker fills, and those that nobody will.
        self.promoted, self.abandoned = set(), set()

    def go(self):
        """Walk to the end, and return the names of all steps that were taken."""
        try:
            while self.step():
                self.compare()
        except AssertionError as exc:
            raise AssertionError("\n".join([*self.trace, str(exc)])) from exc
        finally:
            self.real.acceptor.close()
        return self.trace

    def steps(self):
        """Return the steps that are possible, by what they are."""
        return {plain(step): step for step in self.model.steps(self.s)}

    def choose(self, steps):
        """Return one of *steps*; the master's choice of a worker is not among them."""
        has_it = [self.s.at == n or w.visit for n, w in enumerate(self.s.workers)]
        weights = [
            LIKELY.get(f"{name}, with it" if has_it[n] else name, LIKELY.get(name, 1))
            for name, n in steps
        ]
        return self.rng.choices([*steps], weights)[0]

    def step(self):
        """Take one step; return whether there was one."""
        steps = self.steps()
        own = {s: steps.pop(s) for s in [*steps] if s[0] in MASTERS}
        if self.s.left and self.s.place == "own":
            return False  # the acceptor may find out later, from whoever gets it next
        if not steps:
            if not own:
                return False
            self.real.acceptor.clock.advance(LONG)
            assert self.follow(), "it waits for ever"
            return True
        self.take(steps, self.choose(steps))
        return True

    def take(self, steps, chosen):
        """Take the step *chosen*, and let the acceptor answer it."""
        name, n = chosen
        self.note(name, n)
        DEEDS[name](self.real, n, self.s)
        self.s = steps[chosen].state
        if self.s.workers[n].life == "dead":
            # It is buried before the acceptor turns, or the acceptor hears it first.
            if self.rng.randrange(2):
                self.real.acceptor.turn()
                while outbox := self.s.workers[n].outbox:
                    said = f"master hears {outbox[0][0]}", n
                    self.note(*said)
                    self.s = self.steps()[said].state
            else:
                self.take(self.steps(), ("master parts with", n))
                return
        self.fill()
        self.real.acceptor.turn()
        self.follow()

    def fill(self):
        """Do what the master does about slots: fill one, or give it up."""
        for slot in range(2):
            first, second = self.s.workers[slot], self.s.workers[slot + 2]
            able = [w for w in (first, second) if w.life in ALIVE and not w.leaving]
            if not able and slot not in self.abandoned:
                self.abandoned.add(slot)
                self.real.acceptor.abandon(slot)
            if first.life == "parted" and able and slot not in self.promoted:
                self.promoted.add(slot)
                self.real.acceptor.promote(self.real.workers[slot + 2])

    def follow(self):
        """Do in the model what the acceptor has done; return whether it has."""
        handed = self.real.handed_over()
        if self.s.left and self.s.place == "own":
            return True
        for n, visit in handed:
            steps = self.steps()
            assert ("master hands over to", n) in steps, f"handed over to {n}"
            self.note("master hands over to", n)
            was_idle = self.s.idle
            self.s = steps["master hands over to", n].state
            _, low, high, key = self.s.workers[n].inbox[-1]
            assert visit.consumed == self.real.stream(low, high)
            assert visit.key == (self.real.key(low) if key >= 0 else b"")
            assert bool(visit.handoff.idle) == was_idle
            assert bool(visit.handoff.mark) == self.case.kept
        if self.s.place == "own" and self.real.client.is_ended():
            steps = self.steps()
            assert ("master finds nobody", 0) in steps, "the acceptor gave it up"
            self.note("master finds nobody", 0)
            self.s = steps["master finds nobody", 0].state
            return True
        return bool(handed)

    def compare(self):
        """See that the client has what the model says, and nothing else."""
        if self.s.left and self.s.place == "own":
            return
        s, client = self.s, self.real.client
        assert client.is_ended() == over(s), f"the client sees {client.received}"
        answers = b"".join(map(answer, range(s.done)))
        answers += answer(s.done)[:3] if s.half else b""
        assert client.received.startswith(answers)
        refusal = client.received.removeprefix(answers)
        assert (b"HTTP/1.1 %d" % s.end if s.end else b"") == refusal[:12]
        if over(s) and not s.left:
            assert s.end or s.excused or s.place == "over"

    def note(self, name, n):
        """Note a step for the trace."""
        self.trace.append(f"{name} {n}")


MASTERS = {
    "master hands over to",
    "master finds nobody",
    "master sees that the client left",
}
"What the master does with a connection of its own: the acceptor's choice."


@pytest.mark.parametrize("case", SCENES.values(), ids=SCENES.keys())
def test_acceptor_does_what_the_model_says(case):
    """In each of many orders of steps."""
    assert Case().budget == MOST_ATTEMPTS
    names = set()
    for seed in range(WALKS):
        trace = Walk(case, random.Random(seed)).go()
        names |= {line.rpartition(" ")[0] for line in trace}
    wanted = {"master hands over to", "master hears TAKEN", "master parts with"}
    assert wanted | {f"worker {what}" for what in ORDER} <= names
