"""``--sandbox``: workers write in a few places only, and read what they could."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

import pytest

from driver import APPS, COMMAND, wait_until
from maitred import sandbox
from maitred.errors import ExitCode
from nobody import PACKAGES, SYSTEM, leave, needs_nobody
from raw_http import ask

ROOT = Path(__file__).parents[2]
REFUSING = str(ROOT / "tests" / "refusing.py")
WITHOUT = (sys.executable, REFUSING, "landlock_create_ruleset", "ENOSYS")
needs_landlock = pytest.mark.skipif(
    bool(sandbox.lack()), reason=f"--sandbox cannot be tried: {sandbox.lack()}"
)


class Places:
    """Directories, of which some may be written to."""

    def __init__(self, above: Path) -> None:
        """Make them."""
        self.work, self.temporary = above / "work", above / "tmp"
        self.data, self.outside = above / "data", above / "outside"
        for each in (self.work, self.temporary, self.data, self.outside):
            each.mkdir()
            each.chmod(0o777)
            (each / "file").write_text("there before")
            (each / "file").chmod(0o666)

    @property
    def options(self) -> tuple[str, ...]:
        """Run the workers here."""
        return ("--app-dir", str(APPS), "--chdir", str(self.work), "--no-access-log")

    @property
    def environment(self) -> dict[str, str]:
        """Say where temporary files belong."""
        return {"TMPDIR": str(self.temporary)}


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Make directories."""
    return Places(tmp_path)


def attempt(server, **what: object) -> str:
    """Have a worker try *what*; give what came of it."""
    said: str = ask(server.port, f"/?{urlencode(what)}").json
    return said


def check_open(server, place: Path) -> None:
    """Fail if a worker may not do something in *place*."""
    assert attempt(server, open=place / "new") == "done"
    assert attempt(server, move=place / "new", to=place / "moved") == "done"
    assert attempt(server, truncate=place / "moved") == "done"
    assert attempt(server, remove=place / "moved") == "done"
    assert attempt(server, link=place / "link") == "done"
    assert attempt(server, run=f"mkdir {place}/d; rmdir {place}/d") == "done"


def check_closed(server, place: Path, inside: Path) -> None:
    """Fail if a worker can write in *place*; from *inside* things may be moved."""
    file, refused = place / "file", "PermissionError"
    assert attempt(server, read=file) == "there before"
    for verb in ("open", "remove", "truncate"):
        assert attempt(server, **{verb: file}) == refused, verb
    assert attempt(server, open=place / "new") == refused
    assert attempt(server, link=place / "new") == refused
    # Across the border the kernel says that the two are different file systems.
    for path, to in ((file, inside / "new"), (inside / "file", place / "new")):
        assert attempt(server, move=path, to=to) in {refused, "OSError"}
    assert attempt(server, run=f"echo x > {file}") == "CalledProcessError"
    assert attempt(server, run=f"mkdir {place}/d") == "CalledProcessError"
    assert file.read_text() == "there before"
    assert os.listdir(place) == ["file"]


@needs_landlock
def test_worker_writes_where_it_runs_and_temporary_files(serve, places):
    """And nowhere else, whatever it starts; without the option it is as before."""
    server = serve(
        *("writing:app", "--sandbox", *places.options),
        workers=1,
        env=places.environment,
    )
    check_open(server, places.work)
    check_open(server, places.temporary)
    check_closed(server, places.outside, places.work)
    assert attempt(server, open="/dev/null") == "done"
    assert "NoNewPrivs:\t1" in attempt(server, read="/proc/self/status")
    assert attempt(server, read=f"/proc/{server.pid}/mem") == "PermissionError"
    # It holds for every generation, and after an upgrade.
    server.upgrade()
    server.reload()
    check_closed(server, places.outside, places.work)
    free = serve(*("writing:app", *places.options), workers=1, env=places.environment)
    check_open(free, places.outside)
    if os.geteuid() == 0:  # it may be opened, and has nothing at its beginning
        assert attempt(free, read=f"/proc/{free.pid}/mem") == "OSError"


