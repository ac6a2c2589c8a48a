"""
Run the long mixed load: ``script/soak MINUTES SEED [--profile PROFILE]``.

Exit code 0: nothing lost that was not started, nothing doubled, nothing wrong, and all
that failed is explained. What was found stands in ``.soak/SEED-PROFILE``.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from driver import Maitred
from soak.clients import Client, Request
from soak.plan import (
    CLIENTS,
    PROFILES,
    SETTINGS,
    WORKERS,
    Operation,
    operations,
    profile_of,
)
from soak.plays import PLAYS
from soak.service import Service
from soak.verdict import Case, Verdict, judge, read_ledger

ROOT: Final = Path(__file__).parents[2]
NEAR: Final = 0.5
"Seconds around a request of which the log is shown."
MOST_LINES: Final = 40
MOST_OWN: Final = 8
MOST_SHOWN: Final = 3
"How many of one kind of clients are printed whole."
EXPECTED: Final = (
    r"ended by SIGKILL",
    r"is aborted: its event loop has been silent",
    r"TT(IN|OU): (not scaled|cannot scale)",
    r"upgrade refused: another upgrade is under way",
)
"What may stand in the log as a warning, because the operations bring it about."


class Soak:
    """One run: a server, clients, operations, and the verdict."""

    def __init__(self, seed: int, profile: str, directory: Path, *options: str) -> None:
        """Start the server; what is found goes to *directory*, which is made anew."""
        shutil.rmtree(directory, ignore_errors=True)
        self.directory = directory
        self.ledger = directory / "ledger"
        self.ledger.mkdir(parents=True)
        self.seed = seed
        self.profile = PROFILES[profile]
        self.server = Maitred(
            "soak_app:app",
            *SETTINGS,
            *self.profile.options,
            *options,
            workers=WORKERS,
            tmp_path=directory,
            env={"LEDGER": str(self.ledger)},
        )
        try:
            self.server.ready()
        except AssertionError:
            self.server.kill_all()
            raise
        for pattern in EXPECTED:
            self.server.expect_log(pattern)
        self.clients: list[Client] = []
        self.service = Service(self.server, self.ledger, self._sessions)
        self.service.history.keeps_sessions = profile == "sessions"

    @property
    def requests(self) -> list[Request]:
        """All that clients have entered."""
        return [request for client in self.clients for request in client.requests]

    def _sessions(self) -> list[str]:
        carts = self.clients[0].carts if self.clients else []
        return [f"s{number}" for number in range(24)] + carts

    def run(
        self, seconds: float, plan: Iterable[Operation], kinds: dict[str, int]
    ) -> Verdict:
        """Load the service for *seconds*, carry out *plan*, and judge."""
        asyncio.run(self._load(seconds, list(plan), kinds))
        return judge(self.requests, read_ledger(self.ledger), self.service.history)

    async def _load(
        self, seconds: float, plan: list[Operation], kinds: dict[str, int]
    ) -> None:
        stop = asyncio.Event()
        carts: list[str] = []
        names = [kind for kind, count in kinds.items() for _ in range(count)]
        self.clients = [
            Client(kind, number, self.server.port, self.seed, carts)
            for number, kind in enumerate(names)
        ]
        async with asyncio.TaskGroup() as group:
            begin = time.monotonic()
            for client in self.clients:
                group.create_task(client.run(PLAYS[client.kind], stop))
            async with asyncio.TaskGroup() as under_way:
                for operation in plan:
                    await asyncio.sleep(begin + operation.at - time.monotonic())
                    carrying = asyncio.to_thread(self.service.carry_out, operation)
                    under_way.create_task(carrying)
                await asyncio.sleep(begin + seconds - time.monotonic())
            await asyncio.to_thread(self.service.come_to_rest)
            stop.set()

    def end(self, verdict: Verdict) -> str:
        """Stop the server; return what it left behind, or nothing."""
        lost = self.server.status()["connections"]["lost"]
        failed = sum(verdict.explained.values()) + len(verdict.lost + verdict.failed)
        idle = sum(client.closed_while_idle for client in self.clients)
        if lost <= failed + idle:  # and each of these is judged for itself
            self.server.expected_lost = lost
        try:
            self.server.check()
        except AssertionError as exc:
            return str(exc).partition("\n\n")[0][:4000]
        return ""

    def report(self, verdict: Verdict) -> str:
        """Return what became of all requests, and whole what nobody can explain."""
        total = len(self.requests)
        kinds = Counter(request.kind for request in self.requests)
        lines = [f"{total} requests, {verdict.ok} ok", ""]
        lines += [f"{count:8} {cause}" for cause, count in verdict.explained.items()]
        lines += [
            f"{len(cases):8} {name.upper()}" for name, cases in verdict.bad.items()
        ]
        lines += ["", ", ".join(f"{count} {kind}" for kind, count in kinds.items())]
        log = self.server.log.splitlines()
        for name, cases in verdict.bad.items():
            lines += ["", f"{name}:", *map(self.brief, cases)]
            shown: Counter[str] = Counter()
            for case in cases:
                shown[case.request.kind] += 1
                if shown[case.request.kind] <= MOST_SHOWN:
                    lines += ["", f"--- {name}: {case.request.id}"]
                    lines += self.whole(case, log)
        return "\n".join(lines)

    @staticmethod
    def brief(case: Case) -> str:
        """Return what became of *case* in one line."""
        request = case.request
        waited = request.ended - (request.whole_at or request.begun)
        where = ", ".join(f"started in {note.pid}" for note in case.started)
        return (
            f"    {request.begun:.3f} {request.id}: sent {request.sent.value},"
            f" answered {request.answered.value}, status {request.status} after"
            f" {waited:.3f} s, idle {request.idle:.3f} s, {where or 'not started'},"
            f" {request.wrong or request.problem}"
        )

    def whole(self, case: Case, log: list[str]) -> list[str]:
        """Return all that is known of *case*, and the log near it."""
        request = case.request
        begin = request.whole_at or request.begun
        lines = [
            repr(request),
            *map(repr, case.started + case.finished),
            f"before it: {request.before}",
            f"operations: {self._near(self.service.done, begin, request.ended)}",
        ]
        near, own = [], []
        for line in log:
            stamp = re.match(r"(\d+-\d+-\d+ \d+:\d+:\d+),(\d+)", line)
            if stamp is None:
                continue
            at = time.mktime(time.strptime(stamp[1], "%Y-%m-%d %H:%M:%S"))
            at += int(stamp[2]) / 1000
            mine = f":{request.port} " in line
            told = ' - "' not in line and " HTTP/1" not in line
            if begin - 5 <= at <= request.ended + NEAR and mine:
                own.append(line)
            elif begin - NEAR <= at <= request.ended + NEAR and told:
                near.append(line)
        return [
            *lines,
            *(f"    {line}" for line in own[-MOST_OWN:] + near[:MOST_LINES]),
        ]

    @staticmethod
    def _near(done: list[str], begin: float, end: float) -> str:
        found = []
        for line in done:
            first, _, last, *_ = line.split()
            if float(first) <= end + NEAR and float(last) >= begin - 2:
                found.append(line)
        return "".join(f"\n    {line}" for line in found)


def main() -> int:
    """Run, print the verdict, and return the exit code."""
    parser = argparse.ArgumentParser(prog="script/soak", description=__doc__)
    parser.add_argument("minutes", type=float)
    parser.add_argument("seed", type=int)
    parser.add_argument("--profile", choices=PROFILES)
    parser.add_argument("--debug", action="store_true", help="log the way of each one")
    asked = parser.parse_args()
    seconds, seed = asked.minutes * 60, asked.seed
    profile = asked.profile or profile_of(seed)
    plan = operations(seed, seconds, PROFILES[profile])
    options = ("--log-level", "debug") if asked.debug else ()
    soak = Soak(seed, profile, ROOT / ".soak" / f"{seed}-{profile}", *options)
    try:
        print(f"seed {seed}, profile {profile}, {len(plan)} operations", flush=True)
        verdict = soak.run(seconds, plan, CLIENTS)
        left = soak.end(verdict)
    finally:
        soak.server.kill_all()
    report = soak.report(verdict) + (f"\n\nLEFT BEHIND: {left}" if left else "")
    (soak.directory / "report").write_text(report + "\n")
    (soak.directory / "operations").write_text("\n".join(soak.service.done) + "\n")
    print(report)
    return 1 if verdict.bad or left else 0


if __name__ == "__main__":
    sys.exit(main())
