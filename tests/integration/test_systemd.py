"""The unit files of contrib/, under a real systemd."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from driver import APPS, COMMAND, wait_until
from maitred.control import ask as ask_master
from manager import refusals
from raw_http import ask, connect_unix, get
from real_systemd import RUNTIME, Systemd, why_not

WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
ROOT = Path(__file__).parents[2]
UNITS = ROOT / "contrib" / "systemd"
SERVICE = "counter.service"
ADDRESS = "127.0.0.1:{}"
SEES = (ROOT, Path(COMMAND).resolve().parents[2])
"What the service has to see of this machine, wherever it stands."
# A user's manager has no other users, its own places, and not every kernel lets it hide
# the kernel's files.
HERE = {
    r"User=counter\n": "",
    r"/srv/counter/\.venv/bin/maitred": COMMAND,
    r"WorkingDirectory=.*": f"WorkingDirectory={APPS}",
    r"counter:app": "probe:app",
    r"--bind": "--workers 2 --bind",
    r"/run/counter": f"{RUNTIME}/counter",
    r"ProtectHome=yes": "ProtectHome=read-only",
    r"ProtectKernel(Logs|Tunables)=yes\n": "",
}


class Service:
    """The service of contrib/, as the manager has it."""

    def __init__(
        self,
        directory: Path,
        *,
        own_socket: bool,
        watchdog: int,
        listen: str,
        bind: str,
    ) -> None:
        """
        Start the manager, and through it the service or its socket.

        Args:
            directory: For its files.
            own_socket: Whether there is a socket unit.
            watchdog: Seconds after which a silent service is ended.
            listen: Where the socket unit listens, with {} for the port.
            bind: Where the service does.
        """
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        units = {SERVICE: (UNITS / "maitred.service").read_text()}
        for pattern, text in HERE.items():
            units[SERVICE], found = re.subn(pattern, text, units[SERVICE])
            assert found, pattern
        lines = ["[Service]"]
        if path := os.environ.get("PYTHONPATH"):
            lines += [f"Environment=PYTHONPATH={path}"]
        lines += [f"BindReadOnlyPaths={path}" for path in SEES]
        lines += [f"WatchdogSec={watchdog}"]
        lines += [f"StandardError=append:{directory / 'systemd.log'}"]
        if own_socket:
            lines += ["[Unit]", "Requires=counter.socket", "After=counter.socket"]
            units["counter.socket"] = (UNITS / "maitred.socket").read_text()
        units[f"{SERVICE}.d/here.conf"] = "\n".join(lines)
        for name, text in units.items():
            place = (listen if name == "counter.socket" else bind).format(self.port)
            units[name] = text.replace("127.0.0.1:8000", place)
        self.systemd = Systemd(directory, units)

    def status(self) -> dict:
        """Ask the master."""
        control = f"/proc/{self.systemd.first}/root{RUNTIME}/counter/control.sock"
        return ask_master(control, "status")

    def answers(self) -> int:
        """Ask the application for something; give the status."""
        return ask(self.port).status

    def is_served_after(self, done: int) -> bool:
        """Say whether the service is up, after *done* restarts."""
        show = self.systemd.show
        return (
            show(SERVICE, "NRestarts") == str(done)
            and show(SERVICE, "ActiveState") == "active"
        )


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Make services, which are gone after the test."""
    made: list[Service] = []

    def make(
        *,
        own_socket: bool = False,
        watchdog: int = 30,
        listen: str = ADDRESS,
        bind: str = ADDRESS,
    ) -> Service:
        made.append(
            Service(
                tmp_path,
                own_socket=own_socket,
                watchdog=watchdog,
                listen=listen,
                bind=bind,
            )
        )
        return made[-1]

    yield make
    for each in made:
        each.systemd.close()


def test_unit_serves_reloads_and_stops(service):
    """With all its hardening: start waits for the workers, reload for new ones."""
    ours = service()
    ours.systemd.ctl("start", SERVICE)
    assert ours.systemd.show(SERVICE, "StatusText") == "2 workers of generation 1 ready"
    assert ours.answers() == 200
    ours.systemd.ctl("reload", SERVICE)
    assert ours.systemd.show(SERVICE, "StatusText") == "2 workers of generation 2 ready"
    assert ours.answers() == 200
    assert ours.status()["generation"] == 2
    ours.systemd.ctl("stop", SERVICE)
    assert ours.systemd.show(SERVICE, "Result") == "success"


def test_killed_master_is_started_again_and_nobody_is_refused(service):
    """The listener is in the manager's store meanwhile."""
    ours = service()
    ours.systemd.ctl("start", SERVICE)
    before = ours.status()["pid"]
    stop = threading.Event()
    refused: list[str] = []
    knocking = threading.Thread(
        target=lambda: refused.extend(refusals(("127.0.0.1", ours.port), stop))
    )
    knocking.start()
    try:
        ours.systemd.ctl("kill", "--kill-who=main", "--signal=KILL", SERVICE)
        wait_until("it is served again", lambda: ours.is_served_after(1))
    finally:
        stop.set()
        knocking.join()
    assert refused == []
    assert ours.answers() == 200
    assert ours.status()["pid"] != before


def test_stuck_master_is_ended_by_the_watchdog(service):
    """A master whose loop does not turn is replaced."""
    ours = service(watchdog=1)
    ours.systemd.ctl("start", SERVICE)
    ours.systemd.ctl("kill", "--kill-who=main", "--signal=STOP", SERVICE)
    wait_until("it is served again", lambda: ours.is_served_after(1))
    assert ours.answers() == 200


@pytest.mark.parametrize(
    ("listen", "bind"), [(ADDRESS, ADDRESS), ("{}", ":{}"), ("{}", "0.0.0.0:{}")]
)
def test_socket_unit_listens_before_the_service(service, listen, bind):
    """Who connects first waits, and starts the service by that."""
    ours = service(own_socket=True, listen=listen, bind=bind)
    ours.systemd.ctl("start", "counter.socket")
    assert ours.systemd.show(SERVICE, "ActiveState") == "inactive"
    assert ours.answers() == 200
    wait_until("the manager knows", lambda: ours.is_served_after(0))
    ours.systemd.ctl("stop", SERVICE, "counter.socket")


def test_abstract_socket_comes_back_from_the_store(service):
    """And the service does not refuse it as somebody else's."""
    name = f"@maitred-test-{uuid.uuid4().hex}"
    ours = service(bind=f"unix:{name}")
    ours.systemd.ctl("start", SERVICE)
    ours.systemd.ctl("kill", "--kill-who=main", "--signal=KILL", SERVICE)
    wait_until("it is served again", lambda: ours.is_served_after(1))
    with connect_unix(name.replace("@", "\0", 1)) as client:
        assert client.ask(get()).status == 200
    assert ours.status()["listening"] == [f"unix:{name}"]


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze"
)
def test_units_have_no_fault(tmp_path):
    """There is no line that is not known, and systemd is content."""
    text = (UNITS / "maitred.service").read_text()
    text = re.sub(r"/srv/counter/\.venv/bin/maitred", "/bin/true", text)
    unit = tmp_path / SERVICE
    unit.write_text(text.replace("Documentation=man:maitred(1)\n", ""))
    (tmp_path / "counter.socket").write_text((UNITS / "maitred.socket").read_text())
    done = subprocess.run(
        ["systemd-analyze", "verify", unit, tmp_path / "counter.socket"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", unit],
        capture_output=True,
        check=True,
    )
