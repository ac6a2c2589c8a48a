"""Whatever sendmsg and recvmsg say is one of the channel's own errors."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading

import pytest

from channel_kit import DEADLINE, KINDS, TABLE, Asyncio, Blocking, Bye, Pass, fill
from maitred import (
    Channel,
    ChannelClosed,
    ChannelFull,
    ChannelRefused,
    Descriptor,
    MessageTooLarge,
)
from maitred.wire.errnos import ERRNOS, Meaning, meaning

SO_PASSRIGHTS = 83
SO_PASSPIDFD = 76
RAISED = {
    Meaning.RETRY: ChannelFull,
    Meaning.GONE: ChannelClosed,
    Meaning.TOO_LARGE: MessageTooLarge,
    Meaning.REFUSED: ChannelRefused,
}
BOTH = pytest.mark.parametrize(
    "use", [Blocking(), Asyncio()], ids=["blocking", "asyncio"]
)


class Failing(socket.socket):
    """A socket of which the system says ``number`` whatever is asked."""

    number = 0

    def sendmsg(self, *args):
        """Fail."""
        raise OSError(self.number, os.strerror(self.number))

    recvmsg_into = sendmsg


@pytest.fixture
def failing():
    """Make a channel whose system calls fail."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock = Failing(fileno=one.detach())
    with two, Channel(sock, sends=TABLE, receives=TABLE) as channel:
        yield channel, sock


@pytest.mark.parametrize("number", sorted(errno.errorcode), ids=errno.errorcode.get)
def test_every_errno_has_a_meaning(failing, number):
    """Those that nobody thought of end the channel, and none escapes as it is."""
    channel, sock = failing
    sock.number = number
    # Python raises it only if a signal handler raised, and retries otherwise.
    with pytest.raises(RAISED[meaning(number)]) as sent:
        channel.send_nowait(Bye())
    assert type(sent.value) is RAISED[meaning(number)]
    match meaning(number):
        case Meaning.RETRY:
            assert channel.receive_nowait() == []
        case Meaning.GONE if number == errno.ECONNRESET:
            pass  # it is said once, and what was sent before is read on
        case Meaning.GONE:
            with pytest.raises(ChannelClosed):
                channel.receive_nowait()
        case _:
            with pytest.raises(ChannelRefused, match=os.strerror(number)):
                channel.receive_nowait()


def test_the_table_lists_what_may_be_tried_again():
    """What is not known is refused: it is not tried for ever, and does not escape."""
    assert meaning(None) is meaning(0) is meaning(12345) is Meaning.REFUSED
    again = {n for n, what in ERRNOS.items() if what is Meaning.RETRY}
    assert {errno.errorcode[n] for n in again} == {
        *("EAGAIN", "EINTR", "ENOBUFS", "ENOMEM", "ETOOMANYREFS")
    }


def test_own_close_is_told_as_it_is(failing):
    """EBADF after our own close is a mistake of the caller's."""
    channel, sock = failing
    sock.number = errno.EBADF
    channel.close()
    with pytest.raises(OSError, match="Bad file") as failed:
        channel.send_nowait(Bye())
    assert type(failed.value) is OSError


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_receiver_that_may_not_be_handed_descriptors(kind, tmp_path):
    """The real EPERM: only what has no descriptor passes."""
    one, two = socket.socketpair(socket.AF_UNIX, kind)
    try:
        two.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
    except OSError:
        one.close(), two.close()
        pytest.skip("this kernel has no SO_PASSRIGHTS (Linux 6.16)")
    with (
        Channel(one, sends=TABLE, receives=TABLE) as ours,
        Channel(two, sends=TABLE, receives=TABLE) as theirs,
        Descriptor(os.open(tmp_path, os.O_RDONLY)) as file,
    ):
        with pytest.raises(ChannelRefused, match="SO_PASSRIGHTS") as refused:
            ours.send(Pass(1, file, b""), timeout=DEADLINE)
        assert refused.value.error.errno == errno.EPERM
        ours.send_nowait(Bye())
        assert theirs.receive_nowait() == [Bye()]
        ours.hang_up()
        for end in (ours, theirs):
            with pytest.raises(ChannelClosed):
                end.receive(DEADLINE)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_pidfd_that_nobody_asked_for_is_closed(kind, tmp_path):
    """With SO_PASSPIDFD one comes with every packet, beside what was passed."""
    one, two = socket.socketpair(socket.AF_UNIX, kind)
    two.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    try:
        two.setsockopt(socket.SOL_SOCKET, SO_PASSPIDFD, 1)
    except OSError:
        one.close(), two.close()
        pytest.skip("this kernel has no SO_PASSPIDFD (Linux 6.5)")
    with (
        Channel(one, sends=TABLE, receives=TABLE) as ours,
        Channel(two, sends=TABLE, receives=TABLE) as theirs,
        Descriptor(os.open(tmp_path, os.O_RDONLY)) as file,
    ):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            ours.send_nowait(Bye())
            assert theirs.receive_nowait() == [Bye()]
            ours.send_nowait(*[Pass(n, file, b"") for n in range(253)])
            for message in theirs.receive_nowait():
                message.file.close()
        assert len(os.listdir("/proc/self/fd")) == before


class Telling(socket.socket):
    """A socket that tells when it was full."""

    def __init__(self, fileno):
        """Be the socket *fileno*."""
        super().__init__(fileno=fileno)
        self.was_full = threading.Event()

    def sendmsg(self, *args):
        """Send, or tell."""
        try:
            return super().sendmsg(*args)
        except BlockingIOError:
            self.was_full.set()
            raise


@BOTH
def test_sender_goes_on_when_there_is_room_for_its_packet(use):
    """Long before poll says so, which is when three quarters of it have been read."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock = Telling(one.detach())
    with (
        Channel(sock, sends=TABLE, receives=TABLE) as ours,
        Channel(two, sends=TABLE, receives=TABLE) as theirs,
    ):
        assert fill(ours, Bye()) > 8
        sock.was_full.clear()
        sender = threading.Thread(target=use.send, args=(ours, Bye()), daemon=True)
        sender.start()
        assert sock.was_full.wait(DEADLINE)
        theirs.receive_nowait()
        writable = select.poll()
        writable.register(ours, select.POLLOUT)
        assert not writable.poll(0)
        # Nobody reads any more: without another try this would wait for ever.
        sender.join(DEADLINE)
        assert not sender.is_alive()
