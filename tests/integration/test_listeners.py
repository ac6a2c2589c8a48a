"""Listeners of every kind, what becomes of their files, and clients that vanish."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import uuid

import pytest

from driver import wait_until
from raw_http import connect, connect_unix, get


def test_ipv4_clients_of_an_ipv6_listener_have_ipv4_addresses(serve):
    """What the kernel calls ::ffff:127.0.0.1 is 127.0.0.1 to the application."""
    with socket.create_server(
        ("::", 0), family=socket.AF_INET6, dualstack_ipv6=True
    ) as listener:
        server = serve(
            "probe:app",
            "--affinity",
            "ip",
            bind=f"fd://{listener.fileno()}",
            workers=1,
            pass_fds=(listener.fileno(),),
        )
        port = listener.getsockname()[1]
        with connect(port, "127.0.0.1", "127.0.0.5") as client:
            said = client.ask(get()).json
            assert said["client"] == list(client.sock.getsockname())
        with connect(port, "::1") as client:
            assert client.ask(get()).json["client"][0] == "::1"
        assert server.stop() == 0


def test_abstract_unix_socket_is_served(serve):
    """``unix:@name`` has a name and no file, here and as an inherited listener."""
    name = f"maitred-test-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(f"\0{name}-inherited")
        listener.listen()
        server = serve(
            "probe:app",
            "--bind",
            f"fd://{listener.fileno()}",
            bind=f"unix:@{name}",
            workers=1,
            pass_fds=(listener.fileno(),),
        )
        assert server.status()["listening"][0] == f"unix:@{name}"
        for each in (name, f"{name}-inherited"):
            with connect_unix(f"\0{each}") as client:
                said = client.ask(get()).json
                assert said["client"] is None
        assert server.stop() == 0


@pytest.mark.parametrize("how", ["replaced", "renamed", "removed"])
def test_file_of_somebody_else_is_never_unlinked(serve, tmp_path, how):
    """What happens to a Unix socket's file is no business of ours from then on."""
    path, elsewhere = tmp_path / "app.sock", tmp_path / "elsewhere"
    server = serve(bind=f"unix:{path}", workers=1)
    path.rename(elsewhere)
    if how == "removed":
        elsewhere.unlink()
    with contextlib.ExitStack() as stack:
        if how == "replaced":
            other = stack.enter_context(socket.socket(socket.AF_UNIX))
            other.bind(str(path))
            other.listen()
        if how != "removed":
            with connect_unix(str(elsewhere)) as client:
                assert client.ask(get()).status == 200
        assert server.stop() == 0
        assert path.exists() == (how == "replaced")
        if how == "replaced":
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
        assert elsewhere.exists() == (how != "removed")


def test_clients_that_vanish_are_found_out(serve):
    """The kernel asks, after a minute of silence, whether the client lives."""
    server = serve("probe:app", "--timeout-keep-alive", "100", workers=1)
    with connect(server.port) as client:
        assert client.ask(get()).status == 200
        port = client.sock.getsockname()[1]

        def timer() -> tuple[int, int]:
            """Read timer and its rest, in hundredths, from proc_net_tcp."""
            mine, its = f":{server.port:04X}", f":{port:04X}"
            with open("/proc/net/tcp") as table:
                rows = map(str.split, table)
                [row] = [r for r in rows if r[1].endswith(mine) and r[2].endswith(its)]
            kind, _, left = row[5].partition(":")
            return int(kind, 16), int(left, 16)

        keepalive = 2
        wait_until("the last answer is acknowledged", lambda: timer()[0] == keepalive)
        assert timer()[1] <= 60 * os.sysconf("SC_CLK_TCK")


PREPARE = """
ip link set lo up
ip addr add fe80::7/64 dev lo nodad
mount --bind /dev/null /etc/resolv.conf
exec "$@" --bind [fe80::7%lo]:7000 --bind [::1]:7000
"""
IN_A_NETWORK_OF_ITS_OWN = ("unshare", "--net", "--mount", "sh", "-ec", PREPARE, "sh")


def test_machine_without_network_and_names(serve):
    """
    With nothing but loopback and a link-local address, and nobody to resolve names, it
    starts and serves, there too.
    """
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("a network of one's own takes root")
    server = serve(wrap=IN_A_NETWORK_OF_ITS_OWN, workers=2)
    places = server.status()["listening"]
    assert places[1].startswith("http://[fe80::7")
    inside = ["nsenter", f"--net=/proc/{server.pid}/ns/net", sys.executable, "-c"]
    program = (
        "import sys; from raw_http import ask;"
        "print(ask(int(sys.argv[2]), host=sys.argv[1]).json['client'][0])"
    )
    for place in places:
        host, _, port = place.removeprefix("http://").rpartition(":")
        host = host.strip("[]")
        if "fe80" in host:
            host = "fe80::7%lo"
        said = subprocess.run(
            [*inside, program, host, port],
            env={
                **os.environ,
                "PYTHONPATH": os.path.dirname(os.path.dirname(__file__)),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert said.returncode == 0, said.stderr
        assert said.stdout.strip().partition("%")[0] == host.partition("%")[0]
