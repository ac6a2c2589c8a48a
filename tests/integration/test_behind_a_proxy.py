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


@pytest.fixture(params=PROXIES)
def proxy(request, serve, tmp_path):
    """Start the page's service and the page's proxy; give the port."""
    program = PROXIES[request.param].split()[0]
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program}; script/bootstrap installs it where it may")
    [command] = re.findall(r"(?s)```sh\nmaitred serve counter:app (.*?)```", TEXT)
    place = tmp_path / "http.sock"
    words = shlex.split(command.replace("\\\n", "").replace(PLACE, str(place)))
    at = words.index("--workers")
    del words[at : at + 2]
    serve("probe:app", *words, workers=4)

    [text] = re.findall(rf'(?s)title="{request.param}"\n(.*?)```', TEXT)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = text.replace("unix@" + PLACE, f"unix@{place}").replace(PLACE, str(place))
    text = text.replace("listen 8080", f"listen 127.0.0.1:{port}")
    text = text.replace("bind :8080", f"bind 127.0.0.1:{port}")
    file = tmp_path / request.param
    file.write_text(text)
    line = PROXIES[request.param].format(file=file, pid=tmp_path / "pid")
    process = subprocess.Popen(shlex.split(line))
    wait_until("the proxy listens", lambda: listens(port))
    yield port
    process.terminate()
    process.wait(timeout=DEADLINE)


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
