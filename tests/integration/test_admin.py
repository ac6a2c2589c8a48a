"""The admin process: metrics, health, and who may ask."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as prometheus

from driver import COMMAND, DEADLINE, Maitred, is_alive, wait_until
from maitred.admin.metrics import METRICS
from raw_http import ask, connect, get

OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


class Admin:
    """The admin process of a server, as its clients see it."""

    def __init__(self, server: Maitred, **details: Any) -> None:
        """Ask where *server* says it listens."""
        name = server.status()["admin"][0]
        self.url = name
        if name.startswith("unix:"):
            path = name.removeprefix("unix:")
            details["transport"] = httpx.HTTPTransport(uds=path)
            self.url = "http://admin"
        self.client = httpx.Client(timeout=DEADLINE, trust_env=False, **details)

    def get(self, path: str, **headers: str) -> httpx.Response:
        """Ask for *path*."""
        return self.client.get(self.url + path, headers=headers)

    def metrics(self) -> dict[tuple[str, str], float]:
        """Give every number of the metrics, by name and labels."""
        text = self.get("/metrics").text
        return {
            (s.name, ",".join(f"{k}={v}" for k, v in sorted(s.labels.items()))): s.value
            for family in prometheus(text)
            for s in family.samples
        }

    def number(self, name: str, labels: str = "") -> float:
        """Give one number, asked for just now."""
        return self.metrics()[name, labels]


@pytest.fixture
def admin() -> Iterator[Callable[..., Admin]]:
    """Give an admin process's client; it is closed after the test."""
    with contextlib.ExitStack() as stack:

        def open_(server: Maitred, **details: Any) -> Admin:
            found = Admin(server, **details)
            stack.enter_context(found.client)
            return found

        yield open_


@pytest.fixture
def serve(serve) -> Callable[..., Maitred]:
    """Start a server with an admin process."""

    def start(*arguments: Any, address: str = "127.0.0.1:0", **details: Any) -> Maitred:
        details.setdefault("workers", 2)
        return serve(*(arguments or ("probe:app",)), "--admin", address, **details)

    return start


def admin_pid(server: Maitred) -> int:
    """Give the process that serves the admin address of *server*."""

    def found() -> int | None:
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                command = (entry / "cmdline").read_bytes()
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                # As it was started, and as it calls itself.
                names = any(n in command for n in (b"maitred.admin", b"maitred: admin"))
                if names and int(parent) == server.pid:
                    return int(entry.name)
        return None

    return wait_until("the admin process is there", found)


def test_metrics_count_what_happened(serve, admin):
    """After known traffic the metrics say so, in both formats."""
    server = serve("probe:app", "--affinity", "header:x-session")
    here = admin(server)
    for number in range(6):
        ask(server.port, "/session", f"x-session: {number}")
    wait_until(
        "all requests are counted",
        lambda: (
            sum(
                here.number("maitred_worker_requests_total", f"slot={n}")
                for n in (0, 1)
            )
            == 6
        ),
    )
    found = here.metrics()
    assert found["maitred_connections_accepted_total", ""] == 6
    assert found["maitred_connections_taken_total", ""] == 6
    for stage in ("hand_over", "take"):
        assert found[f"maitred_{stage}_seconds_count", ""] == 6
        assert 0 < found[f"maitred_{stage}_seconds_sum", ""] < DEADLINE
    with connect(server.port) as slow:
        wait_until(
            "its client is waited for",
            lambda: here.number("maitred_connections_peeking") == 1,
        )
        slow.ask(get())
    wait_until(
        "the wait is noted", lambda: here.number("maitred_peek_seconds_count") == 1
    )
    assert found["maitred_keys", ""] == 6
    assert found["maitred_state", "state=ready"] == 1
    assert found["process_start_time_seconds", ""] > 1e9
    answer = here.get("/metrics", **OPENMETRICS)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    # Workers of this kind have no threads of which there could be too few.
    wanted = {m.name for m in METRICS if "worker_threads" not in m.name}
    assert wanted <= {
        sample.name.removesuffix("_bucket")
        for family in openmetrics(answer.text)
        for sample in family.samples
    }


