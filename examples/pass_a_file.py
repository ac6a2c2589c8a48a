"""
Pass an open file to another process.

    python examples/pass_a_file.py FILE

The master opens FILE, passes the descriptor to a worker, and closes its own copy. The
worker, which never learns the name, writes `child process` and a zero byte.
"""

import os
import sys
from typing import NamedTuple

from maitred import Channel, ChannelClosed, Descriptor, Passed


class File(NamedTuple):
    """Here is a file, open for writing."""

    file: Passed


MASTER_SAYS = {1: File}


def say(line: str) -> None:
    # One write for each line, so that those of two processes do not mix, and nothing
    # left in a buffer, which fork would copy.
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


def master(channel: Channel, path: str) -> int:
    say(f"master process #{os.getpid()}")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    except OSError as error:
        print(f"cannot write to {path}: {error.strerror}", file=sys.stderr)
        return 2
    with Descriptor(fd) as file:
        say(f"[master] dispatch fd to worker process, file=#{fd}")
        channel.send(File(file), timeout=10)
    return 0


def worker(channel: Channel) -> int:
    say(f"worker process #{os.getpid()}")
    try:
        [message] = channel.receive(timeout=10)
    except ChannelClosed:
        return 0  # the master had nothing for us
    with message.file as file:
        written = os.write(file.fileno(), b"child process\0")
        say(f"[worker] write file #{file.fileno()} ret = {written}")
    return 0


def main(path: str) -> int:
    ours, theirs = Channel.pair(sends=MASTER_SAYS, receives={})
    pid = os.fork()
    # Now there are two processes, and each keeps one end only: while any copy of an
    # end is open, nobody notices that its owner has left.
    if pid == 0:
        ours.close()
        with theirs:
            return worker(theirs)
    theirs.close()
    with ours:
        status = master(ours, path)
    _, how = os.waitpid(pid, 0)
    return status or os.waitstatus_to_exitcode(how)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(f"usage: python {sys.argv[0]} FILE", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1]))
