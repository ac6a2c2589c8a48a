"""Settings in files and in the environment, and what a reload makes of them."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from driver import COMMAND
from maitred.control import ask
from maitred.errors import CommandFailed, ExitCode
from raw_http import connect, get

FILE = """
target = "probe:app"
affinity = ["header:x-session"]  # the client makes the names
access-log = false
"""
IDLE = "timeout-keep-alive = 7.5\n"


@pytest.fixture
def file(tmp_path):
    """A file of settings."""
    path = tmp_path / "service.toml"
    path.write_text(FILE)
    return path


@pytest.fixture
def configured(serve, file):
    """Serve what the file says, and what is said besides."""
    return lambda *options, **details: serve(f"--config={file}", *options, **details)


def ask_for(server, path):
    """Ask once for *path*."""
    with connect(server.port) as client:
        assert client.ask(get(path)).status == 200


def run(*arguments, cwd):
    """Run the command line to its end, in *cwd*."""
    command = [COMMAND, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_service_is_described_in_a_file_and_in_the_environment(configured):
    """Nothing of it stands on the command line."""
    server = configured(env={"MAITRED_MAX_KEYS": "77", "MAITRED_POLICY": "round-robin"})
    status = server.status()
    assert status["target"] == "probe:app"
    assert status["affinity"] == ["header:x-session"]
    assert (status["max_keys"], status["policy"]) == (77, "round-robin")
    ask_for(server, "/quiet")
    assert "/quiet" not in server.log


def test_variable_that_is_no_setting_is_told_and_does_no_harm(configured):
    """It may be a slip."""
    server = configured(env={"MAITRED_WORKRES": "3"})
    server.wait_for_log(r"WARNING .*\$MAITRED_WORKRES is no setting; the nearest is")
    server.expected.append(r"MAITRED_WORKRES")


def test_reload_reads_the_file_again(configured, file):
    """What only workers have to know; the rest is told to need a restart."""
    server = configured()
    ask_for(server, "/one")
    file.write_text(FILE.replace("false", "true"))
    server.reload()
    ask_for(server, "/two")
    server.wait_for_log(r"/two")
    assert "/one" not in server.log

    server.expected.append(r"a reload does not change affinity, window")
    file.write_text(FILE.replace("true", "false").replace("x-se", "y-se") + "window=9")
    server.reload()
    server.wait_for_log(r"WARNING .* does not change affinity, window: restart")
    ask_for(server, "/three")
    assert "/three" not in server.log
    assert server.status()["affinity"] == ["header:x-session"]


def test_reload_with_a_file_that_cannot_be_read_changes_nothing(configured, file):
    """Whoever asks is told why; nothing starts, nothing ends."""
    server = configured()
    before = server.status()
    server.expected.append(r"nothing is reloaded")
    file.write_text(FILE + "worker = 2\n")
    with pytest.raises(CommandFailed, match=r"is reloaded: .*, line 5: there is"):
        ask(server.control, "reload")
    server.tell(signal.SIGHUP)
    server.wait_for_log(r"WARNING .*nothing is reloaded: .*service\.toml, line 5")
    after = server.status()
    assert after["generation"] == before["generation"]
    assert [s["pid"] for s in after["slots"]] == [s["pid"] for s in before["slots"]]
    file.write_text(FILE)
    server.reload()


def test_upgrade_brings_no_other_settings_but_the_next_reload_does(configured, file):
    """New code and new settings are two things, and can go wrong one by one."""
    server = configured(workers=2)
    file.write_text("this is no TOML")
    assert server.upgrade()["to"]
    server.wait_until_serving()
    ask_for(server, "/one")
    file.write_text(FILE.replace("false", "true"))
    server.reload()
    ask_for(server, "/two")
    server.wait_for_log(r"/two")
    assert "/one" not in server.log


def test_config_shows_what_holds_and_why(tmp_path, file):
    """For people and for programs; nothing is started."""
    (tmp_path / "maitred.toml").write_text(file.read_text() + IDLE)
    shown = run("config", "-w", "3", cwd=tmp_path)
    assert shown.returncode == ExitCode.OK
    assert "access-log " in shown.stdout
    rows = [line.split(maxsplit=2) for line in shown.stdout.splitlines()]
    assert ["workers", "3", "--workers"] in rows
    assert ["timeout-keep-alive", "7.5", "maitred.toml, line 5"] in rows
    assert ["policy", "least", "default"] in rows
    said = json.loads(run("config", "-w", "3", "--json", cwd=tmp_path).stdout)
    assert said["workers"] == {"value": 3, "from": "--workers"}
    assert said["affinity"]["value"] == ["header:x-session"]
    assert said["affinity"]["from"] == "maitred.toml, line 3"


@pytest.mark.parametrize("command", ["serve", "keep", "config"])
def test_what_cannot_be_is_one_sentence(tmp_path, command):
    """Wherever it is read."""
    (tmp_path / "maitred.toml").write_text(FILE + "\nworkers = 0\n")
    result = run(command, cwd=tmp_path)
    assert result.returncode == ExitCode.USAGE
    assert result.stderr == (
        "maitred: --workers 0: between 1 and 1024 are possible"
        " (workers: maitred.toml, line 6)\n"
    )