def test_counters_never_go_down(serve, admin):
    """Neither the death of workers nor a reload nor an upgrade takes anything back."""
    server = serve()
    here = admin(server)
    for _ in range(20):
        ask(server.port, "/")
    wait_until("all requests are counted", lambda: server.total("requests") == 20)
    before = here.metrics()
    server.expect_log("was ended by SIGKILL")
    dead = server.kill_worker(0)
    wait_until("it is replaced", lambda: dead not in pids(server))
    server.reload()
    server.upgrade()
    here = admin(server)
    wait_until("the old have left", lambda: not server.status()["others"])
    wait_until(
        "a new answer", lambda: here.number("maitred_events_total", "kind=upgrade")
    )
    after = here.metrics()
    counters = [m.name for m in METRICS if m.kind == "counter"]
    counters += [f"{m.name}_count" for m in METRICS if m.kind == "histogram"]
    gone = [
        (key, number, after.get(key))
        for key, number in before.items()
        if key[0] in counters and after.get(key, -1) < number
    ]
    assert not gone
    assert after["maitred_worker_deaths_total", "slot=0"] == 2
    assert after["maitred_events_total", "kind=crash"] == 1
    assert (
        sum(n for (name, _), n in after.items() if name.endswith("_requests_total"))
        == 20
    )


def pids(server: Maitred) -> list[int]:
    """Give the pids of workers that are ready."""
    return [s.get("pid") for s in server.status()["slots"] if s["state"] == "ready"]


def test_events_are_told(serve):
    """What changed the service is told with its time, the last as the last."""
    server = serve()
    server.reload()
    server.upgrade()
    events = server.status()["events"]
    assert [e["kind"] for e in events] == ["start", "reload", "reload", "upgrade"]
    assert [e["time"] for e in events] == sorted(e["time"] for e in events)
    assert all(e["text"] for e in events)


def test_health_and_readiness(serve, admin, tmp_path):
    """While a worker lives the service is ready; if not, the answer says why."""
    mood = tmp_path / "mood"
    mood.touch()
    server = serve("moody:app", workers=1, env={"MOOD": str(mood)})
    here = admin(server)
    assert here.get("/healthz").status_code == 200
    wait_until("it is ready", lambda: here.get("/readyz").text == "ready\n")
    server.expect_log("SIGKILL")
    mood.write_text("hang")
    server.kill_worker(0)
    why = wait_until("it is not ready", lambda: not_ready(here))
    assert why == "no worker is ready\n"
    wait_until("a successor hangs", lambda: server.status()["slots"][0].get("pid"))
    mood.write_text("")
    server.kill_worker(0)
    wait_until("another one is ready", lambda: here.get("/readyz").status_code == 200)


def not_ready(here: Admin) -> str:
    """Say why the service takes no connections; empty: it does."""
    answer = here.get("/readyz")
    return "" if answer.status_code == 200 else answer.text


def test_not_ready_before_it_serves(serve, tmp_path):
    """Before the first worker is ready it is alive and not ready, and says why."""
    mood, path = tmp_path / "mood", tmp_path / "admin.sock"
    mood.write_text("hang")
    server = serve(
        "moody:app", "--grace-period", "0.5", address=f"unix:{path}", ready=False,
        workers=1, env={"MOOD": str(mood)},
    )  # fmt: skip
    with httpx.Client(
        base_url="http://admin", transport=httpx.HTTPTransport(uds=str(path)),
        timeout=DEADLINE, trust_env=False,
    ) as client:  # fmt: skip
        # By then whoever asks there is heard, sooner or later.
        wait_until("it listens", Path(server.control).exists)
        wait_until("it is alive", lambda: client.get("/healthz").status_code == 200)
        answer = client.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "the service is starting\n")
    server.expect_log("SIGTERM|TERM")
    server.stop()


def test_api_for_pages(serve, admin):
    """The snapshot, the history and the place of a key come as JSON."""
    server = serve("probe:app", "--affinity", "header:x-session")
    here = admin(server)
    ask(server.port, "/session", "x-session: s1")
    snapshot = here.get("/api/snapshot").json()
    assert snapshot["pid"] == server.pid
    history = wait_until(
        "two samples",
        lambda: len((h := here.get("/api/history").json())["samples"]) > 1 and h,
    )
    sample = history["samples"][-1]
    assert len(sample["totals"]) == len(history["totals"])
    assert [len(slot) for slot in sample["slots"]] == [len(history["worker"])] * 2
    later = here.get(f"/api/history?since={sample['time']}").json()["samples"]
    assert all(each["time"] > sample["time"] for each in later)
    found = here.get("/api/whereis?key=s1").json()
    assert (found["key"], found["by"]) == ("header:x-session=s1", "remembered")
    missing = here.get("/api/whereis?key=nobody")
    assert (missing.status_code, missing.text) == (
        404, "no worker has a session 'nobody'\n",
    )  # fmt: skip
    assert here.get("/api/whereis").status_code == 400
    assert here.get("/api/history?since=x").status_code == 400
    assert here.get("/nothing").status_code == 404
    assert here.client.post(here.url + "/metrics").status_code == 405
    head = here.client.head(here.url + "/metrics")
    assert (head.status_code, head.content) == (200, b"")


