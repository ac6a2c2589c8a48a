"""
Commands in both directions: pass a file there, and say goodbye back.

    python examples/channel_quit.py FILE

As pass_a_file.py, with a vocabulary of two commands of fixed size that both sides may
use. The worker writes, says QUIT, and leaves; the master hears it and reaps it.
"""

import os
import sys
from typing import NamedTuple

from maitred import U32, Channel, ChannelClosed, Descriptor, Passed


class OpenFile(NamedTuple):
    """Here is a file, open for writing, from `pid`, which has it as `number`."""

    file: Passed
    pid: U32
    number: U32


class Quit(NamedTuple):
    """Process `pid` leaves."""

    pid: U32


COMMANDS = {1: OpenFile, 2: Quit}


def say(line: str) -> None:
    # One write for each line, so that those of two processes do not mix, and nothing
    # left in a buffer, which fork would copy.
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


def master(channel: Channel, path: str, worker_pid: int) -> int:
    say(f"master process #{os.getpid()}")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    except OSError as error:
        print(f"cannot write to {path}: {error.strerror}", file=sys.stderr)
        return 2
    with Descriptor(fd) as file:
        say(f"[master] dispatch fd to worker process, file=#{fd}")
        channel.send(OpenFile(file, os.getpid(), fd), timeout=10)
    if channel.receive(timeout=10) != [Quit(worker_pid)]:
        print("the worker said something else than QUIT", file=sys.stderr)
        return 1
    return 0


def worker(channel: Channel) -> int:
    say(f"worker process #{os.getpid()}")
    try:
        [command] = channel.receive(timeout=10)
    except ChannelClosed:
        return 0  # the master had nothing for us
    match command:
        case OpenFile(file):
            with file:
                fd = file.fileno()
                written = os.write(fd, b"child process\0")
                say(f"[worker] write file #{fd} ret = {written}")
            channel.send(Quit(os.getpid()), timeout=10)
    return 0


def main(path: str) -> int:
    ours, theirs = Channel.pair(sends=COMMANDS, receives=COMMANDS)
    pid = os.fork()
    # Now there are two processes, and each keeps one end only: while any copy of an
    # end is open, nobody notices that its owner has left.
    if pid == 0:
        ours.close()
        with theirs:
            return worker(theirs)
    theirs.close()
    with ours:
        status = master(ours, path, pid)
    # QUIT was a promise; that the worker is gone is what waitpid says.
    _, how = os.waitpid(pid, 0)
    if status == 0:
        say("[master] worker process exited")
    return status or os.waitstatus_to_exitcode(how)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(f"usage: python {sys.argv[0]} FILE", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1]))
