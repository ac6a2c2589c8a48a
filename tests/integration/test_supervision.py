"""Workers die, are replaced, reloaded and drained; their clients hardly notice."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from driver import Maitred, is_alive, processes_of, wait_until
from raw_http import Answer, ask, connect, crowd, get
from scenes import generations_of, load, names_by_slot, waiting_request, workers_of

KEYED = ("--affinity", "header:x-session", "--no-access-log")
KILLED = r"was ended by SIGKILL; replaced"


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Make the name of a file; requests that wait for it end when it is there."""
    return tmp_path / "gate"


@pytest.fixture
def mood(tmp_path: Path) -> Path:
    """Make the file that says how the moody application feels: well."""
    file = tmp_path / "mood"
    file.write_text("")
    return file


# Death


def test_killed_worker_is_replaced_and_others_do_not_notice(serve):
    """After a kill there is a new worker, and connections to the others live on."""
    server = serve("probe:app", *KEYED, workers=3)
    server.expect_log(KILLED)
    names = names_by_slot(server)
    pids = server.worker_pids()
    clients = {slot: connect(server.port) for slot in names}
    for slot, client in clients.items():
        assert (
            client.ask(get("/", f"x-session: {names[slot]}")).json["pid"] == pids[slot]
        )
    os.kill(pids[1], signal.SIGKILL)
    for slot in (0, 2):
        assert clients[slot].ask(get()).json["pid"] == pids[slot]
    # Its client asked nothing, and does not notice either.
    assert clients[1].ask(get("/", f"x-session: {names[1]}")).json["pid"] not in pids
    said = ask(server.port, "/", f"x-session: {names[1]}").json
    assert said["slot"] == "1"
    assert said["pid"] not in pids
    for slot, client in clients.items():
        if slot != 1:
            assert client.ask(get()).json["pid"] == pids[slot]
        client.close()
    server.wait_for_log(KILLED)
    assert server.status()["generation"] == 1


def test_connections_a_dead_worker_never_read_are_answered_by_its_successor(serve):
    """What was handed to a worker that died before it read it is lost by nobody."""
    server = serve("probe:app", *KEYED, workers=2)
    server.expect_log(KILLED)
    name = names_by_slot(server)[0]
    pid = server.kill_worker(0, signal.SIGSTOP)
    request = get("/", f"x-session: {name}", "connection: close")

    def kill_when_all_are_there() -> None:
        def all_are_there() -> bool:
            slot = server.status()["slots"][0]
            return slot["in_flight"] + slot["queued"] == 200

        wait_until("all are handed over or queued", all_are_there)
        assert server.status()["slots"][0]["in_flight"] > 0
        os.kill(pid, signal.SIGKILL)

    async def run() -> list[Answer]:
        """Connect all, then kill the worker."""
        answers = asyncio.ensure_future(
            crowd(server.port, [request] * 200, at_once=200)
        )
        await asyncio.to_thread(kill_when_all_are_there)
        return await answers

    answers = asyncio.run(run())
    assert {(a.status, a.json["pid"]) for a in answers} == {
        (200, server.worker_pids()[0])
    }
    assert answers[0].json["pid"] != pid
    assert server.status()["connections"]["redispatched"] > 0


def test_names_that_a_dead_worker_made_are_forgotten(serve):
    """What lived in a process's memory ends with it; its names are free again."""
    server = serve(
        "probe:app",
        "--affinity",
        "header:x-session,learn",
        "--no-access-log",
        workers=2,
    )
    server.expect_log(KILLED)
    made = [ask(server.port, "/learn").json for _ in range(20)]
    slot = next(s for s in server.status()["slots"] if s["claimed_keys"])
    os.kill(slot["pid"], signal.SIGKILL)
    server.wait_for_log(KILLED)
    left = sum(said["pid"] != slot["pid"] for said in made)
    wait_until("they are forgotten", lambda: server.status()["keys"] == left)
    for said in made:
        line = f"x-session: {said['name']}"
        assert ask(server.port, "/session", line).status == 200