def test_only_names_of_this_machine(serve, admin):
    """A page of another name that means 127.0.0.1 is told nothing."""
    here = admin(serve())
    for host in ("evil.example", "127.0.0.1.evil.example", ""):
        answer = here.get("/api/snapshot", Host=host)
        assert (answer.status_code, "Host" in answer.text) == (421, True), host
    for host in ("localhost:1", "[::1]:9", "127.0.0.1", "10.1.2.3:80"):
        assert here.get("/api/snapshot", Host=host).status_code == 200, host


def test_token_of_the_file(serve, admin, tmp_path):
    """From elsewhere the token of the file is needed, and it is in no command line."""
    token = tmp_path / "token"
    token.write_text("s3cret-s3cret\n")
    token.chmod(0o600)
    server = serve("probe:app", "--admin-token-file", str(token), address="0.0.0.0:0")
    port = re.search(r":(\d+)$", server.status()["admin"][0])[1]
    here = admin(server)
    there = f"http://127.0.0.1:{port}"
    # A proxy on this machine speaks for somebody else.
    proxied = {"X-Forwarded-For": "192.0.2.7"}
    get = here.client.get
    assert get(f"{there}/metrics").status_code == 200
    refused = get(f"{there}/metrics", headers=proxied)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    for said in ("s3cret-s3cret", "Bearer s3cret", "Bearer", "Basic s3cret-s3cret"):
        wrong = get(f"{there}/metrics", headers={**proxied, "Authorization": said})
        assert wrong.status_code == 401, said
    right = {**proxied, "Authorization": "bearer s3cret-s3cret", "Host": "any.example"}
    assert get(f"{there}/metrics", headers=right).status_code == 200
    for path in ("/healthz", "/readyz"):
        wait_until(
            f"{path} is well",
            lambda path=path: get(there + path, headers=proxied).status_code == 200,
        )
    for pid in (server.pid, admin_pid(server)):
        for what in ("cmdline", "environ"):
            assert b"s3cret" not in Path(f"/proc/{pid}/{what}").read_bytes()
    assert "s3cret" not in server.log


def test_unix_socket(serve, admin, tmp_path):
    """On a Unix socket the mode of its file says who may ask."""
    path = tmp_path / "admin.sock"
    server = serve(address=f"unix:{path}")
    assert path.stat().st_mode & 0o777 == 0o600
    assert admin(server).get("/metrics", Host="whatever").status_code == 200
    assert server.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_dead_admin_process_is_replaced(serve, admin, number):
    """It is started again on the same address, and the log has a line about it."""
    server = serve()
    server.expect_log("admin process|Fatal|Segmentation")
    here = admin(server)
    assert here.get("/healthz").status_code == 200
    first = admin_pid(server)
    os.kill(first, number)
    server.wait_for_log("the admin process .*(replaced|next try)")
    assert here.get("/healthz").status_code == 200
    assert admin_pid(server) != first
    assert ask(server.port, "/").status == 200


def test_stopped_admin_process_keeps_nobody(serve):
    """One that does not leave is ended; the service stops in order, and soon."""
    server = serve()
    os.kill(admin_pid(server), signal.SIGSTOP)
    assert ask(server.port, "/").status == 200
    assert server.stop() == 0


def test_signals_are_for_the_master(serve, admin):
    """TERM to every process of the service is one stop, and no death to report."""
    server = serve()
    here = admin(server)
    assert here.get("/healthz").status_code == 200
    pid = admin_pid(server)
    os.kill(pid, signal.SIGTERM)
    assert here.get("/healthz").status_code == 200
    assert admin_pid(server) == pid


def test_ends_with_its_master(serve, admin):
    """When the master is killed, nobody is left on the address."""
    server = serve()
    pid = admin_pid(server)
    server.process.kill()
    server.wait()
    wait_until("it has left", lambda: not is_alive(pid))
    wait_until("the workers have left", lambda: not alive(server))
    Path(server.control).unlink()


def alive(server: Maitred) -> bool:
    """Say whether anything of *server* is left."""
    from driver import processes_of

    return bool(processes_of(server.run))


