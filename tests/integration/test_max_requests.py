"""Workers are replaced when they have served enough, and nobody notices."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from driver import APPS, wait_until
from raw_http import connect, get

REPLACED = r"worker of slot \d is replaced"
NEW = r"worker of slot \d has served \d+ requests: replacing it"


def test_worn_workers_are_replaced_under_load_and_nothing_is_lost(serve):
    """Each client keeps its connection, or may make a new one; no request fails."""
    limit = ("--max-requests", "300", "--max-requests-jitter", "200")
    server = serve("probe:app", *limit, "--no-access-log", workers=2)
    before = set(server.worker_pids())
    enough = threading.Event()

    def visit(keeps):
        seen = set()
        while not enough.is_set():
            with connect(server.port) as client:
                for _ in range(500 if keeps else 1):
                    answer = client.ask(get())
                    assert answer.status == 200
                    seen.add(answer.json["pid"])
                    if enough.is_set():
                        break
        return seen

    with ThreadPoolExecutor() as pool:
        visits = [pool.submit(visit, keeps) for keeps in (True, True, False, False)]
        try:
            server.wait_for_log(REPLACED, 6)
        finally:
            enough.set()
        seen = set().union(*(each.result() for each in visits))
    assert before < seen
    assert len(seen) >= 6
    status = server.status()
    assert status["generation"] == 1
    assert status["connections"]["lost"] == 0
    assert "refused" not in server.log
    # Never two at a time: one has taken over before the next is begun.
    story = re.findall(f"{NEW}|{REPLACED}", server.log)
    begun = [bool(re.match(NEW, line)) for line in story]
    assert begun == [n % 2 == 0 for n in range(len(story))]


def test_nobody_is_replaced_before(serve):
    """A worker that has served less stays."""
    server = serve("probe:app", "--max-requests", "10000", workers=1)
    with connect(server.port) as client:
        pids = {client.ask(get()).json["pid"] for _ in range(100)}
    wait_until("all is counted", lambda: server.total("requests") == 100)
    assert pids == set(server.worker_pids())


@pytest.mark.parametrize("acceptors", ["1", "2"])
def test_reload_and_wear_go_together(serve, acceptors):
    """A reload brings its own workers, whoever is worn meanwhile."""
    options = ("--max-requests", "50", "--acceptors", acceptors)
    server = serve("probe:app", *options, "--no-access-log", workers=2)

    def visit():
        with connect(server.port) as client:
            for _ in range(120):
                assert client.ask(get()).status == 200

    for _ in range(2):
        visit()
        server.reload()
    visit()
    before = server.log.count(" is replaced")
    server.wait_for_log(REPLACED, before + 1)
    assert server.status()["generation"] == 3
    assert server.status()["connections"]["lost"] == 0


def test_successor_that_cannot_start_replaces_nobody(serve, tmp_path):
    """Who is worn serves on, until one comes that can."""
    source = tmp_path / "worn.py"
    good = f"import sys\nsys.path.append({str(APPS)!r})\nfrom probe import app"
    source.write_text(good)
    server = serve(
        "worn:app",
        *("--max-requests", "20", "--app-dir", str(tmp_path)),
        workers=1,
    )
    server.expect_log(r"new worker of slot 0 cannot import|Traceback|SyntaxError")
    source.write_text("from probe import")
    with connect(server.port) as client:
        pids = {client.ask(get()).json["pid"] for _ in range(30)}
        server.wait_for_log(r"new worker of slot 0 .* before it was ready; next try")
        pids.add(client.ask(get()).json["pid"])
        assert len(pids) == 1
        source.write_text(good)
        server.wait_for_log(REPLACED)
        assert client.ask(get()).json["pid"] not in pids
