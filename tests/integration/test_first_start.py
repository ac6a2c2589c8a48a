"""A first start that can never succeed: its exit code, and one sentence."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from driver import APPS, COMMAND
from maitred import sandbox
from maitred.config import Settings
from maitred.errors import ExitCode
from maitred.master.program import command_of
from raw_http import ask

REFUSING = str(Path(__file__).parents[1] / "refusing.py")
DOCTOR = "; `maitred doctor` says what this machine refuses\n"
REFUSALS = {
    "pidfd_open": f"cannot watch {sys.executable}",
    "memfd_create": ("the system refuses memory for a scoreboard (memfd_create)"),
}
ERRORS = {"EPERM": "Operation not permitted", "ENOSYS": "Function not implemented"}


needs_landlock = pytest.mark.skipif(
    bool(sandbox.lack()), reason="--sandbox cannot be tried"
)


def refusing(call: str, error: str) -> tuple[str, ...]:
    """Give what becomes a command for which the system refuses *call*."""
    return (sys.executable, REFUSING, call, error)


@pytest.fixture
def programs(tmp_path: Path) -> dict[str, Path]:
    """Make files that are no programs, each for another reason."""
    made = {
        "No such file or directory": tmp_path / "missing",
        "Permission denied": tmp_path / "unfit",
        "Exec format error": tmp_path / "nonsense",
    }
    made["Permission denied"].write_text("#!/bin/sh\n")
    made["Exec format error"].write_text("nonsense")
    made["Exec format error"].chmod(0o755)
    return made


@pytest.mark.parametrize("verb", ["serve", "keep"])
@pytest.mark.parametrize(
    "why", ["No such file or directory", "Permission denied", "Exec format error"]
)
def test_program_that_cannot_be_started_is_not_tried_again(serve, programs, why, verb):
    """A keeper leaves with that exit code as well."""
    program = programs[why]
    server = serve(str(program), "--exec", verb=verb, ready=False)
    assert server.wait() == ExitCode.SYSTEM
    own = [line for line in server.log.splitlines(True) if "] keeping " not in line]
    assert own == [f"maitred: cannot start {program}: {why}{DOCTOR}"]


@needs_landlock
@pytest.mark.parametrize(
    "why", ["No such file or directory", "Permission denied", "Exec format error"]
)
def test_program_that_cannot_be_started_in_a_sandbox_is_told_likewise(
    serve, programs, why
):
    """Although the process that was to become it was started."""
    program = programs[why]
    server = serve(str(program), "--exec", "--sandbox", ready=False)
    assert server.wait() == ExitCode.SYSTEM
    assert server.log == f"maitred: cannot start {program}: {why}{DOCTOR}"


@needs_landlock
def test_worker_that_can_never_be_confined_ends_the_first_start(serve, tmp_path):
    """The sandbox is no program that could be left out."""
    write = tmp_path / "write"
    write.mkdir()
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\nrmdir {write}\nexit 3\n")
    program.chmod(0o755)
    server = serve(
        str(program), "--exec", "--sandbox", "--sandbox-write", str(tmp_path),
        "--sandbox-write", str(write), workers=1, ready=False,
    )  # fmt: skip
    server.expect_log("exited with code 3 before it was ready")
    assert server.wait() == ExitCode.SYSTEM
    why = f"no worker in a sandbox: {write}: No such file or directory"
    assert server.log.endswith(f"maitred: {why}{DOCTOR}")


@needs_landlock
def test_worker_that_exits_with_that_code_itself_is_tried_again(serve, tmp_path):
    """Because it was started: it may know better next time."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 127\n")
    program.chmod(0o755)
    server = serve(str(program), "--exec", "--sandbox", workers=1, ready=False)
    server.expect_log("exited with code 127 before it was ready; next try in")
    server.wait_for_log("exited with code 127 before it was ready; next try in", 2)
    assert server.stop() == 0


@pytest.mark.parametrize("acceptors", ["1", "2"])
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("call", REFUSALS)
def test_system_call_that_is_refused_ends_the_first_start(
    serve, call, error, acceptors
):
    """It says which one; with several acceptors, those are refused it too."""
    server = serve(
        "probe:app", "--acceptors", acceptors,
        ready=False, through=refusing(call, error),
    )  # fmt: skip
    server.expect_log(r"acceptor \d could not be started")
    assert server.wait() == ExitCode.SYSTEM
    sentence = f"maitred: {REFUSALS[call]}: {ERRORS[error]}{DOCTOR}"
    assert server.log.endswith(sentence)
    if acceptors == "1":
        assert server.log == sentence


@pytest.mark.parametrize("call", REFUSALS)
def test_check_says_the_same(call):
    """Without a start."""
    done = subprocess.run(
        [*refusing(call, "EPERM"), COMMAND, "check", "probe:app"],
        capture_output=True, text=True, cwd=APPS, check=False,
    )  # fmt: skip
    assert done.returncode == ExitCode.SYSTEM
    assert done.stderr == f"maitred: {REFUSALS[call]}: {ERRORS['EPERM']}{DOCTOR}"


def test_service_that_serves_outlives_its_program(serve, tmp_path):
    """A reload is refused with the sentence; a dead worker is waited for."""
    program = tmp_path / "program"
    worker = command_of(Settings(target="probe:app", workers=1))
    program.write_text(f"#!/bin/sh\nexec {shlex.join(worker)}\n")
    program.chmod(0o755)
    server = serve(str(program), "--exec", workers=1)
    server.expect_log(r"reload failed|replaced|could not be started")
    (old,) = server.worker_pids()
    hidden = program.rename(tmp_path / "hidden")
    done = subprocess.run(
        [COMMAND, "reload", "--control", server.control],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == ExitCode.FAILED
    assert done.stderr.splitlines()[-1] == (
        "maitred: reload failed: worker of slot 0 could not be started (cannot start"
        f" {program}: No such file or directory{DOCTOR.rstrip()}); generation 1 serves"
        " on"
    )
    assert ask(server.port).json["pid"] == old
    server.kill_worker(0)
    server.wait_for_log("could not be started .*; next try in", 2)
    hidden.rename(program)
    server.wait_until_serving()
    assert ask(server.port).json["pid"] != old


def test_workers_that_could_not_attach_are_not_waited_for(serve, tmp_path):
    """What each of them is to be given cannot be made."""
    server = serve(
        "", "--attach", str(tmp_path / "attach.sock"),
        ready=False, through=refusing("memfd_create", "EPERM"),
    )  # fmt: skip
    assert server.wait() == ExitCode.SYSTEM
    sentence = f"{REFUSALS['memfd_create']}: {ERRORS['EPERM']}{DOCTOR}"
    assert server.log == f"maitred: {sentence}"