@needs_landlock
def test_given_directories_are_in_the_place_of_where_it_runs(serve, places):
    """So that the code it runs is out of its reach; relative ones are understood."""
    server = serve(
        *("writing:app", "--sandbox", *places.options),
        *("--sandbox-write", str(places.data), "--sandbox-write", "outside"),
        workers=1,
        env={**places.environment, "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        cwd=places.outside.parent,
    )
    for place in (places.data, places.outside, places.temporary):
        check_open(server, place)
    check_closed(server, places.work, places.data)


@needs_landlock
def test_log_file_is_written_and_opened_anew(serve, places):
    """The log goes on, also after it was rotated; other files there stay."""
    logs = places.outside
    server = serve(
        *("writing:app", "--sandbox", *places.options[:-1]),
        *("--log-file", str(logs / "log")),
        ready=False,
        workers=1,
        env=places.environment,
    )
    server.wait_until_serving()
    server.port = int(server.status()["listening"][0].rpartition(":")[2])

    def has(name: str) -> bool:
        file = logs / name
        return file.exists() and f"read={name}" in file.read_text()

    assert attempt(server, read="log") == "FileNotFoundError"
    wait_until("it is logged", lambda: has("log"))
    (logs / "log").rename(logs / "log.1")
    server.tell(signal.SIGUSR1)
    wait_until("it is there again", (logs / "log").exists)
    wait_until("it is used", lambda: attempt(server, read="log") and has("log"))
    assert attempt(server, remove=logs / "file") == "PermissionError"


@needs_landlock
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler (cc)")
def test_workers_in_other_languages_are_confined_too(serve, places):
    """Before their first instruction, with the descriptors they are to have."""
    binary = places.temporary / "worker"
    source = ROOT / "examples" / "worker.c"
    subprocess.run(["cc", "-std=c11", "-O2", "-o", binary, source], check=True)
    tries = f"touch {places.data}/here {places.outside}/there; exec {binary}"
    server = serve(
        *(f"sh -c '{tries}'", "--exec", "--sandbox"),
        *("--sandbox-write", str(places.data)),
        workers=1,
        env=places.environment,
    )
    server.expect_log("Permission denied")
    assert b"Hello from a C worker" in ask(server.port).body
    assert (places.data / "here").exists()
    assert not (places.outside / "there").exists()
    (pid,) = server.worker_pids()
    assert "NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text()


@needs_landlock
@needs_nobody
def test_sandbox_needs_no_root(serve, places):
    """A service that has become somebody else confines its workers as well."""
    for each in places.work.parents:
        if each.stat().st_uid == os.geteuid() and len(each.parts) > 2:
            each.chmod(0o755)
    app = places.work / "writing.py"
    shutil.copy(APPS / "writing.py", app)
    server = serve(
        *("writing:app", "--sandbox", "--user", "nobody"),
        *("--app-dir", str(places.work), "--chdir", str(places.work)),
        command=SYSTEM,
        env={**PACKAGES, **places.environment},
        workers=1,
    )
    check_open(server, places.work)
    check_closed(server, places.outside, places.work)
    server.kill_worker(0)
    server.expect_log("was ended by SIGKILL; replaced")
    server.wait_for_log("replaced")
    check_closed(server, places.outside, places.work)
    leave(server)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run *command* to its end."""
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, cwd=APPS
    )


def test_without_landlock_nothing_is_started(tmp_path):
    """One sentence says why; the doctor knows it beforehand."""
    control = ("--control", str(tmp_path / "control.sock"), "--port", "0")
    result = run(*WITHOUT, COMMAND, "serve", "probe:app", "--sandbox", *control)
    assert result.returncode == ExitCode.SYSTEM
    assert result.stderr == (
        "maitred: --sandbox: this kernel has no Landlock, or it is switched off; leave"
        " it out, or use a newer kernel\n"
    )
    findings = json.loads(run(*WITHOUT, COMMAND, "doctor", "--json").stdout)
    (found,) = (each for each in findings if each["check"] == "sandbox")
    assert (found["state"], found["advice"]) == ("warning", "serve without --sandbox")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--sandbox-write", "/tmp"), "--sandbox-write needs --sandbox"),
        (("--sandbox", "--sandbox-write", "/nonexistent"), "no such directory"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path, options, sentence):
    """Before anything serves."""
    control = ("--control", str(tmp_path / "control.sock"), "--port", "0")
    result = run(COMMAND, "serve", "probe:app", *control, *options)
    assert result.returncode == ExitCode.USAGE
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1


@needs_landlock
def test_worker_that_cannot_be_confined_is_not_started(serve, places):
    """A directory that is gone when a worker starts is told in a sentence."""
    server = serve(
        *("writing:app", "--sandbox", *places.options),
        *("--sandbox-write", str(places.data)),
        workers=1,
        env=places.environment,
    )
    shutil.rmtree(places.data)
    server.expect_log("no worker in a sandbox|was ended by SIGKILL")
    server.kill_worker(0)
    server.wait_for_log(
        r"worker of slot 0 could not be started \(no worker in a sandbox:"
        rf" {places.data}: No such file or directory; .*next try in"
    )
    places.data.mkdir()
    wait_until(
        "it is tried again",
        lambda: server.status()["slots"][0]["state"] == "ready",
    )
