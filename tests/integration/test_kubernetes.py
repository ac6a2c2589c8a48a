"""The manifest and the image of contrib/, as far as they can be tried here."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import httpx
import pytest
import yaml

from driver import DEADLINE, wait_until
from maitred.admin.app import OPEN_TO_ALL
from maitred.cli.main import cli
from maitred.cli.serve import serve as serve_command
from maitred.cli.serve import settings_of
from maitred.config import Settings
from maitred.master.master import LAST_WORDS
from nobody import NOBODY, PACKAGES, SYSTEM, needs_nobody
from raw_http import connect, get

CONTRIB = Path(__file__).parents[2] / "contrib"
DEPLOYMENT, SERVICE = yaml.safe_load_all(
    (CONTRIB / "kubernetes" / "maitred.yaml").read_text(encoding="utf-8")
)
POD = DEPLOYMENT["spec"]["template"]["spec"]
[CONTAINER] = POD["containers"]
ARGUMENTS = [*CONTAINER["command"], *CONTAINER["args"]]
DOCKERFILE = (CONTRIB / "docker" / "Dockerfile").read_text(encoding="utf-8")


def settings_from(arguments: list[str]) -> Settings:
    """Give what the command line makes of *arguments*."""
    program, command, *rest = arguments
    assert (program, command) == ("maitred", "serve")
    parent = click.Context(cli, **cli.context_settings)
    with serve_command.make_context("serve", rest, parent=parent) as context:
        return settings_of(**context.params)


def test_manifest_is_of_one_piece():
    """What one line of it names is there in the other."""
    settings = settings_from(ARGUMENTS)
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert settings.bind == (f":{ports['http']}",)
    assert settings.admin == f":{ports['admin']}"
    for kind in ("readinessProbe", "livenessProbe"):
        asked = CONTAINER[kind]["httpGet"]
        assert asked["path"] in OPEN_TO_ALL
        assert asked["port"] == "admin"
    [port] = SERVICE["spec"]["ports"]
    assert port["targetPort"] in ports
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    assert SERVICE["spec"]["selector"] == labels
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == labels
    mounts = {each["name"]: each["mountPath"] for each in CONTAINER["volumeMounts"]}
    assert set(mounts) == {each["name"] for each in POD["volumes"]}
    assert Path(settings.admin_token_file).parent == Path(mounts["admin"])
    assert int(CONTAINER["resources"]["requests"]["cpu"]) == settings.workers


def test_pod_has_time_to_drain():
    """Whoever is still served when it is killed was promised more."""
    [program, seconds] = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    settings = settings_from(ARGUMENTS)
    least = float(seconds) + LAST_WORDS + settings.drain_timeout + settings.grace_period
    assert POD["terminationGracePeriodSeconds"] > least


@pytest.fixture
def secret():
    """Give the token as a secret is mounted: root's, and readable for a group."""
    [volume] = (each for each in POD["volumes"] if "secret" in each)
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        file = Path(directory) / "token"
        file.write_text("x" * 40)
        file.chmod(volume["secret"]["defaultMode"])
        os.chown(file, 0, NOBODY.pw_gid)
        (Path(directory) / "tmp").mkdir()
        os.chown(Path(directory) / "tmp", NOBODY.pw_uid, NOBODY.pw_gid)
        yield file


@needs_nobody
def test_container_runs_without_root_and_answers_the_probes(serve, secret):
    """The manifest's command, its probes, and what they say when TERM has come."""
    ready, alive = (
        CONTAINER[kind]["httpGet"]["path"]
        for kind in ("readinessProbe", "livenessProbe")
    )
    here = {
        "counter:app": "probe:app",
        "--admin=:9900": "--admin=:0",
        "--admin-token-file=/etc/maitred/token": f"--admin-token-file={secret}",
    }
    socket = secret.parent / "tmp" / "control.sock"
    target, *options = (here.get(word, word) for word in ARGUMENTS[2:])
    place = options.index("--bind")
    del options[place : place + 2]
    gate = secret.parent / "tmp" / "gate"
    nobody = ("setpriv", f"--reuid={NOBODY.pw_uid}", f"--regid={NOBODY.pw_gid}")
    server = serve(
        *(target, *options, "--control", str(socket)),
        command=(*nobody, "--clear-groups", *SYSTEM),
        env=PACKAGES,
        ready=False,
    )
    server.control = str(socket)
    server.ready()
    admin = server.status()["admin"][0]
    url = f"http://127.0.0.1:{admin.rpartition(':')[2]}"
    with (
        httpx.Client(trust_env=False, timeout=DEADLINE) as client,
        connect(server.port) as busy,
    ):
        for path in (ready, alive):
            probe = functools.partial(client.get, url + path)
            wait_until(path, lambda probe=probe: probe().status_code == 200)
        busy.send(get(f"/wait?for={gate}"))
        wait_until("it is served", Path(f"{gate}.begun").exists)
        server.tell(signal.SIGTERM)
        wait_until("it leaves", lambda: client.get(url + ready).status_code == 503)
        assert client.get(url + alive).status_code == 200
        gate.touch()
        assert busy.answer().status == 200
    assert server.wait() == 0


def words_of(instruction: str) -> list[str]:
    """Give the words of the last *instruction*, in exec form, of the Dockerfile."""
    found = re.findall(rf"(?:^|\s){instruction} (\[.*\])$", DOCKERFILE, re.MULTILINE)
    words: list[str] = json.loads(found[-1])
    return words


def test_image_is_healthy_when_it_serves(serve, tmp_path):
    """What the Dockerfile asks, of what it starts."""
    settings = settings_from(words_of("CMD"))
    host, _, port = settings.admin.rpartition(":")
    command = words_of("HEALTHCHECK .*CMD")
    assert command[0] == "python"
    assert (host, f"'{host}', {port}" in command[-1]) == ("127.0.0.1", True)
    server = serve("probe:app", "--admin", "127.0.0.1:0", workers=1)
    own = server.status()["admin"][0].rpartition(":")[2]
    check = [sys.executable, *command[1:-1], command[-1].replace(port, own)]
    wait_until("it is healthy", lambda: exit_code_of(check) == 0)
    gate = tmp_path / "gate"
    with connect(server.port) as busy:
        busy.send(get(f"/wait?for={gate}"))
        wait_until("it is served", Path(f"{gate}.begun").exists)
        server.tell(signal.SIGTERM)
        wait_until("it leaves", lambda: exit_code_of(check) != 0)
        gate.touch()
        assert busy.answer().status == 200
    assert server.wait() == 0


def exit_code_of(command: list[str]) -> int:
    """Run *command*, quietly, to its end."""
    return subprocess.run(command, capture_output=True, check=False).returncode