@contextlib.contextmanager
def scraped(url: str, *, kept: bool) -> Iterator[None]:
    """Read *url* over and over, in a thread; all answers must be good."""
    answers: list[int | Exception] = []
    done = threading.Event()

    def scrape() -> None:
        with httpx.Client(timeout=DEADLINE, trust_env=False) as client:
            while not done.is_set():
                headers = {} if kept else {"Connection": "close"}
                try:
                    answers.append(client.get(url, headers=headers).status_code)
                except httpx.HTTPError as exc:
                    answers.append(exc)

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
        before = len(answers)
        wait_until("it is asked afterwards, too", lambda: len(answers) > before + 5)
    finally:
        done.set()
        thread.join()
    assert set(answers) == {200}, answers


def successor_of(server: Maitred, pid: int) -> int:
    """Wait until another admin process than *pid* is there, and that one is gone."""
    wait_until("the old one has left", lambda: not is_alive(pid))
    found = admin_pid(server)
    assert found != pid
    return found


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "new"])
def test_upgrade_renews_it(serve, admin, kept):
    """The new program has an admin process of its own, and no scrape ever fails."""
    server = serve()
    here = admin(server)
    sampled = "/api/history?since=0"
    wait_until("it has samples", lambda: here.get(sampled).json()["samples"])
    first = here.get(sampled).json()["samples"][0]
    for upgrades in (1, 2):
        pid = admin_pid(server)
        with scraped(here.url + "/metrics", kept=kept):
            server.upgrade()
            pid = successor_of(server, pid)
        wait_until(
            "the new program answers",
            lambda n=upgrades: here.get("/api/snapshot").json()["upgrades"] == n,
        )
        wait_until(
            "it has the history",
            lambda: here.get(sampled).json()["samples"][:1] == [first],
        )
    server.expect_log("admin process")
    os.kill(pid, signal.SIGKILL)
    server.wait_for_log("the admin process .*(replaced|next try)")
    assert here.get("/healthz").status_code == 200


def test_reload_reads_the_token_again(serve, admin, tmp_path):
    """The new one holds, the old one does not; without news nothing is replaced."""
    token = tmp_path / "token"
    token.write_text("first-s3cret\n")
    token.chmod(0o600)
    server = serve("probe:app", "--admin-token-file", str(token))
    here, pid = admin(server), admin_pid(server)

    def status(said: str) -> int:
        proxied = {"X-Forwarded-For": "192.0.2.7", "Authorization": f"Bearer {said}"}
        return here.get("/metrics", **proxied).status_code

    assert (status("first-s3cret"), status("second-s3cret")) == (200, 401)
    server.reload()
    assert admin_pid(server) == pid
    token.write_text("second-s3cret\n")
    with scraped(here.url + "/metrics", kept=False):
        server.reload()
        pid = successor_of(server, pid)
    assert (status("first-s3cret"), status("second-s3cret")) == (401, 200)

    token.chmod(0o644)
    token.write_text("third-s3cret\n")
    server.expect_log("the admin token stays as it was: .* chmod 600")
    server.reload()
    server.wait_for_log("the admin token stays as it was")
    assert admin_pid(server) == pid
    assert (status("second-s3cret"), status("third-s3cret")) == (200, 401)
    assert "s3cret" not in server.log


def test_former_that_does_not_leave_is_ended(serve, admin):
    """One that hangs is no obstacle, neither to its successor nor to the end."""
    server = serve()
    here, pid = admin(server), admin_pid(server)
    os.kill(pid, signal.SIGSTOP)
    server.upgrade()
    assert here.get("/healthz").status_code == 200
    server.upgrade()
    successor_of(server, pid)
    assert here.get("/healthz").status_code == 200


def test_keeper_keeps_the_address(serve, admin):
    """When the master dies, the next one is asked on the same address."""
    server = serve(verb="keep")
    server.expect_log("started again")
    here = admin(server)
    first = here.get("/api/snapshot").json()["pid"]
    os.kill(first, signal.SIGKILL)
    server.wait_for_log(r"workers of generation \d+ ready", 2)
    answer = wait_until(
        "it answers", lambda: answered(here.client, here.url + "/api/snapshot")
    )
    assert answer.json()["pid"] != first
    assert server.stop() == 0


def answered(client: httpx.Client, path: str) -> httpx.Response | None:
    """Give the answer, if there is one."""
    with contextlib.suppress(httpx.HTTPError):
        answer = client.get(path)
        return answer if answer.status_code == 200 else None
    return None


def test_taken_address_is_one_sentence(tmp_path):
    """An address that somebody has is refused at the start, by its option."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [COMMAND, "serve", "probe:app", "--bind", "127.0.0.1:0",
             "--control", str(tmp_path / "c.sock"), "--admin", where],
            capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
    assert done.returncode == 4
    assert done.stderr == (
        f"maitred: cannot listen on {where}: Address already in use; something listens"
        " there: stop it, or choose another --admin\n"
    )
