"""A system that does not pass what master and workers say to each other."""

from __future__ import annotations

import contextlib
import errno
import sys

import pytest

from driver import wait_until
from raw_http import ask, connect, get

ENDED = r"worker \d+ of slot \d is ended: the system refuses to pass messages"
EXPECTED = (
    r"is ended|SIGKILL|leaving acceptor|does not hear us|an acceptor|another acceptor"
)

ENDING = {errno.EACCES, errno.EIO, errno.EMSGSIZE}
"Errnos that say that nothing will be passed, now or later."

FAILING = """
import errno, os, socket, sys
number, call, mark = int(sys.argv[1]), sys.argv[2], sys.argv[3]
real = getattr(socket.socket, call)
def failing(sock, *args):
    if sock.type == socket.SOCK_SEQPACKET and os.path.exists(mark):
        if call == "recvmsg_into" or (len(args) > 1 and args[1]):
            os.unlink(mark)
            raise OSError(number, os.strerror(number))
    return real(sock, *args)
setattr(socket.socket, call, failing)
sys.argv[1:] = sys.argv[4:]
from maitred.cli.main import main
main()
"""
"The master, for whom one call fails, once, while there is a file."


@pytest.mark.parametrize("acceptors", ["1", "2"])
def test_worker_that_lets_no_descriptors_in_is_ended_alone(serve, acceptors):
    """The real EPERM (Linux 6.16): nobody waits, and the service can be stopped."""
    server = serve("closed:app", "--no-access-log", "--acceptors", acceptors, workers=2)
    server.expect_log(EXPECTED)
    before = set(server.worker_pids())
    closed = ask(server.port, "/close").json["pid"]
    answers = []
    while not (new := set(server.worker_pids()) - before):
        answers.append(ask(server.port))
        assert len(answers) < 1000
    assert closed not in server.worker_pids()
    assert {answer.status for answer in answers} == {200}
    server.wait_for_log(ENDED)
    wait_until("both serve", lambda: states(server) == ["ready"] * 2)
    assert (before - {closed}) | new == set(server.worker_pids())
    assert server.stop() == 0


def states(server) -> list[str]:
    """Give the state of each slot."""
    return [slot["state"] for slot in server.status()["slots"]]


@pytest.mark.parametrize("call", ["sendmsg", "recvmsg_into"])
@pytest.mark.parametrize(
    "number",
    [errno.EACCES, errno.EIO, errno.EMSGSIZE, errno.ENOBUFS, errno.ECONNREFUSED],
    ids=errno.errorcode.get,
)
def test_errno_ends_one_worker_at_most(serve, tmp_path, call, number):
    """Whatever the system says once to the master, all are served and it stops."""
    mark = tmp_path / "fail"
    server = serve(
        "probe:app", "--no-access-log", workers=2,
        command=(sys.executable, "-c", FAILING, str(number), call, str(mark)),
    )  # fmt: skip
    server.expect_log(EXPECTED + "|closed its channel and did not leave")
    before = set(server.worker_pids())
    mark.touch()
    assert ask(server.port).status == 200
    wait_until("it has failed", lambda: not mark.exists())
    assert {ask(server.port).status for _ in range(6)} == {200}
    if number in ENDING:
        wait_until("one is ended", lambda: before != set(server.worker_pids()))
    wait_until("both serve", lambda: states(server) == ["ready"] * 2)
    assert len(before & set(server.worker_pids())) >= 1
    if number == errno.ENOBUFS:
        assert before == set(server.worker_pids())
    # What the worker had said was heard when it was dead, and its marks are believed.
    assert server.status()["connections"]["lost"] == 0
    assert server.stop() == 0


@pytest.mark.parametrize("call", ["sendmsg", "recvmsg_into"])
def test_connections_of_a_worker_that_is_ended_for_it_go_on(serve, tmp_path, call):
    """Idle ones are another worker's: nobody has done anything wrong."""
    mark = tmp_path / "fail"
    server = serve(
        "probe:app", "--no-access-log", workers=1,
        command=(sys.executable, "-c", FAILING, str(errno.EIO), call, str(mark)),
    )  # fmt: skip
    server.expect_log(EXPECTED)
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(connect(server.port)) for _ in range(3)]
        before = {client.ask(get()).json["pid"] for client in kept}
        mark.touch()
        assert ask(server.port).status == 200
        server.wait_for_log(ENDED)
        wait_until("it is ended", lambda: not before & set(server.worker_pids()))
        after = {client.ask(get()).json["pid"] for client in kept}
    assert len(before) == len(after) == len(before ^ after) / 2
    assert server.status()["connections"]["lost"] == 0
