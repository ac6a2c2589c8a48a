"""What a service is told of its process: user, umask, pid file, environment, reload."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from driver import APPS, COMMAND, Server, wait_until
from maitred.errors import ExitCode
from nobody import NOBODY, PACKAGES, SYSTEM, leave, needs_nobody
from raw_http import connect, get


def process_of(server):
    """Give what the application says of its process."""
    with connect(server.port) as client:
        return client.ask(get("/process")).json


def run(*arguments):
    """Run the command line to its end."""
    return subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, cwd=APPS, check=False
    )


def test_function_makes_the_application(serve, tmp_path):
    """What it raises is the application's to explain."""
    control = ("--control", str(tmp_path / "control.sock"))
    server = serve("made:make", "--factory", "--no-access-log", workers=1)
    assert process_of(server)["path"] == "/process"
    for name, said in {
        "fail": "RuntimeError: no application today",
        "leave": "SystemExit: nobody has paid",
    }.items():
        result = run("serve", f"made:{name}", "--factory", "--port", "0", *control)
        assert result.returncode == ExitCode.APP
        assert result.stderr.splitlines()[-1] == (
            f"maitred: target made:{name} does not make an application: {said}"
        )


def test_root_path_umask_and_variables_reach_the_application(serve, tmp_path):
    """A variable that is set already stays."""
    file = tmp_path / "app.env"
    file.write_text("# for the application\nTOLD='yes, indeed'\nKEPT=file\n")
    server = serve(
        *("made:app", "--umask", "027", "--env-file", str(file)),
        env={"KEPT": "outside"},
        workers=1,
    )
    said = process_of(server)
    assert (said["umask"], said["told"], said["kept"]) == (
        "0027",
        "yes, indeed",
        "outside",
    )
    assert said["root_path"] == ""
    other = serve("made:app", "--root-path", "/shop", workers=1)
    with connect(other.port) as client:
        assert client.ask(get("/elsewhere")).json["path"] == "/shop/elsewhere"


def test_workers_can_get_no_privileges(serve):
    """Not by a program that has the set-user-ID bit either."""
    assert process_of(serve("made:app", workers=1))["no_new_privs"] == "1"


def test_workers_may_be_allowed_new_privileges(serve):
    """As sudo and ping need it, where somebody says so."""
    server = serve("made:app", "--allow-new-privileges", workers=1)
    assert process_of(server)["no_new_privs"] == "0"
    server.reload()
    assert process_of(server)["no_new_privs"] == "0"


def test_pid_file_that_names_who_started_us_was_left_over(serve, tmp_path):
    """As 1 does in a container in which a keeper is process 1 now."""
    file = tmp_path / "pid"
    file.write_text(f"{os.getpid()}\n")
    kept = serve("probe:app", "--pid", str(file), verb="keep", workers=1)
    assert file.read_text() == f"{kept.status()['pid']}\n"


def test_service_without_a_control_socket_is_steered_by_signals(tmp_path):
    """Where no file can be made: it reloads, upgrades and stops, and leaves nothing."""
    command = [COMMAND, "serve", "probe:app", "--control", "none", "--workers", "1"]
    server = Server([*command, "--bind", "127.0.0.1:0"], tmp_path / "log")
    try:
        server.wait_for_log("1 workers of generation 1 ready")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("1 workers of generation 2 ready")
        server.process.send_signal(signal.SIGUSR2)
        server.wait_for_log("upgraded from")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("1 workers of generation 3 ready")
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert not (APPS / "none").exists()
    finally:
        server.kill_all()
    asked = run("status", "--control", "none")
    assert asked.returncode == ExitCode.USAGE
    assert "a service with --control none can be asked nothing" in asked.stderr


def test_pid_file_is_there_while_the_master_is(serve, tmp_path):
    """It survives an upgrade, and nobody else's is touched."""
    file = tmp_path / "pid"
    file.write_text("4194399\n")  # of somebody who is dead
    server = serve("probe:app", "--pid", str(file), workers=1)
    assert file.read_text() == f"{server.process.pid}\n"
    control = ("--control", str(tmp_path / "other.sock"))
    result = run("serve", "probe:app", "--pid", str(file), *control, "--port", "0")
    assert result.returncode == ExitCode.SYSTEM
    assert f"names process {server.process.pid}, which is alive" in result.stderr
    server.upgrade()
    server.wait_until_serving()
    assert file.read_text() == f"{server.process.pid}\n"
    assert server.stop() == 0
    assert not file.exists()


