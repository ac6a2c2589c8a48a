"""A sniffer of the user's own: it is heeded, and where it is wrong nobody is hurt."""

import pytest

from driver import COMMAND, DEADLINE


def test_own_words_refuse(serve):
    """``refuse`` of the sniffer says what the client reads."""
    server = serve("rooms:Chat", "--kind", "handler", "--protocol", "rooms:ROOMS")
    with server.connect() as sock, sock.makefile("rb") as file:
        sock.sendall(b"HELLO\n")
        assert file.read() == b"SORRY no_join\n"
    assert server.status()["connections"]["refused"] == {"no_join": 1}


def test_a_sniffer_that_raises_refuses_its_client_alone(serve):
    """The master lives, says what was raised, and serves on."""
    server = serve("rooms:Chat", "--kind", "handler", "--protocol", "rooms:RUDE")
    server.expect_log("sniffer of --protocol rude failed.*ZeroDivisionError")
    for _ in range(3):
        with server.connect() as sock:
            sock.sendall(b"JOIN a b\n")
            assert sock.recv(100) == b""
    assert server.status()["connections"]["refused"] == {"sniffer_failed": 3}
    assert server.status()["state"] == "ready"


def test_another_field_can_pick(serve):
    """--affinity takes the fields of the sniffer, in order."""
    server = serve(
        "rooms:Chat", "--kind", "handler", "--protocol", "rooms:ROOMS",
        "--affinity", "name",
    )  # fmt: skip
    pids = set()
    for room in "abcdef":
        with server.connect() as sock, sock.makefile("rwb") as file:
            file.write(f"JOIN {room} ann\n".encode())
            file.flush()
            pids.add(file.readline().split()[1])
    assert len(pids) == 1


SENTENCES = {
    ("--protocol", "mqt"): "--protocol mqt is not understood (did you mean mqtt?)",
    ("--protocol", "nowhere:X"): "cannot be imported",
    ("--protocol", "rooms:Chat"): "is a type, not a maitred.routing.Sniffer",
    ("--protocol", "rooms:ROOMS", "--affinity", "rom"): (
        "--affinity rom: with --protocol rooms there are: room, name, ip, none"
    ),
    ("--protocol", "mqtt", "--kind", "asgi"): (
        "--protocol mqtt with --kind asgi, which speaks HTTP"
    ),
    ("--protocol", "mqtt", "--certfile", "x", "--keyfile", "y"): "end TLS in front",
    ("--kind", "socket", "--certfile", "x", "--keyfile", "y", "--protocol", "http"): (
        "only workers of kind asgi and wsgi speak TLS"
    ),
    ("--threads", "0"): "--threads 0: between 1 and 1024",
}


@pytest.mark.parametrize("options", SENTENCES, ids=" ".join)
def test_what_cannot_be_is_told_in_a_sentence(options, tmp_path):
    """One sentence, exit code 2, and nothing runs."""
    import subprocess

    kind = [] if "--kind" in options else ["--kind", "handler"]
    done = subprocess.run(
        [COMMAND, "serve", "rooms:Chat", *kind, *options, "--bind", "127.0.0.1:0",
         "--control", str(tmp_path / "c.sock")],
        check=False, capture_output=True, text=True, timeout=DEADLINE,
        cwd="tests/apps",
    )  # fmt: skip
    assert done.returncode == 2, done
    assert SENTENCES[options] in done.stderr
    assert len(done.stderr.splitlines()) == 1
