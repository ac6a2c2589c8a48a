"""The agent check, as HAProxy asks it: a connection, a line, the end."""

import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from driver import COMMAND, DEADLINE, wait_until
from limits import at_its_limit, share_of_cpu
from maitred.control import ask
from maitred.errors import CommandFailed


@pytest.fixture
def port():
    """Give a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def agent(port, said=b""):
    """Ask as HAProxy does."""
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as sock:
        sock.sendall(said)
        with sock.makefile("rb") as file:
            return file.read()


def test_the_answer_is_what_the_machine_can_take(serve, port):
    """All workers; half of them, while one slot is drained; and all again."""
    server = serve("probe:app", "--agent", f"127.0.0.1:{port}")
    assert agent(port) == b"up ready 100%\n"
    assert agent(port, b"hello\n") == b"up ready 100%\n"
    ask(server.control, "drain", slot=0)
    assert agent(port) == b"up ready 50%\n"
    ask(server.control, "undrain", slot=0)
    assert agent(port) == b"up ready 100%\n"


def test_an_operator_takes_the_machine_out_and_in(serve, port):
    """By the command line; an upgrade changes nothing about it."""
    server = serve("probe:app", "--agent", f"127.0.0.1:{port}")

    def machine(state):
        done = subprocess.run(
            [COMMAND, "machine", state, "--control", server.control],
            check=False, capture_output=True, text=True, timeout=DEADLINE,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "go to other machines" in machine("drain")
    assert agent(port) == b"drain\n"
    server.upgrade()
    assert agent(port) == b"drain\n"
    assert "come here again" in machine("ready")
    assert agent(port) == b"up ready 100%\n"


def test_a_machine_that_stops_drains(serve, port, tmp_path):
    """While what is under way is answered, nothing new is to come."""
    server = serve("probe:app", "--agent", f"127.0.0.1:{port}")
    go = tmp_path / "go"
    with server.connect() as sock:
        sock.sendall(f"GET /wait?for={go} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        wait_until("it is served", (tmp_path / "go.begun").exists)
        server.tell(15)
        server.wait_for_log("stopping")
        assert agent(port) == b"drain\n"
        go.touch()
        with sock.makefile("rb") as file:
            assert file.readline().startswith(b"HTTP/1.1 200")
    assert server.wait() == 0


def test_a_master_without_descriptors_answers_later(serve, port):
    """Who asks waits for the answer, and the master does not spin meanwhile."""
    server = serve("probe:app", "--agent", f"127.0.0.1:{port}")
    assert agent(port)
    with ThreadPoolExecutor() as pool:
        with at_its_limit(server.pid):
            answer = pool.submit(agent, port)
            assert share_of_cpu(server.pid) < 0.5
        assert answer.result() == b"up ready 100%\n"


def test_without_an_agent_nobody_would_hear(serve):
    """The command says so, and what to do."""
    server = serve()
    with pytest.raises(CommandFailed, match="there is no --agent"):
        ask(server.control, "machine", state="drain")


def test_an_address_that_is_taken_is_said(serve, port, tmp_path):
    """At the start, in one sentence."""
    with socket.create_server(("127.0.0.1", port)):
        done = subprocess.run(
            [COMMAND, "serve", "probe:app", "--bind", "127.0.0.1:0",
             "--agent", f"127.0.0.1:{port}", "--control", str(tmp_path / "c.sock")],
            check=False, capture_output=True, text=True, timeout=DEADLINE,
        )  # fmt: skip
    assert done.returncode != 0
    assert "cannot listen on 127.0.0.1" in done.stderr
    assert "--agent" in done.stderr
    assert len(done.stderr.splitlines()) == 1
