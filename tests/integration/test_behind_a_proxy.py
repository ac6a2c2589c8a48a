"""Behind nginx and HAProxy, configured as docs/howto/behind-a-proxy.md says."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from driver import DEADLINE, wait_until
from raw_http import connect, get

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "behind-a-proxy.md"
TEXT = PAGE.read_text(encoding="utf-8")
PLACE = "/run/counter/http.sock"
# What stands on the page is started with what a test needs besides.
PROXIES = {
    "nginx.conf": "nginx -e stderr -g 'daemon off; user root; pid {pid};' -c {file}",
    "haproxy.cfg": "haproxy -db -q -f {file}",
}


# How each is made to keep its connections to us, as the page says too.
KEEPING = {
    "nginx.conf": [
        ('""      close', '""      ""'),
        ("http.sock;\n", "http.sock;\n keepalive 32;\n"),
    ],
    "haproxy.cfg": [
        ("    option http-server-close\n", ""),
        ("backend counter\n", "backend counter\n http-reuse always\n"),
    ],
}


@pytest.fixture(params=PROXIES)
def proxy(request, serve, tmp_path):
    """Start the page's service and the page's proxy; give the port."""
    return start(request.param, serve, tmp_path, request.addfinalizer)


@pytest.fixture(params=PROXIES)
def keeping_proxy(request, serve, tmp_path):
    """Start them so that the proxy keeps connections; give the port."""
    changes = KEEPING[request.param]
    return start(request.param, serve, tmp_path, request.addfinalizer, changes)


def start(name, serve, tmp_path, addfinalizer, changes=()):
    """Start both; the proxy's file is called *name*, and *changes* are made in it."""
    program = PROXIES[name].split()[0]
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program}; script/bootstrap installs it where it may")
    [command] = re.findall(r"(?s)```sh\nmaitred serve counter:app (.*?)```", TEXT)
    place = tmp_path / "http.sock"
    words = shlex.split(command.replace("\\\n", "").replace(PLACE, str(place)))
    at = words.index("--workers")
    del words[at : at + 2]
    serve("probe:app", *words, workers=4)

    [text] = re.findall(rf'(?s)title="{name}"\n(.*?)```', TEXT)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = text.replace("unix@" + PLACE, f"unix@{place}").replace(PLACE, str(place))
    text = text.replace("listen 8080", f"listen 127.0.0.1:{port}")
    text = text.replace("bind :8080", f"bind 127.0.0.1:{port}")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / name
    file.write_text(text)
    line = PROXIES[name].format(file=file, pid=tmp_path / "pid")
    process = subprocess.Popen(shlex.split(line))

    def stop():
        """End the proxy."""
        process.terminate()
        process.wait(timeout=DEADLINE)

    addfinalizer(stop)
    wait_until("the proxy listens", lambda: listens(port))
    return port


def listens(port):
    """Say whether somebody listens on *port*."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_sessions_keep_their_worker_and_clients_their_address(proxy):
    """Whatever connections the proxy makes of those of its clients."""
    names = {}  # of sessions, each with the process that made it
    for _ in range(8):
        with connect(proxy) as client:
            made = client.ask(get("/learn"))
        names[made.headers["x-session"]] = made.json["pid"]
    assert len(set(names.values())) > 1
    for _ in range(5):
        with connect(proxy, source="127.0.0.3") as client:
            for name, home in names.items():
                said = client.ask(get("/", f"x-session: {name}")).json
                assert said["pid"] == home
                assert said["client"][0] == "127.0.0.3"


def test_new_sessions_on_kept_connections_are_spread(keeping_proxy):
    """The proxy has one connection for all; each session begins where there is room."""
    names = {}
    for _ in range(16):
        with connect(keeping_proxy) as client:
            made = client.ask(get("/learn"))
        name = made.headers["x-session"]
        names[name] = made.json["pid"]
        with connect(keeping_proxy) as client:
            assert client.ask(get("/", f"x-session: {name}")).json["pid"] == names[name]
    assert len(set(names.values())) > 1