def test_worker_that_dies_before_it_is_ready_is_tried_again_ever_later(serve, mood):
    """Delays between attempts grow, others serve meanwhile, and it recovers."""
    server = serve("moody:app", workers=2, env={"MOOD": str(mood)})
    server.expect_log(KILLED)
    server.expect_log(r"exited with code 9 before it was ready")
    mood.write_text("die")
    server.kill_worker(0)
    text = (
        r"worker of slot 0 exited with code 9 before it was ready; next try in (\S+) s"
    )
    other = server.worker_pids()[1]
    for attempt in range(1, 4):
        server.wait_for_log(text, attempt)
        assert ask(server.port).json["pid"] == other
    first, second, third = map(float, re.findall(text, server.log)[:3])
    assert 0.2 <= first <= 0.5 <= second <= 1.0 <= third <= 2.0
    mood.write_text("")
    wait_until("it is back", lambda: server.status()["slots"][0]["state"] == "ready")
    wait_until("it serves", lambda: ask(server.port).json["pid"] != other)


def test_worker_that_never_gets_ready_is_ended(serve, mood):
    """A worker that hangs while it starts is aborted after ``--ready-timeout``."""
    mood.write_text("hang")
    server = serve(
        "moody:app",
        "--ready-timeout",
        "0.5",
        workers=1,
        env={"MOOD": str(mood)},
        ready=False,
    )
    server.expect_log(r"is aborted|was here when it ended|before it was ready")
    server.wait_for_log(r"is aborted: not ready after 0\.5 s")
    server.wait_for_log(
        r"was ended by SIGABRT \(not ready after 0\.5 s\) before it was ready;"
        r" next try in"
    )
    assert server.stop() == 0


def test_term_to_a_worker_drains_and_replaces_it(serve, gate):
    """A worker told to leave by somebody else finishes, is replaced; nobody fails."""
    server = serve("probe:app", *KEYED, workers=2)
    server.expect_log(r"worker of slot 0 exited with code 0; replaced")
    name = names_by_slot(server)[0]
    with waiting_request(server, gate, f"x-session: {name}") as client:
        with load(server):
            pid = server.kill_worker(0, signal.SIGTERM)
            gate.touch()
            assert client.answer().json["pid"] == pid
            server.wait_for_log(r"worker of slot 0 exited with code 0; replaced")
            wait_until(
                "it is replaced",
                lambda: server.status()["slots"][0].get("state") == "ready",
            )
        assert client.at_end()
    assert ask(server.port, "/", f"x-session: {name}").json["slot"] == "0"


# Reload


def test_reload_under_load_fails_nobody(serve, gate):
    """A new generation takes over while connections come in, and the old one leaves."""
    server = serve("probe:app", "--no-access-log", workers=2)
    old = server.worker_pids()
    with waiting_request(server, gate) as client:
        with load(server) as answers:
            wait_until("there is load", lambda: len(answers) > 20)
            server.reload()
            so_far = len(answers)
            wait_until("the load goes on", lambda: len(answers) > so_far + 20)
        assert not set(server.worker_pids()) & set(old)
        assert {a.json["pid"] for a in answers[so_far + 10 :]} <= set(
            server.worker_pids()
        )
        gate.touch()
        assert client.answer().json["pid"] in old
    wait_until("the old ones are gone", lambda: not any(map(is_alive, old)))
    assert server.status()["generation"] == 2


@pytest.mark.parametrize(
    ("feeling", "traceback", "why"),
    [
        ("raise", "LookupError: not today", "cannot import 'moody'"),
        ("refuse", "LookupError: no startup today", "the lifespan startup"),
        ("stumble", "LookupError: no startup today", "the lifespan startup"),
    ],
    ids=["import", "startup failed", "startup raised"],
)
def test_reload_of_an_application_that_fails_changes_nothing(
    serve, mood, feeling, traceback, why
):
    """The old generation serves on, the reason is said once, a later reload works."""
    options = ("--no-access-log", "--lifespan", "on")
    server = serve("moody:app", *options, workers=2, env={"MOOD": str(mood)})
    server.expect_log(r"Traceback|LookupError|reload failed")
    old = server.worker_pids()
    mood.write_text(feeling)
    server.tell(signal.SIGHUP)
    server.wait_for_log(r"reload failed: .*; generation 1 serves on")
    assert why in server.log
    only_the_old_ones = lambda: sorted(workers_of(server)) == sorted(old)  # noqa: E731
    wait_until("only the old ones are left", only_the_old_ones)
    assert ask(server.port).json["pid"] in old
    assert server.worker_pids() == old
    lines = server.log.splitlines()
    assert sum(line == traceback for line in lines) == 1, server.log
    assert sum(line.startswith("Traceback") for line in lines) == 1, server.log
    assert server.log.count("reload failed") == 1
    mood.write_text("")
    server.reload()
    assert ask(server.port).json["pid"] not in old


