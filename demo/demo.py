"""
What maitred is for, shown with real processes and real clients.

First, the same small application (app.py) under uvicorn and under maitred, with four
workers each: how many requests find their session? Then a worker is killed in the
middle of traffic: what is lost, and what is not?

Exits with 0 only if everything it claims was so.
"""

import asyncio
import collections
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from servers import DEADLINE, WORKERS, Failed, Maitred, Uvicorn

CLIENTS = 40
# How each client spreads its 25 requests, the first of which makes the session: some on
# one kept connection, then each of some on a connection of its own, and so on.
KEPT_AND_NEW = [("kept", 5), ("new", 5), ("kept", 5), ("new", 5), ("kept", 5)]
REQUESTS = sum(number for _, number in KEPT_AND_NEW)
LOST = aiohttp.ClientConnectionError, ConnectionError
BAR = 30

COLOR = sys.stdout.isatty() and "NO_COLOR" not in os.environ


@dataclass
class Client:
    """One client: it makes a session, and then uses it on several connections."""

    url: str
    name: str = ""
    pid: int = 0  # the worker that made the session
    count: int = 0  # what the session must have counted to
    found: int = 0
    not_found: int = 0
    failed: int = 0
    trouble: list[str] = field(default_factory=list)

    async def request(self, http):
        """One more: make a session if there is none, otherwise count in it."""
        path = "/count" if self.name else "/session"
        headers = {"x-session": self.name} if self.name else {}
        async with http.post(self.url + path, headers=headers) as response:
            answer = await response.json()
            if path == "/session":
                self.name, self.pid = response.headers["x-session"], answer["pid"]
                self.count = 0
                return
        if response.status == 200:
            self.found += 1
            self.count += 1
            if (answer["pid"], answer["count"]) != (self.pid, self.count):
                self.trouble.append(f"expected {self.pid}, {self.count}: {answer}")
        else:
            self.not_found += 1

    async def visit(self):
        """Make all of this client's requests, over kept and new connections in turn."""
        for kind, number in KEPT_AND_NEW:
            async with connections(keep=kind == "kept") as http:
                for _ in range(number):
                    await self.request(http)

    async def stay(self, over):
        """
        Make requests until *over*, over kept and new connections in turn.

        A client whose session is gone makes a new one, as a browser would that has to
        log in again.
        """
        kept = True
        while not over.is_set():
            async with connections(keep=kept) as http:
                for _ in range(3):
                    missed = self.not_found
                    try:
                        await self.request(http)
                    except LOST:
                        self.failed += 1
                        self.name = ""
                        break
                    if self.not_found > missed:
                        self.name = ""
                        break
                    await asyncio.sleep(0.02)
            kept = not kept


def connections(*, keep):
    """Connections that are used again, or a new one for each request."""
    connector = aiohttp.TCPConnector(limit=1, force_close=not keep)
    timeout = aiohttp.ClientTimeout(20)
    return aiohttp.ClientSession(connector=connector, timeout=timeout)


# The first part


async def measure(server):
    """Let all clients visit *server*."""
    clients = [Client(server.url) for _ in range(CLIENTS)]
    await asyncio.gather(*(client.visit() for client in clients))
    return clients


def compare(directory):
    rows = []
    with Uvicorn(directory) as server:
        rows.append(("uvicorn --workers 4", asyncio.run(measure(server))))
    with Maitred(directory) as server:
        rows.append(("maitred --workers 4", asyncio.run(measure(server))))

    wanted = CLIENTS * (REQUESTS - 1)
    say(f"{CLIENTS} clients make {REQUESTS} requests each: one makes a session,")
    say("the others use it, over kept and new connections in turn.")
    say("")
    say(f"{'':22}{'requests that found':45}{'clients that'}")
    say(f"{'':22}{'their session':45}{'never lost it'}")
    for name, clients in rows:
        found = sum(client.found for client in clients)
        kept = sum(client.not_found == 0 for client in clients)
        bar = paint(found / wanted)
        say(f"{name:22}{found:4} of {wanted} {bar}  {kept:2} of {CLIENTS}")
    (_, plain), (_, ours) = rows
    pids = collections.Counter(client.pid for client in ours)
    shares = ", ".join(str(share) for share in sorted(pids.values(), reverse=True))
    say("")
    say(
        f"Under maitred the {CLIENTS} sessions live in {len(pids)} processes: {shares}."
    )

    claim(
        "under maitred every request found its session",
        all(client.found == REQUESTS - 1 for client in ours),
    )
    claim(
        "it was the process that made the session, and it had counted right",
        not any(client.trouble for client in ours),
    )
    claim("over at least three processes", len(pids) >= WORKERS - 1)
    claim("under uvicorn clients lost theirs", any(c.not_found for c in plain))


