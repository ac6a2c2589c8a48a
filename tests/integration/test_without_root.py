"""What a service that was started as root can still do as somebody else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest
import trustme

from driver import APPS, COMMAND, DEADLINE, processes_of, wait_until
from maitred.errors import ExitCode
from nobody import NOBODY, PACKAGES, SYSTEM, needs_nobody
from raw_http import connect, get

pytestmark = needs_nobody
KEY = "k1:" + "A" * 43 + "=\n"


@pytest.fixture
def public():
    """Give a directory of root's where everybody may look."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def secret(path, text, owner=0):
    """Write a file that only its *owner* may read; give its path."""
    path.write_text(text)
    path.chmod(0o600)
    os.chown(path, owner, owner)
    return str(path)


def pair(directory, owner):
    """Write a certificate and its key, which only *owner* may read; give options."""
    issued = trustme.CA().issue_cert("localhost")
    chain = b"".join(each.bytes() for each in issued.cert_chain_pems).decode()
    key = issued.private_key_pem.bytes().decode()
    return (
        *("--certfile", secret(directory / "chain.pem", chain, owner)),
        *("--keyfile", secret(directory / "key.pem", key, owner)),
    )


def start(serve, directory, *options, target="made:app"):
    """Serve as nobody, with the control socket in *directory*."""
    server = serve(
        *(target, "--user", "nobody", *options),
        *("--control", str(directory / "run" / "control.sock")),
        command=SYSTEM,
        env=PACKAGES,
        workers=1,
        ready=False,
    )
    server.control = str(directory / "run" / "control.sock")
    return server.ready()


def refusal(directory, *options, command=SYSTEM, env=PACKAGES):
    """Try to serve as nobody; give the one sentence that says why not."""
    done = subprocess.run(
        [*command, "serve", "made:app", "--user", "nobody", "--port", "0",
         "--workers", "1", "--control", str(directory / "control.sock"), *options],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        cwd=APPS,
        check=False,
        timeout=DEADLINE,
    )  # fmt: skip
    assert done.returncode in {ExitCode.SYSTEM, ExitCode.USAGE}
    [sentence] = done.stderr.splitlines()
    return sentence


def leave(server):
    """Stop; what is in a directory of root's cannot be removed, but replaced."""
    assert server.stop() == 0
    Path(server.control).unlink()


def reloaded(server):
    """Reload, upgrade, and reload again."""
    server.reload()
    server.upgrade()
    server.wait_until_serving()
    server.reload()


def test_what_is_read_once_may_be_the_roots_alone(serve, public):
    """Variables and the token are ours from the start, also after an upgrade."""
    server = start(
        serve,
        public,
        *("--env-file", secret(public / "env", "TOLD=once\n")),
        *("--admin", "127.0.0.1:0"),
        *("--admin-token-file", secret(public / "token", "x" * 40 + "\n")),
    )
    server.expect_log("the admin token stays as it was")  # and that is what it says
    reloaded(server)
    with connect(server.port) as client:
        said = client.ask(get("/process")).json
    assert (said["told"], said["uids"]) == ("once", [NOBODY.pw_uid] * 4)
    # The admin process finds the control socket, in a directory that was made for it.
    url = server.status()["admin"][0] + "/readyz"
    with httpx.Client(trust_env=False, timeout=DEADLINE) as client:
        wait_until("it is ready", lambda: client.get(url).status_code == 200)
    leave(server)
    # Whoever is root again starts where nobody could tidy up.
    leave(start(serve, public))


def test_what_a_reload_reads_belongs_to_the_user(serve, public):
    """Keys and settings can be changed while the service runs."""
    keys = secret(public / "keys", KEY, NOBODY.pw_uid)
    settings = secret(public / "maitred.toml", "", NOBODY.pw_uid)
    server = start(
        serve,
        public,
        *("--affinity", "sticky", "--sticky-key-file", keys, "--config", settings),
        *pair(public, NOBODY.pw_uid),
    )
    server.expect_log("is inside TLS")
    reloaded(server)
    assert "stay as they were" not in server.log
    leave(server)


@pytest.mark.parametrize("what", ["keyfile", "sticky-key-file", "config", "control"])
def test_what_would_fail_later_is_refused_at_the_start(public, what):
    """One sentence says which file, who may not, and why they have to."""
    (public / "closed").mkdir(mode=0o700)
    file, options = {
        "keyfile": (public / "chain.pem", pair(public, 0)),
        "sticky-key-file": (
            public / "keys",
            ("--affinity", "sticky", "--sticky-key-file", secret(public / "keys", KEY)),
        ),
        "config": (
            public / "maitred.toml",
            ("--config", secret(public / "maitred.toml", "")),
        ),
        "control": (
            public / "closed" / "control.sock",
            ("--control", str(public / "closed/control.sock"), "--admin", ":0"),
        ),
    }[what]
    if what == "control":
        options += ("--admin-token-file", secret(public / "token", "x" * 40))
    sentence = refusal(public, *options)
    assert str(file) in sentence
    assert "user nobody" in sentence


def roots_own():
    """Say whether this Python is one that not everybody may run."""
    try:
        subprocess.run([sys.executable, "-c", ""], user="nobody", check=True)
    except PermissionError:
        return os.geteuid() == 0
    return False


@pytest.mark.skipif(not roots_own(), reason="everybody may run this Python")
def test_python_of_roots_own_is_refused(public):
    """Its workers could not be started, again and again."""
    assert "install Python and maitred" in refusal(public, command=[COMMAND], env={})


@pytest.mark.parametrize("kind", ["python", "exec"])
def test_no_process_gains_rights(serve, public, kind):
    """Whatever it runs, and whoever wrote the worker."""
    if kind == "exec":
        (public / "committed").touch()  # its sin: from now on it behaves
        command = f"{SYSTEM[0]} {APPS / 'rogue.py'} {public / 'committed'} garbage"
        server = start(serve, public, "--exec", target=command)
    else:
        server = start(serve, public, "--admin", "127.0.0.1:0")
    server.upgrade()
    server.wait_until_serving()
    most = 2 if kind == "exec" else 3
    # An admin process that was replaced says goodbye.
    wait_until("nobody else is left", lambda: len(processes_of(server.run)) == most)
    pids = processes_of(server.run)
    assert {server.process.pid, *server.worker_pids()} <= set(pids)
    for pid in pids:
        status = Path(f"/proc/{pid}/status").read_text()
        assert "NoNewPrivs:\t1\n" in status
        assert f"Uid:\t{NOBODY.pw_uid}\t" in status
    leave(server)