def test_worker_that_is_told_to_leave_while_it_starts(serve, mood):
    """It is gone when its startup is over, and has said nothing that it may not."""
    server = serve("moody:app", workers=1, env={"MOOD": str(mood)})
    server.expect_log(r"reload failed: worker of slot 0 exited with code 0;")
    [old] = server.worker_pids()
    mood.write_text("dawdle")
    server.tell(signal.SIGHUP)
    new = wait_until("another starts", lambda: set(workers_of(server)) - {old}).pop()
    wait_until("it heeds TERM", lambda: heeds(new, signal.SIGTERM))
    os.kill(new, signal.SIGTERM)
    Path(f"{mood}.go").touch()
    server.wait_for_log("reload failed: worker of slot 0 exited with code 0;")
    assert server.worker_pids() == [old]


def heeds(pid: int, number: int) -> bool:
    """Say whether process *pid* has a handler of its own for signal *number*."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(re.search(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)[1], 16)
    return bool(caught & 1 << (number - 1))


def test_many_reloads_at_once_become_few(serve):
    """Fifty reloads in a row become one or two, and no two start at the same time."""
    server = serve("probe:app", "--no-access-log", workers=2)
    alive = []
    with load(server):
        for _ in range(50):
            server.tell(signal.SIGHUP)

        def over() -> bool:
            alive.append(generations_of(server))
            return alive[-1] == {server.status()["generation"]} != {1}

        server.wait_for_log(r"workers of generation \d+ ready", 2)
        wait_until("one generation is left", over)
    assert max(map(len, alive)) <= 2, alive
    assert server.status()["generation"] <= 5


# The end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_finishes_requests_in_progress(serve, gate, number):
    """A request in progress is answered, then everybody leaves, with exit code 0."""
    server = serve("probe:app", "--no-access-log", workers=2)
    with waiting_request(server, gate) as client, connect(server.port) as idle:
        assert idle.ask(get()).status == 200
        server.tell(number)
        assert idle.at_end()
        wait_until("nobody listens", lambda: refuses(server.port))
        gate.touch()
        assert client.answer().status == 200
        assert client.at_end()
        assert server.wait() == 0


def refuses(port: int) -> bool:
    """Say whether nobody listens on *port*."""
    try:
        connect(port).close()
    except ConnectionRefusedError:
        return True
    return False


def test_stop_serves_what_was_accepted(serve):
    """Connections that the kernel had let in before the stop are answered."""
    server = serve("probe:app", *KEYED, workers=1)
    pid = server.kill_worker(0, signal.SIGSTOP)
    clients = [connect(server.port) for _ in range(100)]
    for client in clients:
        client.send(get("/", "connection: close"))
    server.tell(signal.SIGTERM)
    server.wait_for_log(r"stopping: draining")
    os.kill(pid, signal.SIGCONT)
    for client in clients:
        assert client.answer().status == 200
        client.close()
    assert server.wait() == 0


def test_second_signal_stops_now(serve, gate):
    """A second TERM cuts what is in progress, and the exit code says so."""
    server = serve("probe:app", "--no-access-log", workers=2)
    with waiting_request(server, gate) as client:
        server.tell(signal.SIGTERM)
        server.wait_for_log("stopping: draining 2 workers")
        server.tell(signal.SIGTERM)
        assert server.wait() == 5
        assert client.answer().status == 502
        assert client.at_end()


def test_drain_has_a_deadline(serve, gate):
    """What is not finished by then is cut, and the exit code says so."""
    server = serve("probe:app", "--no-access-log", "--drain-timeout", "0.3", workers=2)
    with waiting_request(server, gate) as client:
        server.tell(signal.SIGTERM)
        assert server.wait() == 5
        assert client.answer().status == 503
        assert client.at_end()


def test_hung_worker_does_not_keep_the_master(serve):
    """A worker that does not react to anything is killed after drain and grace."""
    server = serve(
        "probe:app", "--drain-timeout", "0.2", "--grace-period", "0.3", workers=2
    )
    server.kill_worker(0, signal.SIGSTOP)
    assert server.stop() == 5


def test_stop_while_starting(serve, mood):
    """A stop before anybody is ready ends everything in order."""
    mood.write_text("hang")
    server = serve(
        "moody:app",
        "--grace-period",
        "5",
        workers=2,
        env={"MOOD": str(mood)},
        ready=False,
    )
    wait_until("there are workers", lambda: len(workers_of(server)) == 2)
    wait_until("it answers", lambda: Path(server.control).exists())
    wait_until("they are starting", lambda: state_of(server) == "starting")
    assert server.stop() == 0


def state_of(server: Maitred) -> Any:
    """Say how the first slot is."""
    return server.status()["slots"][0]["state"]


def test_workers_finish_and_leave_when_the_master_is_killed(serve, gate):
    """Without a master, workers answer what they have, and then nobody is left."""
    server = serve("probe:app", "--no-access-log", workers=2)
    with waiting_request(server, gate) as client:
        server.process.kill()
        assert server.wait() == -signal.SIGKILL
        wait_until("the idle one is gone", lambda: len(workers_of(server)) == 1)
        gate.touch()
        assert client.answer().status == 200
        assert client.at_end()
    wait_until("no process is left", lambda: not processes_of(server.run))
    Path(server.control).unlink()  # by the one who killed: the next master would


def test_thread_of_the_application_leaves_no_orphan(serve):
    """A worker leaves although a thread of its application never ends."""
    server = serve("threads:app", workers=2)
    server.process.kill()
    assert server.wait() == -signal.SIGKILL
    wait_until("no process is left", lambda: not processes_of(server.run))
    Path(server.control).unlink()


# Two things at once


def test_stop_during_a_reload(serve, mood):
    """A stop while the next generation is starting ends both, in order."""
    server = serve("moody:app", workers=2, env={"MOOD": str(mood)})
    mood.write_text("hang")
    server.tell(signal.SIGHUP)
    wait_until("both are there", lambda: generations_of(server) == {1, 2})
    assert server.stop() == 0


def test_reload_while_starting(serve, mood):
    """A reload before anybody is ready leads to a serving generation."""
    mood.write_text("hang")
    server = serve("moody:app", workers=2, env={"MOOD": str(mood)}, ready=False)
    wait_until("there are workers", lambda: len(workers_of(server)) == 2)
    wait_until("it answers", lambda: Path(server.control).exists())
    wait_until("they are starting", lambda: state_of(server) == "starting")
    mood.write_text("")
    server.tell(signal.SIGHUP)
    server.ready()
    assert ask(server.port).status == 200
    wait_until("only one is left", lambda: len(generations_of(server)) == 1)


def test_reload_mends_what_waits_for_its_next_try(serve, mood):
    """A reload starts every worker, also one that waits after it died early."""
    server = serve("moody:app", workers=2, env={"MOOD": str(mood)})
    server.expect_log(KILLED)
    server.expect_log(r"exited with code 9 before it was ready")
    mood.write_text("die")
    server.kill_worker(0)
    server.wait_for_log("next try in", 3)
    mood.write_text("")
    server.reload()
    slots = server.status()["slots"]
    assert [slot["state"] for slot in slots] == ["ready", "ready"]
    assert [slot["generation"] for slot in slots] == [2, 2]


def test_stop_while_a_worker_waits_for_its_next_try(serve, mood):
    """A stop does not wait for a worker that is to be tried again."""
    server = serve("moody:app", workers=2, env={"MOOD": str(mood)})
    server.expect_log(KILLED)
    server.expect_log(r"exited with code 9 before it was ready")
    mood.write_text("die")
    server.kill_worker(0)
    server.wait_for_log("next try in", 2)
    assert server.stop() == 0


def test_death_while_stopping_is_told_by_the_exit_code(serve, gate):
    """Who is killed while it finishes a request has cut it, and is not replaced."""
    server = serve("probe:app", "--no-access-log", workers=2)
    with waiting_request(server, gate) as client:
        pids = workers_of(server)
        server.tell(signal.SIGTERM)
        server.wait_for_log("stopping: draining")
        wait_until("one is left", lambda: len(workers_of(server)) == 1)
        [left] = workers_of(server)
        assert left in pids
        os.kill(left, signal.SIGKILL)
        assert server.wait() == 5
        assert client.answer().status == 502
        assert client.at_end()
