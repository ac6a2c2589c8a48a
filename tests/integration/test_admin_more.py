"""What is built on the admin process: the workers' own metrics, and contrib/."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from driver import DEADLINE, Maitred, wait_until
from maitred.admin.metrics import METRICS, Kind
from raw_http import ask, connect, get

CONTRIB = Path(__file__).parents[2] / "contrib"
SUFFIXES = ("", "_bucket", "_sum", "_count")


def number(server: Maitred, name: str) -> float | None:
    """Give the number of metric *name*, or None if it is not told."""
    text = httpx.get(f"{server.status()['admin'][0]}/metrics", trust_env=False).text
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else None


def test_metrics_of_the_application_are_merged(serve, tmp_path):
    """A sum over all workers, to which the dead belong; a gauge only of the living."""
    directory = tmp_path / "metrics"
    directory.mkdir()
    server = serve(
        "metered:app", "--admin", "127.0.0.1:0", "--policy", "round-robin", workers=2,
        env={"PROMETHEUS_MULTIPROC_DIR": str(directory)},
    )  # fmt: skip
    for _ in range(6):
        ask(server.port, "/")
    assert number(server, "app_requests_total") == 6
    wait_until("both are alive", lambda: number(server, "app_workers_alive") == 2)
    server.expect_log("SIGKILL")
    for _ in range(2):
        pid = server.kill_worker(0, signal.SIGKILL)
        wait_until("it is replaced", lambda: replaced(server, pid))  # noqa: B023
    wait_until("the dead are gone", lambda: number(server, "app_workers_alive") == 2)
    assert number(server, "app_requests_total") == 6
    assert number(server, "maitred_connections_accepted_total") == 6


def replaced(server: Maitred, pid: int) -> bool:
    """Say whether another worker than *pid* is ready in the first slot."""
    slot = server.status()["slots"][0]
    return slot["state"] == "ready" and slot["pid"] != pid


def test_statsd_is_told(serve):
    """The script sends what is new, and states as they are."""
    server = serve("probe:app", "--admin", "127.0.0.1:0", workers=1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
        statsd.bind(("127.0.0.1", 0))
        statsd.settimeout(DEADLINE)
        where = f"127.0.0.1:{statsd.getsockname()[1]}"
        url = server.status()["admin"][0]
        script = subprocess.Popen(
            [sys.executable, str(CONTRIB / "statsd.py"), url, where, "0.3"]
        )
        try:
            ask(server.port, "/")
            with connect(server.port) as client:
                client.ask(get())
                assert client.ask(b"GET / HTTP/1.1\r\n\r\n").status == 400
            sums: dict[str, float] = {}

            def told() -> bool:
                name, value, kind = re.match(
                    r"(.+):(.+)\|(.)", statsd.recv(1024).decode()
                ).groups()
                sums[name] = float(value) + (sums.get(name, 0) if kind == "c" else 0)
                wanted = ("worker.0.requests", "connections.refused")
                return [sums.get(f"maitred.{name}") for name in wanted] == [2, 1]

            wait_until("all requests are told", told)
        finally:
            script.terminate()
            script.wait()
    assert sums["maitred.connections.accepted"] == 2


def test_admin_requests_do_not_reach_the_master(serve):
    """However often it is asked, the master is asked four times a second at most."""
    server = serve("probe:app", "--admin", "127.0.0.1:0", workers=1)
    with httpx.Client(trust_env=False, timeout=DEADLINE) as client:
        url = server.status()["admin"][0] + "/api/snapshot"
        times = {client.get(url).json()["time"] for _ in range(200)}
        later = [client.get(url).json()["time"] for _ in range(200)]
    known = sorted(times | set(later))
    # How late an answer is counts once: at the beginning or at the end.
    assert len(known) <= 4 * (known[-1] - known[0]) + 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may be somebody else")
def test_token_is_asked_of_another_address(serve, tmp_path):
    """A peer that is not loopback is no one we know, whatever Host it says."""
    other = own_address()
    if other is None:
        pytest.skip("this machine has no address but loopback")
    token = tmp_path / "token"
    token.write_text("t0ken")
    token.chmod(0o600)
    server = serve(
        "probe:app", "--admin", "0.0.0.0:0", "--admin-token-file", str(token), workers=1
    )
    port = re.search(r":(\d+)$", server.status()["admin"][0])[1]
    url = f"http://{other}:{port}"
    with httpx.Client(trust_env=False, timeout=DEADLINE) as client:
        assert client.get(f"{url}/metrics").status_code == 401
        assert client.get(f"{url}/healthz").status_code == 200
        said = {"Authorization": "Bearer t0ken"}
        assert client.get(f"{url}/metrics", headers=said).status_code == 200


def own_address() -> str | None:
    """Give an address of this machine that is not loopback; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address: str = probe.getsockname()[0]
    return None if address.startswith("127.") else address


def test_grafana_names_metrics_that_exist():
    """Every metric in the dashboard is one that we tell."""
    dashboard = json.loads((CONTRIB / "grafana.json").read_text())
    panels = dashboard["panels"]
    text = json.dumps([panels, dashboard["annotations"]])
    named = set(re.findall(r"\b(?:maitred|process)_\w+", text))
    told = {
        metric.name + suffix
        for metric in METRICS
        for suffix in (SUFFIXES[1:] if metric.kind is Kind.HISTOGRAM else SUFFIXES[:1])
    } | {
        *("process_cpu_seconds_total", "process_resident_memory_bytes"),
        *("process_open_fds", "process_max_fds"),
    }
    assert named
    assert named <= told
    assert len({panel["id"] for panel in panels}) == len(panels)
    labels = {label for metric in METRICS for label in metric.labels} | {"le", "job"}
    assert set(re.findall(r"\{\{(\w+)\}\}", json.dumps(panels))) <= labels