def test_pid_file_replaces_nothing_else(serve, tmp_path):
    """Neither what is no pid file, nor what a link says that somebody has made."""
    file = tmp_path / "app.py"
    file.write_text("import this\n")
    control = ("--control", str(tmp_path / "other.sock"))
    result = run(
        "serve", "probe:app", "--pid", str(file), *control, "--port", "0", "-w", "1"
    )
    assert result.returncode == ExitCode.SYSTEM
    assert result.stderr == f"maitred: --pid {file} holds no pid: name another file\n"
    assert file.read_text() == "import this\n"
    link = tmp_path / "pid"
    link.symlink_to(tmp_path / "empty")
    (tmp_path / "empty").touch()
    server = serve("probe:app", "--pid", str(link), workers=1)
    assert not link.is_symlink()
    assert (tmp_path / "empty").read_text() == ""
    assert server.stop() == 0


@needs_nobody
def test_root_is_given_up_for_good(serve):
    """Master and workers are somebody else when all is open that takes root."""
    server = serve("made:app", "--user", "nobody", command=SYSTEM, env=PACKAGES)
    said = process_of(server)
    assert said["uids"] == [NOBODY.pw_uid] * 4
    assert said["gids"] == [NOBODY.pw_gid] * 4
    assert 0 not in said["groups"]
    control = Path(server.control)
    assert control.stat().st_uid == NOBODY.pw_uid
    for pid in (server.process.pid, *server.worker_pids()):
        status = Path(f"/proc/{pid}/status").read_text()
        assert f"Uid:\t{NOBODY.pw_uid}\t{NOBODY.pw_uid}\t{NOBODY.pw_uid}" in status
        assert "CapEff:\t0000000000000000" in status
    leave(server)


@needs_nobody
@pytest.mark.parametrize("how", ["reload", "upgrade", "kill"])
def test_service_without_root_goes_on(serve, tmp_path, how):
    """It needs root for nothing after the start."""
    server = serve(
        *("made:app", "--user", "nobody", "--group", "nogroup"),
        *("--pid", str(tmp_path / "pid")),  # where nobody may write
        command=SYSTEM,
        env=PACKAGES,
        workers=2,
    )
    before = server.worker_pids()
    if how == "upgrade":
        server.upgrade()
        server.wait_until_serving()
    if how == "kill":
        server.expect_log("killed|replaced|lost")
        server.kill_worker(0)
        wait_until("another is there", lambda: server.worker_pids()[0] != before[0])
        server.wait_until_serving()
    server.reload()
    assert process_of(server)["uids"] == [NOBODY.pw_uid] * 4
    assert not set(before) & set(server.worker_pids())
    leave(server)


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (("--user", "nosuchuser"), ExitCode.USAGE, "there is no such user"),
        (("--group", "nosuchgroup"), ExitCode.USAGE, "there is no such group"),
        (("--umask", "9"), ExitCode.USAGE, "octal digits are needed"),
        (("--env-file", "/nonexistent"), ExitCode.USAGE, "cannot be read"),
        (("--pid", "/nonexistent/pid"), ExitCode.SYSTEM, "cannot be written"),
        (("--root-path", "shop"), ExitCode.USAGE, "a path that begins with /"),
        (("--limit-concurrency", "-1"), ExitCode.USAGE, "0 for no limit"),
        (("--reload-dir", "."), ExitCode.USAGE, "needs --reload"),
        (("--reload", "--reload-dir", "/nonexistent"), ExitCode.USAGE, "no such dire"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path, options, code, sentence):
    """Before anything serves."""
    control = ("--control", str(tmp_path / "control.sock"))
    result = run("serve", "probe:app", *control, "--port", "0", *options)
    assert result.returncode == code
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_change_of_a_file_is_a_reload(serve, tmp_path):
    """What cannot be loaded is told; what serves serves on until it can."""
    source = tmp_path / "changing.py"
    text = "import made, json\nWHO = {!r}\n"
    text += "async def app(scope, receive, send):\n"
    text += "    if scope['type'] != 'http':\n"
    text += "        return await made.app(scope, receive, send)\n"
    text += "    start = {{'type': 'http.response.start', 'status': 200}}\n"
    text += "    await send(start)\n"
    text += "    body = json.dumps(WHO).encode()\n"
    text += "    await send({{'type': 'http.response.body', 'body': body}})\n"
    source.write_text(text.format("one"))
    server = serve(
        *("changing:app", "--reload", "--app-dir", str(tmp_path), "--no-access-log"),
        env={"PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{APPS}"},
        workers=1,
    )
    server.wait_for_log("watching")

    def said():
        with connect(server.port) as client:
            return client.ask(get("/")).json

    def changed(to):
        source.write_text(to)  # again, until whoever watches has begun to
        return True

    wait_until("two is served", lambda: changed(text.format("two")) and said() == "two")
    server.expect_log("reload failed|Traceback|SyntaxError|changing|early|died|ended")
    source.write_text("this is no Python")
    server.wait_for_log("reload failed")
    assert said() == "two"
    source.write_text(text.format("three"))
    wait_until("three is served", lambda: said() == "three")
