"""
What became of each request of a long mixed load. Pure, but for reading the ledger.

    ok        answered whole, with status 200 (101: a WebSocket), with the right bytes
    explained not answered so, for a cause in the table CAUSES
    lost      sent whole, started by nobody, not answered whole, and for no such cause
    failed    started or sent in part, not answered whole, and for no such cause
    doubled   started twice, or finished twice
    wrong     another's answer, other bytes, or a session that was found in another
              worker than the one that had it, and lived

Invariant: nothing is explained by what might have been. Each cause looks for what was
done: a worker that had *started* this request and was killed while it ran, and so on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from ledger import Extent
from soak.clients import Request
from soak.plan import DRAIN, HEAD_TIMEOUT, KEEP_ALIVE, WAIT

SLACK: Final = 1.0
"Seconds by which two clocks of this kit may see one thing apart."


class Note(NamedTuple):
    """One line of ``apps/soak_app.py``."""

    at: float
    what: str
    id: str
    session: str
    before: int
    made: str
    pid: int


class Span(NamedTuple):
    """A time from one moment to another."""

    begin: float
    end: float

    def meets(self, begin: float, end: float) -> bool:
        """Return whether some of it lies between *begin* and *end*, with some slack."""
        return self.begin - SLACK <= end and begin <= self.end + SLACK


@dataclass
class History:
    """What was done to the service, and when."""

    born: dict[int, float] = field(default_factory=dict)
    "When each worker was first seen."
    ended: dict[int, float] = field(default_factory=dict)
    killed: dict[int, float] = field(default_factory=dict)
    "When each was killed by us, or given up because it hung."
    retired: dict[int, float] = field(default_factory=dict)
    "When each was first to leave: another generation serves, or fewer workers do."
    stopped: dict[int, list[Span]] = field(default_factory=dict)
    moved: dict[str, list[Span]] = field(default_factory=dict)
    "When each session was being given to another worker."
    between: set[int] = field(default_factory=set)
    "Who was killed between a mark and the application, as far as it was used."
    keeps_sessions: bool = False
    "Whether a retired worker keeps the sessions that it has."

    def troubled(self, begin: float, end: float) -> bool:
        """Return whether a worker was stopped, or one was missing, in this time."""
        spans = [span for spans in self.stopped.values() for span in spans]
        spans += [Span(at, at + WAIT) for at in self.killed.values()]
        return any(span.meets(begin, end) for span in spans)


@dataclass
class Case:
    """One request, and all that is known of it."""

    request: Request
    history: History
    started: list[Note]
    finished: list[Note]
    before: Case | None
    cause: str = ""

    @property
    def good(self) -> bool:
        """Whether it was answered as it should be."""
        request = self.request
        return request.answered is Extent.WHOLE and request.status in (200, 101)

    @property
    def doubled(self) -> bool:
        """Whether it was started or finished more than once."""
        return len(self.started) > 1 or len(self.finished) > 1


def _was_killed(case: Case) -> bool:
    killed, ended = case.history.killed, case.request.ended
    return any(
        note.at <= killed.get(note.pid, 0) + SLACK and killed[note.pid] <= ended + SLACK
        for note in case.started
        if note.pid in killed
    )


def _was_between(case: Case) -> bool:
    """Return whether a worker was killed between its mark and the application."""
    request, history = case.request, case.history
    if request.status != 502 or case.started:
        return False
    for pid, at in history.killed.items():
        # One step of its event loop: that of one request of each killed worker.
        if request.begun - SLACK <= at <= request.ended and pid not in history.between:
            history.between.add(pid)
            return True
    return False


def _was_cut(case: Case) -> bool:
    history, ended = case.history, case.request.ended
    notes = case.started or (case.before.started if case.request.close_code else [])
    return any(
        ended - history.retired.get(note.pid, ended) >= DRAIN - SLACK for note in notes
    )


def _waited(case: Case) -> bool:
    request = case.request
    waited = request.ended - (request.whole_at or request.begun)
    return (
        request.status == 503
        and not case.started
        and waited >= WAIT - SLACK
        and case.history.troubled(request.begun, request.ended)
    )


def _was_idle(case: Case) -> bool:
    request = case.request
    return (
        request.idle >= KEEP_ALIVE * 0.9
        and not case.started
        and request.answered is Extent.NONE
    )


def _was_slow(case: Case) -> bool:
    request = case.request
    took = (request.whole_at or request.ended) - request.begun
    return request.status == 408 and not case.started and took >= HEAD_TIMEOUT * 0.9


CAUSES: Final[dict[str, Callable[[Case], bool]]] = {
    "its client's own doing": lambda case: bool(case.request.own_doing),
    "started in a worker that was killed": _was_killed,
    "502, a worker was killed between its mark and the application": _was_between,
    "started in a worker that left at --drain-timeout": _was_cut,
    "503 after --wait-timeout": _waited,
    "idle for --timeout-keep-alive": _was_idle,
    "408, its head took longer than --head-timeout": _was_slow,
    "behind a request that failed": lambda case: (
        case.before is not None and bool(case.before.cause) and not case.started
    ),
}


@dataclass
class Verdict:
    """What became of all requests."""

    ok: int = 0
    explained: Counter[str] = field(default_factory=Counter)
    lost: list[Case] = field(default_factory=list)
    failed: list[Case] = field(default_factory=list)
    doubled: list[Case] = field(default_factory=list)
    wrong: list[Case] = field(default_factory=list)

    @property
    def bad(self) -> dict[str, list[Case]]:
        """What may not be."""
        named = {
            "lost": self.lost,
            "failed": self.failed,
            "doubled": self.doubled,
            "wrong": self.wrong,
        }
        return {name: cases for name, cases in named.items() if cases}


def read_ledger(directory: Path) -> list[Note]:
    """Return what all workers noted, in the order of time."""
    notes = []
    for file in directory.iterdir():
        for line in file.read_text().splitlines():
            at, what, id_, session, before, made = line.split()
            note = (float(at), what, id_, session, int(before), made, int(file.name))
            notes.append(Note(*note))
    return sorted(notes)


def judge(requests: Iterable[Request], notes: list[Note], history: History) -> Verdict:
    """Compare what clients entered with what the application noted."""
    noted: dict[tuple[str, str], list[Note]] = defaultdict(list)
    for note in notes:
        noted[note.what, note.id].append(note)
    verdict = Verdict()
    cases: dict[str, Case] = {}
    for request in sorted(requests, key=lambda request: request.begun):
        started, finished = noted["started", request.id], noted["finished", request.id]
        before = cases.get(request.before.id) if request.before else None
        case = Case(request, history, started, finished, before)
        cases[request.id] = case
        if case.doubled:
            verdict.doubled.append(case)
        if request.wrong:
            verdict.wrong.append(case)
        elif case.good:
            verdict.ok += 1
        elif request.sent is not Extent.NONE or request.problem:
            _explain(case, verdict)
    for note, why in strays(notes, history, cases):
        case = cases[note.id]
        case.request.wrong = why
        verdict.wrong.append(case)
    return verdict


def _explain(case: Case, verdict: Verdict) -> None:
    for cause, applies in CAUSES.items():
        if applies(case):
            case.cause = cause
            verdict.explained[cause] += 1
            return
    lost = case.request.sent is Extent.WHOLE and not case.started
    (verdict.lost if lost else verdict.failed).append(case)


def strays(
    notes: list[Note], history: History, cases: dict[str, Case]
) -> list[tuple[Note, str]]:
    """Return the requests that ran beside the living worker which had their session."""
    owners: dict[str, Note] = {}
    found = []
    for note in notes:
        if note.what != "started" or note.session == note.made == "-":
            continue
        # One that came before its session was given away may run at either place.
        moved = history.moved.get(note.session, [])
        if any(span.meets(cases[note.id].request.begun, note.at) for span in moved):
            continue
        owner = owners.get(note.session)
        if owner and owner.pid != note.pid and not _may_move(owner, note, history):
            why = f"session {note.session} was in {owner.pid}, which lived; since "
            found.append((note, f"{why}{note.at - owner.at:.3f} s ({owner.id})"))
        owners[note.session if note.made == "-" else note.made] = note
    return found


def _may_move(owner: Note, note: Note, history: History) -> bool:
    never = float("inf")
    for pid in (owner.pid, note.pid):
        retired = history.retired.get(pid, never)
        if history.keeps_sessions:
            retired += DRAIN  # until then the session stays with it
        if retired - SLACK <= note.at:
            return True
    ends = [history.ended.get(owner.pid, never), history.killed.get(owner.pid, never)]
    moved = history.moved.get(note.session, [])
    return min(ends) - SLACK <= note.at or any(
        span.meets(owner.at, note.at) for span in moved
    )
