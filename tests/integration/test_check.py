"""``maitred check``: what a start would refuse, in the same words, without a start."""

from __future__ import annotations

import subprocess

import pytest

from driver import APPS, COMMAND
from maitred.errors import ExitCode
from raw_http import ask


def check(*arguments, cwd=APPS):
    """Check, to the end."""
    return subprocess.run(
        [COMMAND, "check", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("probe:app",),
        ("made:make", "--factory"),
        ("made:make()",),
        ("flasky:app", "--kind", "wsgi"),
        ("kinds:handler", "--kind", "handler", "--protocol", "kinds:LINES"),
        ("probe:app", "--affinity", "own_affinity:Rooms.first_letter"),
        ("threads:app",),
    ],
)
def test_what_can_be_served_is_said_in_a_line(arguments):
    """Also of an application with a thread that never ends."""
    result = check(*arguments)
    assert (result.returncode, result.stderr) == (0, "")
    target = arguments[0].removesuffix("()")
    assert result.stdout == (
        f"{target} can be served: all that a start needs was loaded; its lifespan was"
        " not run\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("nosuch:app",), ExitCode.APP, "cannot import 'nosuch' for target nosuch:app"),
        (("probe:nothing",), ExitCode.APP, "has no attribute 'nothing'"),
        (("probe:app", "--kind", "wsgi"), ExitCode.APP, "it is an ASGI application"),
        (("probe:app", "--certfile", "no.pem", "--keyfile", "no.pem"), 2, "no.pem"),
        (("probe:app", "--affinity", "probe:nothing"), 2, "probe:nothing"),
        (("probe:app", "--sticky-key-file", "nowhere"), 2, "cannot be read"),
        (("probe:app", "--env-file", "nowhere"), 2, "cannot be read"),
        (("probe:app", "--pid", "/nonexistent/pid"), 4, "cannot be written"),
        (("probe:app", "--log-file", "/nonexistent/log"), 4, "cannot be written"),
        (("probe:app", "--bind", "203.0.113.1:80"), 4, "cannot listen on"),
        (("probe:app", "--bind", "no such host:80"), 4, "is not a known host"),
        (("probe:app", "--bind", "unix:/nonexistent/x"), 4, "cannot listen on"),
        (("probe:app", "--bind", "80"), 2, "is not host:port"),
        (("nosuchprogram", "--exec"), 4, "cannot start nosuchprogram"),
        (("stuck:app", "--ready-timeout", "0.01"), 3, "was not loaded within"),
    ],
)
def test_what_cannot_be_served_is_refused(arguments, code, sentence):
    """With the exit code of a start."""
    result = check(*arguments)
    assert result.returncode == code
    assert result.stdout == ""
    assert sentence in result.stderr.splitlines()[-1]


def test_application_explains_itself(tmp_path):
    """Its own traceback stands before the sentence, as at a start, without ours."""
    (tmp_path / "wrong.py").write_text("import os\n\nos.nothing()\n")
    result = check("wrong:app", cwd=tmp_path)
    assert result.returncode == ExitCode.APP
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert 'wrong.py", line 3' in result.stderr
    assert "maitred/worker" not in result.stderr
    assert "cannot import 'wrong'" in result.stderr.splitlines()[-1]


def test_setting_that_does_not_exist_is_refused(tmp_path):
    """With file and line."""
    (tmp_path / "maitred.toml").write_text('target = "probe:app"\nworker = 2\n')
    result = check(cwd=tmp_path)
    assert result.returncode == ExitCode.USAGE
    assert "maitred.toml, line 2: there is no setting 'worker'" in result.stderr


def test_running_service_is_not_disturbed(serve):
    """Its address is taken, and that is no mistake; it serves on."""
    server = serve("probe:app", workers=1)
    result = check("probe:app", "--bind", f"127.0.0.1:{server.port}")
    assert result.returncode == 0
    assert ask(server.port).status == 200


def test_no_file_is_made(tmp_path):
    """No log, no socket and no pid file."""
    files = [str(tmp_path / name) for name in ("log", "x.sock", "pid", "control.sock")]
    log, sock, pid, control = files
    bind = f"unix:{sock}"
    options = ("--log-file", log, "--bind", bind, "--pid", pid, "--control", control)
    assert check("probe:app", *options).returncode == 0
    assert not list(tmp_path.iterdir())


def test_lifespan_does_not_run():
    """It could change something, and a start runs it."""
    result = check("lifespan_app:app")
    assert result.returncode == 0
    assert "its lifespan was not run" in result.stdout
