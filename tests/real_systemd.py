"""
A real systemd for tests: a manager of user units, in namespaces of its own.

It is given the unit files that it knows, and no others; it sees a /run of its own, and
its processes are its own. Invariant: whatever it started is gone after ``close``, with
its control groups.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import uuid
from pathlib import Path

from driver import DEADLINE, wait_until

SYSTEMD = Path("/lib/systemd/systemd")
GROUPS = Path("/sys/fs/cgroup")
RUNTIME = "/run/user/0"
BEGIN = f"""
mount -t tmpfs none /run
mkdir -p /run/systemd/system {RUNTIME}
{SYSTEMD} --user --unit=basic.target --log-target=console --log-level=info &
wait
"""
"What its namespaces begin with: it looks for the directory, as a sign of a system."
TARGETS = ("basic", "shutdown", "sockets", "multi-user")


class Systemd:
    """One manager, and the units it is given."""

    def __init__(self, directory: Path, units: dict[str, str]) -> None:
        """Start it with *units*, file names and texts, in *directory*."""
        self._name = f"maitred-test-{uuid.uuid4().hex}"
        self.log = directory / "systemd.log"
        place = directory / "units"
        for name, text in units.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text)
        for target in TARGETS:
            text = "[Unit]\nDefaultDependencies=no\n"
            (place / f"{target}.target").write_text(text)
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--fork", "--kill-child",
                 "--mount-proc", "sh", "-ec", self._enter() + BEGIN],
                env={**os.environ, "XDG_RUNTIME_DIR": RUNTIME,
                     "SYSTEMD_UNIT_PATH": str(place)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )  # fmt: skip
        try:
            wait_until("systemd is there", self._is_up)
        except BaseException:
            self.close()
            raise

    def _enter(self) -> str:
        """Return the shell commands that enter a control group of the manager's own."""
        lines = [f"mkdir {path}\necho $$ > {path}/cgroup.procs" for path in self._top()]
        return "\n".join(lines)

    def _top(self) -> list[Path]:
        """Return the hierarchies of groups by which systemd knows processes."""
        either = (GROUPS / "systemd", GROUPS / "unified", GROUPS)
        held = [path for path in either if (path / "cgroup.procs").exists()]
        return [path / self._name for path in held]

    def _is_up(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        return (
            bool(self.first)
            and not self.ctl("is-active", "basic.target", check=False).returncode
        )

    @property
    def first(self) -> str:
        """Return the pid here of its namespace's process 1; empty at first."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return children.read_text().strip()

    def ctl(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``systemctl`` with *words*."""
        done = subprocess.run(
            ["nsenter", "--target", self.first, "--mount", "--pid",
             "systemctl", "--user", *words],
            env={**os.environ, "XDG_RUNTIME_DIR": RUNTIME},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr + self._told(words[-1])
        return done

    def show(self, unit: str, name: str) -> str:
        """Return property *name* of *unit*."""
        return self.ctl("show", unit, "--property", name, "--value").stdout.strip()

    def _told(self, unit: str) -> str:
        """Return what is known about *unit* when it has failed."""
        return self.ctl("status", unit, check=False).stdout + self.log.read_text()

    def close(self) -> None:
        """Kill the manager and all it started; the kernel does, with the namespace."""
        self._process.kill()
        self._process.wait()
        left = [*GROUPS.glob(self._name), *GROUPS.glob(f"*/{self._name}")]
        for path in left:
            wait_until(f"{path} is empty", lambda path=path: self._remove(path))

    def _remove(self, path: Path) -> bool:
        for below, _, _ in os.walk(path, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(below)
        return not path.exists()


def why_not() -> str:
    """Return why there can be no such manager here; empty: there can."""
    if os.geteuid() != 0:
        return "only root may make the namespaces"
    for program in (str(SYSTEMD), "systemctl", "nsenter", "unshare"):
        if shutil.which(program) is None:
            return f"there is no {program}"
    tried = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "true"]
    if subprocess.run(tried, capture_output=True, check=False).returncode:
        return "namespaces are forbidden here"
    return ""