# The second part


async def disturb(server, clients):
    """Kill the worker that has the most sessions while all *clients* are busy."""
    over = asyncio.Event()
    visits = [asyncio.create_task(client.stay(over)) for client in clients]
    await asyncio.sleep(1)
    homes = [client.pid for client in clients]
    [(victim, _)] = collections.Counter(homes).most_common(1)
    slot = next(slot["slot"] for slot in server.slots() if slot.get("pid") == victim)
    killed = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    successor = await filled_again(server, slot, victim)
    took = time.monotonic() - killed
    await asyncio.sleep(1)
    over.set()
    await asyncio.gather(*visits)
    return homes, victim, slot, successor, took


async def filled_again(server, slot, victim):
    """Wait until *slot* has a ready worker that is not *victim*; give its pid."""
    end = time.monotonic() + DEADLINE
    while (now := server.slots()[slot])["state"] != "ready" or now["pid"] == victim:
        if time.monotonic() > end:
            raise Failed("the worker was not replaced")
        await asyncio.sleep(0.02)
    return now["pid"]


def kill_one(directory):
    with Maitred(directory) as server:
        clients = [Client(server.url) for _ in range(CLIENTS)]
        homes, victim, slot, successor, took = asyncio.run(disturb(server, clients))
        refused = sum(server.status()["connections"]["refused"].values())

    there = [c for c, home in zip(clients, homes, strict=True) if home == victim]
    elsewhere = [c for c, home in zip(clients, homes, strict=True) if home != victim]
    cut = sum(client.failed for client in there)
    missed = sum(client.not_found for client in there)
    requests = sum(client.found for client in elsewhere)
    bad = sum(client.failed + client.not_found for client in elsewhere)

    say("")
    say(
        f"Now {CLIENTS} clients are busy, and the worker of slot {slot} is killed (-9)."
    )
    say("")
    say(f"  its sessions           {len(there):5} lost: they lived in that process")
    say(f"     requests in them    {cut:5} cut, because it was serving them")
    say(f"                         {missed:5} told that their session is unknown")
    say(f"  sessions elsewhere     {len(elsewhere):5} kept")
    say(f"     requests in them    {requests:5} answered, {bad} failed")
    say(f"  the slot               pid {successor} took it over after {took:.2f} s")

    claim(
        "each client of the dead worker had one request that failed, then began anew",
        all(client.failed + client.not_found == 1 for client in there),
    )
    claim(
        "no other client noticed",
        bad == 0 and not any(client.trouble for client in elsewhere),
    )
    claim("their requests went on", all(client.found > 0 for client in elsewhere))
    claim("the master turned nobody away", refused == 0)


# How it is told


def paint(share):
    """Draw *share* of a bar; in color on a terminal."""
    full = round(share * BAR)
    if not COLOR:
        return "[" + ("#" * full).ljust(BAR, ".") + "]"
    color = "32" if share == 1 else "31"
    return f"\033[{color}m{'█' * full}\033[90m{'░' * (BAR - full)}\033[0m  "


def say(text):
    print(text, flush=True)


def claim(text, holds):
    if not holds:
        raise Failed(f"this claim did not hold: {text}")


def on_terminate(_number, _frame):
    sys.exit(143)


def main():
    signal.signal(signal.SIGTERM, on_terminate)
    with tempfile.TemporaryDirectory(prefix="maitred-demo-") as name:
        directory = Path(name)
        try:
            compare(directory)
            kill_one(directory)
        except Failed as exc:
            print(f"script/demo: {exc}", file=sys.stderr)
            for log in sorted(directory.glob("*.log")):
                tail = log.read_text(errors="replace")[-4000:]
                print(f"--- {log.name}\n{tail}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
    say("")
    say(
        "Everything above was checked while it ran. Your own application, in two lines:"
    )
    say("")
    say(f"  pip install {Path(__file__).resolve().parents[1]}")
    say("  maitred serve your_module:app --workers 4 --affinity sticky")
    return 0


if __name__ == "__main__":
    sys.exit(main())
